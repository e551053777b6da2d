package http1

import "bytes"

// Rules is what an entry point lets through. It is read, never kept.
type Rules struct {
	MaxHead      int  // bytes of request line and field lines, empty line included
	MaxTarget    int  // bytes of the request target
	MaxLines     int  // field lines, at most MaxLines
	EncodedSlash bool // let %2F and %5C stay in paths
}

// DefaultRules are the limits an entry point has unless told otherwise.
func DefaultRules() Rules { return Rules{MaxHead: 32 << 10, MaxTarget: 8 << 10, MaxLines: MaxLines} }

// maxMethod is longer than any registered method.
const maxMethod = 32

// Method is a method the proxy itself must tell apart; 0 is any other.
type Method uint8

// The methods.
const (
	MethodGet Method = iota + 1
	MethodHead
	MethodPost
	MethodPut
	MethodPatch
	MethodDelete
	MethodOptions
)

// Request is the head of one request. Reset makes a zero one ready.
type Request struct {
	Head
	norm []byte // room for a path that was not normal; kept over Reset
	requestFacts
}

// requestFacts is what Reset clears.
type requestFacts struct {
	path         []byte
	original     original // what edits began with
	method       span
	target       span
	query        span
	authority    span // of an absolute target; else empty
	length       int64
	kind         Method
	minor        uint8
	framing      Framing
	hasQuery     bool
	close        bool
	keep         bool // keep-alive said in so many words
	expect       bool
	websocket    bool
	wantTrailers bool
}

// Reset makes the Request ready for the next head and lets go of the buffer.
func (r *Request) Reset() {
	r.Head.reset(atStart)
	r.requestFacts = requestFacts{}
}

// Parse reads the head at the start of buf, which holds all bytes of this
// message received so far; what was seen before is not looked at again. n > 0:
// the head is buf[:n], and the Request points into buf. why != 0: refused. Both
// 0: more bytes are needed. It never looks beyond rules.MaxHead bytes, so buf
// need not be larger than that. Refused once is refused until Reset; Method,
// Kind, Target and the lines read up to there remain, for logs.
func (r *Request) Parse(buf []byte, rules *Rules) (n int, why Reason) {
	b := buf[:min(len(buf), rules.MaxHead)]
	if r.refused == 0 && r.phase < atLine {
		r.refused = r.requestLine(b, rules)
	}
	if n = r.finish(b, rules.MaxHead, min(rules.MaxLines, MaxLines)); n > 0 {
		r.refused = r.judge(rules)
	}
	if r.refused != 0 {
		return 0, r.refused
	}
	return n, 0
}

// requestLine reads on in the request line, and in the one empty line that may
// stand before it (RFC 9112, section 2.2).
func (r *Request) requestLine(b []byte, rules *Rules) Reason {
	i := int(r.pos)
	switch r.phase {
	case atStart:
		if len(b) == 0 {
			return 0
		}
		switch b[0] {
		case '\n':
			return BareLF
		case '\r':
			if len(b) == 1 {
				return 0
			}
			if b[1] != '\n' {
				return BareCR
			}
			i = 2
		}
		r.mark, r.phase = uint32(i), atMethod
		fallthrough
	case atMethod:
		for i < len(b) && class[b[i]]&inToken != 0 {
			i++
		}
		if r.pos = uint32(i); i-int(r.mark) > maxMethod {
			return BadMethod
		}
		if i == len(b) {
			return 0
		}
		if b[i] != ' ' || i == int(r.mark) {
			return BadMethod
		}
		r.method, r.kind = span{r.mark, uint32(i)}, kindOf(b[r.mark:i])
		i++
		r.mark, r.phase = uint32(i), atTarget
		fallthrough
	case atTarget:
		i = endOfTarget(b[:min(len(b), int(r.mark)+rules.MaxTarget+1)], i)
		if r.pos = uint32(i); i-int(r.mark) > rules.MaxTarget {
			return TargetTooLong
		}
		if i == len(b) {
			return 0
		}
		if b[i] == '#' {
			return Fragment
		}
		if b[i] != ' ' || i == int(r.mark) {
			return BadTarget
		}
		r.target = span{r.mark, uint32(i)}
		r.pos = uint32(i + 1)
		r.phase = atVersion
		fallthrough
	default: // atVersion
		return r.version(b)
	}
}

// version reads "HTTP/1.1" or "HTTP/1.0" and the line's end.
func (r *Request) version(b []byte) Reason {
	const line = "HTTP/1.x\r\n"
	v := b[r.pos:]
	if len(v) >= len(line) && string(v[:7]) == line[:7] && string(v[8:10]) == line[8:] && v[7]-'0' <= 1 {
		r.minor = v[7] - '0'
		r.pos += uint32(len(line))
		r.phase = atLine
		return 0
	}
	major, minor := byte(0), byte(0)
	for i, c := range v[:min(len(v), len(line))] {
		switch {
		case i == 5 && c-'0' <= 9:
			major = c - '0'
		case i == 7 && c-'0' <= 9:
			minor = c - '0'
		case i == 5 || i == 7 || c != line[i]:
			return notVersion(i, c)
		}
	}
	if len(v) < len(line) {
		return 0
	}
	if major != 1 || minor > 1 {
		return UnknownVersion
	}
	panic("http1: version read in two ways")
}

// notVersion judges the byte at place i that does not fit.
func notVersion(i int, c byte) Reason {
	switch {
	case i == 8 && c == '\n':
		return BareLF
	case i == 9:
		return BareCR
	}
	return BadVersion
}

// Method is the method as sent; Kind is the same for the usual ones.
func (r *Request) Method() []byte { return r.method.of(r.buf) }

// Kind is the method if it is one of the constants, else 0.
func (r *Request) Kind() Method { return r.kind }

// Target is the request target as it was sent, for logs; nobody may route by
// it or send it on.
func (r *Request) Target() []byte { return r.target.of(r.buf) }

// Path is the one path of the request: normal (see AppendNormalPath), or "*".
func (r *Request) Path() []byte { return r.path }

// Query is what follows the first '?', as sent; ok tells an empty query from
// none.
func (r *Request) Query() (query []byte, ok bool) { return r.query.of(r.buf), r.hasQuery }

// Host is the host the request is for, with its port if it has one, as sent. It
// is never empty and has been checked (see ValidHost).
func (r *Request) Host() []byte { return r.Get(Host) }

// Minor is 1 for HTTP/1.1 and 0 for HTTP/1.0.
func (r *Request) Minor() int { return int(r.minor) }

// ContentLength is the size of the body, -1 where it is not known beforehand.
func (r *Request) ContentLength() int64 {
	if r.framing == Chunked {
		return -1
	}
	return r.length
}

// Framing tells how the body is framed: NoBody, Length or Chunked.
func (r *Request) Framing() Framing { return r.framing }

// Body is a reader for the body that follows.
func (r *Request) Body() Body { return newBody(r.framing, r.length) }

// KeepAlive tells whether the client lets the connection live after this
// exchange (RFC 9112, section 9.3).
func (r *Request) KeepAlive() bool { return !r.close && (r.minor == 1 || r.keep) }

// Expects100 tells whether the client waits for "100 Continue" before it sends
// the body. It is false where there is no body, and on HTTP/1.0.
func (r *Request) Expects100() bool { return r.expect }

// WebSocket tells whether this is a well-formed request for the upgrade to
// WebSocket (RFC 6455, section 4.1). All other upgrades are passed over.
func (r *Request) WebSocket() bool { return r.websocket }

// WantsTrailers tells whether the client said "TE: trailers".
func (r *Request) WantsTrailers() bool { return r.wantTrailers }

// kindOf recognises the usual methods.
func kindOf(m []byte) Method {
	switch string(m) {
	case "GET":
		return MethodGet
	case "HEAD":
		return MethodHead
	case "POST":
		return MethodPost
	case "PUT":
		return MethodPut
	case "PATCH":
		return MethodPatch
	case "DELETE":
		return MethodDelete
	case "OPTIONS":
		return MethodOptions
	}
	return 0
}

// judge looks at the whole head: everything that is wrong only in context.
func (r *Request) judge(rules *Rules) Reason {
	if r.kind == 0 {
		switch string(r.Method()) {
		case "CONNECT", "TRACE", "TRACK":
			return MethodRefused
		}
	}
	switch {
	case !r.Has(Host):
		return NoHost
	case r.several(Host):
		return SeveralHosts
	case !ValidHost(r.Get(Host)):
		return BadHost
	}
	if why := r.splitTarget(rules); why != 0 {
		return why
	}
	if why := r.frame(); why != 0 {
		return why
	}
	if r.Has(Expect) {
		if r.several(Expect) || !equalFold(r.Get(Expect), "100-continue") {
			return BadExpect
		}
		r.expect = r.minor == 1 && r.framing != NoBody
	}
	return r.hops()
}

// splitTarget takes the target apart (RFC 9112, section 3.2).
func (r *Request) splitTarget(rules *Rules) Reason {
	target := r.Target()
	at := r.target.start
	if target[0] != '/' {
		if len(target) == 1 && target[0] == '*' {
			if r.kind != MethodOptions {
				return BadTarget
			}
			r.path = target
			return 0
		}
		n := absolute(target)
		if n == 0 {
			return BadTarget
		}
		slashes := uint32(bytes.IndexByte(target, ':')) + 3
		r.authority = span{at + slashes, at + uint32(n)}
		if why := r.sameHost(); why != 0 {
			return why
		}
		at += uint32(n)
		target = target[n:]
	}
	if q := bytes.IndexByte(target, '?'); q >= 0 {
		r.query, r.hasQuery = span{at + uint32(q) + 1, r.target.end}, true
		target = target[:q]
	}
	switch {
	case len(target) > 0:
	case r.kind == MethodOptions && !r.hasQuery: // RFC 9112, section 3.2.4
		r.path = asterisk
		return 0
	default:
		r.path = root
		return 0
	}
	var why Reason
	if r.path, why = r.normal(target, rules.EncodedSlash); why != 0 {
		return why
	}
	return 0
}

var asterisk, root = []byte("*"), []byte("/") // constants; their capacity is their length

// absolute gives the length of scheme and authority of an absolute-form
// target, 0 for what is none.
func absolute(target []byte) int {
	scheme := 0
	switch {
	case len(target) > 7 && equalFold(target[:7], "http://"):
		scheme = 7
	case len(target) > 8 && equalFold(target[:8], "https://"):
		scheme = 8
	default:
		return 0
	}
	n := bytes.IndexAny(target[scheme:], "/?")
	if n < 0 {
		return len(target)
	}
	return scheme + n
}

// sameHost wants Host and the authority of the target to be the same.
func (r *Request) sameHost() Reason {
	authority := r.authority.of(r.buf)
	if !ValidHost(authority) {
		return BadHost
	}
	if !bytes.EqualFold(authority, r.Get(Host)) { // both are ASCII
		return HostMismatch
	}
	return 0
}
