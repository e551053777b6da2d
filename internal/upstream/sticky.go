package upstream

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"

	"gatehouse/internal/config"
)

// sticky is a cookie that pins a client to one member of a service. Its value
// is a hash of service and member: it tells nothing about the server's
// address, and is the same on every replica.
type sticky struct {
	cookie http.Cookie    // without a value
	member map[string]int // value -> member
	values []string       // member -> value
}

// newSticky gives nil where s is nil. members are identities that last.
func newSticky(s *config.Sticky, service string, members []string) *sticky {
	if s == nil {
		return nil
	}
	k := &sticky{member: map[string]int{}, cookie: http.Cookie{
		Name: cookieName(s.CookieName, service), Path: "/", Secure: s.Secure, HttpOnly: s.HTTPOnly,
	}}
	switch strings.ToLower(s.SameSite) {
	case "lax":
		k.cookie.SameSite = http.SameSiteLaxMode
	case "strict":
		k.cookie.SameSite = http.SameSiteStrictMode
	case "none":
		k.cookie.SameSite = http.SameSiteNoneMode
	}
	for i, m := range members {
		sum := sha256.Sum256([]byte(service + "\x00" + m))
		value := hex.EncodeToString(sum[:8])
		if _, ok := k.member[value]; !ok {
			k.member[value] = i
		}
		k.values = append(k.values, value)
	}
	return k
}

// pinned gives the member the request's cookie names.
func (k *sticky) pinned(r *http.Request) (member int, ok bool) {
	c, err := r.Cookie(k.cookie.Name)
	if err != nil {
		return 0, false
	}
	member, ok = k.member[c.Value]
	return member, ok
}

// pin adds the cookie for a member to an answer's header.
func (k *sticky) pin(h http.Header, member int) {
	c := k.cookie
	c.Value = k.values[member]
	h.Add("Set-Cookie", c.String())
}

// cookieName gives a name that is a token; the default is the one that 1.x
// derived from the backend's name, without the provider.
func cookieName(given, service string) string {
	if given == "" {
		local, _, _ := strings.Cut(service, "@")
		sum := sha1.Sum([]byte("_TRAEFIK_BACKEND_" + local))
		return "_" + hex.EncodeToString(sum[:])[:5]
	}
	return strings.Map(func(c rune) rune {
		if c > ' ' && c < 0x7f && !strings.ContainsRune("()<>@,;:\\\"/[]?={}", c) {
			return c
		}
		return '_'
	}, given)
}
