package load

import (
	"context"
	"fmt"
	"time"

	"gatehouse/bench/measure"
	"gatehouse/bench/wire"
)

// maxSettling is how long a proxy gets to give back what it does not need;
// less if the window is shorter.
const maxSettling = time.Second

// idle opens Conns connections, sends one request on each, and measures what
// the proxy's memory grew by; then it sends another on each, to see that they
// were held.
func idle(ctx context.Context, s Spec) (Result, error) {
	warm := s
	warm.Kind, warm.Conns, warm.Warm, warm.Window = H1, 64, 0, min(s.Window, 300*time.Millisecond)
	if _, err := Run(ctx, warm); err != nil {
		return Result{}, fmt.Errorf("warm up: %w", err)
	}
	settling := min(s.Window, maxSettling)
	sleep(ctx, settling)
	before, err := measure.PSS(s.Pids)
	if err != nil {
		return Result{}, err
	}
	loop, err := wire.NewLoop()
	if err != nil {
		return Result{}, err
	}
	defer loop.Close()
	r := newRun(s, loop)
	r.measuring = true
	begin := r.now()
	all, err := r.opened(s.Conns)
	if err != nil {
		return Result{}, err
	}
	r.result.Open, r.result.PSSBefore = r.result.Requests, before
	sleep(ctx, settling)
	if r.result.PSS, err = measure.PSS(s.Pids); err != nil {
		return Result{}, err
	}
	err = r.once(all)
	r.result.Alive = r.result.Requests - r.result.Open
	r.result.Seconds = (r.now() - begin).Seconds()
	return r.result, err
}

// opened opens connections, each of which has had one answer. A few at a time:
// proxies close those whose first request does not come within seconds.
func (r *run) opened(conns int) (all []client, err error) {
	const atOnce = 128
	for len(all) < conns {
		some, err := r.connectSome(min(atOnce, conns-len(all)))
		if err == nil {
			err = r.once(some)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// once sends one request on each connection, a few at a time.
func (r *run) once(all []client) error {
	const atOnce = 64
	r.free = all
	for last := r.now() + time.Minute; r.now() < last; {
		for r.open < atOnce && len(r.free) > 0 {
			c := r.free[0]
			r.free = r.free[1:]
			r.send(c, r.now())
		}
		if r.open == 0 {
			return nil
		}
		if err := r.loop.Wait(time.Second); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d connections without an answer for a minute", r.open+len(r.free))
}
