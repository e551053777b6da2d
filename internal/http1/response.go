package http1

// Limits of answers.
const (
	DefaultAnswerHead = 64 << 10 // bytes of an answer's head
	MaxInterim        = 16       // 1xx answers before the final one
)

// Asked is what an answer is for.
type Asked struct {
	Head      bool // the method was HEAD: no body, whatever the head says
	WebSocket bool // the upgrade to WebSocket was passed on: 101 is welcome
}

// Response is the head of one answer of an origin. Reset makes a zero one ready.
type Response struct {
	Head
	responseFacts
}

// responseFacts is what Reset clears.
type responseFacts struct {
	reason  span
	length  int64 // -1: none given
	status  uint16
	minor   uint8
	framing Framing
	close   bool
	keep    bool
	odd     bool // something does not fit: not to be used again
}

// Reset makes the Response ready for the next head and lets go of the buffer.
func (r *Response) Reset() {
	r.Head.reset(atVersion)
	r.responseFacts = responseFacts{}
}

// Parse has the contract of Request.Parse. An interim answer (Interim) is
// followed by another head on the same connection. maxHead bounds the head.
func (r *Response) Parse(buf []byte, maxHead int, asked Asked) (n int, why Reason) {
	b := buf[:min(len(buf), maxHead)]
	if r.refused == 0 && r.phase < atLine {
		r.refused = r.statusLine(b)
	}
	if n = r.finish(b, maxHead, MaxLines); n > 0 {
		r.refused = r.judge(asked)
	}
	if r.refused != 0 {
		return 0, r.refused
	}
	return n, 0
}

// statusLine reads on in "HTTP/1.x ddd reason" (RFC 9112, section 4). The reason
// and the space before it may be missing, as with many origins.
func (r *Response) statusLine(b []byte) Reason {
	if r.phase == atVersion {
		const line = "HTTP/1.x ddd"
		for i, c := range b[:min(len(b), len(line))] {
			switch {
			case i == 7 && c-'0' <= 1:
			case i == 9 && c-'1' <= 8:
			case i > 9 && c-'0' <= 9:
			case i == 7 || i >= 9 || c != line[i]:
				return BadStatus
			}
		}
		if len(b) < len(line)+1 {
			return 0
		}
		r.minor = b[7] - '0'
		r.status = uint16(b[9]-'0')*100 + uint16(b[10]-'0')*10 + uint16(b[11]-'0')
		if b[12] != ' ' && b[12] != '\r' {
			return BadStatus
		}
		r.pos = uint32(len(line))
		if b[12] == ' ' {
			r.pos++
		}
		r.mark, r.phase = r.pos, atReason
	}
	i := endOfValue(b, int(r.pos))
	r.pos = uint32(i)
	if i+1 >= len(b) && (i == len(b) || b[i] == '\r') {
		return 0
	}
	if b[i] != '\r' || b[i+1] != '\n' {
		return badEnd(b[i])
	}
	r.reason = span{r.mark, uint32(i)}
	r.pos, r.phase = uint32(i+2), atLine
	return 0
}

// Status is the status code, 100 to 999.
func (r *Response) Status() int { return int(r.status) }

// Phrase is the reason phrase as sent, which may be empty.
func (r *Response) Phrase() []byte { return r.reason.of(r.buf) }

// Minor is 1 for HTTP/1.1 and 0 for HTTP/1.0.
func (r *Response) Minor() int { return int(r.minor) }

// Interim tells whether another head follows: 1xx other than 101.
func (r *Response) Interim() bool { return r.status < 200 && r.status != 101 }

// Framing tells how the body that follows is framed.
func (r *Response) Framing() Framing { return r.framing }

// ContentLength is what the head says of the size of the content, -1 where it
// says nothing. For HEAD and 304 it speaks of content that does not follow.
func (r *Response) ContentLength() int64 { return r.length }

// Body is a reader for the body that follows.
func (r *Response) Body() Body { return newBody(r.framing, r.length) }

// Reusable tells whether the connection may carry another exchange after this
// answer's body has ended with nothing behind it.
func (r *Response) Reusable() bool {
	return !r.close && !r.odd && (r.minor == 1 || r.keep) && r.framing != UntilClose && r.status != 101
}

// judge looks at the whole head.
func (r *Response) judge(asked Asked) Reason {
	o, why := r.connection()
	if why != 0 {
		o.close = true // what it names stays; the connection goes
	}
	r.close, r.keep = o.close, o.keepAlive
	if r.status == 101 {
		if !asked.WebSocket || !o.upgrade || r.several(Upgrade) || !equalFold(r.Get(Upgrade), "websocket") {
			return UnaskedUpgrade
		}
	}
	return r.frame(asked)
}

// frame decides how the answer's body is framed (RFC 9112, section 6.3).
func (r *Response) frame(asked Asked) Reason {
	r.length = -1
	if r.Has(ContentLength) {
		if !r.oneLength() {
			return BadLength
		}
	}
	if r.Has(TransferEncoding) {
		switch {
		case r.Has(ContentLength):
			return LengthAndCoding
		case r.minor == 0:
			return CodingOn10
		case r.several(TransferEncoding), !equalFold(r.Get(TransferEncoding), "chunked"):
			return BadCoding
		}
	}
	switch {
	case r.status < 200 && (r.Has(TransferEncoding) || r.length > 0):
		return LengthAndCoding
	case r.status < 200, r.status == 204:
		// A body in spite of that would look like the next answer.
		r.odd = r.Has(TransferEncoding) || r.length > 0
		r.length = -1
	case asked.Head, r.status == 304: // the length speaks of content that is not sent
	case r.Has(TransferEncoding):
		r.framing = Chunked
	case r.length < 0:
		r.framing = UntilClose
	case r.length > 0:
		r.framing = Length
	}
	return 0
}

// oneLength reads Content-Length; several lines must say the same number.
func (r *Response) oneLength() bool {
	for i := int(r.first[ContentLength]) - 1; i < int(r.n); i++ {
		if r.fields[i].known != ContentLength {
			continue
		}
		n, ok := parseLength(r.Value(i))
		if !ok || r.length >= 0 && n != r.length {
			return false
		}
		r.length = n
	}
	return true
}
