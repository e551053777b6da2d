package http1

import "math"

// Body reads the framing of one body. It is a small value, free to copy before
// its first use. The zero Body is done.
type Body struct {
	left    int64 // content bytes that follow, whatever their values
	size    uint64
	excess  int32  // framing bytes beyond what the content excuses
	extra   uint16 // digits of a chunk's size, then bytes of its extensions
	framing Framing
	state   uint8
}

// states of a body
const (
	bodyDone uint8 = iota
	bodyData
	bodyTrailers
	chunkSize  // at the first digit of a size
	chunkDigit // behind a digit
	extName    // at the first byte of an extension's name
	extInName
	extValue // at the first byte of its value
	extInValue
	extQuoted
	extEscape
	extEnd     // behind a quoted value
	chunkLF    // behind the CR of a size line
	chunkEndCR // behind the data
	chunkEndLF
	lastCR // at the line behind the last chunk's
	lastLF
)

func newBody(f Framing, length int64) Body {
	switch f {
	case Length:
		return Body{framing: f, state: bodyData, left: length}
	case Chunked:
		return Body{framing: f, state: chunkSize}
	case UntilClose:
		return Body{framing: f, state: bodyData, left: math.MaxInt64}
	}
	return Body{}
}

// Next tells how the received bytes begin: skip bytes of framing to drop, then
// payload bytes of content. Both are taken as used: the caller goes on behind
// them, and calls again while that made progress. Both are 0 where the body is
// done, waits for trailers, or needs more bytes.
func (b *Body) Next(buf []byte) (skip, payload int, why Reason) {
	for b.state != bodyData {
		if b.state <= bodyTrailers || skip == len(buf) {
			return skip, 0, 0
		}
		n, why := b.chunk(buf[skip:])
		if why != 0 {
			return skip, 0, why
		}
		if n == 0 {
			return skip, 0, 0
		}
		skip += n
	}
	payload = int(min(b.left, int64(len(buf)-skip)))
	b.Advance(int64(payload))
	return skip, payload, 0
}

// Left is how many bytes of content follow next, whatever their values; 0 where
// framing comes first. For a body until close it is without bound.
func (b *Body) Left() int64 {
	if b.state != bodyData {
		return 0
	}
	return b.left
}

// Advance tells that n bytes of content, at most Left, were moved without Next.
func (b *Body) Advance(n int64) {
	if n > b.left {
		panic("http1: advance beyond the body")
	}
	if b.framing == UntilClose {
		return
	}
	if b.left -= n; b.left > 0 || b.state != bodyData {
		return
	}
	if b.framing == Chunked {
		b.state = chunkEndCR
	} else {
		b.state = bodyDone
	}
}

// Done tells whether the body has ended; what follows is the next message.
func (b *Body) Done() bool { return b.state == bodyDone }

// InTrailers tells whether a trailer section comes next.
func (b *Body) InTrailers() bool { return b.state == bodyTrailers }

// EndTrailers ends the body after its trailer section was read.
func (b *Body) EndTrailers() { b.state = bodyDone }

// Framing is how the body was framed.
func (b *Body) Framing() Framing { return b.framing }

// End tells the body that the connection ended; Truncated unless that, or
// something before, is the body's end.
func (b *Body) End() Reason {
	if b.framing == UntilClose {
		b.state = bodyDone
	}
	if b.state != bodyDone {
		return Truncated
	}
	return 0
}
