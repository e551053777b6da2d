package h2

import (
	"os"
	"slices"
	"time"

	"golang.org/x/net/http2"
)

const (
	// A DATA frame of maxData fills a TLS record exactly.
	maxData = maxFrame - frameHeaderLen
	// flushAt: so much is written without waiting for more.
	flushAt = 32 << 10
	// outHigh: so much may wait to be written; whoever has more waits its turn.
	outHigh = 64 << 10
	// maxFlushes bounds how long a goroutine with nothing else to do writes for
	// others.
	maxFlushes = 1 << 30
)

// send appends content to what is to be written, as the windows allow, one
// frame a turn. It returns the bytes taken. conn.mu is held, and let go while
// it waits.
func (st *stream) send(p []byte) (int, error) {
	c := st.c
	sent := 0
	for sent < len(p) {
		if st.failure != nil {
			c.leaveQueue(st)
			return sent, st.failure
		}
		n := c.room(st, len(p)-sent)
		if n == 0 {
			if err := st.await(); err != nil {
				return sent, err
			}
			continue
		}
		st.appendData(p[sent : sent+n])
		sent += n
		st.sendWindow -= n
		c.sendWindow -= n
		c.leaveQueue(st)
		if len(c.out) >= flushAt {
			c.flush(1)
		}
	}
	return sent, nil
}

// room gives how much a stream may send now; a stream that must wait for
// others gets into the queue. c.mu is held.
func (c *conn) room(st *stream, want int) int {
	if st.sendWindow <= 0 {
		c.leaveQueue(st)
		return 0
	}
	others := c.turn != nil && c.turn != st || c.turn == nil && len(c.waiting) > 0
	if c.sendWindow <= 0 || len(c.out) >= outHigh || others {
		if c.turn == st {
			c.turn = nil
			c.waiting = slices.Insert(c.waiting, 0, st)
		} else if !slices.Contains(c.waiting, st) {
			c.waiting = append(c.waiting, st)
		}
		c.kick()
		return 0
	}
	return min(want, maxData, st.sendWindow, c.sendWindow)
}

// kick gives the turn to the stream that waits longest, where there is
// something to get. c.mu is held.
func (c *conn) kick() {
	if c.turn != nil || len(c.waiting) == 0 || c.sendWindow <= 0 || len(c.out) >= outHigh {
		return
	}
	c.turn = c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	signal(c.turn.writable)
}

// leaveQueue ends a stream's turn or its waiting. c.mu is held.
func (c *conn) leaveQueue(st *stream) {
	if c.turn == st {
		c.turn = nil
		c.kick()
		return
	}
	if len(c.waiting) > 0 {
		if i := slices.Index(c.waiting, st); i >= 0 {
			c.waiting = slices.Delete(c.waiting, i, i+1)
		}
	}
}

// await waits until something may have changed for the stream: at most until
// its deadline, or the stall time, after which the stream is given up. c.mu
// is held, but not while it waits.
func (st *stream) await() error {
	c := st.c
	if c.flush(1) {
		return nil
	}
	until, own := st.writeBy, true
	if stall := c.s.opts.WriteStallTimeout; stall > 0 {
		if by := time.Now().Add(stall); until.IsZero() || by.Before(until) {
			until, own = by, false
		}
	}
	c.mu.Unlock()
	err := wait(st.writable, until)
	c.mu.Lock()
	if err == nil {
		return nil
	}
	c.leaveQueue(st)
	if !own {
		st.abort(http2.ErrCodeCancel, "client took nothing for too long")
		c.flush(1)
	}
	return os.ErrDeadlineExceeded
}

// flush writes what is pending, unless somebody is at it, who then does that
// too. After so many rounds a worker goes on. It tells whether it wrote. c.mu
// is held, but not while it writes.
func (c *conn) flush(rounds int) bool {
	if c.writing || len(c.out) == 0 || c.dead {
		return false
	}
	c.writing = true
	for ; len(c.out) > 0 && !c.dead; rounds-- {
		if rounds == 0 {
			c.s.workers.run(task{flush: c})
			return true
		}
		buf, box := c.out, c.box
		c.out, c.box = nil, nil
		c.gen++
		c.kick()
		c.mu.Unlock()
		err := c.write(buf)
		c.s.keepBuffer(box, buf)
		c.mu.Lock()
		if err != nil {
			c.writing = false
			c.hangUp(err)
			return true
		}
	}
	c.writing = false
	c.written.Broadcast()
	return true
}

// flushSoon has a worker write what is pending. c.mu is held.
func (c *conn) flushSoon() {
	if c.writing || len(c.out) == 0 || c.dead {
		return
	}
	c.writing = true
	c.s.workers.run(task{flush: c})
}

// flushAll is the worker's part: c.writing is set already.
func (c *conn) flushAll() {
	c.mu.Lock()
	c.writing = false
	if !c.flush(maxFlushes) {
		c.written.Broadcast()
	}
	c.mu.Unlock()
}

// write writes to the socket. A client that takes nothing for the stall time
// loses its connection. The deadline moves now and then only: moving it costs
// as much as a small write.
func (c *conn) write(b []byte) error {
	if stall := c.s.opts.WriteStallTimeout; stall > 0 {
		if now := c.now(); now >= c.extend {
			c.extend = now + stall/10
			c.nc.SetWriteDeadline(time.Now().Add(stall))
		}
	}
	_, err := c.nc.Write(b)
	return err
}
