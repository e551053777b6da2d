package controller

import (
	"context"
	"errors"
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

func TestChangesCloseTogetherAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{name: "file", in: make(chan config.Routing)}
		_, seen := run(t, p)
		for range 10 {
			p.in <- routers("old")
			time.Sleep(quiet / 2)
		}
		p.in <- routers("new")
		time.Sleep(2 * quiet)
		synctest.Wait()
		if len(seen()) != 1 || !slices.Equal(newest(seen()), []string{"new@file"}) {
			t.Errorf("handed on %v, want one routing with new@file", seen())
		}
	})
}

func TestAConstantStreamOfChangesIsHandedOnAtLeastEveryTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{name: "file", in: make(chan config.Routing)}
		_, seen := run(t, p)
		for start := time.Now(); time.Since(start) < 10*time.Second; time.Sleep(quiet / 2) {
			p.in <- routers("a")
		}
		if n := len(seen()); n < 4 || n > 6 {
			t.Errorf("handed on %d times in 10 s, want about 5", n)
		}
	})
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
