package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/provider"
)

// scripted publishes what a test sends it.
type scripted struct {
	name string
	in   chan config.Routing
	err  error
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Run(ctx context.Context, publish func(config.Routing, []config.Problem)) error {
	if s.err != nil {
		return s.err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-s.in:
			if r.Routers == nil {
				panic("scripted panic")
			}
			publish(r, nil)
		}
	}
}

func routers(names ...string) config.Routing {
	r := config.Routing{Routers: map[string]config.Router{}, Services: map[string]config.Service{
		"s": {LoadBalancer: &config.LoadBalancer{}},
	}}
	for _, n := range names {
		r.Routers[n] = config.Router{Rule: "Host(`" + n + ".test`)", Service: "s"}
	}
	return r
}

// run starts a controller over the providers; seen gives the routings handed on
// so far (the names of their routers).
func run(t *testing.T, providers ...provider.Provider) (c *Controller, seen func() [][]string) {
	return runAt(t, 0, providers...)
}

// runAt is run where applying takes a time.
func runAt(t *testing.T, cost time.Duration, providers ...provider.Provider) (c *Controller, seen func() [][]string) {
	var mu sync.Mutex
	var all [][]string
	c = New(Options{
		Providers: providers,
		Logger:    slog.New(slog.NewTextHandler(io.Discard, nil)),
		Apply: func(r config.Routing, _ []config.Problem) []config.Problem {
			var names []string
			for n := range r.Routers {
				names = append(names, n)
			}
			slices.Sort(names)
			time.Sleep(cost)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, names)
			return nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c, func() [][]string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}
}

// newest is what was handed on last.
func newest(seen [][]string) []string {
	if len(seen) == 0 {
		return nil
	}
	return seen[len(seen)-1]
}

// TestASingleChangeIsAppliedAtOnce: nothing waits for quiet once all were heard.
func TestASingleChangeIsAppliedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{name: "file", in: make(chan config.Routing)}
		_, seen := run(t, p)
		for i := range 5 {
			name := fmt.Sprint("r", i)
			p.in <- routers(name)
			time.Sleep(5 * time.Millisecond)
			synctest.Wait()
			if !slices.Equal(newest(seen()), []string{name + "@file"}) || len(seen()) != i+1 {
				t.Fatalf("5 ms after change %d %v was handed on", i, seen())
			}
			time.Sleep(time.Second)
		}
	})
}

// TestABurstIsOne: what belongs together arrives in a moment.
func TestABurstIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{name: "file", in: make(chan config.Routing)}
		_, seen := run(t, p)
		for range 10 {
			p.in <- routers("old")
		}
		p.in <- routers("new")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(seen()) != 1 || !slices.Equal(newest(seen()), []string{"new@file"}) {
			t.Errorf("handed on %v, want one routing with new@file", seen())
		}
	})
}

// TestTheStartWaitsForAll: providers that are heard one after the other make
// one routing, at once when the last is heard.
func TestTheStartWaitsForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []provider.Provider
		for i := range 5 {
			all = append(all, &scripted{name: fmt.Sprint("p", i), in: make(chan config.Routing)})
		}
		_, seen := run(t, all...)
		for _, p := range all {
			time.Sleep(quiet / 2)
			p.(*scripted).in <- routers("x")
			p.(*scripted).in <- routers("a")
		}
		time.Sleep(2 * moment)
		synctest.Wait()
		if want := []string{"a@p0", "a@p1", "a@p2", "a@p3", "a@p4"}; len(seen()) != 1 || !slices.Equal(newest(seen()), want) {
			t.Errorf("handed on %v, want once %v", seen(), want)
		}
	})
}

// TestTheStartIsNotHeldUp: a provider that is never calm, beside one that is
// never heard, is served within patience.
func TestTheStartIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy, mute := &scripted{name: "busy", in: make(chan config.Routing)}, &scripted{name: "mute", in: make(chan config.Routing)}
		_, seen := run(t, busy, mute)
		for start := time.Now(); time.Since(start) <= patience; time.Sleep(quiet / 2) {
			busy.in <- routers("a")
		}
		if len(seen()) == 0 || seen()[0][0] != "a@busy" {
			t.Errorf("handed on %v", seen())
		}
	})
}

// TestAStorm: 1,000 changes a second for 10 s, each dear to apply, lead to
// applies that take a bounded share of a core, and the last change is in effect
// within patience.
func TestAStorm(t *testing.T) {
	for _, cost := range []time.Duration{0, time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond, 5 * time.Second} {
		t.Run(cost.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &scripted{name: "file", in: make(chan config.Routing)}
				_, seen := runAt(t, cost, p)
				last := ""
				start := time.Now()
				for i := 0; time.Since(start) < 10*time.Second; i++ {
					last = fmt.Sprint("r", i)
					p.in <- routers(last)
					time.Sleep(time.Millisecond)
				}
				// Applying may have begun just before the last change.
				time.Sleep(cost + min(restFactor*cost, patience) + leastRest + moment + cost)
				synctest.Wait()
				if got := newest(seen()); !slices.Equal(got, []string{last + "@file"}) {
					t.Errorf("the last change %s is not in effect, but %v", last, got)
				}
				took := time.Since(start)
				if most := 2 + int(took/(cost+min(max(restFactor*cost, leastRest), patience))); len(seen()) > most {
					t.Errorf("%d applies in %v, want no more than %d", len(seen()), took, most)
				}
			})
		})
	}
}

func TestReadyOnlyAfterEveryProviderWasHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &scripted{name: "a", in: make(chan config.Routing)}
		b := &scripted{name: "b", in: make(chan config.Routing)}
		c, seen := run(t, a, b)
		a.in <- routers("x")
		time.Sleep(time.Second)
		if s := c.State(); s.Ready() || !slices.Equal(s.Waiting, []string{"b"}) {
			t.Errorf("ready with b not heard: %+v", s)
		}
		if len(seen()) != 1 {
			t.Errorf("a's routes wait for b: %v", seen())
		}
		b.in <- routers("y")
		time.Sleep(time.Second)
		if !c.State().Ready() {
			t.Error("not ready though both were heard")
		}
		if got := newest(seen()); !slices.Equal(got, []string{"x@a", "y@b"}) {
			t.Errorf("served %v", got)
		}
	})
}

func TestAProviderThatPanicsIsStartedAgainAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{name: "file", in: make(chan config.Routing)}
		c, seen := run(t, p)
		p.in <- routers("a")
		time.Sleep(time.Second)
		p.in <- config.Routing{} // panics
		time.Sleep(time.Minute)
		if got := newest(seen()); !slices.Equal(got, []string{"a@file"}) || !c.State().Ready() {
			t.Errorf("after the panic %v is served", got)
		}
		p.in <- routers("b")
		time.Sleep(time.Second)
		if got := newest(seen()); !slices.Equal(got, []string{"b@file"}) {
			t.Errorf("after the restart %v is served", got)
		}
	})
}

func TestAProviderWithImpossibleSettingsLeavesTheOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &scripted{name: "bad", err: errors.New("no such folder")}
		good := &scripted{name: "good", in: make(chan config.Routing)}
		c, seen := run(t, bad, good)
		good.in <- routers("a")
		time.Sleep(time.Second)
		if len(seen()) != 1 || c.State().Ready() {
			t.Errorf("served %v, ready %v", seen(), c.State().Ready())
		}
	})
}
