package entrypoint

import (
	"bytes"
	"time"
	"unsafe"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
)

// servePlain offers the request to the plain path.
func (x *turn) servePlain(now int64) (keep, served bool) {
	c, p := x.conn, &x.plain
	o := &c.server.opts
	p.Conn, p.Req, p.Client, p.Remote = &c.Conn, &x.req, &c.client, c.remote
	p.KeepOdd, p.Date, p.AltSvc, p.Last = o.KeepOddHeaders, c.server.clock.date(now), c.server.altSvcText(), x.last
	p.Now, p.Stopping = now, c.server.draining
	p.Body, p.Behind = nil, x.incoming.rest
	if x.req.Framing() != http1.NoBody {
		p.Body = (*plainBody)(x)
	}
	p.Status, p.Sent, p.Broken = 0, 0, false
	p.Router, p.Service, p.Server, p.User, p.Retries, p.Upstream = "", "", "", "", 0, 0
	if !o.Plain(p) {
		return false, false
	}
	if o.Observe != nil {
		e := &x.entry
		e.Router, e.Service, e.Server, e.User, e.Retries, e.Upstream = p.Router, p.Service, p.Server, p.User, p.Retries, p.Upstream
		e.Status, e.Size = p.Status, p.Sent
	}
	keep = !p.Broken && !p.Last
	if in := &x.incoming; !p.Broken && (!in.framed.Done() || in.content > 0) {
		if keep = keep && x.drain(); !keep {
			x.unread = true
		}
	}
	return keep, true
}

// plainBody is the request's body on the plain path.
type plainBody turn

// Read is that of io.Reader.
func (b *plainBody) Read(p []byte) (int, error) { return (*turn)(b).readBody(p) }

func (x *turn) theTrailers() *http1.Trailers {
	if !x.incoming.hasTrailer {
		return nil
	}
	return &x.incoming.trailers
}

// tunnel: the connection is no longer one of HTTP.
func (x *turn) tunnel() {
	x.conn.server.conns.part(x.conn, connHijacked)
	x.conn.keepAlive()
}

// observe begins the entry for Options.Observe. Its strings are the bytes of
// the request's buffer, which hold until it is over.
func (x *turn) observe() {
	x.entry = entryOf(&x.req, x.conn)
	if x.req.Minor() == 0 {
		x.entry.Proto = "HTTP/1.0"
	}
	x.entry.Start = time.Now()
}

func entryOf(r *http1.Request, c *conn) middleware.Entry {
	return middleware.Entry{
		EntryPoint: c.server.name, Remote: c.remote,
		Method: text(r.Method()), URI: text(r.Target()), Proto: "HTTP/1.1", Host: text(r.Host()),
		Agent: text(r.Lookup("user-agent")), Referer: text(r.Lookup("referer")),
		TLS: c.TLS() != nil, BodySize: r.ContentLength(),
	}
}

// observeLine tells of a request of which nothing but the first line is worth
// showing.
func (x *turn) observeLine(status int) {
	line := x.in[:min(x.end, maxTarget)]
	if i := bytes.IndexByte(line, '\n'); i >= 0 {
		line = bytes.TrimRight(line[:i], "\r")
	}
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, proto, _ := bytes.Cut(rest, []byte(" "))
	x.conn.server.opts.Observe(&middleware.Entry{
		Record: middleware.Record{Start: time.Now()}, EntryPoint: x.conn.server.name, Remote: x.conn.remote,
		Method: text(method), URI: text(target), Proto: text(proto), TLS: x.conn.TLS() != nil, Status: status,
	})
}

func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
