package entrypoint

import (
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// trust decides whose forwarded headers are believed.
type trust struct {
	prefixes []netip.Prefix
	all      bool
}

func newTrust(opts Options) trust {
	return trust{prefixes: opts.ForwardedTrusted, all: opts.ForwardedInsecure}
}

// peer is the client side of one connection, looked at once.
type peer struct {
	ip       string // without zone; "" if the address cannot be read
	trusted  bool
	since    int64 // in the time of wire.Now
	requests atomic.Int64
}

type peerKey struct{}

func (t trust) peer(remote string) *peer {
	p := &peer{trusted: t.all, since: wire.Now()}
	addrPort, err := netip.ParseAddrPort(remote)
	if err != nil {
		return p
	}
	addr := addrPort.Addr().Unmap().WithZone("")
	p.ip = addr.String()
	for _, prefix := range t.prefixes {
		p.trusted = p.trusted || prefix.Contains(addr)
	}
	return p
}

// worn counts a request and tells whether the connection has lived long
// enough: clients then connect anew and load spreads again.
func (p *peer) worn(now int64) bool {
	return p.requests.Add(1) >= maxConnRequests || now-p.since > int64(maxConnAge)
}

// Alias gives a header name as a lenient server might read it: lower case, '_'
// and '.' as '-'.
func alias(name string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '_' || c == '.':
			return '-'
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		}
		return c
	}, name)
}

// isForwarding tells whether a header says who a request came from or where
// it was meant to go.
func isForwarding(lower string) bool {
	return strings.HasPrefix(lower, "x-forwarded-") || lower == "x-forwarded" || lower == "forwarded" || lower == "x-real-ip"
}

// sweep deletes, in one pass, what an untrusted client says of its way, and
// names with '_' or '.': always those that stand for a header of ours or one
// that frames the message, whoever sent them, and, unless kept, all others. It
// tells how many header lines came.
func sweep(h http.Header, trusted, keepOdd bool) (lines int) {
	for name, values := range h {
		lines += len(values)
		odd := strings.IndexByte(name, '_') >= 0 || strings.IndexByte(name, '.') >= 0
		first := byte(0)
		if name != "" {
			first = name[0] | 0x20
		}
		if !odd && (trusted || first != 'x' && first != 'f') {
			continue
		}
		lower := alias(name)
		if forwarding := isForwarding(lower); odd && (!keepOdd || forwarding || isProtected(lower)) || forwarding && !trusted {
			delete(h, name)
		}
	}
	return lines
}

// isProtected: headers whose second reading would be dangerous.
func isProtected(lower string) bool {
	switch lower {
	case "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "authorization", "cookie":
		return true
	}
	return false
}

// cleanHops removes what belongs to the client's connection only (RFC 9110,
// section 7.6.1), before headers of ours are set, so that "Connection:
// X-Forwarded-For" takes nothing of ours away. An asked upgrade to WebSocket
// stays, in one spelling; the others are dropped. It tells whether one stayed.
func cleanHops(r *http.Request) (upgrade bool) {
	h := r.Header
	trailers := false
	for _, v := range h["Te"] {
		for token := range strings.SplitSeq(v, ",") {
			trailers = trailers || strings.EqualFold(strings.TrimSpace(token), "trailers")
		}
	}
	asked := false
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.TrimSpace(name)
			switch {
			case strings.EqualFold(name, "upgrade"):
				asked = true
			case name != "":
				h.Del(name)
			}
		}
	}
	upgrade = asked && r.ProtoAtLeast(1, 1) && r.ProtoMajor <= 2 && r.Method == http.MethodGet &&
		len(h["Upgrade"]) == 1 && strings.EqualFold(h["Upgrade"][0], "websocket")
	for _, name := range [...]string{"Connection", "Upgrade", "Te", "Keep-Alive", "Proxy-Connection",
		"Proxy-Authenticate", "Proxy-Authorization", "Transfer-Encoding", "Trailer", "Http2-Settings"} {
		delete(h, name)
	}
	if upgrade {
		h["Connection"] = []string{"Upgrade"}
		h["Upgrade"] = []string{"websocket"}
	}
	if trailers {
		h["Te"] = []string{"trailers"}
	}
	return upgrade
}

// forward sets what we know of the request's way, after sweep: X-Forwarded-For (appended to a trusted peer's), -Proto, -Host, -Port and
// X-Real-Ip.
func (p *peer) forward(r *http.Request, tls, upgrade bool) {
	h := r.Header
	room := make([]string, 5) // one allocation for the five values
	setOne := func(name, value string) {
		if value == "" {
			delete(h, name)
			return
		}
		room[0] = value
		h[name] = room[:1:1]
		room = room[1:]
	}
	chain := p.ip
	if before := h["X-Forwarded-For"]; len(before) > 0 {
		chain = strings.Trim(strings.Join(before, ", ")+", "+p.ip, ", ")
	}
	setOne("X-Forwarded-For", chain)
	proto := h.Get("X-Forwarded-Proto")
	if !validProto(proto) {
		proto = ownProto(tls, upgrade)
	}
	setOne("X-Forwarded-Proto", proto)
	if said := h["X-Forwarded-Host"]; len(said) != 1 || !http1.ValidHost(said[0]) {
		setOne("X-Forwarded-Host", r.Host)
	}
	if said := h["X-Forwarded-Port"]; len(said) != 1 || said[0] == "" || !http1.ValidHost("x:"+said[0]) {
		setOne("X-Forwarded-Port", portOf(r.Host, proto))
	}
	if said := h["X-Real-Ip"]; len(said) != 1 || !validIP(said[0]) {
		setOne("X-Real-Ip", p.ip)
	}
	if said := h["Forwarded"]; len(said) > 0 {
		h["Forwarded"] = append(said, p.element(r, proto))
	}
}

func validProto(p string) bool {
	return p == "http" || p == "https" || p == "ws" || p == "wss"
}

// ownProto is the scheme as Traefik tells it: WebSockets have their own.
func ownProto(tls, upgrade bool) string {
	switch {
	case upgrade && tls:
		return "wss"
	case upgrade:
		return "ws"
	case tls:
		return "https"
	}
	return "http"
}

func portOf(host, proto string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && i+1 < len(host) && host[len(host)-1] != ']' {
		return host[i+1:]
	}
	if proto == "https" || proto == "wss" {
		return "443"
	}
	return "80"
}

// element continues a trusted peer's Forwarded header (RFC 7239).
func (p *peer) element(r *http.Request, proto string) string {
	node := p.ip
	switch {
	case node == "":
		node = "unknown"
	case strings.IndexByte(node, ':') >= 0:
		node = `"[` + node + `]"`
	}
	return "for=" + node + `;host="` + r.Host + `";proto=` + proto
}

func validIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isGRPC(r *http.Request) bool {
	ct := r.Header["Content-Type"]
	return len(ct) > 0 && isGRPCType(ct[0])
}

func isGRPCType(contentType string) bool { return strings.HasPrefix(contentType, "application/grpc") }
