package entrypoint

import (
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"gatehouse/internal/pressure"
	"gatehouse/internal/wire"
)

// Budget is how many connections clients may have open in all, at every entry
// point that shares it.
type Budget struct {
	most int64
	open atomic.Int64
}

// NewBudget makes a budget; 0: four of five file descriptors, which leaves the
// rest to servers behind us, files and the store.
func NewBudget(most int) *Budget {
	if most <= 0 {
		most = connectionBudget()
	}
	return &Budget{most: int64(most)}
}

// Most is how many connections there may be.
func (b *Budget) Most() int { return int(b.most) }

func (b *Budget) take() bool {
	if b != nil && b.open.Add(1) > b.most {
		b.open.Add(-1)
		return false
	}
	return true
}

func (b *Budget) giveBack() {
	if b != nil {
		b.open.Add(-1)
	}
}

// Descriptors is the process's limit of file descriptors; 0: not known. Go has
// raised it to what the system allows.
func Descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<24))
}

// connectionBudget leaves a fifth of the file descriptors to everything else.
func connectionBudget() int {
	if n := Descriptors(); n > 0 {
		return n / 5 * 4
	}
	return 800
}

const (
	// evictAtOnce is how many idle connections make room when there is no more.
	evictAtOnce = 32
	evictEvery  = 20 * time.Millisecond
)

// CloseIdle closes connections that wait for a request, the oldest ones where
// most > 0 bounds how many. Any goroutine may call it.
func (s *Server) CloseIdle(most int) {
	var idle []*conn // the newest first
	s.conns.each(func(c *conn) { idle = append(idle, c) }, connIdle)
	n := len(idle)
	if most > 0 {
		idle = idle[max(0, n-most):]
	}
	for _, c := range idle {
		c.Interrupt()
	}
	if left := most - n; s.h2 != nil && (most <= 0 || left > 0) {
		s.h2.CloseIdle(max(left, 0))
	}
}

// evict makes room for others, at most so often.
func (s *Server) evict() {
	now := wire.Now()
	if last := s.evicted.Load(); now-last > int64(evictEvery) && s.evicted.CompareAndSwap(last, now) {
		s.CloseIdle(evictAtOnce)
	}
}

var overloadAnswer = []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n") // a constant

// turnAway ends a connection there is no room for. A client without TLS is told;
// the answer fits the socket's buffer, or nobody waits for it.
func (s *Server) turnAway(c net.Conn) {
	if s.opts.TLS == nil {
		c.SetWriteDeadline(time.Now().Add(time.Millisecond)) //nolint:errcheck // then Write says so
		c.Write(overloadAnswer)                              //nolint:errcheck // the client may be gone
		if t, ok := c.(interface{ CloseWrite() error }); ok {
			t.CloseWrite() //nolint:errcheck // it is closed next
		}
	}
	c.Close()
}

// overloaded answers a request for which there is no memory.
func (x *turn) overloaded() {
	if x.conn.server.opts.Observe != nil {
		x.observeLine(http.StatusServiceUnavailable)
	}
	x.conn.Write(overloadAnswer) //nolint:errcheck // the client may be gone
	x.unread = true
}

// relieved answers requests that package http1 has not read where there is no
// memory for them, and has connections closed where there is little.
func (g *gate) relieved(w http.ResponseWriter) (answered bool) {
	level := g.opts.Pressure.Level()
	if level == pressure.Calm {
		return false
	}
	w.Header().Set("Connection", "close") // HTTP/2: GOAWAY
	if level == pressure.Full {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}
	return false
}
