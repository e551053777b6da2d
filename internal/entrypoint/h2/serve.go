package h2

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/net/http2"

	"gatehouse/internal/http1"
)

// Stream is a request as Options.Serve is given it: its head as HTTP/1.1 would
// have said it, and a way to answer without net/http's view. It belongs to the
// goroutine that Serve was called on, until Serve returns; nothing it gives may
// be used afterwards.
type Stream stream

// Head is the request's head, to the empty line. Content of unknown length is
// said to be chunked; Body gives it without the chunks.
func (s *Stream) Head() []byte { return s.head }

// Expects notes that the client waits for "100 Continue": it gets it when the
// body is read.
func (s *Stream) Expects() { s.expects = true }

// Body is the request's content.
func (s *Stream) Body() io.ReadCloser { return &s.body }

// Trailer is what followed the body, once it has ended; nil: nothing.
func (s *Stream) Trailer() http.Header { return s.trailer }

// Context ends with the request.
func (s *Stream) Context() context.Context { return &s.ctx }

// Writer answers the request as handlers do.
func (s *Stream) Writer() http.ResponseWriter { return &s.w }

// TLS is what the handshake agreed on; nil: plain.
func (s *Stream) TLS() *tls.ConnectionState { return s.c.tls }

// Sent is the answer's status, 0 where none was begun, and how much of its
// content was sent.
func (s *Stream) Sent() (status int, size int64) { return s.w.status, s.w.wrote }

// Request gives the request to hand to a handler; fill sets all that stands in
// its head, into maps that are used again.
func (s *Stream) Request(fill func(*http.Request)) *http.Request {
	st := (*stream)(s)
	clear(st.header)
	st.req = http.Request{URL: &st.url, Header: st.header}
	fill(&st.req)
	r := &st.req
	r.Proto, r.ProtoMajor, r.ProtoMinor, r.TransferEncoding, r.Close = "HTTP/2.0", 2, 0, nil, false
	r.RemoteAddr, r.TLS, r.Body = st.c.remote, st.c.tls, http.NoBody
	if st.content {
		r.Body = &st.body
		if r.Trailer == nil {
			r.Trailer = make(http.Header)
		}
	}
	st.req = *r.WithContext(&st.ctx)
	return &st.req
}

// Drain ends the connection after what is under way.
func (s *Stream) Drain() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.drain()
}

// Interim passes an interim answer on.
func (s *Stream) Interim(res *http1.Response) {
	st := (*stream)(s)
	block := appendLines(appendStatus(nil, res.Status()), res)
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if res.Status() == http.StatusContinue {
		st.expects = false
	}
	if !st.gone {
		st.appendBlock(block, false)
		st.frameGen = 0 // not a frame that could end the stream
	}
	st.c.flush(1)
}

// Begin begins the answer with a server's head, which is not looked at
// afterwards. It goes out with the first content, a flush or the end.
func (s *Stream) Begin(res *http1.Response) {
	w := &s.w
	w.status = res.Status()
	w.bodyless = w.status == http.StatusNoContent || w.status == http.StatusNotModified
	b := appendLines(appendStatus(w.block[:0], w.status), res)
	if n := res.ContentLength(); n >= 0 {
		w.declared = n
		var digits [20]byte
		text := strconv.AppendInt(digits[:0], n, 10)
		b = append(append(append(b, 0x0f, 28-15), byte(len(text))), text...)
	}
	if !res.Has(http1.Date) {
		b = appendField(b, "Date", s.c.s.date())
	}
	if announce := s.c.s.opts.AltSvc; announce != nil && !res.Has(http1.AltSvc) {
		if value := announce(); len(value) > 0 {
			b = appendLine(b, http1.AltSvc, nil, value)
		}
	}
	w.block = b
}

// Write sends content, as Writer's does.
func (s *Stream) Write(p []byte) (int, error) { return s.w.Write(p) }

// Flush sends what is there, the head at least.
func (s *Stream) Flush() error { return s.w.FlushError() }

// End ends the answer with trailers; nil: none.
func (s *Stream) End(t *http1.Trailers) {
	if t == nil {
		return
	}
	for i := range t.Len() {
		if t.Forwarded(i) {
			s.w.tail = appendLine(s.w.tail, t.Known(i), t.Name(i), t.Value(i))
		}
	}
}

// Watch calls gone when the client has taken the request back, or is gone,
// until stop is called; gone does not run any more then.
func (s *Stream) Watch(gone func()) (stop func()) {
	done := make(chan struct{})
	stopped := s.ctx.AfterFunc(func() {
		defer close(done)
		gone()
	})
	return func() {
		if !stopped() {
			<-done
		}
	}
}

// prefixes are how lines with known names begin in HPACK: literals that enter
// no table.
var prefixes = func() (list [http1.NumKnown][]byte) {
	for k := 1; k < len(list); k++ {
		name := http1.Known(k).String()
		if n := names[name]; n.index >= 15 {
			list[k] = []byte{0x0f, n.index - 15}
		} else {
			list[k] = appendString([]byte{0}, strings.ToLower(name))
		}
	}
	return list
}()

// appendLines appends the end-to-end lines of an answer, but its length.
func appendLines(b []byte, res *http1.Response) []byte {
	for i := range res.Len() {
		if k := res.Known(i); !res.Hop(i) && k != http1.ContentLength && k != http1.Host && k != http1.Expect {
			b = appendLine(b, k, res.Name(i), res.Value(i))
		}
	}
	return b
}

func appendLine(b []byte, k http1.Known, name, value []byte) []byte {
	if k != 0 {
		b = append(b, prefixes[k]...)
	} else {
		b = appendLength(append(b, 0), len(name))
		for _, c := range name {
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			b = append(b, c)
		}
	}
	return append(appendLength(b, len(value)), value...)
}

// inText tells whether a request's lines are kept as text, for Options.Serve.
func (c *conn) inText(b *block) bool {
	return c.s.opts.Serve != nil && b.kind == request && b.protocol == "" && b.method != http.MethodConnect
}

// addText adds a line to the text of a request.
func (st *stream) addText(b *block, name, value string) {
	if len(st.head) == 0 { // the pseudo-headers are all there
		st.head = append(append(append(append(st.head, b.method...), ' '), b.path...), " HTTP/1.1\r\n"...)
	}
	st.head = append(append(append(append(st.head, name...), ": "...), value...), "\r\n"...)
}

// endText completes the text of a request whose block is whole.
func (st *stream) endText(b *block) {
	st.addText(b, "host", b.authority)
	if len(b.cookies) > 0 {
		st.addText(b, "cookie", strings.Join(b.cookies, "; "))
		clear(b.cookies)
	}
	if st.content = !b.end; st.content && b.length < 0 {
		st.addText(b, "transfer-encoding", "chunked")
	}
	st.head = append(st.head, "\r\n"...)
	st.declared, st.asText = b.length, true
	st.w.start(b.method == http.MethodHead)
}

// serve serves the request by Options.Serve.
func (st *stream) serve() {
	if st.c.s.opts.Serve((*Stream)(st)) {
		st.finish()
		return
	}
	st.end("answer cut short")
}

// end ends a stream whose answer must not be taken for whole.
func (st *stream) end(reason string) {
	c := st.c
	st.body.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	st.handled = true
	st.abort(http2.ErrCodeInternal, reason)
	st.recycle()
	c.flush(maxFlushes)
}
