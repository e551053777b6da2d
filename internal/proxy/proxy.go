package proxy

import (
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"gatehouse/internal/middleware"
	"gatehouse/internal/upstream"
)

// drainBound is how long a replaced snapshot may hold state for requests that
// do not end. They go on after it; only what nobody else uses is let go.
const drainBound = 10 * time.Minute

// Proxy serves the newest snapshot. Its methods may be called from any
// goroutine.
type Proxy struct {
	logger  *slog.Logger
	bound   time.Duration
	current atomic.Pointer[Snapshot]
}

// New gives a proxy that answers 503 until its first Swap. logger nil: none.
func New(logger *slog.Logger) *Proxy {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Proxy{logger: logger, bound: drainBound}
}

// Swap makes s what new requests see; those under way finish with the snapshot
// they began with. Health checks become those of s. One goroutine may swap at
// a time.
func (p *Proxy) Swap(s *Snapshot) {
	s.services.Activate()
	if old := p.current.Swap(s); old != nil && old != s {
		old.drain.retire(p.bound)
	}
}

// Snapshot gives what is served now; nil before the first Swap.
func (p *Proxy) Snapshot() *Snapshot { return p.current.Load() }

// Ready reports whether there is anything to serve.
func (p *Proxy) Ready() bool { return p.current.Load() != nil }

// Handler serves the requests of one entry point.
func (p *Proxy) Handler(entryPoint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.serve(w, r, entryPoint) })
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request, entryPoint string) {
	// After match nothing here refers to the snapshot: a request that lasts
	// for days holds its route alone.
	s := p.enter()
	if s == nil {
		upstream.Refuse(w, http.StatusServiceUnavailable, NotReady)
		return
	}
	d := s.drain
	defer d.leave()
	found := s.match(entryPoint, r)
	if found == nil {
		upstream.Refuse(w, http.StatusNotFound, NoRoute)
		return
	}
	middleware.RecordFrom(r.Context()).Router = found.router
	defer p.recovered(w, r, found.router)
	found.handler.ServeHTTP(w, r)
}

// enter gives the current snapshot with this request counted in.
func (p *Proxy) enter() *Snapshot {
	for {
		s := p.current.Load()
		if s == nil || s.drain.enter() {
			return s
		}
	}
}

// recovered makes a panic cost its request only. An answer under way is cut,
// so that nobody takes it for whole.
func (p *Proxy) recovered(w http.ResponseWriter, r *http.Request, router string) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	p.logger.Error("request panicked", "router", router, "method", r.Method, "host", r.Host, "path", r.URL.Path,
		"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	// Where no answer has begun this is a whole one. Where one has, it changes
	// nothing but the end, and then the connection is cut.
	clear(w.Header())
	upstream.Refuse(w, http.StatusInternalServerError, OurFault)
	http.NewResponseController(w).Flush() //nolint:errcheck // the client may be gone
	panic(http.ErrAbortHandler)
}

// drain counts the users of a snapshot and lets its services go after the
// last. The owner is one user.
type drain struct {
	users    atomic.Int64 // far below 0: over
	services atomic.Pointer[upstream.Set]
	timer    atomic.Pointer[time.Timer]
}

func newDrain(set *upstream.Set) *drain {
	d := new(drain)
	d.users.Store(1)
	d.services.Store(set)
	return d
}

// enter counts a user in; false: it came too late.
func (d *drain) enter() bool { return d.users.Add(1) > 0 }

func (d *drain) leave() {
	if d.users.Add(-1) == 0 && d.users.CompareAndSwap(0, math.MinInt64/2) {
		d.force()
	}
}

// retire ends the owner's use, and everybody's after bound.
func (d *drain) retire(bound time.Duration) {
	d.timer.Store(time.AfterFunc(bound, d.force))
	d.leave()
}

// force lets the services go, once.
func (d *drain) force() {
	if t := d.timer.Load(); t != nil {
		t.Stop()
	}
	if set := d.services.Swap(nil); set != nil {
		set.Release()
	}
}
