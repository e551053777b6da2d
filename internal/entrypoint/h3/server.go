// Package h3 serves HTTP/3 (RFC 9114) on a UDP socket beside an entry point's
// TCP socket, through the same handler. It owns the socket, the limits of QUIC
// connections and what quic-go's server leaves to do; it knows neither the
// gate nor where certificates come from.
package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Options of a server. Durations of 0 are no limit.
type Options struct {
	Name    string       // of the entry point, for messages
	Address string       // host:port, the TCP socket's
	Socket  *net.UDPConn // bound already; nil: Address is bound
	// From is where a predecessor, who reads Socket, passes on what is not its
	// own; once that is closed Socket is read. nil: there is none.
	From    *net.UnixConn
	TLS     *tls.Config  // the entry point's; offers h3 here, and TLS 1.3 alone
	Handler http.Handler // any goroutine; requests of one connection run side by side
	Logger  *slog.Logger

	// BaseContext may add to what a connection's handshake and requests see;
	// nil: adds nothing.
	BaseContext func(ctx context.Context) context.Context
	// ConnContext may add to the context of a connection's requests; nil: adds
	// nothing.
	ConnContext func(ctx context.Context, client net.Addr) context.Context

	// Admit is asked whether a client may open a connection, and gives what is
	// called once when that has ended; nil: everybody may. Verify tells whether
	// a client has to show before that its address is its own; nil: nobody has
	// to. Any goroutine calls them.
	Admit  func(client net.Addr) (leave func(), ok bool)
	Verify func(client net.Addr) bool

	HeadTimeout  time.Duration // handshake; the first request's head; the end of a request that can have no body
	IdleTimeout  time.Duration // no request under way
	ReadTimeout  time.Duration // a whole request
	WriteTimeout time.Duration // from the request's head to the answer's end
	StallTimeout time.Duration // one write making no progress, if WriteTimeout is 0

	MaxHeaderBytes int // names and values of a request's head
}

const (
	maxStreams    = 100
	maxRunning    = 2 * maxStreams // handlers, those of reset streams included
	maxUniStreams = 8              // three are needed
	streamWindow  = 64 << 10
	connWindow    = 1 << 20
	lineOverhead  = 128 * 32 // what RFC 9114, 4.2.2, adds for 128 header lines
	// keepAlive keeps connections with a request under way that is silent for
	// long; the idle ones end by our own clock.
	keepAlive = 25 * time.Second
	// verifyAbove is how many connections may begin in a second before clients
	// have to show that their address is theirs, which costs a round trip.
	verifyAbove = 250
	// linger is how long a connection without requests lives on when the server
	// stops: its last answer may be under way.
	linger = time.Second
	// handshakes is how long those that are under way are waited for where a
	// successor has taken over: to stop taking connections is to break them off.
	handshakes = 500 * time.Millisecond
	// settled is how long a connection must have been without requests before
	// it makes room for others: the next may be on its way.
	settled = 250 * time.Millisecond
	// announceFor is how long clients remember the Alt-Svc, in seconds.
	announceFor = 86400
)

// Server is one bound UDP socket.
type Server struct {
	opts      Options
	socket    *socket
	transport *quic.Transport
	http      *http3.Server
	listener  *quic.EarlyListener
	conns     conns
	newcomers rate
	closed    atomic.Bool
}

// Listen binds the UDP address. Clients can connect at once, and wait for
// Serve.
func Listen(opts Options) (*Server, error) {
	udp, err := opts.bind()
	if err != nil {
		return nil, fmt.Errorf("bind entry point %s to UDP %q: %w", opts.Name, opts.Address, err)
	}
	socket := newSocket(udp, opts.From)
	s := &Server{opts: opts, socket: socket}
	s.conns.resets = maxResets
	s.transport = &quic.Transport{
		Conn: socket, ConnContext: s.admit, ConnectionIDGenerator: &socket.ids,
		VerifySourceAddress: func(client net.Addr) bool {
			return s.newcomers.count(time.Now()) > verifyAbove || opts.Verify != nil && opts.Verify(client)
		},
	}
	s.http = &http3.Server{
		Handler: http.HandlerFunc(s.serve), Logger: opts.Logger,
		MaxHeaderBytes: opts.MaxHeaderBytes + lineOverhead,
		ConnContext:    s.connContext,
	}
	s.listener, err = s.transport.ListenEarly(http3.ConfigureTLSConfig(opts.TLS), &quic.Config{
		Allow0RTT:            false,                // RFC 8470: what can be replayed is not taken
		HandshakeIdleTimeout: opts.HeadTimeout / 2, // the whole may take twice that
		MaxIdleTimeout:       max(opts.IdleTimeout, 2*keepAlive),
		KeepAlivePeriod:      keepAlive,
		MaxIncomingStreams:   maxStreams, MaxIncomingUniStreams: maxUniStreams,
		InitialStreamReceiveWindow: streamWindow, MaxStreamReceiveWindow: streamWindow,
		InitialConnectionReceiveWindow: connWindow, MaxConnectionReceiveWindow: connWindow,
	})
	if err != nil {
		socket.Close()
		return nil, fmt.Errorf("serve HTTP/3 at entry point %s: %w", opts.Name, err)
	}
	return s, nil
}

func (o Options) bind() (*net.UDPConn, error) {
	if o.Socket != nil {
		return o.Socket, nil
	}
	addr, err := net.ResolveUDPAddr("udp", o.Address)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP("udp", addr)
}

// File is the socket, for a process that is to take it over; the caller closes
// it.
func (s *Server) File() (*os.File, error) { return s.socket.File() }

// Addr is the bound UDP address.
func (s *Server) Addr() net.Addr { return s.socket.LocalAddr() }

// AltSvc is the header value that announces this server to clients who came
// by TCP (RFC 7838). port is the one clients reach it by; 0: the bound one.
func (s *Server) AltSvc(port int) string {
	if port == 0 {
		port = s.socket.LocalAddr().(*net.UDPAddr).Port
	}
	return AltSvc(port)
}

// AltSvc is the header value that announces HTTP/3 at a port.
func AltSvc(port int) string { return fmt.Sprintf(`h3=":%d"; ma=%d`, port, announceFor) }

// Serve answers until Shutdown, and returns nil then.
func (s *Server) Serve() error {
	err := s.http.ServeListener(s.listener)
	if s.closed.Load() || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve HTTP/3 at entry point %s (%s): %w", s.opts.Name, s.Addr(), err)
}

var errFull = errors.New("no room for another connection")

// admit is called for each connection that wants to begin; its context ends
// with it.
func (s *Server) admit(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	if s.opts.Admit != nil {
		leave, ok := s.opts.Admit(client.RemoteAddr)
		if !ok {
			return nil, errFull
		}
		context.AfterFunc(ctx, leave)
	}
	if s.opts.BaseContext != nil {
		ctx = s.opts.BaseContext(ctx)
	}
	return ctx, nil
}

// CloseIdle closes connections that have no request under way and were not
// begun or asked just now, those that are idle for longest first, and tells how
// many; most > 0 bounds that. Any goroutine may call it.
func (s *Server) CloseIdle(most int) int { return s.conns.evict(most, time.Now()) }

// connContext is called once a connection has begun.
func (s *Server) connContext(ctx context.Context, qc *quic.Conn) context.Context {
	c := s.conns.begin(qc, s.opts.HeadTimeout, s.opts.IdleTimeout)
	ctx = context.WithValue(ctx, connKey{}, c)
	if s.opts.ConnContext != nil {
		ctx = s.opts.ConnContext(ctx, qc.RemoteAddr())
	}
	return ctx
}

// PassOn has packets for no connection of ours go to a successor, who serves on
// the same socket: call it before Shutdown, which closes to.
func (s *Server) PassOn(to *net.UnixConn) { s.socket.to.Store(to) }

// Shutdown tells clients to send nothing more (GOAWAY), waits for the requests
// under way and closes. When ctx ends first, what is left is cut off and ctx's
// error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.closed.Store(true)
	defer func() {
		s.listener.Close()
		s.transport.Close()
		s.socket.Close()
	}()
	if s.socket.to.Load() != nil { // none begins here any more; some are about to
		select {
		case <-time.After(handshakes):
		case <-ctx.Done():
		}
	}
	idle, stop := context.WithCancel(ctx)
	defer stop()
	go s.conns.closeIdle(idle)
	// No new connection is taken from here on.
	if err := s.listener.Close(); err != nil {
		return fmt.Errorf("stop HTTP/3 at entry point %s: %w", s.opts.Name, err)
	}
	if err := s.http.Shutdown(ctx); err != nil {
		return fmt.Errorf("drain HTTP/3 at entry point %s (%s): %w", s.opts.Name, s.Addr(), err)
	}
	return nil
}
