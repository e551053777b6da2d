// Package controller is the one loop that turns what providers publish into
// what is served: it keeps the newest routing of each, waits for quiet, merges
// all of it and hands it on. It owns no routing of its own and knows neither
// stores nor certificates.
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

// Changes are taken together until none has come for quiet, but none waits
// longer than patience.
const (
	quiet    = 100 * time.Millisecond
	patience = 2 * time.Second
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
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.changed:
		}
		if !c.settle(ctx) {
			return nil
		}
		c.apply()
	}
}

// settle waits for quiet; false: ctx ended.
func (c *Controller) settle(ctx context.Context) bool {
	last := time.NewTimer(patience)
	defer last.Stop()
	for {
		calm := time.NewTimer(quiet)
		select {
		case <-ctx.Done():
			calm.Stop()
			return false
		case <-calm.C:
			return true
		case <-last.C:
			calm.Stop()
			return true
		case <-c.changed:
			calm.Stop()
		}
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
	merged, more := config.Merge(sources)
	problems = append(problems, more...)
	problems = append(problems, c.o.Apply(merged, problems)...)
	c.publish(State{Sources: sources, Waiting: waiting, Problems: problems, At: time.Now()})
}

func (c *Controller) publish(s State) {
	c.mu.Lock()
	s.Applied = c.state.Applied + 1
	known := map[string]bool{}
	for _, p := range c.state.Problems {
		known[p.String()] = true
	}
	c.state = s
	c.mu.Unlock()
	for _, p := range s.Problems {
		if known[p.String()] {
			continue
		}
		level := slog.LevelError
		if p.Warning {
			level = slog.LevelWarn
		}
		c.o.Logger.Log(context.Background(), level, "problem in the configuration", "problem", p.String())
	}
	c.o.Logger.Info("configuration applied", "routers", countRouters(s.Sources), "problems", len(s.Problems), "waiting", s.Waiting)
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
