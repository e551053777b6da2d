package entrypoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"gatehouse/internal/wire"
)

// Serve accepts connections until Shutdown. It returns nil after Shutdown,
// else the accept error that ended it.
func (s *Server) Serve() error {
	s.serving.Store(true)
	defer close(s.refusing)
	s.serveHTTP3()
	var wait time.Duration
	for late := 0; ; {
		c, err := s.socket.Accept()
		if err == nil {
			wait = 0
			s.accepted(c)
			continue
		}
		if s.closed.Load() && !s.retired.Load() && late < 20 && anybodyWaits(s.tcp) {
			late++                                          // than lastCalls: the machine has other work
			s.socket.SetDeadline(time.Now().Add(lastCalls)) //nolint:errcheck // closed is as good
			continue
		}
		if s.closed.Load() || s.retired.Load() {
			s.closeSocket()
			return nil
		}
		if !passing(err) {
			return fmt.Errorf("serve entry point %s (%s): %w", s.name, s.Addr(), err)
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.opts.Logger.Warn("connections cannot be accepted", "entryPoint", s.name, "error", err, "next", wait)
		s.evict(true)
		select {
		case <-time.After(wait):
		case <-s.closing:
		}
	}
}

// passing: an accept that may succeed later, when descriptors or memory are
// free again, or the next time.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EPROTO, syscall.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *Server) accepted(c net.Conn) {
	counted, ok := s.opts.PerAddress.take(c.RemoteAddr())
	if !ok {
		s.crowd(c.RemoteAddr())
		s.turnAway(c, crowdedAnswer)
		return
	}
	if !s.room(s.conns.admit) {
		s.opts.PerAddress.giveBack(counted)
		s.turnAway(c, overloadAnswer)
		return
	}
	own, err := newConn(s, c)
	if err != nil {
		s.opts.PerAddress.giveBack(counted)
		s.conns.dismiss()
		c.Close()
		return
	}
	own.counted = counted
	s.conns.add(own)
	if s.opts.TLS != nil {
		go own.handshake()
		return
	}
	go own.serve()
}

// handshake begins TLS; what it agreed on decides who goes on. The loop gets a
// new goroutine, whose stack has not grown by what a handshake needs.
func (c *conn) handshake() {
	o := &c.server.opts
	c.ReadBy(deadline(wire.Now(), o.ReadHeaderTimeout))
	c.WriteBy(deadline(wire.Now(), o.ReadHeaderTimeout), o.WriteStallTimeout)
	n := &newcomer{server: c.server, conn: c}
	if o.Strangers.atSight(n) {
		return
	}
	c.ServeTLS(o.TLS)
	ctx := context.Background()
	if o.HostTLS != nil {
		ctx, c.choice = withTLSChoice(ctx)
	}
	err := c.Handshake(context.WithValue(ctx, newcomerKey{}, n))
	n.leave()
	if err != nil {
		c.rejected(err)
		return
	}
	c.WriteBy(0, o.WriteStallTimeout)
	switch alpn(c.TLS()) {
	case "", "http/1.1":
		go c.serve()
	case "h2":
		go c.serveHTTP2(nil)
	default: // the handshake was all that was wanted (acme-tls/1)
		c.Close()
	}
}

// rejected ends a connection whose handshake failed.
func (c *conn) rejected(err error) {
	defer c.Close()
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil && looksLikeHTTP(plain.RecordHeader) {
		io.WriteString(plain.Conn, "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\nClient sent an HTTP request to an HTTPS server.\n") //nolint:errcheck // the client may be gone
		return
	}
	if !c.server.opts.Logger.Enabled(context.Background(), slog.LevelDebug) {
		return // a flood costs no text
	}
	c.server.opts.Logger.Debug("TLS handshake ended", "entryPoint", c.server.name, "client", c.remote, "error", err)
}

func looksLikeHTTP(header [5]byte) bool {
	switch string(header[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// Shutdown drains: answers carry "Connection: close" (HTTP/2: GOAWAY), then no
// more connections are accepted, idle ones are closed, requests under way
// finish, and at last upgraded connections (WebSockets) are closed. When ctx
// ends first, all that is left is cut off and ctx's error returned. Tell load
// balancers to stay away before calling it.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	return s.drain(ctx, drainLinger)
}

// Retire is Shutdown where another process accepts on the same socket: this one
// stops at once, and its connections have half of the time that ctx leaves to
// learn from an answer that they should close.
func (s *Server) Retire(ctx context.Context) error {
	s.draining.Store(true)
	s.retired.Store(true)
	s.socket.SetDeadline(time.Unix(1, 0)) //nolint:errcheck // closed is as good
	linger := drainLinger
	if end, ok := ctx.Deadline(); ok {
		linger = time.Until(end) / 2
	}
	return s.drain(ctx, linger)
}

func (s *Server) drain(ctx context.Context, linger time.Duration) error {
	defer s.opts.Budget.leave(s)
	drained := s.drainHTTP3(ctx)
	s.conns.waitEmpty(ctx, linger)
	if !s.retired.Load() && !s.closed.Load() {
		callOff(s.tcp) // before Serve may close it
	}
	if s.closed.CompareAndSwap(false, true) && !s.retired.Load() {
		s.socket.SetDeadline(time.Now().Add(lastCalls)) //nolint:errcheck // closed is as good
	}
	s.leave.Do(func() { close(s.closing) })
	if s.serving.Load() {
		<-s.refusing
	}
	s.closeSocket()
	// Who is waiting for a request looks once more, and leaves.
	s.conns.tell(connIdle, 0)
	fresh := time.AfterFunc(drainLinger, func() { s.conns.tell(connFresh, 0) })
	defer fresh.Stop()
	var err error
	if s.h2 != nil {
		err = s.h2.Shutdown(ctx)
	}
	if !s.conns.waitEmpty(ctx, 0) && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.conns.each(func(c *conn) { c.Sock.Close() }, connFresh, connIdle, connTold, connActive)
		err = fmt.Errorf("drain entry point %s (%s): %w", s.name, s.Addr(), err)
	}
	s.conns.each(func(c *conn) { c.Sock.Close() }, connHijacked, connHTTP2)
	return errors.Join(err, drained())
}
