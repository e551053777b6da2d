package entrypoint

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/pressure"
	"gatehouse/internal/wire"
)

// conn is one client connection. While it waits for a request it is a
// goroutine with a small stack and this, and no buffer.
type conn struct {
	wire.Conn
	server        *Server
	before, after *conn // in connections
	state         atomic.Int32
	peer          *peer
	client        http1.Client
	remote        string
	counted       netip.Addr           // by Options.PerAddress
	agreed        *tls.ConnectionState // nil: plain, or not asked for yet
	choice        *tlsChoice           // nil: no host has TLS options of its own
	leaving       bool                 // no request may follow the one under way
}

func newConn(s *Server, c net.Conn) (*conn, error) {
	own := &conn{server: s, remote: c.RemoteAddr().String()}
	if err := own.Init(c, own.gone); err != nil {
		return nil, err
	}
	own.state.Store(connActive)
	own.peer = s.gate.trust.peer(own.remote)
	own.client = http1.NewClient(own.peer.ip, own.peer.trusted, s.opts.TLS != nil)
	own.WriteBy(0, s.opts.WriteStallTimeout)
	return own, nil
}

func (c *conn) gone() {
	c.server.conns.remove(c)
	c.server.opts.PerAddress.giveBack(c.counted)
}

// tlsState is what the handshake agreed on; nil: plain.
func (c *conn) tlsState() *tls.ConnectionState {
	if c.agreed == nil && c.TLS() != nil {
		s := c.TLS().ConnectionState()
		c.agreed = &s
	}
	return c.agreed
}

// keepAlive has the kernel ask for a silent client, where no deadline does.
func (c *conn) keepAlive() {
	if t, ok := c.NetConn().(interface {
		SetKeepAliveConfig(net.KeepAliveConfig) error
	}); ok {
		t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) //nolint:errcheck // the connection will do without
	}
}

// deadline is d after now, 0 (never) where d is 0.
func deadline(now int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return now + int64(d)
}

// serve is the life of an HTTP/1.1 connection.
func (c *conn) serve() {
	defer c.finish()
	o := &c.server.opts
	c.ReadBy(deadline(wire.Now(), o.ReadHeaderTimeout))
	for fresh := true; ; fresh = false {
		waits := connIdle
		if fresh {
			waits = connFresh
		}
		c.state.Store(waits)
		if c.server.closed.Load() { // one that came in at the last moment has a request
			c.ReadBy(deadline(wire.Now(), drainLinger))
		}
		b, err := c.ReadIdle()
		if c.server.conns.woken(c, waits) {
			c.leaving = true
		}
		if err != nil {
			if b = c.lastLook(err); b == nil {
				return
			}
		}
		if fresh && c.server.h2 != nil && c.TLS() == nil {
			if b = c.maybeHTTP2(b); b == nil {
				return
			}
		}
		if !c.requests(b) {
			return
		}
		c.ReadBy(deadline(wire.Now(), o.IdleTimeout))
	}
}

// lastLook reads what came in the moment an idle connection was to be closed,
// so that no request is lost that could be served: it is the last.
func (c *conn) lastLook(err error) []byte {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	c.leaving = true
	c.Resume()
	if c.Begun() {
		c.ReadBy(deadline(wire.Now(), drainLinger))
		b, _ := c.ReadIdle()
		return b
	}
	b := wire.Buffer(wire.SmallSize)
	n, err := c.ReadNow(b)
	if n == 0 || err != nil {
		wire.Free(b)
		return nil
	}
	return b[:n]
}

// finish ends the connection, whatever went wrong: it costs this one only.
func (c *conn) finish() {
	cause := recover()
	if c.state.Load() != connHijacked {
		c.Close()
	}
	if cause != nil && cause != http.ErrAbortHandler {
		c.server.opts.Logger.Error("connection's loop panicked", "entryPoint", c.server.name, "client", c.remote,
			"panic", cause, "stack", string(debug.Stack()))
	}
}

// requests serves all requests whose bytes are there, b holding the first of
// them. It tells whether the connection goes on.
func (c *conn) requests(b []byte) bool {
	x := turns.Get().(*turn)
	x.conn, x.in, x.end = c, b[:cap(b)], len(b)
	for {
		keep := x.one()
		if c.state.Load() == connHijacked {
			x.release()
			return false
		}
		if !keep {
			x.linger()
			x.release()
			return false
		}
		if x.end == 0 {
			x.release()
			return true
		}
	}
}

// one reads and serves one request, and tells whether another may follow.
func (x *turn) one() (keep bool) {
	n, why, err := x.head()
	if err != nil {
		return false
	}
	if why != 0 {
		x.refuse(why)
		return false
	}
	x.at = n
	c := x.conn
	if c.misdirected(&x.req) {
		x.refuse(http1.Misdirected)
		return false
	}
	o := &c.server.opts
	now := wire.Now()
	level := o.Pressure.Level()
	if level == pressure.Full {
		x.overloaded()
		return false
	}
	x.last = c.leaving || c.server.draining.Load() || c.peer.worn(now) || !x.req.KeepAlive() || level != pressure.Calm
	in := &x.incoming
	in.begin(&x.req, x.in[n:x.end])
	x.plain.Continued = false
	in.pause, in.by = o.BodyReadTimeout, 0
	if o.ReadTimeout > 0 {
		in.by = deadline(now, o.ReadTimeout)
	}
	if o.WriteTimeout > 0 {
		c.WriteBy(deadline(now, o.WriteTimeout), o.WriteStallTimeout)
	}
	if o.Observe != nil {
		x.observe()
	}
	keep, served := false, false
	if o.Plain != nil {
		keep, served = x.servePlain(now)
	}
	if !served {
		keep = x.compat(now)
	}
	if o.Observe != nil {
		x.entry.Took = time.Since(x.entry.Start)
		o.Observe(&x.entry)
	}
	if keep {
		x.next()
	}
	return keep
}

// head reads a request's head.
func (x *turn) head() (n int, why http1.Reason, err error) {
	x.req.Reset()
	rules := &x.conn.server.rules
	by := int64(0)
	for {
		if n, why = x.req.Parse(x.in[:x.end], rules); n > 0 || why != 0 {
			return n, why, nil
		}
		if x.end == len(x.in) {
			x.grow()
		}
		if by == 0 {
			by = deadline(wire.Now(), x.conn.server.opts.ReadHeaderTimeout)
			x.conn.ReadBy(by)
		}
		m, err := x.conn.Read(x.in[x.end:])
		x.end += m
		if m == 0 {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				x.timedOut()
			}
			return 0, 0, err
		}
	}
}

// grow makes room for a long head; what it holds stays.
func (x *turn) grow() {
	size := wire.MediumSize
	if len(x.in) >= wire.MediumSize {
		size = max(wire.LargeSize, 2*len(x.in))
	}
	b := wire.Buffer(size)
	copy(b, x.in[:x.end])
	wire.Free(x.in)
	x.in = b
}

// refuse answers a head that goes no further.
func (x *turn) refuse(why http1.Reason) {
	s := x.conn.server
	s.opts.Logger.Debug("request refused", "entryPoint", s.name, "client", x.conn.remote, "status", why.Status(), "reason", why.Error())
	if s.opts.Observe != nil {
		x.observeLine(why.Status())
	}
	out := wire.Buffer(wire.SmallSize)
	x.conn.Write(why.AppendRefusal(out[:0], s.clock.date(wire.Now()), false)) //nolint:errcheck // the client may be gone
	wire.Free(out)
	x.unread = true
}

// timedOut tells a client that its request did not come in time.
func (x *turn) timedOut() {
	x.conn.Write([]byte("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")) //nolint:errcheck // the client may be gone
}

// linger lets a client that may still be sending read the answer before the
// connection is closed: unread bytes would reset it (RFC 9112, section 9.6).
func (x *turn) linger() {
	c := x.conn
	if !x.unread || c.CloseWrite() != nil {
		return
	}
	c.ReadBy(wire.Now() + int64(lingerTime))
	for seen := 0; seen < lingerBytes; {
		n, err := c.Read(x.in)
		if seen += n; err != nil {
			return
		}
	}
}

// clock gives the value of Date without making it for every answer.
type clock struct{ now atomic.Pointer[second] }

type second struct {
	until int64 // in the time of wire.Now
	text  []byte
}

// date is the value at now, in the time of wire.Now.
func (k *clock) date(now int64) []byte {
	s := k.now.Load()
	if s == nil || now >= s.until {
		wall := time.Now()
		s = &second{now + int64(time.Second) - int64(wall.Nanosecond()), wall.UTC().AppendFormat(nil, http.TimeFormat)}
		k.now.Store(s)
	}
	return s.text
}

func appendStatus(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	return append(b, "\r\n"...)
}
