// Package http1 is the HTTP/1.1 wire (RFC 9110, RFC 9112), both sides: strict
// parsers for heads, bodies and trailers, and writers for them. It owns no
// socket, no goroutine, no timer and no buffer pool: it looks at bytes that its
// caller has received and appends to buffers that its caller sends, so that an
// engine with a goroutine for each connection and one around epoll can both
// drive it. It does not route and does not know what a route is.
//
// Why a parser of our own: whatever this package accepts has exactly one
// reading, and what it writes onward is that reading, never a copy of the
// client's spelling where two parsers could differ. Everything else is refused
// with a Reason.
//
// # Reading a request
//
// The caller keeps one buffer for each connection that is being read, and a
// Request (about 3 KiB, to be pooled; idle connections need neither):
//
//	req.Reset()
//	for {
//		n, why := req.Parse(buf[:filled], &rules)
//		switch {
//		case why != 0:   // answer why.Status(), close
//		case n > 0:      // head is buf[:n]; the body's bytes, if any, begin at buf[n]
//		default:         // read more behind buf[:filled], same first byte; the array may be another
//		}
//	}
//	body := req.Body()      // a state machine by value
//
// Parse goes on where it stopped: each byte is looked at once, however the
// bytes arrive. Everything a Request returns as []byte points into the buffer of
// the last Parse and holds until that buffer is overwritten or Reset is called.
//
// # Reading a body
//
//	skip, payload, why := body.Next(buf[at:filled])
//
// tells how the received bytes begin: skip bytes of framing to drop, then
// payload bytes of content to pass on, without a copy. While body.Left() is
// positive that many bytes of content follow whatever their values, so that an
// engine may splice them from socket to socket and say so with body.Advance.
// Where body.InTrailers() is true, Trailers.Parse takes over and
// body.EndTrailers ends the body.
//
// # Reading an answer
//
// Response.Parse has the contract of Request.Parse; Asked tells it what the
// answer is for. Response.Body gives its body, Response.Reusable whether the
// connection may carry another exchange once the body is done.
//
// # Writing
//
// AppendRequest and AppendResponse append a whole head but for the empty line,
// so that the caller may add lines with AppendField before AppendEnd. Heads are
// re-framed: what is written says how the caller is going to send the body, and
// AppendChunk and AppendLastChunk write it where it is chunked.
//
// # Beside net/http
//
// Request.Fill describes a parsed request to handlers as an *http.Request;
// AppendHTTPRequest and AppendHeader write heads that handlers have changed.
//
// All methods of one value are for one goroutine at a time; package-level
// functions are safe everywhere.
package http1
