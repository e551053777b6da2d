package entrypoint

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// connections counts what is open and remembers the upgraded ones, which
// net/http forgets.
type connections struct {
	max   int64
	stall time.Duration // 0: writes have no deadline of ours
	open  atomic.Int64
	empty chan struct{} // has a token after the count fell to zero

	mu       sync.Mutex
	hijacked map[*conn]struct{}
}

func newConnections(limit int, stall time.Duration) *connections {
	return &connections{
		max:      int64(limit),
		stall:    stall,
		empty:    make(chan struct{}, 1),
		hijacked: make(map[*conn]struct{}),
	}
}

// state is net/http's ConnState hook.
func (cs *connections) state(c net.Conn, state http.ConnState) {
	if state != http.StateHijacked {
		return
	}
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	own, ok := c.(*conn)
	if !ok {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if !own.closed.Load() {
		cs.hijacked[own] = struct{}{}
	}
}

// closeHijacked ends upgraded connections.
func (cs *connections) closeHijacked() {
	cs.mu.Lock()
	left := make([]*conn, 0, len(cs.hijacked))
	for c := range cs.hijacked {
		left = append(left, c)
	}
	cs.mu.Unlock()
	for _, c := range left {
		c.Close()
	}
}

// waitEmpty waits until only upgraded connections are left, at most for d.
func (cs *connections) waitEmpty(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for {
		cs.mu.Lock()
		left := cs.open.Load() - int64(len(cs.hijacked))
		cs.mu.Unlock()
		if left <= 0 {
			return
		}
		select {
		case <-cs.empty:
		case <-ctx.Done():
			return
		}
	}
}

// removed is told of each closed connection.
func (cs *connections) removed(c *conn) {
	cs.mu.Lock()
	delete(cs.hijacked, c)
	left := cs.open.Add(-1) - int64(len(cs.hijacked))
	cs.mu.Unlock()
	if left <= 0 {
		select {
		case cs.empty <- struct{}{}:
		default:
		}
	}
}

// lastCalls is how long the socket is still read when it is to be closed:
// clients the kernel has let in already would else be reset.
const lastCalls = 20 * time.Millisecond

// listener hands out counted connections and closes those over the limit.
type listener struct {
	*net.TCPListener
	conns    *connections
	draining *atomic.Bool
}

// Close, while draining, lets Accept take the last calls and then close.
func (l *listener) Close() error {
	if l.draining.Load() {
		return l.TCPListener.SetDeadline(time.Now().Add(lastCalls))
	}
	return l.TCPListener.Close()
}

// Accept gives the next connection within the limit.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.TCPListener.Accept()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				l.TCPListener.Close()
				err = net.ErrClosed
			}
			return nil, err
		}
		if l.conns.open.Add(1) > l.conns.max {
			l.conns.open.Add(-1)
			c.Close()
			continue
		}
		return &conn{Conn: c, owner: l.conns}, nil
	}
}

// conn is one client connection. A write that makes no progress for the stall
// time fails, so that a client that stopped reading holds nothing for long.
type conn struct {
	net.Conn
	owner    *connections
	closed   atomic.Bool
	extended atomic.Int64 // when the write deadline was last moved, unix ns; 0: never
	foreign  atomic.Bool  // somebody else has set a write deadline: leave it
}

// Write moves the deadline at most once in a tenth of the stall time: setting
// it costs as much as a small write does.
func (c *conn) Write(b []byte) (int, error) {
	if stall := c.owner.stall; stall > 0 && !c.foreign.Load() {
		now := time.Now()
		if now.UnixNano()-c.extended.Load() > int64(stall/10) {
			c.extended.Store(now.UnixNano())
			c.Conn.SetWriteDeadline(now.Add(stall))
		}
	}
	return c.Conn.Write(b)
}

// SetWriteDeadline is called by net/http and crypto/tls, whose own deadlines
// (handshake, close notification) win over ours until they take them back.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.foreign.Store(!t.IsZero())
	c.extended.Store(0)
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline is both deadlines.
func (c *conn) SetDeadline(t time.Time) error {
	c.foreign.Store(!t.IsZero())
	c.extended.Store(0)
	return c.Conn.SetDeadline(t)
}

// Close counts the connection out, once.
func (c *conn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.owner.removed(c)
	}
	return c.Conn.Close()
}
