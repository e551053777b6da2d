package entrypoint

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// What a connection is doing.
const (
	connIdle     int32 = iota // waiting for a request's first byte
	connActive                // anything else
	connFresh                 // waiting for the first byte of its first request
	connHijacked              // taken over by a handler
	connHTTP2                 // served by another loop, which drains it itself
	connTold                  // interrupted while it was waiting: it is to end
)

// connections counts what is open and knows every connection.
type connections struct {
	max   int64
	all   *Budget // shared with others; nil: there is none
	open  atomic.Int64
	quic  atomic.Int64  // those of HTTP/3, which package h3 knows
	empty chan struct{} // has a token after a connection of ours went away

	mu    sync.Mutex
	first *conn // a list, the newest first
	last  *conn
	apart int64 // hijacked ones and those of HTTP/2

	telling sync.Mutex // held to interrupt one that waits
}

func newConnections(limit int, all *Budget) *connections {
	return &connections{max: int64(limit), all: all, empty: make(chan struct{}, 1)}
}

// admit counts a connection in, if there is room: at this entry point, and
// (everywhere) in the budget.
func (cs *connections) admit() (ok, everywhere bool) {
	return cs.count(&cs.open, &cs.quic)
}

// admitQUIC is admit for a connection of HTTP/3.
func (cs *connections) admitQUIC() (ok, everywhere bool) { return cs.count(&cs.quic, &cs.open) }

func (cs *connections) count(into, beside *atomic.Int64) (ok, everywhere bool) {
	if into.Add(1)+beside.Load() > cs.max {
		into.Add(-1)
		return false, true
	}
	if !cs.all.take() {
		into.Add(-1)
		return false, false
	}
	return true, true
}

// dismissQUIC takes an admitted connection of HTTP/3 back.
func (cs *connections) dismissQUIC() {
	cs.quic.Add(-1)
	cs.all.giveBack()
}

// dismiss takes an admitted connection back that was not added.
func (cs *connections) dismiss() {
	cs.open.Add(-1)
	cs.all.giveBack()
}

// add enters an admitted connection.
func (cs *connections) add(c *conn) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.first != nil {
		cs.first.before = c
	} else {
		cs.last = c
	}
	c.after, cs.first = cs.first, c
}

// remove is told of each closed connection, once.
func (cs *connections) remove(c *conn) {
	cs.mu.Lock()
	if c.before != nil {
		c.before.after = c.after
	} else if cs.first == c {
		cs.first = c.after
	}
	if c.after != nil {
		c.after.before = c.before
	} else if cs.last == c {
		cs.last = c.before
	}
	c.before, c.after = nil, nil
	if s := c.state.Load(); s == connHijacked || s == connHTTP2 {
		cs.apart--
	}
	cs.mu.Unlock()
	cs.dismiss()
	cs.changed()
}

func (cs *connections) changed() {
	select {
	case cs.empty <- struct{}{}:
	default:
	}
}

// part marks a connection that the HTTP/1.1 loop has nothing more to do with.
func (cs *connections) part(c *conn, state int32) {
	cs.mu.Lock()
	c.state.Store(state)
	cs.apart++
	cs.mu.Unlock()
	cs.changed()
}

// left counts the connections the HTTP/1.1 loop has.
func (cs *connections) left() int64 {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	return cs.open.Load() - cs.apart
}

// each calls f with every connection in one of the states.
func (cs *connections) each(f func(*conn), states ...int32) {
	cs.mu.Lock()
	var found []*conn
	for c := cs.first; c != nil; c = c.after {
		for _, s := range states {
			if c.state.Load() == s {
				found = append(found, c)
			}
		}
	}
	cs.mu.Unlock()
	for _, c := range found {
		f(c)
	}
}

// tell has connections that wait in a state (connIdle, connFresh) end, the
// oldest first; most > 0 bounds how many. One that a request has reached is not
// disturbed. It gives how many there were.
func (cs *connections) tell(state int32, most int) (n int) {
	var waiting []*conn
	cs.mu.Lock()
	for c := cs.last; c != nil && (most <= 0 || len(waiting) < most); c = c.before {
		if c.state.Load() == state {
			waiting = append(waiting, c)
		}
	}
	cs.mu.Unlock()
	for _, c := range waiting {
		cs.telling.Lock()
		if c.state.CompareAndSwap(state, connTold) {
			c.Interrupt()
			n++
		}
		cs.telling.Unlock()
	}
	return n
}

// woken ends a connection's waiting. It reports whether it was told to end;
// reads work again then.
func (cs *connections) woken(c *conn, waited int32) (told bool) {
	if c.state.CompareAndSwap(waited, connActive) {
		return false
	}
	cs.telling.Lock() // Interrupt is over
	c.state.Store(connActive)
	c.Resume()
	cs.telling.Unlock()
	return true
}

// waitEmpty waits until the HTTP/1.1 loop has no connection left, at most for
// d; 0: as long as ctx lasts. It reports whether that came about.
func (cs *connections) waitEmpty(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	for cs.left() > 0 {
		select {
		case <-cs.empty:
		case <-ctx.Done():
			return cs.left() <= 0
		}
	}
	return true
}
