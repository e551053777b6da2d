package h2

import (
	"net/textproto"
	"strings"
)

// fieldName is a header name as HTTP/2 writes it, with its place in HPACK's
// static table (RFC 7541, appendix A); 0: not in it.
type fieldName struct {
	lower string
	index byte
}

// names are the header names known beforehand, as net/http spells them.
var names = map[string]fieldName{
	"Accept": {"accept", 19}, "Accept-Charset": {"accept-charset", 15}, "Accept-Encoding": {"accept-encoding", 16},
	"Accept-Language": {"accept-language", 17}, "Accept-Ranges": {"accept-ranges", 18},
	"Access-Control-Allow-Origin": {"access-control-allow-origin", 20}, "Age": {"age", 21}, "Allow": {"allow", 22},
	"Authorization": {"authorization", 23}, "Cache-Control": {"cache-control", 24},
	"Content-Disposition": {"content-disposition", 25}, "Content-Encoding": {"content-encoding", 26},
	"Content-Language": {"content-language", 27}, "Content-Length": {"content-length", 28},
	"Content-Location": {"content-location", 29}, "Content-Range": {"content-range", 30},
	"Content-Type": {"content-type", 31}, "Cookie": {"cookie", 32}, "Date": {"date", 33}, "Etag": {"etag", 34},
	"Expect": {"expect", 35}, "Expires": {"expires", 36}, "From": {"from", 37}, "Host": {"host", 38},
	"If-Match": {"if-match", 39}, "If-Modified-Since": {"if-modified-since", 40}, "If-None-Match": {"if-none-match", 41},
	"If-Range": {"if-range", 42}, "If-Unmodified-Since": {"if-unmodified-since", 43},
	"Last-Modified": {"last-modified", 44}, "Link": {"link", 45}, "Location": {"location", 46},
	"Max-Forwards": {"max-forwards", 47}, "Proxy-Authenticate": {"proxy-authenticate", 48},
	"Proxy-Authorization": {"proxy-authorization", 49}, "Range": {"range", 50}, "Referer": {"referer", 51},
	"Refresh": {"refresh", 52}, "Retry-After": {"retry-after", 53}, "Server": {"server", 54},
	"Set-Cookie": {"set-cookie", 55}, "Strict-Transport-Security": {"strict-transport-security", 56},
	"User-Agent": {"user-agent", 58}, "Vary": {"vary", 59}, "Via": {"via", 60}, "Www-Authenticate": {"www-authenticate", 61},

	"Te": {"te", 0}, "Origin": {"origin", 0}, "Priority": {"priority", 0}, "Trailer": {"trailer", 0}, "Dnt": {"dnt", 0},
	"Upgrade-Insecure-Requests": {"upgrade-insecure-requests", 0}, "Sec-Fetch-Dest": {"sec-fetch-dest", 0},
	"Sec-Fetch-Mode": {"sec-fetch-mode", 0}, "Sec-Fetch-Site": {"sec-fetch-site", 0}, "Sec-Fetch-User": {"sec-fetch-user", 0},
	"Sec-Ch-Ua": {"sec-ch-ua", 0}, "Sec-Ch-Ua-Mobile": {"sec-ch-ua-mobile", 0}, "Sec-Ch-Ua-Platform": {"sec-ch-ua-platform", 0},
	"Sec-Websocket-Version": {"sec-websocket-version", 0}, "Sec-Websocket-Protocol": {"sec-websocket-protocol", 0},
	"Sec-Websocket-Extensions": {"sec-websocket-extensions", 0},
	"X-Forwarded-For":          {"x-forwarded-for", 0}, "X-Forwarded-Proto": {"x-forwarded-proto", 0},
	"X-Forwarded-Host": {"x-forwarded-host", 0}, "X-Real-Ip": {"x-real-ip", 0}, "X-Request-Id": {"x-request-id", 0},
	"X-Requested-With": {"x-requested-with", 0}, "Traceparent": {"traceparent", 0}, "Tracestate": {"tracestate", 0},
	"Grpc-Status": {"grpc-status", 0}, "Grpc-Message": {"grpc-message", 0}, "Grpc-Encoding": {"grpc-encoding", 0},
	"Grpc-Accept-Encoding": {"grpc-accept-encoding", 0}, "Grpc-Timeout": {"grpc-timeout", 0},
	"Grpc-Status-Details-Bin": {"grpc-status-details-bin", 0}, "Alt-Svc": {"alt-svc", 0},
	"X-Content-Type-Options": {"x-content-type-options", 0}, "X-Frame-Options": {"x-frame-options", 0},
	"Content-Security-Policy": {"content-security-policy", 0}, "Referrer-Policy": {"referrer-policy", 0},
	"Permissions-Policy": {"permissions-policy", 0}, "Access-Control-Allow-Headers": {"access-control-allow-headers", 0},
	"Access-Control-Allow-Methods": {"access-control-allow-methods", 0},
}

// canonicals leads from HTTP/2's spelling to net/http's.
var canonicals = func() map[string]string {
	m := make(map[string]string, len(names))
	for canonical, n := range names {
		m[n.lower] = canonical
	}
	return m
}()

// maxLearned bounds the names a connection remembers beside those.
const maxLearned = 64

// canonical gives a valid lower-case name as net/http spells it.
func (c *conn) canonical(lower string) string {
	if s, ok := canonicals[lower]; ok {
		return s
	}
	if s, ok := c.learned[lower]; ok {
		return s
	}
	s := textproto.CanonicalMIMEHeaderKey(lower)
	if len(c.learned) < maxLearned {
		if c.learned == nil {
			c.learned = make(map[string]string)
		}
		c.learned[lower] = s
	}
	return s
}

// appendField appends a header line in HPACK: as a literal that enters no
// table, so that a block can be made before its turn to be sent has come, and
// without a lock.
func appendField(b []byte, name, value string) []byte {
	n, known := names[name]
	switch {
	case n.index >= 15:
		b = append(b, 0x0f, n.index-15)
	case known:
		b = appendString(append(b, 0), n.lower)
	default:
		b = appendString(append(b, 0), strings.ToLower(name))
	}
	return appendString(b, value)
}

// appendString appends a string without Huffman coding.
func appendString(b []byte, s string) []byte { return append(appendLength(b, len(s)), s...) }

func appendLength(b []byte, n int) []byte {
	if n < 127 {
		return append(b, byte(n))
	}
	b = append(b, 127)
	for n -= 127; n >= 128; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// appendStatus appends the :status line.
func appendStatus(b []byte, status int) []byte {
	switch status {
	case 200:
		return append(b, 0x88)
	case 204:
		return append(b, 0x89)
	case 206:
		return append(b, 0x8a)
	case 304:
		return append(b, 0x8b)
	case 400:
		return append(b, 0x8c)
	case 404:
		return append(b, 0x8d)
	case 500:
		return append(b, 0x8e)
	}
	return append(b, 0x08, 3, byte('0'+status/100), byte('0'+status/10%10), byte('0'+status%10))
}

// Classes of bytes.
const (
	nameByte  = 1 << iota // of a header name in HTTP/2: a token in lower case
	tokenByte             // of a method
	badValue              // never in a value: controls but tab, DEL
	plainPath             // of a path that url.Parse would leave as it is
)

var class = func() (t [256]byte) {
	for i := range 256 {
		c := byte(i)
		lower := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		upper := 'A' <= c && c <= 'Z'
		mark := strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
		if lower || mark {
			t[i] |= nameByte
		}
		if lower || upper || mark {
			t[i] |= tokenByte
		}
		if c < 0x20 && c != '\t' || c == 0x7f {
			t[i] |= badValue
		}
		if lower || upper || strings.IndexByte("-._~/", c) >= 0 {
			t[i] |= plainPath
		}
	}
	return t
}()

func all(s string, of byte) bool {
	for i := range len(s) {
		if class[s[i]]&of == 0 {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool {
	for i := range len(s) {
		if class[s[i]]&badValue != 0 {
			return false
		}
	}
	return s == "" || !isBlank(s[0]) && !isBlank(s[len(s)-1])
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
