package acme

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Where the answers to challenges lie in the store: one key per HTTP-01 token
// and per TLS-ALPN-01 name.
const (
	challengePrefix = "challenges"
	httpPrefix      = challengePrefix + "/" + http01 + "/"
	alpnPrefix      = challengePrefix + "/" + tlsALPN01 + "/"
)

const (
	entryVersion = 1
	maxEntry     = 4 << 10
)

// entry is a pending challenge as every replica reads it.
type entry struct {
	Version int       `json:"version"`
	Order   string    `json:"order"` // journal's key: whose it is
	Name    string    `json:"name"`
	Value   string    `json:"value"` // http-01: key authorization; tls-alpn-01: its SHA-256, base64url
	Expires time.Time `json:"expires"`
}

var (
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)
	keyAuth   = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}\.[A-Za-z0-9_-]{1,128}$`)
	nameForm  = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?$`)
)

func validToken(s string) bool { return tokenForm.MatchString(s) }

func validName(s string) bool {
	return net.ParseIP(s) != nil || nameForm.MatchString(s) && !strings.Contains(s, "..")
}

// decodeEntry reads the entry at key. The store's content is not trusted: what
// could not be an answer is refused.
func decodeEntry(key string, raw []byte) (entry, error) {
	if len(raw) > maxEntry {
		return entry{}, fmt.Errorf("%d bytes are too many", len(raw))
	}
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return entry{}, err
	}
	if e.Version != entryVersion {
		return entry{}, fmt.Errorf("it has version %d, this program knows %d", e.Version, entryVersion)
	}
	if token, ok := strings.CutPrefix(key, httpPrefix); ok {
		if !validToken(token) || !keyAuth.MatchString(e.Value) || !strings.HasPrefix(e.Value, token+".") {
			return entry{}, errors.New("it holds no key authorization of its token")
		}
		return e, nil
	}
	if !strings.HasPrefix(key, alpnPrefix) || !validName(e.Name) || key != alpnKey(e.Name) {
		return entry{}, errors.New("its name is not that of its key")
	}
	if digest, err := base64.RawURLEncoding.DecodeString(e.Value); err != nil || len(digest) != sha256.Size {
		return entry{}, errors.New("it holds no digest")
	}
	return e, nil
}

func httpKey(token string) string { return httpPrefix + token }

// alpnKey is where the answer for a name lies: under the name the CA sends in
// its handshake, which for an address is the reverse name (RFC 8738, section
// 6). Longer ones than a key's segment may be go by their hash.
func alpnKey(name string) string {
	name = serverName(name)
	const most = 200
	if len(name) > most {
		sum := sha256.Sum256([]byte(name))
		name = "sha256-" + hex.EncodeToString(sum[:])
	}
	return alpnPrefix + name
}

// serverName is the name a CA sends as SNI when it validates name.
func serverName(name string) string {
	ip := net.ParseIP(name)
	if ip == nil {
		return name
	}
	var b strings.Builder
	if v4 := ip.To4(); v4 != nil {
		for i := 3; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(v4[i])) + ".")
		}
		return b.String() + "in-addr.arpa"
	}
	for i := 15; i >= 0; i-- {
		fmt.Fprintf(&b, "%x.%x.", ip[i]&0xf, ip[i]>>4)
	}
	return b.String() + "ip6.arpa"
}

func digest(keyAuthorization string) string {
	sum := sha256.Sum256([]byte(keyAuthorization))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
