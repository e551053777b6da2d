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
)

// connections counts what is open and knows every connection.
type connections struct {
	max   int64
	all   *Budget // shared with others; nil: there is none
	open  atomic.Int64
	empty chan struct{} // has a token after a connection of ours went away

	mu    sync.Mutex
	first *conn // a list, the newest first
	apart int64 // hijacked ones and those of HTTP/2
}

func newConnections(limit int, all *Budget) *connections {
	return &connections{max: int64(limit), all: all, empty: make(chan struct{}, 1)}
}

// admit counts a connection in, if there is room.
func (cs *connections) admit() bool {
	if cs.open.Add(1) > cs.max {
		cs.open.Add(-1)
		return false
	}
	if !cs.all.take() {
		cs.open.Add(-1)
		return false
	}
	return true
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
