package http1

import (
	"bytes"
	"math"
)

// Framing is how a body ends.
type Framing uint8

// The framings.
const (
	NoBody     Framing = iota // nothing follows the head
	Length                    // Content-Length, above 0
	Chunked                   // Transfer-Encoding: chunked
	UntilClose                // answers only: all until the connection ends
)

// frame decides how the request's body is framed, where there is exactly one
// reading of it (RFC 9112, section 6).
func (r *Request) frame() Reason {
	if r.Has(TransferEncoding) {
		switch {
		case r.Has(ContentLength):
			return LengthAndCoding
		case r.minor == 0:
			return CodingOn10
		case r.several(TransferEncoding), !equalFold(r.Get(TransferEncoding), "chunked"):
			return BadCoding
		}
		r.framing = Chunked
		return 0
	}
	if !r.Has(ContentLength) {
		return 0
	}
	if r.several(ContentLength) {
		return SeveralLengths
	}
	value := r.Get(ContentLength)
	if len(value) > 1 && value[0] == '0' {
		return BadLength // octal, to some
	}
	n, ok := parseLength(value)
	if !ok {
		return BadLength
	}
	if r.length = n; n > 0 {
		r.framing = Length
	}
	return 0
}

// parseLength reads digits and nothing else.
func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	for _, c := range b {
		d := int64(c - '0')
		if c-'0' > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// maxOptions bounds what Connection may list, since each is searched for.
const maxOptions = 32

// options are what Connection said.
type options struct{ close, keepAlive, upgrade bool }

// connection reads all Connection lines and marks the fields they name as
// belonging to this connection. Fields that the writers set anew are not
// touched by it, so that nothing of ours can be taken away.
func (h *Head) connection() (o options, why Reason) {
	named := 0
	h.elements(Connection, func(option []byte) bool {
		switch {
		case equalFold(option, "close"):
			o.close = true
		case equalFold(option, "keep-alive"):
			o.keepAlive = true
		case equalFold(option, "upgrade"):
			o.upgrade = true
		default:
			if named++; named > maxOptions || !isToken(option) {
				why = BadConnection
				return false
			}
			h.drop(option)
		}
		return true
	})
	return o, why
}

// elements calls yield with each element of a comma-separated known field,
// empty ones left out, until it says no.
func (h *Head) elements(k Known, yield func([]byte) bool) {
	if !h.Has(k) {
		return
	}
	for i := int(h.first[k]) - 1; i < int(h.n); i++ {
		if h.fields[i].known != k {
			continue
		}
		rest, more := h.fields[i].value.of(h.buf), true
		for more {
			var one []byte
			one, rest, more = bytes.Cut(rest, comma)
			if one = trim(one); len(one) > 0 && !yield(one) {
				return
			}
		}
	}
}

var comma = []byte(",") // a constant

func isToken[T ~[]byte | ~string](b T) bool {
	for i := range len(b) {
		if class[b[i]]&inToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

// drop marks the fields of this name.
func (h *Head) drop(name []byte) {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if int(f.name.end-f.name.start) == len(name) && f.flags&(flagHop|flagAnew) == 0 && bytes.EqualFold(f.name.of(h.buf), name) {
			f.flags |= flagHop
		}
	}
}

// hops reads what the head says about its connection.
func (r *Request) hops() Reason {
	o, why := r.connection()
	if why != 0 {
		return why
	}
	r.close, r.keep = o.close, o.keepAlive
	if r.Has(TE) && r.minor == 1 {
		r.elements(TE, func(coding []byte) bool {
			r.wantTrailers = equalFold(coding, "trailers")
			return !r.wantTrailers
		})
	}
	if r.framing == Chunked {
		r.elements(Trailer, func(name []byte) bool {
			if k := lookup(name); k < lastControl && knownFlags[k]&(flagHop|flagAnew) != 0 {
				why = BadTrailer
			}
			return why == 0
		})
	}
	r.websocket = o.upgrade && r.minor == 1 && r.kind == MethodGet && r.framing == NoBody &&
		!r.several(Upgrade) && equalFold(r.Get(Upgrade), "websocket")
	return why
}
