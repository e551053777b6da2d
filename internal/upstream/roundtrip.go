package upstream

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// http1RoundTripper reaches one origin by HTTP/1.1, and by fallback where TLS
// agreed on HTTP/2. It serves the engine, for services of which some server
// speaks HTTP/2, or may.
type http1RoundTripper struct {
	origin   *origin
	fallback http.RoundTripper
}

// RoundTrip is that of http.RoundTripper. The request's body is read by the
// time the answer's body is closed.
func (t *http1RoundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.origin.protocol.Load() == speaksHTTP2 {
		return t.fallback.RoundTrip(req)
	}
	g := new(outgoing)
	g.begin(req, g)
	err := g.takeBody(t.origin.client != nil)
	if err == nil {
		err = g.send(t.origin)
	}
	if err != nil {
		g.free()
		if errors.Is(err, errHTTP2) {
			return t.fallback.RoundTrip(req)
		}
		if own := req.Context().Err(); own != nil {
			err = own
		}
		return nil, err
	}
	return g.response(), nil
}

// response is the answer in net/http's form.
func (g *outgoing) response() *http.Response {
	status := g.res.Status()
	res := &http.Response{
		Status: strconv.Itoa(status) + " " + string(g.res.Phrase()), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: g.res.Minor(), Request: g.req,
		Header: make(http.Header, g.res.Len()), ContentLength: g.res.ContentLength(),
	}
	g.res.Fill(res.Header)
	body := &answerBody{g: g, res: res}
	res.Body = body
	if status == http.StatusSwitchingProtocols {
		res.Header["Connection"], res.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
		res.Body = &upgradedBody{body}
		return res
	}
	for _, name := range g.res.Announced() {
		if res.Trailer == nil {
			res.Trailer = http.Header{}
		}
		res.Trailer[name] = nil
	}
	if g.body.Done() && g.res.ContentLength() <= 0 && g.req.Method != http.MethodHead {
		body.Close()
		res.Body = http.NoBody
	}
	return res
}

// answerBody is an answer's content.
type answerBody struct {
	mu    sync.Mutex
	g     *outgoing // nil: closed
	res   *http.Response
	piece []byte
	err   error
}

// Read is that of io.Reader.
func (b *answerBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.g == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(b.piece) == 0 && b.err == nil {
		b.piece, b.err = b.g.next()
	}
	if len(b.piece) == 0 && b.err != nil {
		if b.err == io.EOF && b.g.trail.Len() > 0 {
			if b.res.Trailer == nil {
				b.res.Trailer = http.Header{}
			}
			b.g.trail.AddTo(b.res.Trailer)
			b.g.trail.Reset()
		}
		return 0, b.err
	}
	n := copy(p, b.piece)
	b.piece = b.piece[n:]
	return n, nil
}

// Close gives the connection back, or up where not all was read. A read of
// another goroutine ends.
func (b *answerBody) Close() error {
	if !b.mu.TryLock() {
		if l := b.g.link; l != nil {
			l.Sock.Close()
		}
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if b.g == nil {
		return nil
	}
	if len(b.piece) > 0 {
		b.g.odd = true
	}
	b.g.end()
	b.g.free()
	b.g = nil
	return nil
}

// upgradedBody is the connection after a 101.
type upgradedBody struct{ *answerBody }

// Read is that of io.Reader.
func (b *upgradedBody) Read(p []byte) (int, error) {
	if n := copy(p, b.g.rest); n > 0 {
		b.g.rest = b.g.rest[n:]
		return n, nil
	}
	b.g.link.ReadBy(0)
	return b.g.link.Read(p)
}

// Write is that of io.Writer.
func (b *upgradedBody) Write(p []byte) (int, error) { return b.g.link.Write(p) }

// Close closes the connection.
func (b *upgradedBody) Close() error {
	b.g.link.Sock.Close()
	return nil
}
