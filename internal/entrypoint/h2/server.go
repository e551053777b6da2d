// Package h2 serves HTTP/2 (RFC 9113) on connections that others have
// accepted: framing, header compression, flow control, limits, deadlines, and
// the accounting that cuts abusers off. It has its own connection loop: one
// goroutine reads a connection, handlers run on pooled goroutines, and
// whoever has something to send writes what all have, in one buffer.
//
// It refuses what is malformed as HTTP/2. What any request must satisfy,
// whatever its protocol, is for the handler to judge: the entry point's gate.
//
// A handler must not use the request, the response writer, their headers or
// the body after it has returned: they serve another request then.
package h2

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// Options are a server's settings. Zero limits mean the defaults named beside
// them.
type Options struct {
	Handler http.Handler
	Logger  *slog.Logger // nil: nothing is logged

	// Serve, if set, is given every request but tunnels in place of Handler. It
	// returns whether the answer is whole: if not its stream is reset.
	Serve func(*Stream) (whole bool)
	// AltSvc, if set, gives the Alt-Svc of answers begun with Stream.Begin;
	// nothing for none.
	AltSvc func() []byte

	MaxHeaderBytes    int           // a request's head, as RFC 9113, section 6.5.2, counts; default 32 KiB
	ReadHeaderTimeout time.Duration // preface and SETTINGS, and a frame or head once begun; default 10 s
	IdleTimeout       time.Duration // no request under way; default 75 s
	WriteStallTimeout time.Duration // a connection or an answer making no progress; default 60 s
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = 32 << 10
	}
	for _, d := range []struct {
		set *time.Duration
		def time.Duration
	}{{&o.ReadHeaderTimeout, 10 * time.Second}, {&o.IdleTimeout, 75 * time.Second}, {&o.WriteStallTimeout, 60 * time.Second}} {
		if *d.set <= 0 {
			*d.set = d.def
		}
	}
	return o
}

// Server serves connections. Its methods may be called from any goroutine.
type Server struct {
	opts     Options
	workers  workers
	draining atomic.Bool
	quiet    chan struct{} // token, while draining: a connection may have nothing under way any more

	large   sync.Pool // of *largeArray, to read
	buffers sync.Pool // of *[]byte, to write
	chunks  sync.Pool // of *chunkArray, of bodies
	today   atomic.Pointer[httpDate]
	lastLog atomic.Int64 // when a panic's stack was last logged, unix s

	mu    sync.Mutex
	conns map[*conn]struct{}
}

// New gives a server that has no connections yet.
func New(o Options) *Server {
	return &Server{opts: o.withDefaults(), quiet: make(chan struct{}, 1), conns: make(map[*conn]struct{})}
}

// ServeConn serves one connection until it ends, and closes it: TLS that has
// agreed on "h2", or plain by prior knowledge. ctx gives the requests'
// contexts their values, not their end. read is what was read from the
// connection already, the preface first.
func (s *Server) ServeConn(ctx context.Context, nc net.Conn, read []byte) {
	if t, ok := nc.(*tls.Conn); ok {
		if err := t.HandshakeContext(ctx); err != nil {
			nc.Close()
			return
		}
	}
	c := newConn(s, context.WithoutCancel(ctx), nc)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		signal(s.quiet)
	}()
	c.finish(c.serve(read))
}

// Shutdown drains: clients are told to send nothing new (GOAWAY), requests
// under way finish, then tunnels are closed. When ctx ends first, all that is
// left is cut off and ctx's error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.each((*conn).drain)
	// A connection without requests stays for a moment, so that its client can
	// read why it will be closed; one with tunnels only has nothing to wait for.
	err := s.await(ctx, func(c *conn) bool { return c.open == c.tunnels })
	if err == nil {
		s.each((*conn).closeTunnels)
		err = s.await(ctx, func(c *conn) bool { return c.dead })
	}
	s.each(func(c *conn) { c.hangUp(errClosed) })
	s.workers.close()
	if err != nil {
		return fmt.Errorf("drain HTTP/2 connections: %w", err)
	}
	return nil
}

// CloseIdle ends connections that have no request under way, and tells how many;
// most > 0 bounds that.
func (s *Server) CloseIdle(most int) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if most > 0 && n >= most {
			break
		}
		if !c.mu.TryLock() {
			continue // it is about something
		}
		if c.retire() {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// each calls f for each connection, with conn.mu held.
func (s *Server) each(f func(*conn)) {
	for _, c := range s.list() {
		c.mu.Lock()
		f(c)
		c.mu.Unlock()
	}
}

func (s *Server) list() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// await waits until done holds for all connections, or ctx ends.
func (s *Server) await(ctx context.Context, done func(*conn) bool) error {
	for {
		left := false
		s.each(func(c *conn) { left = left || !done(c) })
		if !left {
			return nil
		}
		select {
		case <-s.quiet:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// closeTunnels resets the tunnels. c.mu is held.
func (c *conn) closeTunnels() {
	for _, st := range c.streams {
		if st.tunnel {
			st.abort(http2.ErrCodeNo, "going away")
		}
	}
	c.flushSoon()
}

// run serves a stream's request; a worker calls it.
func (st *stream) run() {
	defer func() {
		if cause := recover(); cause != nil {
			st.crash(cause)
		}
	}()
	if st.asText {
		st.serve()
		return
	}
	st.c.s.opts.Handler.ServeHTTP(&st.w, &st.req)
	st.finish()
}

// crash ends a stream whose handler panicked: the client must not take what it
// has for whole.
func (st *stream) crash(cause any) {
	c := st.c
	s := c.s
	now := time.Now().Unix()
	if last := s.lastLog.Load(); cause != http.ErrAbortHandler && now-last >= 60 && s.lastLog.CompareAndSwap(last, now) {
		s.opts.Logger.Error("request handler panicked", "method", st.req.Method, "host", st.req.Host, "path", st.url.Path,
			"panic", cause, "stack", string(debug.Stack()))
	}
	st.end("handler failed")
}

// openBuffer gives the connection a buffer to write into. mu is held.
func (c *conn) openBuffer() {
	if c.out != nil {
		return
	}
	if c.box, _ = c.s.buffers.Get().(*[]byte); c.box == nil {
		b := make([]byte, 0, 4<<10)
		c.box = &b
	}
	c.out = (*c.box)[:0]
}

// keepBuffer takes back a buffer that was written, with the box it came in.
func (s *Server) keepBuffer(box *[]byte, b []byte) {
	if cap(b) <= 2*outHigh {
		*box = b
		s.buffers.Put(box)
	}
}

type httpDate struct {
	unix int64
	text string
}

// date is now as a Date header says it.
func (s *Server) date() string {
	now := time.Now()
	d := s.today.Load()
	if d == nil || d.unix != now.Unix() {
		d = &httpDate{now.Unix(), now.UTC().Format(http.TimeFormat)}
		s.today.Store(d)
	}
	return d.text
}
