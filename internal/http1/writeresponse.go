package http1

import "strconv"

// Reply is what the client's connection makes of an answer.
type Reply struct {
	Minor  int    // the client's version: 1 or 0
	Close  bool   // the connection ends after this answer
	Date   []byte // value of Date for answers without one; nothing for none
	AltSvc []byte // value of Alt-Svc for answers without one; nothing for none
}

// FramingFor tells how the body must be sent to a client of this version.
// UntilClose needs the connection to end after it.
func (r *Response) FramingFor(minor int) Framing {
	switch r.framing {
	case Chunked, UntilClose:
		if minor == 1 {
			return Chunked
		}
		return UntilClose
	}
	return r.framing
}

// AppendResponse appends the head of the answer as the client gets it, but for
// the empty line: without what belongs to the origin's connection, framed as
// FramingFor says. Interim answers get no framing and no Date; they must not be
// sent to HTTP/1.0 clients.
func AppendResponse(dst []byte, r *Response, o Reply) []byte {
	dst = r.appendStatusLine(dst)
	if r.Interim() {
		return r.appendLines(dst, flagHop|flagAnew)
	}
	dst = r.appendLines(dst, flagHop|flagAnew)
	if len(o.Date) > 0 && !r.Has(Date) {
		dst = append(append(append(dst, "Date: "...), o.Date...), "\r\n"...)
	}
	if len(o.AltSvc) > 0 && !r.Has(AltSvc) {
		dst = append(append(append(dst, "Alt-Svc: "...), o.AltSvc...), "\r\n"...)
	}
	if r.status == 101 {
		return append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	framing := r.FramingFor(o.Minor)
	switch {
	case framing == Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		dst = r.appendAnnounced(dst)
	case framing == UntilClose:
		o.Close = true
	case r.length >= 0:
		dst = append(dst, "Content-Length: "...)
		dst = append(strconv.AppendInt(dst, r.length, 10), "\r\n"...)
	}
	return appendConnection(dst, o)
}

// appendConnection says what happens to the connection where the client cannot
// know it.
func appendConnection(dst []byte, o Reply) []byte {
	switch {
	case o.Close:
		return append(dst, "Connection: close\r\n"...)
	case o.Minor == 0:
		return append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}

func (r *Response) appendStatusLine(dst []byte) []byte {
	if r.minor == 1 && r.reason.start == uint32(len("HTTP/1.1 200 ")) {
		return append(dst, r.buf[:r.reason.end+2]...)
	}
	dst = append(dst, "HTTP/1.1 "...)
	dst = append(strconv.AppendInt(dst, int64(r.status), 10), ' ')
	return append(append(dst, r.Phrase()...), "\r\n"...)
}
