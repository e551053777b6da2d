// Package entrypoint owns the sockets clients connect to: binding, TLS, the
// HTTP/1.1 and HTTP/2 servers, their limits and deadlines, draining, and the
// one gate every request passes before anything else reads it (gate.go). It
// knows neither routes nor where certificates come from.
//
// HTTP/1.1 is served by a loop of its own over packages http1 and wire, HTTP/2
// by package h2, which is handed the connection after its handshake, HTTP/3 by
// package h3 on a socket of its own.
package entrypoint

import (
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/entrypoint/h2"
	"gatehouse/internal/entrypoint/h3"
	"gatehouse/internal/entrypoint/proxyproto"
	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/pressure"
	"gatehouse/internal/wire"
)

// Options describe one entry point. Zero limits mean the defaults named beside
// them; a negative duration means no limit.
type Options struct {
	Name    string           // for messages
	Address string           // host:port; an empty host is all addresses
	Socket  *net.TCPListener // bound already; nil: Address is bound
	TLS     *tls.Config      // nil: plain HTTP/1.1. See TLSConfig
	Handler http.Handler     // sees only requests the gate let through
	Logger  *slog.Logger     // nil: nothing is logged

	// Outer, if set, is wrapped around the gate, which requests of HTTP/3 and
	// WebSockets over HTTP/2 pass: it also sees what the gate refuses, with the
	// headers and path as the client sent them. The access log stands here, and
	// in Observe for all others.
	Outer func(http.Handler) http.Handler

	// Plain, if set, is offered each request of HTTP/1.1 and 2 before Handler is: it
	// serves the request without the view of http.Handler, or returns false,
	// having done nothing.
	Plain func(x *wire.Exchange) (served bool)
	// Observe, if set, is told of each request of HTTP/1.1 and 2 that is over, also of
	// those that were refused, as they came in. It must keep nothing of the
	// entry. Where it is nil Outer stands around Handler instead.
	Observe func(*middleware.Entry)

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

	// ProxyTrusted lists the peers that may tell, by the PROXY protocol, whose
	// connection they pass on; ProxyInsecure believes everybody.
	ProxyTrusted  []netip.Prefix
	ProxyInsecure bool

	H2C       bool // where TLS is not: HTTP/2 as well, for clients that know it beforehand
	HTTP3     bool // where TLS is: HTTP/3 on the UDP port of the same number
	HTTP3Port int  // the port clients reach it by; 0: that one
	// UDPSocket is bound already; nil: the port is. A process before this one may
	// still read it, and answer its own clients: it passes what is not theirs on
	// by UDPFrom, and closes that. One that does not know how to closes HTTP3After,
	// before which nothing is read; new clients are refused meanwhile, and come by
	// TCP.
	UDPSocket  *net.UDPConn
	UDPFrom    *net.UnixConn
	HTTP3After <-chan struct{}

	MaxHeaderBytes int     // request head; default 32 KiB
	MaxConnections int     // above it new connections are closed; default: Budget's, else 80 % of the descriptor limit
	Budget         *Budget // of all entry points together; nil: none
	// PerAddress bounds the connections of each client; nil: nothing does.
	PerAddress *Addresses
	// HostTLS is that of TLS; nil: no host has TLS options of its own.
	HostTLS *HostTLS
	// Strangers is that of TLS; nil: none.
	Strangers *Strangers

	// Pressure says when to keep no connection, and when to refuse new ones and
	// requests; nil: never.
	Pressure *pressure.Watch
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
	// udpRetry is when a UDP port that was taken is tried again, at first.
	udpRetry = time.Second
	// drainLinger is how long connections get to learn from an answer of
	// theirs that they should close, before the idle ones are closed.
	drainLinger = time.Second
	// lastCalls is how long the socket is still read when it is to be closed:
	// clients the kernel has let in already would else be reset.
	lastCalls = 50 * time.Millisecond
	// What is read of a body that no handler wanted, to keep the connection.
	drainBytes = 256 << 10
	// How long, and for how many bytes, a client that is still sending may
	// take to read an answer that ends the connection.
	lingerTime  = time.Second
	lingerBytes = 256 << 10
	// gatherBytes of an answer without a declared length are held back to find
	// out its length.
	gatherBytes = 2 << 10
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
	if o.MaxConnections <= 0 && o.Budget != nil {
		o.MaxConnections = o.Budget.Most()
	} else if o.MaxConnections <= 0 {
		o.MaxConnections = connectionBudget()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server is one bound entry point.
type Server struct {
	name      string
	opts      Options
	tcp       *net.TCPListener
	socket    deadlined // the same, behind what reads the PROXY protocol
	conns     *connections
	gate      *gate
	compat    http.Handler                 // Options.Handler for a request whose head was read by http1
	h2        *h2.Server                   // nil: no HTTP/2
	udp       atomic.Pointer[h3.Server]    // nil: no HTTP/3, or not yet
	later     http.Handler                 // of HTTP/3; nil: it is not wanted
	altSvc    atomic.Pointer[announcement] // nil: none
	rules     http1.Rules
	clock     clock
	draining  *atomic.Bool
	serving   atomic.Bool
	closed    atomic.Bool
	retired   atomic.Bool   // another process accepts now
	noRoom    atomic.Int64  // connections refused for want of it
	crowded   atomic.Int64  // and by PerAddress
	strangers atomic.Int64  // and by TLSOptions.Strangers
	evicted   atomic.Int64  // when idle ones last made room, in the time of wire.Now
	leave     sync.Once     // closes closing
	closing   chan struct{} // closed when Shutdown lets no more in
	refusing  chan struct{} // closed when Serve has ended
}

// Listen binds the address. Nothing is accepted before Serve, but clients can
// already connect and wait.
func Listen(opts Options) (*Server, error) {
	opts = opts.withDefaults()
	socket, err := opts.bind()
	if err != nil {
		return nil, err
	}
	s := &Server{
		name: opts.Name, opts: opts, tcp: socket, socket: withProxyProtocol(opts, socket), conns: newConnections(opts.MaxConnections, opts.Budget),
		draining: new(atomic.Bool), closing: make(chan struct{}), refusing: make(chan struct{}),
		rules: http1.Rules{MaxHead: opts.MaxHeaderBytes, MaxTarget: maxTarget, MaxLines: maxHeaderLines, EncodedSlash: opts.AllowEncodedSlash},
	}
	s.gate = newGate(opts, s.draining)
	var outer http.Handler = s.gate
	s.compat = http.HandlerFunc(s.gate.guarded)
	if opts.Outer != nil {
		outer = opts.Outer(s.gate)
		if opts.Observe == nil {
			s.compat = opts.Outer(s.compat)
		}
	}
	s.bindHTTP3(outer)
	outer, s.compat = s.announce(outer), s.announce(s.compat)
	if opts.TLS != nil || opts.H2C {
		s.h2 = newHTTP2(s, outer)
	}
	opts.Budget.join(s)
	return s, nil
}

// Addr is the bound address, with the real port where 0 was asked for.
func (s *Server) Addr() net.Addr { return s.socket.Addr() }

// deadlined is a listener whose Accept can be told when to give up.
type deadlined interface {
	net.Listener
	SetDeadline(time.Time) error
}

// withProxyProtocol lets listed peers tell whose connections they pass on.
func withProxyProtocol(opts Options, socket *net.TCPListener) deadlined {
	if !opts.ProxyInsecure && len(opts.ProxyTrusted) == 0 {
		return socket
	}
	return proxyproto.Listen(socket, proxyproto.Options{
		Trusted: opts.ProxyTrusted, Insecure: opts.ProxyInsecure,
		Timeout: opts.ReadHeaderTimeout, Logger: opts.Logger.With("entryPoint", opts.Name),
	})
}
