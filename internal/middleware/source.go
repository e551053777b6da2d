package middleware

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// IPStrategy says which address is the client's, where proxies stand before
// us. Nil: the peer of the connection.
type IPStrategy struct {
	// Depth counts X-Forwarded-For from the right, without our own entry: 1
	// is what the proxy next to us saw.
	Depth int `key:"depth"`
	// ExcludedIPs are proxies: the first address from the right that is none
	// of them is the client's.
	ExcludedIPs []string `key:"excludedIPs"`
}

// SourceCriterion says by what clients are told apart: exactly one of its
// fields, or nothing, which is the client's address.
type SourceCriterion struct {
	IPStrategy        *IPStrategy `key:"ipStrategy"`
	RequestHeaderName string      `key:"requestHeaderName"`
	RequestHost       bool        `key:"requestHost"`
}

// addressOf finds a request's client. The zero Addr: unknown.
type addressOf func(r *http.Request) netip.Addr

// isPeer: the client is who speaks to us.
func (s *IPStrategy) isPeer() bool { return s == nil || s.Depth == 0 && len(s.ExcludedIPs) == 0 }

func (s *IPStrategy) addressOf(env Env, key string) (addressOf, []config.Problem) {
	if s.isPeer() {
		return peerAddress, nil
	}
	if s.Depth < 0 || s.Depth > 0 && len(s.ExcludedIPs) > 0 {
		return nil, []config.Problem{env.problem(key, "depth and excludedIPs exclude each other, and depth is not negative", "depth = 1, or a list excludedIPs")}
	}
	if s.Depth > 0 {
		return func(r *http.Request) netip.Addr { return atDepth(r, s.Depth) }, nil
	}
	proxies, problems := prefixes(env, key, s.ExcludedIPs)
	return func(r *http.Request) netip.Addr { return firstNot(r, proxies) }, problems
}

func peerAddress(r *http.Request) netip.Addr { return addressIn(r.RemoteAddr) }

// addressIn is the address in "ip:port".
func addressIn(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// forwardedFor gives the addresses of X-Forwarded-For, which the gate of the
// entry point has cleaned and ended with the peer's.
func forwardedFor(r *http.Request) []string {
	var list []string
	for _, line := range r.Header["X-Forwarded-For"] {
		for part := range strings.SplitSeq(line, ",") {
			list = append(list, strings.TrimSpace(part))
		}
	}
	return list
}

func parseAddress(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func atDepth(r *http.Request, depth int) netip.Addr {
	list := forwardedFor(r)
	if n := len(list); n > 0 && parseAddress(list[n-1]) == peerAddress(r) {
		list = list[:n-1]
	}
	if len(list) < depth {
		return netip.Addr{}
	}
	return parseAddress(list[len(list)-depth])
}

func firstNot(r *http.Request, proxies []netip.Prefix) netip.Addr {
	list := forwardedFor(r)
	for i := len(list) - 1; i >= 0; i-- {
		addr := parseAddress(list[i])
		if !contains(proxies, addr) {
			return addr
		}
	}
	return peerAddress(r)
}

func contains(list []netip.Prefix, addr netip.Addr) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// prefixes reads addresses and networks.
func prefixes(env Env, key string, texts []string) ([]netip.Prefix, []config.Problem) {
	var list []netip.Prefix
	var problems []config.Problem
	for i, text := range texts {
		text = strings.TrimSpace(text)
		p, err := netip.ParsePrefix(text)
		if addr, single := netip.ParseAddr(text); err != nil && single == nil && addr.Zone() == "" {
			p, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			problems = append(problems, env.problemAt(key, i, fmt.Sprintf("%q is no address or network", text), `such as "10.0.0.0/8" or "2001:db8::1"`))
			continue
		}
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
		}
		list = append(list, p.Masked())
	}
	return list, problems
}

// source tells clients apart.
type source struct {
	addr netip.Addr
	text string
}

// kept is a source that may be the key of a map. Others may be bytes of a
// request's buffer. A map takes the key of each assignment, also where it has an
// equal one: whoever changes what is there does so under the key that is kept.
func (s source) kept() source {
	s.text = strings.Clone(s.text)
	return s
}

// maxSourceText bounds what is kept per client; longer texts stand as digest.
const maxSourceText = 64

type sourceOf func(r *http.Request) source

// sourceOf makes the function that reads a request's source.
func (c *SourceCriterion) sourceOf(env Env) (sourceOf, []config.Problem) {
	given := 0
	if c != nil {
		for _, on := range []bool{c.IPStrategy != nil, c.RequestHeaderName != "", c.RequestHost} {
			if on {
				given++
			}
		}
	}
	switch {
	case given > 1:
		return nil, []config.Problem{env.problem("sourceCriterion", "more than one criterion", "one of ipStrategy, requestHeaderName, requestHost")}
	case given == 1 && c.RequestHost:
		return func(r *http.Request) source { return textSource(http1.HostName(r.Host)) }, nil
	case given == 1 && c.RequestHeaderName != "":
		name := http.CanonicalHeaderKey(c.RequestHeaderName)
		return func(r *http.Request) source { return textSource(r.Header.Get(name)) }, nil
	}
	var strategy *IPStrategy
	if c != nil {
		strategy = c.IPStrategy
	}
	address, problems := strategy.addressOf(env, "sourceCriterion")
	return func(r *http.Request) source {
		return addressSource(address(r))
	}, problems
}

// staged is sourceOf for stages; nil where the source can change under way, with
// the fields of the request.
func (c *SourceCriterion) staged() func(x *wire.Exchange) source {
	switch {
	case c == nil || !c.RequestHost && c.RequestHeaderName == "" && c.IPStrategy.isPeer():
		return func(x *wire.Exchange) source { return addressSource(addressIn(x.Remote)) }
	case c.RequestHost:
		return func(x *wire.Exchange) source { return textSource(http1.HostName(text(x.Req.Host()))) }
	}
	return nil
}

func addressSource(addr netip.Addr) source {
	if addr.Is6() { // a client has a /64, not one address
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	return source{addr: addr}
}

func textSource(text string) source {
	if len(text) > maxSourceText {
		sum := sha256.Sum256([]byte(text))
		text = string(sum[:])
	}
	return source{text: text}
}
