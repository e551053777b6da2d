package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/wire"
)

// outgoing is a request of net/http on its way to a server by HTTP/1.1.
type outgoing struct {
	*call
	req   *http.Request
	host  string // for the server; "": the client's
	short []byte // a short body, read beforehand; nil: none
	long  *upload
	left  atomic.Bool // the context ended while the server was silent
}

// begin makes a request ready to be sent, repeatedly if need be; free gives its
// memory back.
func (g *outgoing) begin(req *http.Request, down downstream) {
	g.call, g.req, g.host, g.long = newCall(), req, "", nil
	g.down = down
	g.asked = http1.Asked{Head: req.Method == http.MethodHead, WebSocket: req.Header["Upgrade"] != nil}
}

func (g *outgoing) free() {
	if g.link != nil { // somebody panicked
		g.odd = true
		g.end()
	}
	g.call.free()
	wire.Free(g.short)
	g.call, g.req, g.short, g.long = nil, nil, nil, nil
	g.left.Store(false)
}

// takeBody reads a short body, and prepares to send any other.
func (g *outgoing) takeBody(tls bool) error {
	req := g.req
	if req.Body == nil || req.Body == http.NoBody {
		req.ContentLength = 0
		return nil
	}
	if req.ContentLength == 0 {
		req.ContentLength = -1 // somebody put a body where there was none
	}
	n := req.ContentLength
	expect := req.Header["Expect"] != nil
	if n > 0 && n <= shortBody && !expect && !tls {
		g.short = wire.Buffer(shortBody)[:n]
		if _, err := io.ReadFull(req.Body, g.short); err != nil {
			return clientError{err}
		}
		return nil
	}
	body := req.Body
	g.long = &upload{from: body, expect: expect, interrupt: func() { body.Close() }}
	if n < 0 {
		g.long.last = func(dst []byte) []byte { return http1.AppendLastChunkOf(dst, req.Trailer) }
	}
	return nil
}

// send asks an origin.
func (g *outgoing) send(o *origin) error {
	for try := 0; ; try++ {
		if g.out == nil {
			g.out = wire.Buffer(wire.SmallSize + len(g.short))
		}
		out, why := http1.AppendHTTPRequest(g.out[:0], g.req, g.host)
		if why != 0 {
			return clientError{why}
		}
		if g.long != nil && g.long.expect {
			out = http1.AppendField(out, "Expect", "100-continue")
		}
		g.out = append(http1.AppendEnd(out), g.short...)
		err := g.ask(g.req.Context(), o, g.long)
		if err == nil || try > 1 || !isLost(err) || !g.repeatable() {
			return err
		}
	}
}

// repeatable: the request can be sent once more without harm.
func (g *outgoing) repeatable() bool {
	return isIdempotent(g.req.Method) && (g.long == nil || !g.long.started()) && g.req.Header.Get("Upgrade") == "" &&
		g.req.Context().Err() == nil
}

// interim is that of downstream: nobody is told.
func (g *outgoing) interim(*http1.Response) {}

// watch is that of downstream.
func (g *outgoing) watch(cut func()) (stop func()) {
	done := make(chan struct{})
	stopped := context.AfterFunc(g.req.Context(), func() {
		defer close(done)
		g.left.Store(true)
		cut()
	})
	return func() {
		if !stopped() {
			<-done
		}
	}
}

// endToEnd takes out what Connection says belongs to the client's connection,
// as long as it is none of ours to set: an entry point has done that already,
// handlers may have said more.
func endToEnd(r *http.Request) *http.Request {
	var out *http.Request
	for _, line := range r.Header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			if name == "Upgrade" || name == "Te" || r.Header[name] == nil || slices.Contains(forwarded[:], name) {
				continue
			}
			if out == nil {
				out = new(http.Request)
				*out = *r
				out.Header = r.Header.Clone()
			}
			delete(out.Header, name)
		}
	}
	if out == nil {
		return r
	}
	return out
}

// speaksHTTP1 reports whether all servers are known to speak HTTP/1.1.
func (p *pool) speaksHTTP1() bool {
	for _, s := range p.servers {
		if s.origin == nil || s.origin.protocol.Load() != speaksHTTP1 {
			return false
		}
	}
	return true
}

// forward answers a request by asking servers until one answers.
func (p *pool) forward(w http.ResponseWriter, r *http.Request, keepHost bool) {
	rec := middleware.RecordFrom(r.Context())
	f := forwardings.Get().(*forwarding)
	f.begin(endToEnd(r), f)
	f.w, f.pool = w, p
	defer f.free()
	if err := f.takeBody(p.servers == nil || p.servers[0].origin.client != nil); err != nil {
		p.fail(w, r, &askError{client: err.(clientError).error, err: err})
		return
	}
	start := wire.Now()
	f.tried = f.room[:0]
	failed := errNoServer
	for tries := 0; ; {
		i, isNew := p.choose(r, &f.tried)
		if i < 0 {
			break
		}
		s := p.servers[i]
		if f.host = ""; !keepHost {
			f.host = s.url.Host
		}
		rec.Server, rec.Retries = s.text, tries
		s.state.inFlight.Add(1)
		err := f.send(s.origin)
		f.at = wire.Now()
		rec.Upstream = time.Duration(f.at - start)
		client := isClient(err)
		p.settle(s, err, err != nil && client == nil && !f.left.Load() && r.Context().Err() == nil)
		if err == nil {
			if isNew {
				p.sticky.pin(w.Header(), i)
			}
			defer s.state.inFlight.Add(-1)
			f.answer(s)
			return
		}
		s.state.inFlight.Add(-1)
		tries++
		failed = &askError{server: s, tries: tries, client: client, err: err}
		touched := f.long != nil && f.long.started()
		if tries > p.retry || r.Context().Err() != nil || touched || !isDial(err) && !(isConnection(err) && f.repeatable()) {
			break
		}
	}
	if f.left.Load() {
		w.WriteHeader(statusClientGone)
		return
	}
	p.fail(w, r, failed)
}

// forwarding is one request of forward. It is pooled.
type forwarding struct {
	outgoing
	w     http.ResponseWriter
	pool  *pool
	tried []int
	room  [4]int
}

var forwardings = sync.Pool{New: func() any { return new(forwarding) }}

func (f *forwarding) free() {
	f.outgoing.free()
	f.w, f.pool = nil, nil
	forwardings.Put(f)
}

// interim passes an interim answer on.
func (f *forwarding) interim(res *http1.Response) {
	h := f.w.Header()
	before := h.Clone()
	res.Fill(h)
	f.w.WriteHeader(res.Status())
	clear(h)
	for name, values := range before {
		h[name] = values
	}
}

// answer passes the answer on. One that breaks off is cut, so that nobody takes
// it for whole.
func (f *forwarding) answer(s *server) {
	h := f.w.Header()
	f.res.Fill(h)
	status := f.res.Status()
	if status == http.StatusSwitchingProtocols {
		f.upgrade()
		return
	}
	announced := f.res.Announced()
	if len(announced) > 0 {
		h["Trailer"] = announced
	}
	f.w.WriteHeader(status)
	err := f.content()
	if err == nil {
		for i := range f.trail.Len() {
			if f.trail.Forwarded(i) {
				name := http.CanonicalHeaderKey(string(f.trail.Name(i)))
				if !slices.Contains(announced, name) {
					name = http.TrailerPrefix + name
				}
				h[name] = append(h[name], string(f.trail.Value(i)))
			}
		}
		f.end()
		return
	}
	f.odd = true
	f.end()
	if !errors.Is(err, errClient) && f.req.Context().Err() == nil {
		f.pool.cutShort(s, err)
	}
	panic(http.ErrAbortHandler)
}

// content copies the answer's content. What has no declared length is a
// stream: nothing of it is held back while the server is silent.
func (f *forwarding) content() error {
	stream := f.res.ContentLength() < 0 || f.pool.flush != 0 || string(f.res.Get(http1.ContentType)) == "text/event-stream"
	for {
		piece, err := f.received()
		if piece == nil && err == nil {
			if stream {
				if err := http.NewResponseController(f.w).Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
					return errClient
				}
			}
			piece, err = f.next()
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := f.w.Write(piece); err != nil {
			return errClient
		}
	}
}

// upgrade joins client and server after a 101.
func (f *forwarding) upgrade() {
	h := f.w.Header()
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	conn, rw, err := http.NewResponseController(f.w).Hijack()
	if err != nil {
		f.odd = true
		f.end()
		f.pool.logger.Error("connection cannot be taken over for an upgrade", "service", f.pool.name, "error", err)
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	out := append(f.out[:0], "HTTP/1.1 101 Switching Protocols\r\n"...)
	for name, values := range h {
		for _, v := range values {
			out = http1.AppendField(out, name, v)
		}
	}
	f.out = append(http1.AppendEnd(out), f.rest...)
	if f.stop != nil {
		f.stop()
		f.stop = nil
	}
	if _, err := conn.Write(f.out); err == nil {
		joinNet(conn, rw.Reader, &f.link.Conn)
	}
	f.odd = true
	f.end()
}

// joinNet is join for a connection taken over from net/http.
func joinNet(client net.Conn, in *bufio.Reader, server *wire.Conn) {
	server.ReadBy(0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(struct{ io.Writer }{server}, in) //nolint:errcheck // either end ends both
		server.Sock.Close()
		client.Close()
	}()
	for {
		b, err := server.ReadIdle()
		if err != nil {
			break
		}
		_, err = client.Write(b)
		wire.Free(b)
		if err != nil {
			break
		}
	}
	client.Close()
	server.Sock.Close()
	<-done
}
