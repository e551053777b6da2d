package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// result is what a subject came to.
type result struct {
	plan
	name         string
	first        time.Duration // from the start to the first answer of the last Ingress
	memory, late int64         // PSS in bytes, at rest before the changes, and after them
	busy         float64       // of one core, at rest
	took         []time.Duration
	asked        int64
	failed       int64
	trouble      string // the first failure
}

func (r result) print(to io.Writer) {
	at := func(q float64) time.Duration {
		return r.took[min(int(q*float64(len(r.took))), len(r.took)-1)].Round(time.Millisecond)
	}
	fmt.Fprintf(to, "%s: first served after %v; at rest %.0f MiB, %.2f %% of a core over %v\n",
		r.name, r.first.Round(10*time.Millisecond), float64(r.memory)/(1<<20), 100*r.busy, r.rest)
	fmt.Fprintf(to, "  %d changes of endpoints: median %v, 99 %% %v, worst %v; %d requests meanwhile, %d failed%s; %.0f MiB after\n",
		len(r.took), at(0.5), at(0.99), at(1), r.asked, r.failed, r.trouble, float64(r.late)/(1<<20))
}

// settled is how long nothing is done before the memory is read: the heap is
// collected once in two minutes, and given back to the system after that.
const settled = 10 * time.Second

// measure starts a subject and measures it. All apps lead to the first origin
// before and after.
func (p plan) measure(ctx context.Context, w *world, s *subject) (r result, err error) {
	r = result{plan: p, name: s.name}
	begin := time.Now()
	if err = s.start(p.dir, w.Kubeconfig); err != nil {
		return r, err
	}
	if err = s.until(ctx, w.size-1, "0"); err != nil {
		return r, err
	}
	r.first = time.Since(begin)
	pause(ctx, min(settled, p.rest))
	before, _, err := s.cost()
	if err != nil {
		return r, err
	}
	pause(ctx, p.rest)
	after, memory, err := s.cost()
	if err != nil {
		return r, err
	}
	r.memory, r.busy = memory, (after-before)/max(p.rest, time.Nanosecond).Seconds()
	if err = r.change(ctx, w, s); err != nil {
		return r, err
	}
	pause(ctx, p.rest/2)
	_, r.late, err = s.cost()
	return r, err
}

// change moves apps to the other origin and back, one after the other, under
// load.
func (r *result) change(ctx context.Context, w *world, s *subject) error {
	ctx, stop := context.WithCancel(ctx)
	var load sync.WaitGroup
	defer load.Wait()
	defer stop()
	load.Go(func() { r.load(ctx, w, s) })
	at := make([]int, w.size)
	for n := range r.changes {
		i := rand.IntN(w.size)
		at[i] = 1 - at[i]
		if err := w.move(ctx, i, at[i]); err != nil {
			return fmt.Errorf("change %d: %w", n, err)
		}
		begin := time.Now() // the API server has said yes
		if err := s.until(ctx, i, fmt.Sprint(at[i])); err != nil {
			return fmt.Errorf("change %d: %w", n, err)
		}
		r.took = append(r.took, time.Since(begin))
		pause(ctx, time.Duration(rand.IntN(50))*time.Millisecond)
	}
	for i, origin := range at {
		if origin != 0 {
			if err := w.move(ctx, i, 0); err != nil {
				return err
			}
		}
	}
	slices.Sort(r.took)
	return nil
}

// load asks all apps, rate times a second, until ctx ends.
func (r *result) load(ctx context.Context, w *world, s *subject) {
	if r.rate <= 0 {
		return
	}
	var asked, failed atomic.Int64
	var first atomic.Pointer[string]
	var all sync.WaitGroup
	every := time.NewTicker(time.Second / time.Duration(r.rate))
	defer every.Stop()
	places := make(chan struct{}, 64)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-every.C:
		}
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			_, err := s.ask(context.WithoutCancel(ctx), rand.IntN(w.size))
			asked.Add(1)
			if err != nil {
				failed.Add(1)
				text := ", first: " + err.Error()
				first.CompareAndSwap(nil, &text)
			}
		})
	}
	all.Wait()
	r.asked, r.failed = asked.Load(), failed.Load()
	if text := first.Load(); text != nil {
		r.trouble = *text
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
