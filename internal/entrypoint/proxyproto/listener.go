package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxPending bounds the connections whose header is awaited; while there
	// are so many no other is accepted.
	maxPending = 1024
	// lastCalls is how long a closed listener still waits for headers of
	// connections it has accepted, and for Accept to take them.
	lastCalls = 50 * time.Millisecond
)

// Options of a listener.
type Options struct {
	// Trusted lists the peers whose headers are read; Insecure: everybody's.
	// From others a header is not looked for: it reaches the server as the
	// bad request it is there.
	Trusted  []netip.Prefix
	Insecure bool

	Timeout time.Duration // from the connection to the header's end; 0: 10 s
	Logger  *slog.Logger  // told of bad headers; nil: nobody
}

// Listener gives the connections of another one, those from trusted peers when
// their header has been read. A trusted peer may leave the header out: health
// checks of a load balancer often do.
type Listener struct {
	inner   *net.TCPListener
	opts    Options
	ready   chan accepted
	pending chan struct{}  // one token each
	headers sync.WaitGroup // those being read
	over    chan struct{}  // nothing will become ready any more
	dead    chan struct{}  // Accept is not coming back

	mu      sync.Mutex
	waiting map[*net.TCPConn]struct{}
	closed  bool

	lastLog atomic.Int64 // unix s
}

type accepted struct {
	conn net.Conn
	err  error
}

// Listen reads headers on the connections of inner, which it owns from now on. Close it even if Accept was never called.
func Listen(inner *net.TCPListener, opts Options) *Listener {
	if opts.Timeout == 0 {
		opts.Timeout = 10 * time.Second
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Listener{
		inner: inner, opts: opts,
		ready: make(chan accepted), pending: make(chan struct{}, maxPending),
		over: make(chan struct{}), dead: make(chan struct{}),
		waiting: make(map[*net.TCPConn]struct{}),
	}
	go l.accept()
	return l
}

// Addr is the inner listener's.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Accept gives the next connection. Its RemoteAddr is the client's, as far as
// known; it is a socket of its own (syscall.Conn) with nothing read ahead.
// Errors are the inner listener's, one by one, so that the caller decides how
// long to wait after one that passes.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.ready:
		return a.conn, a.err
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// SetDeadline is when Accept gives up, once it has given what came before.
func (l *Listener) SetDeadline(t time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !t.IsZero() {
		for c := range l.waiting {
			c.SetReadDeadline(t.Add(lastCalls)) //nolint:errcheck // a closed connection needs none
		}
	}
	return l.inner.SetDeadline(t)
}

// Close accepts no more. Connections whose header is about to arrive are still
// given to Accept, for a moment.
func (l *Listener) Close() error {
	err := l.inner.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return err
	}
	l.closed = true
	by := time.Now().Add(lastCalls)
	for c := range l.waiting {
		c.SetReadDeadline(by) //nolint:errcheck // a closed connection needs none
	}
	time.AfterFunc(2*lastCalls, func() { close(l.dead) })
	return err
}

// accept is the loop over the inner listener.
func (l *Listener) accept() {
	defer close(l.over)
	for {
		c, err := l.inner.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			l.headers.Wait()
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			l.headers.Wait()
			l.offer(accepted{err: err})
			continue
		case err != nil:
			l.offer(accepted{err: err})
			continue
		case !l.trusts(c.RemoteAddr()):
			l.offer(accepted{conn: c})
			continue
		}
		l.pending <- struct{}{}
		l.headers.Go(func() {
			defer func() { <-l.pending }()
			l.receive(c)
		})
	}
}

// offer waits for Accept to take what there is.
func (l *Listener) offer(a accepted) {
	select {
	case l.ready <- a:
	case <-l.dead:
		if a.conn != nil {
			a.conn.Close()
		}
	}
}

func (l *Listener) trusts(addr net.Addr) bool {
	if l.opts.Insecure {
		return true
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	peer := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range l.opts.Trusted {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// receive reads the header of one connection.
func (l *Listener) receive(c *net.TCPConn) {
	l.wait(c)
	client, had, err := read(c)
	l.mu.Lock()
	delete(l.waiting, c)
	l.mu.Unlock()
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		l.bad(c, had, err)
		c.Close()
		return
	}
	if client.IsValid() {
		l.offer(accepted{conn: &conn{TCPConn: c, client: net.TCPAddrFromAddrPort(client)}})
		return
	}
	l.offer(accepted{conn: c})
}

func (l *Listener) wait(c *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	timeout := l.opts.Timeout
	if l.closed {
		timeout = lastCalls
	}
	l.waiting[c] = struct{}{}
	c.SetReadDeadline(time.Now().Add(timeout)) //nolint:errcheck // a closed connection needs none
}

// bad tells of a broken header, once a minute: it comes from a peer that was
// listed as one that knows the protocol.
func (l *Listener) bad(c *net.TCPConn, had bool, err error) {
	if !had || errors.Is(err, io.EOF) {
		return // it has said nothing yet
	}
	now := time.Now().Unix()
	if last := l.lastLog.Load(); now-last < 60 || !l.lastLog.CompareAndSwap(last, now) {
		return
	}
	l.opts.Logger.Warn("PROXY protocol header is bad: connection closed",
		"peer", c.RemoteAddr().String(), "err", fmt.Errorf("read PROXY protocol header: %w", err))
}

// conn is a connection passed on for another client.
type conn struct {
	*net.TCPConn
	client net.Addr
}

// RemoteAddr is the client's address, as the peer tells it.
func (c *conn) RemoteAddr() net.Addr { return c.client }
