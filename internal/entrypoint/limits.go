package entrypoint

import (
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatehouse/internal/pressure"
	"gatehouse/internal/wire"
)

// Budget is how many connections clients may have open in all, by any protocol
// and at every entry point that shares it. It knows those, so that idle
// connections of one make room for clients of another.
type Budget struct {
	most    int64
	open    atomic.Int64
	evicted atomic.Int64 // when idle ones last made room, in the time of wire.Now

	mu      sync.Mutex
	servers []*Server
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

// join enters a server whose idle connections can make room; leave ends that.
func (b *Budget) join(s *Server) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.servers = append(b.servers, s)
	}
}

func (b *Budget) leave(s *Server) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.servers = slices.DeleteFunc(b.servers, func(other *Server) bool { return other == s })
	}
}

// evict has idle connections of all servers but one make room, n at most.
func (b *Budget) evict(n int, but *Server) {
	b.mu.Lock()
	servers := slices.Clone(b.servers)
	b.mu.Unlock()
	for _, s := range servers {
		if n > 0 && s != but {
			n -= s.CloseIdle(n)
		}
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
// most > 0 bounds how many, and tells how many. Any goroutine may call it.
func (s *Server) CloseIdle(most int) (n int) {
	n = s.conns.tell(connIdle, most)
	if s.h2 != nil && (most <= 0 || n < most) {
		n += s.h2.CloseIdle(max(most-n, 0))
	}
	if udp := s.udp.Load(); udp != nil && (most <= 0 || n < most) {
		n += udp.CloseIdle(max(most-n, 0))
	}
	return n
}

// evict makes room for others, at most so often: here, and everywhere where
// that helps.
func (s *Server) evict(everywhere bool) {
	last := &s.evicted
	if everywhere = everywhere && s.opts.Budget != nil; everywhere {
		last = &s.opts.Budget.evicted
	}
	now, then := wire.Now(), last.Load()
	if now-then <= int64(evictEvery) || !last.CompareAndSwap(then, now) {
		return
	}
	if n := s.CloseIdle(evictAtOnce); everywhere && n < evictAtOnce {
		s.opts.Budget.evict(evictAtOnce-n, s)
	}
}

// room counts a connection in, unless memory or places are short.
func (s *Server) room(admit func() (ok, everywhere bool)) bool {
	if s.opts.Pressure.Level() == pressure.Full {
		s.noRoom.Add(1)
		return false
	}
	ok, everywhere := admit()
	if !ok {
		s.noRoom.Add(1)
		s.evict(!everywhere) // for those who come next
	}
	return ok
}

var crowdedAnswer = []byte("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n") // a constant

var overloadAnswer = []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n") // a constant

// turnAway ends a connection that is not taken. A client without TLS is told;
// the answer fits the socket's buffer, or nobody waits for it.
func (s *Server) turnAway(c net.Conn, answer []byte) {
	if s.opts.TLS == nil {
		c.SetWriteDeadline(time.Now().Add(time.Millisecond)) //nolint:errcheck // then Write says so
		c.Write(answer)                                      //nolint:errcheck // the client may be gone
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
