// Package entrypoint owns the sockets clients connect to: binding, TLS, the
// HTTP/1.1 and HTTP/2 servers, their limits and deadlines, draining, and the
// one gate every request passes before anything else reads it (gate.go). It
// knows neither routes nor where certificates come from.
//
// The servers are net/http's for now, behind the seam of http.Handler: nothing
// outside this package may depend on that.
package entrypoint

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"
)

// Options describe one entry point. Zero limits mean the defaults named beside
// them; a negative duration means no limit.
type Options struct {
	Name    string       // for messages
	Address string       // host:port; an empty host is all addresses
	TLS     *tls.Config  // nil: plain HTTP/1.1. See TLSConfig
	Handler http.Handler // sees only requests the gate let through
	Logger  *slog.Logger // nil: nothing is logged

	// Outer, if set, is wrapped around the gate: it also sees the requests the
	// gate refuses, with the headers and path as the client sent them. The
	// access log stands here.
	Outer func(http.Handler) http.Handler

	// ForwardedTrusted lists the peers whose X-Forwarded-* are believed;
	// ForwardedInsecure believes everybody.
	ForwardedTrusted  []netip.Prefix
	ForwardedInsecure bool

	// AllowEncodedSlash lets %2F and %5C through in paths, undecoded. By
	// default they are refused: servers differ in how they read them.
	AllowEncodedSlash bool
	// KeepOddHeaders lets header names with '_' or '.' through. By default
	// they are dropped: many servers cannot tell X_User from X-User.
	KeepOddHeaders bool

	ReadHeaderTimeout time.Duration // TLS handshake, and request head; default 10 s
	IdleTimeout       time.Duration // between requests of a connection; default 75 s
	ReadTimeout       time.Duration // whole request, body included; default none
	WriteTimeout      time.Duration // from the request's head to the answer's end; default none
	BodyReadTimeout   time.Duration // between two reads of a body, if ReadTimeout is none; default 30 s
	WriteStallTimeout time.Duration // one write making no progress, if WriteTimeout is none; default 60 s

	MaxHeaderBytes int // request head; default 32 KiB
	MaxConnections int // above it new connections are closed; default 80 % of the descriptor limit
}

// The defaults, and limits nobody has asked to change yet.
const (
	defaultReadHeaderTimeout = 10 * time.Second
	defaultIdleTimeout       = 75 * time.Second
	defaultBodyReadTimeout   = 30 * time.Second
	defaultWriteStallTimeout = 60 * time.Second
	defaultMaxHeaderBytes    = 32 << 10

	maxHeaderLines  = 128
	maxTarget       = 8 << 10
	maxConnRequests = 10_000
	maxConnAge      = time.Hour
	// drainLinger is how long connections get to learn from an answer of
	// theirs that they should close, before the idle ones are closed.
	drainLinger = time.Second
)

// withDefaults fills in what was left open.
func (o Options) withDefaults() Options {
	duration := func(d *time.Duration, def time.Duration) {
		switch {
		case *d == 0:
			*d = def
		case *d < 0:
			*d = 0
		}
	}
	duration(&o.ReadHeaderTimeout, defaultReadHeaderTimeout)
	duration(&o.IdleTimeout, defaultIdleTimeout)
	duration(&o.ReadTimeout, 0)
	duration(&o.WriteTimeout, 0)
	duration(&o.BodyReadTimeout, defaultBodyReadTimeout)
	duration(&o.WriteStallTimeout, defaultWriteStallTimeout)
	if o.ReadTimeout > 0 {
		o.BodyReadTimeout = 0
	}
	if o.WriteTimeout > 0 {
		o.WriteStallTimeout = 0
	}
	if o.MaxHeaderBytes <= 0 {
		o.MaxHeaderBytes = defaultMaxHeaderBytes
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = connectionBudget()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server is one bound entry point.
type Server struct {
	name     string
	socket   *net.TCPListener
	listener net.Listener // socket, counted, with TLS if there is any
	conns    *connections
	draining *atomic.Bool
	http     *http.Server
}

// Listen binds the address. Nothing is accepted before Serve, but clients can
// already connect and wait.
func Listen(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	socket, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return nil, bindError(opts.Name, opts.Address, err)
	}
	s := &Server{name: opts.Name, draining: new(atomic.Bool)}
	s.conns = newConnections(opts.MaxConnections, opts.WriteStallTimeout)
	s.socket = socket.(*net.TCPListener)
	s.listener = &listener{TCPListener: s.socket, conns: s.conns, draining: s.draining}
	if opts.TLS != nil {
		s.listener = tls.NewListener(s.listener, opts.TLS)
	}
	s.http = newHTTPServer(opts, s)
	return s, nil
}

// newHTTPServer sets net/http's server up with our limits.
func newHTTPServer(opts Options, s *Server) *http.Server {
	var handler http.Handler = newGate(opts, s.draining)
	if opts.Outer != nil {
		handler = opts.Outer(handler)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(opts.TLS != nil)
	trust := newTrust(opts)
	return &http.Server{
		Handler:           handler,
		TLSConfig:         opts.TLS,
		ReadTimeout:       opts.ReadTimeout,
		ReadHeaderTimeout: opts.ReadHeaderTimeout,
		WriteTimeout:      opts.WriteTimeout,
		IdleTimeout:       opts.IdleTimeout,
		// net/http lets 4 KiB more through than it is told.
		MaxHeaderBytes: max(opts.MaxHeaderBytes-4096, 1),
		ConnState:      s.conns.state,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, trust.peer(c.RemoteAddr().String()))
		},
		// What net/http has to say concerns single clients.
		ErrorLog:  slog.NewLogLogger(opts.Logger.With("entryPoint", opts.Name).Handler(), slog.LevelDebug),
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     64 << 10,
			WriteByteTimeout:              opts.WriteStallTimeout,
		},
	}
}

// Addr is the bound address, with the real port where 0 was asked for.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Serve accepts connections until Shutdown. It returns nil after Shutdown,
// else the accept error that ended it.
func (s *Server) Serve() error {
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve entry point %s (%s): %w", s.name, s.Addr(), err)
}

// Shutdown drains: answers carry "Connection: close" (HTTP/2: GOAWAY), then no
// more connections are accepted, idle ones are closed, requests under way
// finish, and at last upgraded connections (WebSockets) are closed. When ctx
// ends first, all that is left is cut off and ctx's error returned. Tell load
// balancers to stay away before calling it.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.conns.waitEmpty(ctx, drainLinger)
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
		err = fmt.Errorf("drain entry point %s (%s): %w", s.name, s.Addr(), err)
	}
	s.conns.closeHijacked()
	s.socket.Close() // if Serve was never called
	return err
}
