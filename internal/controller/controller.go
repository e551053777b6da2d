// Package controller is the one loop that turns what providers publish into
// what is served: it keeps the newest routing of each, merges all of it and
// hands it on, at once after a calm time and at a bounded share of a core in a
// storm. It owns no routing of its own and knows neither stores nor
// certificates.
package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/provider"
)

// A change after a calm time is applied after a moment, in which those that
// belong to it arrive. Then there is a rest: no less than leastRest, and so long
// that applying takes one part in restFactor+1 of a core; but no change waits
// longer than patience. At the start the providers that have not been heard are
// waited for until quiet passes without a change.
const (
	moment     = 2 * time.Millisecond
	leastRest  = 10 * time.Millisecond
	restFactor = 3
	quiet      = 100 * time.Millisecond
	patience   = 2 * time.Second
)

// Options of a Controller.
type Options struct {
	Providers []provider.Provider
	// Apply compiles and serves a merged routing, of which the known problems
	// were found before; it returns those of the objects it left out. It is
	// called from one goroutine, never twice at once.
	Apply  func(r config.Routing, known []config.Problem) []config.Problem
	Logger *slog.Logger
}

// State is what the controller knows. It is immutable.
type State struct {
	// Sources holds what each provider published last, under its name.
	Sources map[string]config.Routing
	// Waiting names the providers that have not published yet.
	Waiting []string
	// Problems of the declared objects and of their merging and compiling.
	Problems []config.Problem
	// Applied counts the routings handed on; At is the time of the last.
	Applied int
	At      time.Time
}

// Ready tells whether every provider has been heard once and the result is
// served.
func (s State) Ready() bool { return len(s.Waiting) == 0 && s.Applied > 0 }

// Controller runs the loop. Make it with New.
type Controller struct {
	o       Options
	changed chan struct{} // holds at most one token
	merger  config.Merger // of the loop

	mu     sync.Mutex
	newest map[string]published
	state  State
}

type published struct {
	routing  config.Routing
	problems []config.Problem
}

// New makes a Controller; provider names must differ.
func New(o Options) *Controller {
	c := &Controller{o: o, changed: make(chan struct{}, 1), newest: map[string]published{}}
	for _, p := range o.Providers {
		c.state.Waiting = append(c.state.Waiting, p.Name())
	}
	slices.Sort(c.state.Waiting)
	return c
}

// State gives what is known now; from any goroutine.
func (c *Controller) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Again has what is newest applied again: something it names has changed. From
// any goroutine.
func (c *Controller) Again() { c.signal() }

// Run runs the providers and the loop until ctx ends, then waits for them.
func (c *Controller) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, p := range c.o.Providers {
		wg.Go(func() { c.runProvider(ctx, p) })
	}
	if len(c.o.Providers) == 0 {
		c.signal()
	}
	var next time.Time // no apply before it
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		}
		if !c.gather(ctx) || !sleepUntil(ctx, next) {
			return nil
		}
		// What came meanwhile is taken too.
		select {
		case <-c.changed:
		default:
		}
		start := time.Now()
		c.apply()
		end := time.Now()
		next = end.Add(min(max(leastRest, restFactor*end.Sub(start)), patience))
	}
}

// gather waits a moment, and at the start for every provider; false: ctx ended.
func (c *Controller) gather(ctx context.Context) bool {
	last := time.Now().Add(patience)
	for c.starting() {
		calm := time.NewTimer(min(quiet, time.Until(last)))
		select {
		case <-ctx.Done():
			calm.Stop()
			return false
		case <-calm.C:
			return true
		case <-c.changed:
			calm.Stop()
		}
	}
	return sleepUntil(ctx, time.Now().Add(moment))
}

// starting: nothing was handed on yet, and some provider was not heard.
func (c *Controller) starting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Applied == 0 && len(c.newest) < len(c.o.Providers)
}

// sleepUntil is false when ctx ended first.
func sleepUntil(ctx context.Context, then time.Time) bool {
	left := time.Until(then)
	if left <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// apply merges what is newest and hands it on. A panic in there is a bug, but
// what is served stays served.
func (c *Controller) apply() {
	c.mu.Lock()
	sources := make(map[string]config.Routing, len(c.newest))
	var problems []config.Problem
	var waiting []string
	for _, p := range c.o.Providers {
		n, heard := c.newest[p.Name()]
		if !heard {
			waiting = append(waiting, p.Name())
			continue
		}
		sources[p.Name()] = n.routing
		problems = append(problems, n.problems...)
	}
	c.mu.Unlock()
	slices.Sort(waiting)

	defer func() {
		if r := recover(); r != nil {
			c.o.Logger.Error("applying a configuration panicked; the last one stays", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
	}()
	merged, more := c.merger.Merge(sources)
	problems = append(problems, more...)
	problems = append(problems, c.o.Apply(merged, problems)...)
	c.publish(State{Sources: sources, Waiting: waiting, Problems: problems, At: time.Now()})
}

func (c *Controller) publish(s State) {
	c.mu.Lock()
	before := c.state.Problems
	s.Applied = c.state.Applied + 1
	c.state = s
	c.mu.Unlock()
	for _, p := range news(before, s.Problems) {
		level := slog.LevelError
		if p.Warning {
			level = slog.LevelWarn
		}
		c.o.Logger.Log(context.Background(), level, "problem in the configuration", "problem", p.String())
	}
	c.o.Logger.Info("configuration applied", "routers", countRouters(s.Sources), "problems", len(s.Problems), "waiting", s.Waiting)
}

// news gives the problems of now that were not among those before.
func news(before, now []config.Problem) []config.Problem {
	if slices.Equal(before, now) {
		return nil
	}
	known := make(map[config.Problem]bool, len(before))
	for _, p := range before {
		known[p] = true
	}
	var fresh []config.Problem
	for _, p := range now {
		if !known[p] {
			fresh = append(fresh, p)
		}
	}
	return fresh
}

func countRouters(sources map[string]config.Routing) int {
	n := 0
	for r := range maps.Values(sources) {
		n += len(r.Routers)
	}
	return n
}

// runProvider runs one provider until ctx ends. One that panics is a bug and
// started again; one whose settings can never work is told of and left.
func (c *Controller) runProvider(ctx context.Context, p provider.Provider) {
	name := p.Name()
	publish := func(r config.Routing, problems []config.Problem) {
		c.mu.Lock()
		c.newest[name] = published{r, problems}
		c.mu.Unlock()
		c.signal()
	}
	for ctx.Err() == nil {
		err := c.runOnce(ctx, p, publish)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			err = fmt.Errorf("provider %s ended by itself", name)
		case !isPanic(err):
			c.o.Logger.Error("provider cannot run; what it published stays", "provider", name, "err", err)
			return
		}
		const next = 10 * time.Second
		c.o.Logger.Error("provider broke off", "provider", name, "err", err, "next", next)
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
}

// panicError is a provider's panic, caught.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

func isPanic(err error) bool {
	_, ok := err.(*panicError)
	return ok
}

func (c *Controller) runOnce(ctx context.Context, p provider.Provider, publish func(config.Routing, []config.Problem)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{r, debug.Stack()}
		}
	}()
	return p.Run(ctx, publish)
}

func (c *Controller) signal() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}
