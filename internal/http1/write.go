package http1

import "strconv"

// AppendField appends one field line. Bytes that no value may have become
// spaces, so that nothing can end the line early; a name that is no token makes
// the line not be written.
func AppendField(dst []byte, name, value string) []byte {
	if !isToken(name) {
		return dst
	}
	dst = append(append(dst, name...), ": "...)
	return append(appendValue(dst, value), "\r\n"...)
}

// appendValue appends a value that nobody has checked yet.
func appendValue(dst []byte, value string) []byte {
	i := len(dst)
	dst = append(dst, value...)
	for i = endOfValue(dst, i); i < len(dst); i = endOfValue(dst, i) {
		dst[i] = ' '
	}
	return dst
}

// AppendEnd appends the empty line that ends a head.
func AppendEnd(dst []byte) []byte { return append(dst, "\r\n"...) }

// AppendChunk appends data as one chunk; no data, no chunk.
func AppendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = append(AppendChunkSize(dst, int64(len(data))), data...)
	return append(dst, "\r\n"...)
}

// AppendChunkSize appends the size line of a chunk of n bytes, n > 0. The data
// and "\r\n" must follow.
func AppendChunkSize(dst []byte, n int64) []byte {
	return append(strconv.AppendInt(dst, n, 16), "\r\n"...)
}

// AppendLastChunk ends a chunked body, with the trailers that may be forwarded;
// t nil for none.
func AppendLastChunk(dst []byte, t *Trailers) []byte {
	dst = append(dst, "0\r\n"...)
	if t != nil {
		for i := range t.Len() {
			if t.Forwarded(i) {
				dst = t.appendLine(dst, i)
			}
		}
	}
	return append(dst, "\r\n"...)
}

// appendLine appends line i in its plain form.
func (h *Head) appendLine(dst []byte, i int) []byte {
	f := &h.fields[i]
	dst = append(append(dst, f.name.of(h.buf)...), ": "...)
	return append(append(dst, f.value.of(h.buf)...), "\r\n"...)
}

// appendAnnounced names the trailers that are announced and may be forwarded.
func (h *Head) appendAnnounced(dst []byte) []byte {
	sep := "Trailer: "
	h.elements(Trailer, func(name []byte) bool {
		if isToken(name) && forwardedTrailer(lookup(name)) {
			dst = append(append(dst, sep...), name...)
			sep = ", "
		}
		return true
	})
	if sep == ", " {
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// appendLines appends the lines without any of the flags. Neighbours in plain
// form are copied in one piece.
func (h *Head) appendLines(dst []byte, skip uint8) []byte {
	n := int(h.n)
	for i := 0; i < n; i++ {
		f := &h.fields[i]
		switch {
		case f.flags&skip != 0:
		case f.flags&flagLoose != 0:
			dst = h.appendLine(dst, i)
		default:
			start := f.name.start
			for i+1 < n && h.fields[i+1].flags&(skip|flagLoose) == 0 {
				i++
			}
			dst = append(dst, h.buf[start:h.fields[i].value.end+2]...)
		}
	}
	return dst
}
