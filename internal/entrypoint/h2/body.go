package h2

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// body is a request's body, or what a tunnel's client sends.
type body struct {
	st     *stream
	credit atomic.Int64 // bytes to give back to the client's window for the stream

	mu     sync.Mutex // taken before conn.mu
	taken  []chunk
	next   int  // in taken
	paid   bool // the windows have got these bytes back already
	closed bool
}

// Read waits for content.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			return 0, http.ErrBodyReadAfterClose
		}
		if n := b.copy(p); n > 0 {
			b.mu.Unlock()
			b.consume(n)
			return n, nil
		}
		waits, err := b.take()
		b.mu.Unlock()
		if err != nil {
			return 0, err
		}
		if !waits {
			continue
		}
		b.st.c.mu.Lock()
		until := b.st.readBy
		b.st.c.mu.Unlock()
		if err := wait(b.st.readable, until); err != nil {
			return 0, err
		}
	}
}

// copy gives what has been taken. b.mu is held.
func (b *body) copy(p []byte) (n int) {
	for n < len(p) && b.next < len(b.taken) {
		k := &b.taken[b.next]
		m := copy(p[n:], k.buf[k.r:k.w])
		n += m
		if k.r += m; k.r == k.w {
			b.st.c.s.chunks.Put(k.buf)
			k.buf = nil
			b.next++
		}
	}
	return n
}

// take takes what has come, or tells why there is nothing. b.mu is held.
func (b *body) take() (waits bool, err error) {
	st, c := b.st, b.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	over := st.failure == errStreamOver
	switch {
	case st.failure != nil && !(over && st.hijacked):
		return false, st.failure
	case len(st.chunks) > 0:
		st.chunks, b.taken = b.taken[:0], st.chunks
		b.next, b.paid, st.buffered = 0, st.gone, 0
		return false, nil
	case st.remoteDone:
		for name, values := range st.trailer {
			if st.req.Trailer != nil {
				st.req.Trailer[name] = values
			}
		}
		return false, io.EOF
	case over:
		return false, st.failure
	case st.expects:
		st.expects = false
		if !st.w.sent {
			st.appendInterim(http.StatusContinue, nil)
			c.flush(1)
			return false, nil
		}
	}
	return true, nil
}

// consume gives n bytes back to the windows, in portions.
func (b *body) consume(n int) {
	if b.paid {
		return
	}
	c := b.st.c
	all, own := c.consumed.Add(int64(n)), b.credit.Add(int64(n))
	if all < connUpdate && own < streamUpdate {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if own >= streamUpdate {
		b.update()
	}
	if all >= connUpdate {
		c.updateWindow()
	}
	c.flush(1)
}

// update opens the stream's window again. conn.mu is held.
func (b *body) update() {
	st := b.st
	if n := b.credit.Swap(0); n > 0 && !st.gone && !st.remoteDone {
		st.recvWindow += int(n)
		st.c.append(func(p []byte) []byte { return appendWindowUpdate(p, st.id, uint32(n)) })
	}
}

// Close drops what is left and what will come.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	left := 0
	for ; b.next < len(b.taken); b.next++ {
		k := &b.taken[b.next]
		left += k.w - k.r
		b.st.c.s.chunks.Put(k.buf)
		k.buf = nil
	}
	if b.paid {
		left = 0
	}
	c := b.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.giveBack(left + b.st.buffered)
	b.st.dropChunks()
	b.st.deaf = true
	signal(b.st.readable)
	return nil
}

// reset readies the body for another request; it is closed.
func (b *body) reset() {
	b.taken, b.next, b.paid, b.closed = b.taken[:0], 0, false, false
	b.credit.Store(0)
}

// appendInterim appends a 1xx answer. conn.mu is held.
func (st *stream) appendInterim(status int, h http.Header) {
	if st.gone || st.tunnel {
		return
	}
	block := appendStatus(nil, status)
	for name, values := range h {
		block = appendValues(block, name, values)
	}
	st.appendBlock(block, false)
	st.frameGen = 0 // not a frame that could end the stream
}
