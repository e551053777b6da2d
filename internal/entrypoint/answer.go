package entrypoint

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// answer writes a handler's answer. Content is gathered until it is known to
// be all of it, or too much, or the handler flushes; head and content then go
// out in one write where they fit.
type answer struct {
	header  http.Header
	status  int   // final; 0: none yet
	length  int64 // declared or found out; -1: not known
	written int64
	out     []byte // gathered: content before the head is made, then both
	headed  bool   // the head is in out, or gone
	chunked bool
	noBody  bool // HEAD, 204, 304
	close   bool
	hijack  bool
	err     error
}

func (a *answer) begin() {
	if a.header == nil {
		a.header = make(http.Header, 16)
	}
	a.status, a.length, a.written, a.err = 0, -1, 0, nil
	a.headed, a.chunked, a.noBody, a.close, a.hijack = false, false, false, false, false
}

// end makes the answer ready for the next request.
func (a *answer) end() {
	wire.Free(a.out)
	a.out = nil
	clear(a.header)
}

// answered tells whether some of the answer may have been sent.
func (x *turn) answered() bool { return x.answer.headed || x.answer.hijack }

// writer is the http.ResponseWriter of one request. It outlives the request,
// where a handler keeps it, but then leads nowhere.
type writer struct{ x atomic.Pointer[turn] }

var errOver = errors.New("write answer: the request is over")

// Header is that of http.ResponseWriter.
func (w *writer) Header() http.Header {
	if x := w.x.Load(); x != nil {
		return x.answer.header
	}
	return http.Header{}
}

// WriteHeader is that of http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	x := w.x.Load()
	if x == nil || x.answer.status != 0 || x.answer.hijack {
		return
	}
	if status < 100 || status > 999 {
		panic("invalid status " + strconv.Itoa(status))
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		x.writeInterim(status)
		return
	}
	x.setStatus(status)
}

// writeInterim sends an interim answer at once.
func (x *turn) writeInterim(status int) {
	if x.req.Minor() == 0 || x.answer.headed {
		return
	}
	if status == http.StatusContinue {
		if !x.incoming.expects.CompareAndSwap(true, false) {
			return
		}
	}
	b := wire.Buffer(wire.SmallSize)
	out := appendStatus(b[:0], status)
	if status != http.StatusContinue {
		out = http1.AppendHeader(out, x.answer.header)
	}
	x.send(http1.AppendEnd(out))
	wire.Free(b)
}

// setStatus fixes what the head will say.
func (x *turn) setStatus(status int) {
	a := &x.answer
	a.status = status
	a.noBody = x.req.Kind() == http1.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	a.length = -1
	if text := a.header["Content-Length"]; len(text) > 0 {
		n, err := strconv.ParseInt(text[0], 10, 64)
		if err == nil && n >= 0 && len(text) == 1 && a.header["Transfer-Encoding"] == nil {
			a.length = n
		} else {
			delete(a.header, "Content-Length")
		}
	}
	// Trailers need chunks; HTTP/2 lets an origin declare a length beside them.
	if status == http.StatusNoContent || a.header["Trailer"] != nil && !a.noBody && x.req.Minor() == 1 {
		delete(a.header, "Content-Length")
		a.length = -1
	}
}

// Write is that of http.ResponseWriter.
func (w *writer) Write(p []byte) (int, error) {
	x := w.x.Load()
	if x == nil {
		return 0, errOver
	}
	return x.writeContent(p)
}

// WriteString is Write without a copy made by the caller.
func (w *writer) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

func (x *turn) writeContent(p []byte) (int, error) {
	a := &x.answer
	switch {
	case a.hijack:
		return 0, http.ErrHijacked
	case a.err != nil:
		return 0, a.err
	case a.status == 0:
		x.setStatus(http.StatusOK)
	}
	if a.noBody {
		if x.req.Kind() == http1.MethodHead {
			return len(p), nil
		}
		return 0, http.ErrBodyNotAllowed
	}
	if a.length >= 0 && a.written+int64(len(p)) > a.length {
		return 0, http.ErrContentLength
	}
	a.written += int64(len(p))
	if a.out == nil {
		a.out = wire.Buffer(wire.SmallSize)[:0]
	}
	if !a.headed {
		if a.length < 0 && len(a.out)+len(p) <= gatherBytes {
			a.out = append(a.out, p...)
			return len(p), nil
		}
		x.writeHead(false)
	}
	x.add(p)
	return len(p), a.err
}

// add sends content behind the head, gathering what is small.
func (x *turn) add(p []byte) {
	a := &x.answer
	if len(p) == 0 {
		return
	}
	room := wire.SmallSize - len(a.out) - 16
	if len(p) <= room {
		if a.chunked {
			a.out = http1.AppendChunk(a.out, p)
		} else {
			a.out = append(a.out, p...)
		}
		return
	}
	if a.chunked {
		a.out = http1.AppendChunkSize(a.out, int64(len(p)))
	}
	if cap(a.out) >= len(a.out)+len(p)+2 || len(a.out)+len(p)+2 <= wire.MediumSize {
		a.room(len(p) + 2)
		a.out = append(a.out, p...)
		if a.chunked {
			a.out = append(a.out, "\r\n"...)
		}
		x.flushOut()
		return
	}
	x.flushOut()
	x.send(p)
	if a.chunked {
		a.out = append(a.out, "\r\n"...)
	}
}

// room makes a larger buffer of out where n more bytes need one.
func (a *answer) room(n int) {
	if len(a.out)+n <= cap(a.out) {
		return
	}
	b := wire.Buffer(len(a.out) + n)
	b = b[:copy(b, a.out)]
	wire.Free(a.out)
	a.out = b
}

// flushOut sends what is gathered.
func (x *turn) flushOut() {
	if len(x.answer.out) > 0 {
		x.send(x.answer.out)
		x.answer.out = x.answer.out[:0]
	}
}

func (x *turn) send(p []byte) {
	if x.answer.err != nil {
		return
	}
	if _, err := x.conn.Write(p); err != nil {
		x.answer.err = err
	}
}

// writeHead puts the head before what is gathered; whole: that is all.
func (x *turn) writeHead(whole bool) {
	a := &x.answer
	x.heading.Lock() // "100 Continue" is out, or will not be said any more
	a.headed = true
	x.heading.Unlock()
	gathered := a.out
	if whole && a.length < 0 && !a.noBody && a.header["Trailer"] == nil && !hasPrefixTrailer(a.header) {
		a.length = a.written
		a.header["Content-Length"] = []string{strconv.FormatInt(a.length, 10)}
	}
	out := wire.Buffer(wire.SmallSize)[:0]
	out = appendStatus(out, a.status)
	out = http1.AppendHeader(out, a.header)
	if a.header["Date"] == nil {
		out = append(append(append(out, "Date: "...), x.conn.server.clock.date(wire.Now())...), "\r\n"...)
	}
	if a.length >= 0 {
		out = append(strconv.AppendInt(append(out, "Content-Length: "...), a.length, 10), "\r\n"...)
	} else if !a.noBody {
		if a.chunked = x.req.Minor() == 1; a.chunked {
			out = append(out, "Transfer-Encoding: chunked\r\n"...)
			for _, names := range a.header["Trailer"] {
				out = http1.AppendField(out, "Trailer", names)
			}
		} else {
			a.close = true
		}
	}
	a.close = a.close || x.last || x.conn.server.draining.Load() || x.incoming.expects.Load() || x.incoming.failed != nil || closes(a.header)
	switch {
	case a.close:
		out = append(out, "Connection: close\r\n"...)
	case x.req.Minor() == 0:
		out = append(out, "Connection: keep-alive\r\n"...)
	}
	a.out = http1.AppendEnd(out)
	if a.chunked && len(gathered) > 0 {
		a.room(len(gathered) + 16)
		a.out = http1.AppendChunk(a.out, gathered)
	} else if len(gathered) > 0 {
		a.room(len(gathered))
		a.out = append(a.out, gathered...)
	}
	wire.Free(gathered)
}

// closes: the handler wants the connection closed.
func closes(h http.Header) bool {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(name), "close") {
				return true
			}
		}
	}
	return false
}

func hasPrefixTrailer(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// finishAnswer sends what is left once the handler has returned, and tells
// whether the connection may go on as far as the answer is concerned.
func (x *turn) finishAnswer() bool {
	a := &x.answer
	if a.hijack {
		return false
	}
	if a.status == 0 {
		x.setStatus(http.StatusOK)
	}
	if !a.headed {
		x.writeHead(true)
	}
	if a.chunked {
		a.out = append(a.out, "0\r\n"...)
		a.out = appendTrailers(a.out, a.header)
		a.out = append(a.out, "\r\n"...)
	}
	x.flushOut()
	short := a.length >= 0 && a.written < a.length && !a.noBody
	return a.err == nil && !a.close && !short
}

// appendTrailers writes the trailers a handler announced, or named with
// http.TrailerPrefix.
func appendTrailers(b []byte, h http.Header) []byte {
	for _, line := range h["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			switch name {
			case "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Host":
				continue
			}
			for _, v := range h[name] {
				b = http1.AppendField(b, name, v)
			}
		}
	}
	for name, values := range h {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			for _, v := range values {
				b = http1.AppendField(b, name, v)
			}
		}
	}
	return b
}

// FlushError sends what is there, the head at least.
func (w *writer) FlushError() error {
	x := w.x.Load()
	if x == nil {
		return errOver
	}
	a := &x.answer
	if a.hijack {
		return http.ErrHijacked
	}
	if a.status == 0 {
		x.setStatus(http.StatusOK)
	}
	if !a.headed {
		x.writeHead(false)
	}
	x.flushOut()
	return a.err
}

// Flush is FlushError for callers of the older interface.
func (w *writer) Flush() { w.FlushError() } //nolint:errcheck // that interface has no room for it

// ReadFrom copies through a large buffer.
func (w *writer) ReadFrom(src io.Reader) (n int64, err error) {
	b := wire.Buffer(wire.LargeSize)
	defer wire.Free(b)
	for {
		m, rerr := src.Read(b)
		if m > 0 {
			k, werr := w.Write(b[:m])
			if n += int64(k); werr != nil {
				return n, werr
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// Hijack hands the connection over (an upgrade). What the client has sent
// already is in the reader.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	x := w.x.Load()
	if x == nil {
		return nil, nil, errOver
	}
	a := &x.answer
	if a.hijack {
		return nil, nil, http.ErrHijacked
	}
	if a.headed {
		return nil, nil, errors.New("take over connection: the answer has begun")
	}
	x.heading.Lock()
	a.hijack = true
	x.heading.Unlock()
	x.view.context.unwatch()
	ahead := append([]byte(nil), x.incoming.rest...)
	x.tunnel()
	c := x.conn.Net()
	r := bufio.NewReader(io.MultiReader(bytes.NewReader(ahead), c))
	if len(ahead) > 0 {
		r.Peek(len(ahead)) //nolint:errcheck // it is in memory
	}
	return c, bufio.NewReadWriter(r, bufio.NewWriter(c)), nil
}

// SetReadDeadline and SetWriteDeadline serve http.ResponseController.
func (w *writer) SetReadDeadline(t time.Time) error {
	x := w.x.Load()
	if x == nil {
		return errOver
	}
	x.incoming.by = wire.At(t)
	return nil
}

// SetWriteDeadline bounds the writing of the answer.
func (w *writer) SetWriteDeadline(t time.Time) error {
	x := w.x.Load()
	if x == nil {
		return errOver
	}
	x.conn.WriteBy(wire.At(t), x.conn.server.opts.WriteStallTimeout)
	return nil
}

// EnableFullDuplex is always on: bodies may be read while answers are written.
func (w *writer) EnableFullDuplex() error { return nil }
