package h3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// serve is quic-go's handler: it settles what net/http's servers would have,
// and passes on.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(connKey{}).(*conn)
	entered := c.enter()
	defer func() { c.leave(r.Context().Err() != nil) }()
	if !entered {
		panic(http.ErrAbortHandler)
	}
	a := &answer{ResponseWriter: w, control: http.NewResponseController(w), stall: s.opts.StallTimeout, isHead: r.Method == http.MethodHead}
	if s.opts.WriteTimeout > 0 {
		a.stall = 0
		a.control.SetWriteDeadline(time.Now().Add(s.opts.WriteTimeout)) //nolint:errcheck // it knows deadlines
	}
	if s.opts.ReadTimeout > 0 {
		a.control.SetReadDeadline(time.Now().Add(s.opts.ReadTimeout)) //nolint:errcheck // as above
	}
	if err := settleBody(r, a.control, s.opts); err != nil {
		panic(http.ErrAbortHandler)
	}
	if expects(r) {
		r.Body = &awaitedBody{ReadCloser: r.Body, answer: a}
	}
	s.opts.Handler.ServeHTTP(a, r)
	a.finish()
}

// settleBody finds out whether a request without a length has a body, where
// having none is the rule: HTTP/3 tells only by the stream's end, which may
// come after the head. A length of 0 is checked in the same way.
func settleBody(r *http.Request, control *http.ResponseController, opts Options) error {
	switch {
	case r.ContentLength > 0:
		return nil
	case r.ContentLength < 0:
		switch r.Method {
		case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
		default:
			return nil
		}
	}
	if opts.HeadTimeout > 0 && opts.ReadTimeout <= 0 {
		control.SetReadDeadline(time.Now().Add(opts.HeadTimeout)) //nolint:errcheck // it knows deadlines
		defer control.SetReadDeadline(time.Time{})                //nolint:errcheck // as above
	}
	first := make([]byte, 1)
	for range 4 { // frames without content
		n, err := r.Body.Read(first)
		switch {
		case n > 0:
			r.Body = &begunBody{ReadCloser: r.Body, first: first, end: err}
			return nil
		case errors.Is(err, io.EOF):
			r.Body, r.ContentLength = http.NoBody, 0
			return nil
		case err != nil:
			return err
		}
	}
	return errors.New("frames without content")
}

// begunBody is a body of which one byte has been read.
type begunBody struct {
	io.ReadCloser
	first []byte
	end   error
}

// Read gives the first byte, then the rest.
func (b *begunBody) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(b.first) > 0:
		p[0], b.first = b.first[0], nil
		return 1, b.end
	case b.end != nil:
		return 0, b.end
	}
	return b.ReadCloser.Read(p)
}

// expects tells whether the client waits for a 100 (Continue) before it sends
// the body, and takes the wish off the request: it is fulfilled here.
func expects(r *http.Request) bool {
	expect := r.Header["Expect"]
	if len(expect) != 1 || !strings.EqualFold(expect[0], "100-continue") {
		return false // of others the gate knows what to do
	}
	delete(r.Header, "Expect")
	return r.Body != http.NoBody
}

// awaitedBody says 100 (Continue) when somebody wants to read it.
type awaitedBody struct {
	io.ReadCloser
	answer *answer
	said   bool
}

// Read reads on, after the word.
func (b *awaitedBody) Read(p []byte) (int, error) {
	if !b.said {
		b.said = true
		b.answer.goOn()
	}
	return b.ReadCloser.Read(p)
}
