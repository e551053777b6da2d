package entrypoint

import (
	"io"
	"net/http"
	"sync"
	"time"

	"gatehouse/internal/entrypoint/h2"
	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/pressure"
	"gatehouse/internal/wire"
)

// streamTurn is the work on one request of HTTP/2, held only while there is
// one. Its head is read by http1, as if it had come by HTTP/1.1, so that what
// is let through is the same.
type streamTurn struct {
	conn     *conn
	stream   *h2.Stream
	req      http1.Request
	trailers http1.Trailers
	plain    wire.Exchange
	entry    middleware.Entry
	paced    *pacedBody // nil: none
}

// streamTurns is shared by all servers.
var streamTurns = sync.Pool{New: func() any {
	x := new(streamTurn)
	x.plain.Trailers = x.theTrailers // made once
	return x
}}

// connKey finds the connection in the context of its streams.
type connKey struct{}

// serveStream serves one request, and tells whether its answer is whole.
func (s *Server) serveStream(st *h2.Stream) (whole bool) {
	x := streamTurns.Get().(*streamTurn)
	x.stream, x.conn = st, st.Context().Value(connKey{}).(*conn)
	defer x.release()
	level := s.opts.Pressure.Level()
	if s.draining.Load() || x.conn.peer.worn(wire.Now()) || level != pressure.Calm {
		st.Drain()
	}
	rules := s.rules
	rules.MaxHead = max(rules.MaxHead, len(st.Head())) // h2 has bounded it
	_, why := x.req.Parse(st.Head(), &rules)
	if s.opts.Observe != nil {
		x.observe()
		defer x.observed()
	}
	if why == 0 && x.conn.misdirected(&x.req) {
		why = http1.Misdirected
	}
	if why != 0 {
		x.refuse(why)
		return true
	}
	if level == pressure.Full {
		st.Writer().Header().Set("Retry-After", "1")
		st.Writer().WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	x.limit()
	if s.opts.Plain != nil {
		if whole, served := x.servePlain(); served {
			return whole
		}
	}
	x.compat()
	return true
}

func (x *streamTurn) release() {
	x.req.Reset()
	x.trailers.Reset()
	x.plain.To, x.plain.Body = nil, nil
	x.conn, x.stream, x.paced = nil, nil, nil
	x.entry = middleware.Entry{}
	streamTurns.Put(x)
}

// limit sets the request's deadlines.
func (x *streamTurn) limit() {
	o, st := &x.conn.server.opts, x.stream
	if o.ReadTimeout > 0 || o.WriteTimeout > 0 {
		control, now := http.NewResponseController(st.Writer()), time.Now()
		if o.ReadTimeout > 0 {
			control.SetReadDeadline(now.Add(o.ReadTimeout)) //nolint:errcheck // h2 knows deadlines
		}
		if o.WriteTimeout > 0 {
			control.SetWriteDeadline(now.Add(o.WriteTimeout)) //nolint:errcheck // as above
		}
	}
	if x.req.Framing() == http1.NoBody {
		return
	}
	if x.req.Expects100() {
		st.Expects()
	}
	if o.BodyReadTimeout > 0 && !isGRPCType(string(x.req.Get(http1.ContentType))) {
		x.paced = newPacedBody(st.Body(), st.Writer(), o.BodyReadTimeout)
	}
}

func (x *streamTurn) body() io.ReadCloser {
	if x.paced != nil {
		return x.paced
	}
	return x.stream.Body()
}

// refuse answers a request that goes no further, and ends the connection: what
// follows on it is not to be believed either.
func (x *streamTurn) refuse(why http1.Reason) {
	s := x.conn.server
	s.opts.Logger.Debug("request refused", "entryPoint", s.name, "client", x.conn.remote, "status", why.Status(), "reason", why.Error())
	if why != http1.Misdirected { // a mistake of the client's about names, not about HTTP
		x.stream.Drain()
	}
	text := why.AppendRefusal(nil, nil, false)
	var res http1.Response
	res.Reset()
	n, _ := res.Parse(text, len(text), http1.Asked{})
	x.stream.Begin(&res)
	x.stream.Write(text[n:]) //nolint:errcheck // the client may be gone
}

// servePlain offers the request to the plain path.
func (x *streamTurn) servePlain() (whole, served bool) {
	c, p := x.conn, &x.plain
	o := &c.server.opts
	p.To, p.Req, p.Client, p.Remote = x.stream, &x.req, &c.client, c.remote
	p.KeepOdd, p.Body = o.KeepOddHeaders, nil
	if x.req.Framing() != http1.NoBody {
		p.Body = x.body()
	}
	p.Status, p.Sent, p.Broken, p.Last, p.Continued = 0, 0, false, false, false
	p.Router, p.Service, p.Server, p.User, p.Retries, p.Upstream = "", "", "", "", 0, 0
	if !o.Plain(p) {
		return false, false
	}
	if x.paced != nil {
		x.paced.leave()
	}
	if o.Observe != nil {
		e := &x.entry
		e.Router, e.Service, e.Server, e.User, e.Retries, e.Upstream = p.Router, p.Service, p.Server, p.User, p.Retries, p.Upstream
		e.Status = p.Status
	}
	return !p.Broken, true
}

// theTrailers are those of the request, once its body has ended.
func (x *streamTurn) theTrailers() *http1.Trailers {
	h := x.stream.Trailer()
	if len(h) == 0 {
		return nil
	}
	var text []byte
	for name, values := range h {
		for _, v := range values {
			text = http1.AppendField(text, name, v)
		}
	}
	x.trailers.Reset()
	if n, why := x.trailers.Parse(http1.AppendEnd(text)); n == 0 || why != 0 {
		return nil
	}
	return &x.trailers
}

// compat serves the request by the http.Handler.
func (x *streamTurn) compat() {
	c, st := x.conn, x.stream
	o := &c.server.opts
	r := st.Request(func(r *http.Request) {
		x.req.Fill(r, &http1.Onward{Client: &c.client, KeepOdd: o.KeepOddHeaders})
	})
	if x.req.Framing() != http1.NoBody {
		r.Body = x.body()
	}
	if x.req.Expects100() {
		r.Header["Expect"] = []string{"100-continue"}
	}
	if o.Observe != nil {
		record := new(middleware.Record) // handlers may keep it
		record.Start = x.entry.Start
		r = r.WithContext(middleware.WithRecord(r.Context(), record))
		defer func() { x.entry.Record = *record }()
	}
	c.server.compat.ServeHTTP(st.Writer(), r)
	if x.paced != nil {
		x.paced.leave()
	}
}

// observe begins the entry for Options.Observe.
func (x *streamTurn) observe() {
	x.entry = entryOf(&x.req, x.conn)
	x.entry.Proto = "HTTP/2.0"
	x.entry.Start = time.Now()
}

// observed tells of the request, whatever became of it.
func (x *streamTurn) observed() {
	e := &x.entry
	status, size := x.stream.Sent()
	if e.Size = size; e.Status == 0 {
		e.Status = status
	}
	if e.Status == 0 {
		e.Status = http.StatusOK
	}
	e.Took = time.Since(e.Start)
	x.conn.server.opts.Observe(e)
}
