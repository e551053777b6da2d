package http1

import (
	"bytes"
	"net/netip"
	"strconv"
)

// Client is the client's side of one connection, looked at once.
type Client struct {
	text    string // address without zone; "" if unknown
	ip      []byte // the same
	trusted bool   // what it says of the request's way is believed
	tls     bool
}

// NewClient describes a client: its address as text, without port; whether its
// forwarding headers are believed; whether it speaks TLS to us.
func NewClient(ip string, trusted, tls bool) Client { return Client{ip, []byte(ip), trusted, tls} }

// TLS tells whether the client speaks TLS to us.
func (c *Client) TLS() bool { return c.tls }

// Onward is how a request goes to an origin.
type Onward struct {
	Client  *Client // never nil
	Host    string  // the origin's own; "": the client's
	KeepOdd bool    // pass names with '_' or '.' on, unless they stand for ours
	Expect  bool    // pass "Expect: 100-continue" on
}

// AppendRequest appends the head of the request as the origin gets it, but for
// the empty line. Nothing of the client's connection goes on; the path is the
// normal one; X-Forwarded-For, -Proto, -Host, -Port and X-Real-Ip say what we
// know, whatever the client said and however it was spelled, unless it is
// trusted. The body must be sent as Request.Framing says.
func AppendRequest(dst []byte, r *Request, o *Onward) []byte {
	dst = append(append(dst, r.Method()...), ' ')
	dst = append(dst, r.path...)
	if r.hasQuery {
		dst = append(append(dst, '?'), r.query.of(r.buf)...)
	}
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	if o.Host != "" {
		dst = append(dst, o.Host...)
	} else {
		dst = append(dst, r.Host()...)
	}
	dst = append(dst, "\r\n"...)
	skip := flagHop | flagAnew | flagAlias | flagForwarding
	if !o.KeepOdd {
		skip |= flagOdd
	}
	dst = r.appendLines(dst, skip)
	dst = r.appendForwarded(dst, o.Client)
	switch {
	case r.framing == Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		dst = r.appendAnnounced(dst)
	case r.Has(ContentLength):
		dst = append(dst, "Content-Length: "...)
		dst = append(strconv.AppendInt(dst, r.length, 10), "\r\n"...)
	}
	if o.Expect && r.expect {
		dst = append(dst, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.websocket:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case r.wantTrailers:
		dst = append(dst, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	return dst
}

// appendForwarded says where the request comes from and where it was meant to
// go.
func (r *Request) appendForwarded(dst []byte, c *Client) []byte {
	if c.trusted {
		return r.appendTrusted(dst, c)
	}
	host, proto := r.Host(), c.proto(r.websocket)
	if len(c.ip) > 0 {
		dst = append(append(dst, "X-Forwarded-For: "...), c.ip...)
		dst = append(append(dst, "\r\nX-Real-Ip: "...), c.ip...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(append(dst, "X-Forwarded-Host: "...), host...)
	dst = append(append(dst, "\r\nX-Forwarded-Port: "...), portOf(host, proto)...)
	dst = append(append(dst, "\r\nX-Forwarded-Proto: "...), proto...)
	return append(dst, "\r\n"...)
}

// appendTrusted goes on with what a trusted client said.
func (r *Request) appendTrusted(dst []byte, c *Client) []byte {
	s := r.said()
	for i := range r.fields[:r.n] { // those we have no word to add to, Forwarded among them
		f := &r.fields[i]
		own := f.known >= XForwardedFor && f.known <= XForwardedPort || f.known == XRealIP
		if f.flags&flagForwarding != 0 && f.flags&(flagHop|flagAlias) == 0 && !own {
			dst = r.appendLine(dst, i)
		}
	}
	s.settle(r.Host(), c, r.websocket)
	if len(c.ip) > 0 || s.hasFor {
		dst = append(dst, "X-Forwarded-For: "...)
		dst = r.appendChain(dst, c.ip)
		dst = append(dst, "\r\n"...)
	}
	if s.hasForwarded {
		dst = append(dst, "Forwarded: "...)
		dst = c.appendElement(dst, r.Host(), s.proto)
		dst = append(dst, "\r\n"...)
	}
	if len(s.realIP) > 0 {
		dst = append(append(append(dst, "X-Real-Ip: "...), s.realIP...), "\r\n"...)
	}
	dst = append(append(dst, "X-Forwarded-Host: "...), s.host...)
	dst = append(append(dst, "\r\nX-Forwarded-Port: "...), s.port...)
	dst = append(append(dst, "\r\nX-Forwarded-Proto: "...), s.proto...)
	return append(dst, "\r\n"...)
}

// said is what a trusted client said of the request's way; settle fills in what
// it left out or said in a way that makes no sense.
type said struct {
	host, port, proto, realIP []byte
	hasFor, hasForwarded      bool
}

func (r *Request) said() said {
	return said{
		host: r.only(XForwardedHost), port: r.only(XForwardedPort),
		proto: r.still(XForwardedProto), realIP: r.only(XRealIP),
		hasFor: len(r.still(XForwardedFor)) > 0, hasForwarded: r.still(Forwarded) != nil,
	}
}

// still is the first value of a field that Connection did not take away.
func (h *Head) still(k Known) []byte {
	if i := h.first[k]; i > 0 && h.fields[i-1].flags&flagHop == 0 {
		return h.fields[i-1].value.of(h.buf)
	}
	return nil
}

// only is the value of a field that was said once.
func (h *Head) only(k Known) []byte {
	if h.several(k) {
		return nil
	}
	return h.still(k)
}

func (s *said) settle(host []byte, c *Client, websocket bool) {
	switch string(s.proto) {
	case "http", "https", "ws", "wss":
	default:
		s.proto = c.proto(websocket)
	}
	if !ValidHost(s.host) {
		s.host = host
	}
	if !isPort(s.port) {
		s.port = portOf(host, s.proto)
	}
	if !isIP(s.realIP) {
		s.realIP = c.ip
	}
}

// appendChain appends the X-Forwarded-For of a trusted client and its own
// address.
func (r *Request) appendChain(dst, ip []byte) []byte {
	sep := ""
	for i := range r.fields[:r.n] {
		f := &r.fields[i]
		if f.known == XForwardedFor && f.flags&flagHop == 0 && f.value.start < f.value.end {
			dst = append(append(dst, sep...), f.value.of(r.buf)...)
			sep = ", "
		}
	}
	if len(ip) > 0 {
		dst = append(append(dst, sep...), ip...)
	}
	return dst
}

// appendElement continues a Forwarded header (RFC 7239).
func (c *Client) appendElement(dst, host, proto []byte) []byte {
	dst = append(dst, "for="...)
	switch {
	case len(c.ip) == 0:
		dst = append(dst, "unknown"...)
	case bytes.IndexByte(c.ip, ':') >= 0:
		dst = append(append(append(dst, `"[`...), c.ip...), `]"`...)
	default:
		dst = append(dst, c.ip...)
	}
	dst = append(append(dst, `;host="`...), host...)
	return append(append(dst, `";proto=`...), proto...)
}

// Constants, as bytes.
var (
	port80, port443    = []byte("80"), []byte("443")
	protoHTTP, protoWS = []byte("http"), []byte("ws")
	protoHTTPS         = []byte("https")
	protoWSS           = []byte("wss")
)

// proto is the scheme as Traefik tells it: WebSockets have their own.
func (c *Client) proto(websocket bool) []byte {
	switch {
	case websocket && c.tls:
		return protoWSS
	case websocket:
		return protoWS
	case c.tls:
		return protoHTTPS
	}
	return protoHTTP
}

// portOf is the port of a valid host, or the scheme's.
func portOf(host, proto []byte) []byte {
	for i := len(host) - 1; i >= 0 && host[i] != ']'; i-- {
		if host[i] == ':' {
			if i+1 < len(host) {
				return host[i+1:]
			}
			break
		}
	}
	switch string(proto) {
	case "https", "wss":
		return port443
	}
	return port80
}

// isPort accepts a number up to 65535.
func isPort(b []byte) bool {
	n, ok := parseLength(b)
	return ok && len(b) <= len("65535") && n <= 65535
}

// isIP accepts an address without zone.
func isIP(b []byte) bool {
	if bytes.IndexByte(b, ':') >= 0 {
		addr, err := netip.ParseAddr(string(b))
		return err == nil && addr.Zone() == ""
	}
	for dots := 0; ; dots++ { // IPv4, without an allocation
		i := bytes.IndexByte(b, '.')
		octet := b
		if i >= 0 {
			octet = b[:i]
		}
		n, ok := parseLength(octet)
		if !ok || n > 255 || len(octet) > 1 && octet[0] == '0' || dots > 3 {
			return false
		}
		if i < 0 {
			return dots == 3
		}
		b = b[i+1:]
	}
}
