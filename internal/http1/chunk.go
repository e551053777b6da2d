package http1

const (
	maxSizeDigits = 16   // hexadecimal digits of a chunk size; the value must fit int64
	maxExtension  = 1024 // bytes of extensions of one chunk
	maxExcess     = 16 << 10
)

// chunk reads framing of the chunked coding (RFC 9112, section 7.1) and tells
// how many bytes it used. It stops where content or trailers begin.
func (b *Body) chunk(buf []byte) (n int, why Reason) {
	for n < len(buf) {
		c := buf[n]
		switch b.state {
		case chunkSize, chunkDigit:
			if why := b.sizeByte(c); why != 0 {
				return n, why
			}
		case chunkLF:
			if c != '\n' {
				return n, BareCR
			}
			if !b.excused() {
				return n, ExtensionTooLong
			}
			if b.size == 0 {
				b.state = lastCR
				break
			}
			b.left, b.state = int64(b.size), bodyData
			return n + 1, 0
		case chunkEndCR:
			if c != '\r' {
				return n, BadChunk
			}
			b.state = chunkEndLF
		case chunkEndLF:
			if c != '\n' {
				return n, BareCR
			}
			b.state = chunkSize
		case lastCR:
			if c != '\r' {
				b.state = bodyTrailers
				return n, 0
			}
			b.state = lastLF
		case lastLF:
			if c != '\n' {
				return n, BareCR
			}
			b.state = bodyDone
			return n + 1, 0
		default:
			if why := b.extByte(c); why != 0 {
				return n, why
			}
		}
		n++
	}
	return n, 0
}

// sizeByte reads a byte of a chunk's size, or the one behind it.
func (b *Body) sizeByte(c byte) Reason {
	if d := unhex(c); d <= 15 {
		if b.state == chunkSize {
			b.state, b.size, b.extra = chunkDigit, 0, 0
		}
		if b.extra++; b.extra > maxSizeDigits || b.size >= 1<<59 {
			return ChunkTooLarge
		}
		b.size = b.size<<4 | uint64(d)
		return 0
	}
	if b.state == chunkSize {
		return BadChunk
	}
	switch c {
	case '\r':
		b.state = chunkLF
	case ';':
		b.state, b.extra = extName, 0
	case '\n':
		return BareLF
	default:
		return BadChunk
	}
	return 0
}

// extByte skips a byte of chunk extensions, which nobody forwards (RFC 9112,
// section 7.1.1): ";name", ";name=token" or ";name="quoted"", without whitespace.
func (b *Body) extByte(c byte) Reason {
	if b.extra++; b.extra > maxExtension {
		return ExtensionTooLong
	}
	switch b.state {
	case extQuoted:
		switch {
		case c == '"':
			b.state = extEnd
			return 0
		case c == '\\':
			b.state = extEscape
			return 0
		case class[c]&inValue != 0:
			return 0
		}
		return badEnd(c)
	case extEscape:
		if class[c]&inValue == 0 {
			return badEnd(c)
		}
		b.state = extQuoted
		return 0
	}
	return b.extToken(c)
}

// extToken is extByte outside quotes.
func (b *Body) extToken(c byte) Reason {
	empty := b.state == extName || b.state == extValue
	switch {
	case class[c]&inToken != 0 && b.state != extEnd:
		if empty {
			b.state++
		}
	case c == '"' && b.state == extValue:
		b.state = extQuoted
	case empty:
		return BadChunk
	case c == '=' && b.state == extInName:
		b.state = extValue
	case c == ';':
		b.state = extName
	case c == '\r':
		b.state = chunkLF
	case c == '\n':
		return BareLF
	default:
		return BadChunk
	}
	return 0
}

// excused weighs extensions against content over the whole body: a stream of
// tiny chunks with long extensions is an attack (RFC 9112, section 7.1.1), long
// extensions on large chunks are not.
func (b *Body) excused() bool {
	b.excess += int32(b.extra) - maxSizeDigits - int32(min(b.size, maxExcess))
	b.excess = max(0, b.excess)
	return b.excess <= maxExcess
}
