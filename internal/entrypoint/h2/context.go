package h2

import (
	"context"
	"sync"
	"time"
)

// streamContext is a request's context: it ends with the request. It makes its
// channel only when asked, and tells whether it was: somebody may then still
// hold it after the request.
type streamContext struct {
	base context.Context // of the connection; its values only

	mu      sync.Mutex
	done    chan struct{}
	err     error
	after   map[*func()]struct{}
	watched bool
}

// Deadline: none of its own.
func (x *streamContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value is the connection's.
func (x *streamContext) Value(key any) any { return x.base.Value(key) }

// Err tells whether the request is over.
func (x *streamContext) Err() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err
}

// Done is closed when the request is over.
func (x *streamContext) Done() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watched = true
	if x.done == nil {
		x.done = make(chan struct{})
		if x.err != nil {
			close(x.done)
		}
	}
	return x.done
}

// AfterFunc lets package context derive contexts without a goroutine for each.
func (x *streamContext) AfterFunc(f func()) (stop func() bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watched = true
	if x.err != nil {
		go f()
		return func() bool { return false }
	}
	if x.after == nil {
		x.after = make(map[*func()]struct{})
	}
	x.after[&f] = struct{}{}
	return func() bool {
		x.mu.Lock()
		defer x.mu.Unlock()
		_, waits := x.after[&f]
		delete(x.after, &f)
		return waits
	}
}

// end ends the context, once.
func (x *streamContext) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return
	}
	x.err = context.Canceled
	if x.done != nil {
		close(x.done)
	}
	for f := range x.after {
		go (*f)()
	}
	x.after = nil
}

// renew makes the context usable for the next request; false: somebody may
// still hold it.
func (x *streamContext) renew() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.watched {
		return false
	}
	x.err = nil
	return true
}
