package http1

import "encoding/binary"

// Known names a field that is recognised while it is parsed; 0 is any other.
type Known uint8

// The known fields. Those up to lastControl steer the connection or the proxy
// itself; the others are here because nearly every head has them, so that View
// need not allocate their names.
const (
	Host Known = iota + 1
	Connection
	ContentLength
	TransferEncoding
	Expect
	Upgrade
	TE
	Trailer
	KeepAlive
	ProxyConnection
	ProxyAuthenticate
	ProxyAuthorization
	HTTP2Settings
	Forwarded
	XForwardedFor
	XForwardedHost
	XForwardedProto
	XForwardedPort
	XForwardedPrefix
	XForwardedServer
	XRealIP
	Authorization
	Cookie
	SetCookie
	ContentType
	ContentEncoding
	ContentRange
	Date
	AltSvc
	lastControl

	firstPlain = lastControl
)

// NumKnown is the length of an array indexed by Known.
const NumKnown = len(names)

// names are the canonical spellings (as net/http's header maps have them).
var names = [...]string{
	0: "", Host: "Host", Connection: "Connection", ContentLength: "Content-Length",
	TransferEncoding: "Transfer-Encoding", Expect: "Expect", Upgrade: "Upgrade", TE: "Te",
	Trailer: "Trailer", KeepAlive: "Keep-Alive", ProxyConnection: "Proxy-Connection",
	ProxyAuthenticate: "Proxy-Authenticate", ProxyAuthorization: "Proxy-Authorization",
	HTTP2Settings: "Http2-Settings", Forwarded: "Forwarded", XForwardedFor: "X-Forwarded-For",
	XForwardedHost: "X-Forwarded-Host", XForwardedProto: "X-Forwarded-Proto",
	XForwardedPort: "X-Forwarded-Port", XForwardedPrefix: "X-Forwarded-Prefix",
	XForwardedServer: "X-Forwarded-Server", XRealIP: "X-Real-Ip", Authorization: "Authorization",
	Cookie: "Cookie", SetCookie: "Set-Cookie", ContentType: "Content-Type",
	ContentEncoding: "Content-Encoding", ContentRange: "Content-Range", Date: "Date",
	AltSvc: "Alt-Svc",
	// from here on names without a constant
	firstPlain: "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Accept-Ranges",
	"Access-Control-Allow-Credentials", "Access-Control-Allow-Headers", "Access-Control-Allow-Methods",
	"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Access-Control-Max-Age",
	"Access-Control-Request-Headers", "Access-Control-Request-Method", "Age", "Allow",
	"Baggage", "Cache-Control", "Content-Disposition", "Content-Language", "Content-Location",
	"Content-Security-Policy", "Cross-Origin-Opener-Policy", "Dnt", "Etag", "Expires", "From",
	"Grpc-Status", "Grpc-Message", "Grpc-Timeout", "If-Match", "If-Modified-Since", "If-None-Match",
	"If-Range", "If-Unmodified-Since", "Last-Event-Id", "Last-Modified", "Link", "Location",
	"Max-Forwards", "Origin", "Permissions-Policy", "Pragma", "Priority", "Range", "Referer",
	"Referrer-Policy", "Retry-After", "Sec-Ch-Ua", "Sec-Ch-Ua-Mobile", "Sec-Ch-Ua-Platform",
	"Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-User", "Sec-Gpc",
	"Sec-Websocket-Accept", "Sec-Websocket-Extensions", "Sec-Websocket-Key",
	"Sec-Websocket-Protocol", "Sec-Websocket-Version", "Server", "Server-Timing",
	"Strict-Transport-Security", "Traceparent", "Tracestate", "Upgrade-Insecure-Requests",
	"User-Agent", "Vary", "Via", "Www-Authenticate", "X-Content-Type-Options",
	"X-Frame-Options", "X-Powered-By", "X-Request-Id",
	"X-Requested-With", "X-Xss-Protection",
}

// String is the canonical spelling.
func (k Known) String() string { return names[k] }

// What a field's name alone says about forwarding it.
var knownFlags = [lastControl]uint8{
	Host: flagAnew, ContentLength: flagAnew, Expect: flagAnew,
	Connection: flagHop, TransferEncoding: flagHop, Upgrade: flagHop, TE: flagHop,
	KeepAlive: flagHop, ProxyConnection: flagHop, ProxyAuthenticate: flagHop,
	ProxyAuthorization: flagHop, HTTP2Settings: flagHop, Trailer: flagHop,
	Forwarded: flagForwarding, XForwardedFor: flagForwarding, XForwardedHost: flagForwarding,
	XForwardedProto: flagForwarding, XForwardedPort: flagForwarding,
	XForwardedPrefix: flagForwarding, XForwardedServer: flagForwarding, XRealIP: flagForwarding,
}

const (
	hashBits  = 9
	longName  = 32 // longer than every known name
	shortName = 2
)

// hash spreads names of 2 bytes or more by their length, ends and middle,
// without regard to case.
func hash[T ~[]byte | ~string](name T) uint32 {
	n := len(name)
	h := uint32(n) | uint32(name[0]|0x20)<<8 | uint32(name[n-1]|0x20)<<16 | uint32(name[n/2]|0x20)<<24
	h ^= uint32(name[n-2]|0x20) * 0x9e3779b1
	return h * 0x85ebca6b >> (32 - hashBits)
}

// lowered are the names in lower case, index the table from hashes to names
// (open addressing). Both are constant.
var lowered, index = func() (low [len(names)]string, table [1 << hashBits]Known) {
	for k := 1; k < len(names); k++ {
		text := make([]byte, len(names[k]))
		for i := range text {
			text[i] = lower(names[k][i])
		}
		low[k] = string(text)
		at := hash(text)
		for table[at] != 0 {
			at = (at + 1) % uint32(len(table))
		}
		table[at] = Known(k)
	}
	return low, table
}()

// lookup recognises a name that is a token.
func lookup[T ~[]byte | ~string](name T) Known {
	if len(name) < shortName || len(name) > longName {
		return 0
	}
	for at := hash(name); ; at = (at + 1) % uint32(len(index)) {
		k := index[at]
		if k == 0 || sameName([]byte(name), lowered[k]) {
			return k
		}
	}
}

// sameName compares a token with a known name in lower case, eight bytes at a
// time. Setting bit 0x20 folds letters and maps no other token byte onto a
// letter, a digit or '-'.
func sameName(name []byte, low string) bool {
	n := len(name)
	if n != len(low) {
		return false
	}
	if n < 8 {
		for i := range n {
			if name[i]|0x20 != low[i] {
				return false
			}
		}
		return true
	}
	const fold = 0x2020202020202020
	for i := 0; i+8 < n; i += 8 {
		if binary.LittleEndian.Uint64(name[i:])|fold != word(low, i) {
			return false
		}
	}
	return binary.LittleEndian.Uint64(name[n-8:])|fold == word(low, n-8)
}

// word reads eight bytes of a string; the compiler makes one load of it.
func word(s string, i int) uint64 {
	s = s[i : i+8]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// isForwardingName: a name in lower case that says who a request came from or
// where it was meant to go.
func isForwardingName[T ~[]byte | ~string](low T) bool {
	const prefix = "x-forwarded"
	if len(low) > len(prefix) {
		return low[len(prefix)] == '-' && equalFold(low[:len(prefix)], prefix)
	}
	return equalFold(low, prefix) || equalFold(low, "forwarded") || equalFold(low, "x-real-ip")
}

// isProtectedName: a name in lower case of which a second reading would be
// dangerous.
func isProtectedName[T ~[]byte | ~string](low T) bool {
	switch string(low) {
	case "host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer", "expect",
		"keep-alive", "proxy-connection", "proxy-authorization", "authorization", "cookie":
		return true
	}
	return false
}
