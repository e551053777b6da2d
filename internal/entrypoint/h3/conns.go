package h3

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// maxResets is how many requests a client may take back within a second, if
// they are at least half of what it asks for.
const maxResets = 500

// conns are the connections of a server.
type conns struct {
	resets int // maxResets; tests have slower clients

	mu  sync.Mutex
	set map[*conn]struct{}
}

// begin enters a connection, until it ends. Its first request's head must be
// there after first.
func (cs *conns) begin(qc *quic.Conn, first, idle time.Duration) *conn {
	c := &conn{quic: qc, idle: idle, maxResets: cs.resets, since: time.Now()}
	if first <= 0 || idle > 0 && idle < first {
		first = idle
	}
	if first > 0 {
		c.timer = time.AfterFunc(first, c.expire)
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.set == nil {
		cs.set = make(map[*conn]struct{})
	}
	cs.set[c] = struct{}{}
	context.AfterFunc(qc.Context(), func() {
		c.stop()
		cs.mu.Lock()
		defer cs.mu.Unlock()
		delete(cs.set, c)
	})
	return c
}

// closeIdle closes connections that have been without a request for long
// enough, as they become so, until ctx ends.
func (cs *conns) closeIdle(ctx context.Context) {
	told := time.Now() // when the clients were told to go
	tick := time.NewTicker(linger / 20)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if now.Sub(told) < linger {
				continue
			}
			for _, c := range cs.list() {
				if c.idleFor(now) >= linger {
					c.close(http3.ErrCodeNoError, "going away")
				}
			}
		}
	}
}

// evict closes the connections that are idle for longest.
func (cs *conns) evict(most int, now time.Time) (n int) {
	type idle struct {
		c     *conn
		since time.Duration
	}
	var found []idle
	for _, c := range cs.list() {
		if d := c.idleFor(now); d >= settled {
			found = append(found, idle{c, d})
		}
	}
	if most > 0 && len(found) > most {
		slices.SortFunc(found, func(a, b idle) int { return cmp.Compare(b.since, a.since) })
		found = found[:most]
	}
	for _, i := range found {
		i.c.close(http3.ErrCodeNoError, "others need the room")
	}
	return len(found)
}

func (cs *conns) list() []*conn {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	list := make([]*conn, 0, len(cs.set))
	for c := range cs.set {
		list = append(list, c)
	}
	return list
}

type connKey struct{}

// conn counts what one client is doing. quic-go's own idle clock runs while a
// request's head is awaited only for bytes of QUIC; this one does not let a
// client hold a connection without a request.
type conn struct {
	quic  *quic.Conn
	idle  time.Duration
	timer *time.Timer // nil: no limit

	maxResets int

	mu      sync.Mutex
	running int       // handlers
	since   time.Time // the last change from or to no handler
	begun   rate
	resets  rate
}

// enter counts a request in; if there are too many the connection ends.
func (c *conn) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running++
	c.begun.count(time.Now())
	if c.timer != nil && c.running == 1 {
		c.timer.Stop()
	}
	if c.running > maxRunning {
		go c.close(http3.ErrCodeExcessiveLoad, "too many requests at once")
		return false
	}
	return true
}

// leave counts a request out, and asks whether the client has taken it back.
func (c *conn) leave(reset bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.running--; c.running == 0 {
		c.since = now
		if c.idle > 0 {
			c.timer.Reset(c.idle)
		}
	}
	if !reset || c.quic.Context().Err() != nil {
		return
	}
	if n := c.resets.count(now); n >= c.maxResets && 2*n >= c.begun.n {
		go c.close(http3.ErrCodeExcessiveLoad, "too many requests taken back")
	}
}

// idleFor is how long there has been no request; 0: there is one.
func (c *conn) idleFor(now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running > 0 {
		return 0
	}
	return now.Sub(c.since)
}

// expire ends a connection that asks for nothing.
func (c *conn) expire() {
	if c.idleFor(time.Now()) > 0 {
		c.close(http3.ErrCodeNoError, "idle")
	}
}

func (c *conn) stop() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *conn) close(code http3.ErrCode, why string) {
	c.quic.CloseWithError(quic.ApplicationErrorCode(code), why) //nolint:errcheck // it may have ended
}

// rate counts events of the current second.
type rate struct {
	mu     sync.Mutex
	second int64
	n      int
}

// count adds one, and gives the number in this second.
func (r *rate) count(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := now.Unix(); s != r.second {
		r.second, r.n = s, 0
	}
	r.n++
	return r.n
}
