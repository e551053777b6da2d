package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errReleased is why the context of a released lease ended.
var errReleased = errors.New("lease released")

// Margin is how long before the TTL is over, counted from the sending of the
// last successful renewal, a holder stops.
func Margin(ttl time.Duration) time.Duration { return ttl / 5 }

// Hold is the holder's half of a lease, for the stores: a context that ends at
// a deadline unless the deadline is moved in time. It is judged by this
// process's monotonic clock alone, and whoever asks the context for its Err is
// answered by the clock, not by whether a timer has had time to run: a process
// that was stopped for a while knows before it acts.
type Hold struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	outer  *Hold // it ends with this one; may be nil

	mu    sync.Mutex
	until time.Time // zero: no deadline yet
	timer *time.Timer
}

// NewHold begins a hold that ends at until (zero: it has no deadline yet) or
// with parent.
func NewHold(parent context.Context, until time.Time) *Hold {
	h := &Hold{}
	h.ctx, h.cancel = context.WithCancelCause(parent)
	h.Extend(until)
	return h
}

// Within begins a hold that ends with parent or with outer: a lease that is as
// good as the session it goes with.
func (outer *Hold) Within(parent context.Context) *Hold {
	h := &Hold{outer: outer}
	h.ctx, h.cancel = context.WithCancelCause(parent)
	stop := context.AfterFunc(outer.Context(), func() { h.cancel(context.Cause(outer.ctx)) })
	context.AfterFunc(h.ctx, func() { stop() })
	return h
}

// Context is the context of the lease.
func (h *Hold) Context() context.Context { return holdContext{h.ctx, h} }

// Extend moves the deadline: to the moment the renewal was sent, plus the TTL,
// minus Margin. A hold that has ended stays so, and false is returned.
func (h *Hold) Extend(until time.Time) bool {
	if h.Err() != nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.until = until
	switch {
	case until.IsZero() && h.timer != nil:
		h.timer.Stop()
	case until.IsZero():
	case h.timer == nil:
		h.timer = time.AfterFunc(time.Until(until), h.expire)
	default:
		h.timer.Reset(time.Until(until))
	}
	return true
}

// End ends the hold; cause wraps ErrLeaseLost unless it was released.
func (h *Hold) End(cause error) {
	h.cancel(cause)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer != nil {
		h.timer.Stop()
	}
}

// Release ends the hold because its holder is done.
func (h *Hold) Release() { h.End(errReleased) }

// Err is nil while the lease is surely held, else ErrLeaseLost with the reason.
func (h *Hold) Err() error {
	h.expire()
	if h.ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(h.ctx)
	if errors.Is(cause, ErrLeaseLost) {
		return cause
	}
	return fmt.Errorf("%w: %w", ErrLeaseLost, cause)
}

// expire ends the hold if its deadline has passed.
func (h *Hold) expire() {
	h.mu.Lock()
	over := !h.until.IsZero() && !time.Now().Before(h.until)
	h.mu.Unlock()
	if over {
		h.cancel(fmt.Errorf("%w: not renewed in time", ErrLeaseLost))
	}
	if h.outer == nil {
		return
	}
	if err := h.outer.Err(); err != nil {
		h.cancel(err)
	}
}

// holdContext is the hold's context, answered by the clock.
type holdContext struct {
	context.Context
	hold *Hold
}

func (c holdContext) Err() error {
	c.hold.expire()
	return c.Context.Err()
}

func (c holdContext) Done() <-chan struct{} {
	c.hold.expire()
	return c.Context.Done()
}
