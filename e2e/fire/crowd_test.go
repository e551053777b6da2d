package fire

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/store"
)

var (
	crowdNames = flag.Int("fire.names", 0, "names of the tests with many; 0: the short form")
	outage     = flag.Duration("fire.outage", 0, "how long the CA, or the store, is away; 0: the short form")
	flooding   = flag.Duration("fire.flood", 0, "how long unknown names are asked for; 0: the short form")
	floodRate  = flag.Int("fire.floodrate", 10_000, "unknown names a second")
	restarts   = flag.Int("fire.restarts", 0, "rolling restarts; 0: the short form")
)

func gather(t *testing.T, o crowdOptions) *crowd {
	t.Helper()
	if *crowdNames == 0 && *outage == 0 && *flooding == 0 && *restarts == 0 && *renewals == 0 {
		t.Parallel() // the short form
	}
	var err error
	if o.binary, err = binary(); err != nil {
		t.Fatal(err)
	}
	if o.dir, err = os.MkdirTemp("", "fire-crowd"); err != nil {
		t.Fatal(err)
	}
	c, err := newCrowd(t.Context(), o)
	t.Cleanup(func() {
		c.stop()
		if !t.Failed() {
			_ = os.RemoveAll(o.dir)
			return
		}
		logs, _ := filepath.Glob(filepath.Join(o.dir, "replica-*.log"))
		for _, file := range logs {
			text, _ := os.ReadFile(file)
			t.Logf("%s:\n%s", filepath.Base(file), text[max(0, len(text)-3000):])
		}
		t.Logf("kept: %s", o.dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// must fails the test.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// reaches waits until check gives nil, and tells how long that took.
func reaches(t *testing.T, most time.Duration, what string, check func() error) time.Duration {
	t.Helper()
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := check()
		took := time.Since(began)
		if err == nil {
			return took
		}
		if took > most {
			t.Fatalf("%s: not within %s: %v", what, most, err)
		}
	}
}

// served says whether a replica serves names from all over the crowd. They are
// loaded together, so that some tell of all.
func (c *crowd) served(replica int) error {
	for i := range min(20, c.names) {
		if _, err := c.ask(replica, c.name(i*(c.names-1)/max(1, min(20, c.names)-1)), 10*time.Second); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) allServed(t *testing.T) {
	t.Helper()
	for i := range c.replicas {
		reaches(t, 2*time.Minute, fmt.Sprintf("replica %d serves", i+1), func() error { return c.served(i) })
	}
}

// every asks each name of a replica once.
func (c *crowd) every(replica int) (failed int, last error) {
	var mu sync.Mutex
	var running sync.WaitGroup
	next := make(chan int)
	for range 8 {
		running.Go(func() {
			for i := range next {
				if _, err := c.ask(replica, c.name(i), 20*time.Second); err != nil {
					mu.Lock()
					failed, last = failed+1, err
					mu.Unlock()
				}
			}
		})
	}
	for i := range c.names {
		next <- i
	}
	close(next)
	running.Wait()
	return failed, last
}

func (c *crowd) loaded(ctx context.Context, t *testing.T, rate int) *load {
	l := &load{crowd: c}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx, rate) }()
	t.Cleanup(func() { cancel(); <-done })
	return l
}

func (l *load) judge(t *testing.T) {
	t.Helper()
	all, failed, p50, p99 := l.seen()
	if len(failed) > 0 {
		t.Errorf("%d of %d requests failed, as %v", len(failed), all, failed[0])
	}
	t.Logf("%d requests, %d failed; handshakes p50 %s, p99 %s", all, len(failed), p50.Round(time.Millisecond/10), p99.Round(time.Millisecond/10))
}

// TestManyAtStart: a replica that starts with thousands of certificates in the
// store, or in its own copy while the store is down, serves them all at once.
func TestManyAtStart(t *testing.T) {
	names, most := 300, 30*time.Second
	if *crowdNames > 0 {
		names, most = *crowdNames, 2*time.Second
	}
	c := gather(t, crowdOptions{replicas: 1, names: names})
	began := time.Now()
	must(t, c.seed(t.Context()))
	t.Logf("%d certificates put into the store in %s", names, time.Since(began).Round(time.Second))
	for _, how := range []string{"from the store", "from its copy, the store down"} {
		must(t, c.start(0))
		took := reaches(t, most+time.Minute, how, func() error { return c.served(0) })
		used := c.cpu(0)
		now, high := c.memory(0)
		t.Logf("%s: served %s after the start of the process, which used %s of the processors; %.0f MiB in memory, %.0f at most",
			how, took.Round(time.Millisecond), used, now, high)
		if took > most {
			t.Errorf("%s: %s, want at most %s", how, took, most)
		}
		if failed, err := c.every(0); failed > 0 {
			t.Errorf("%s: %d of %d names not served, as %v", how, failed, names, err)
		}
		time.Sleep(3 * time.Second) // the copy is written
		now, high = c.memory(0)
		t.Logf("after a handshake for each name: %.0f MiB in memory, %.0f at most", now, high)
		_ = c.procs[0].Stop(10 * time.Second)
		c.relay.turn(refusing)
	}
	c.ca.Seen(func(s *smallca.Counts) {
		if len(s.Orders) > 0 {
			t.Errorf("orders for %d names that have their certificates", len(s.Orders))
		}
	})
}

// TestManyRenewals: all are to be renewed at once, and each is, once.
func TestManyRenewals(t *testing.T) {
	names, most := 40, 5*time.Minute
	if *crowdNames > 0 {
		names, most = *crowdNames, 90*time.Minute
	}
	c := gather(t, crowdOptions{replicas: *replicas, names: names, rules: smallca.Options{Limits: true}})
	must(t, c.seed(t.Context()))
	must(t, c.startAll())
	c.allServed(t)
	began := time.Now()
	must(t, c.renewNow(t.Context(), names))
	asked := time.Since(began)
	said := time.Now()
	took := reaches(t, most, "renewed", func() error {
		time.Sleep(time.Second)
		n := c.issued() - names
		if time.Since(said) > time.Minute {
			said = time.Now()
			t.Logf("%s: %d renewed", time.Since(began).Round(time.Second), n)
		}
		if n < names {
			return fmt.Errorf("%d of %d", n, names)
		}
		return nil
	})
	reaches(t, 2*time.Minute, "at rest", func() error {
		time.Sleep(time.Second)
		// A request may stay, older than its certificate, if the lease was lost.
		if n := c.left(t.Context(), "orders"); n != 0 {
			return fmt.Errorf("%d journals", n)
		}
		return nil
	})
	c.ca.Seen(func(s *smallca.Counts) {
		var at []time.Time
		for _, r := range s.Requests {
			if r.Step == "newOrder" {
				at = append(at, r.At)
			}
		}
		if s.Limited > 0 || len(s.Issued) != 2*names || len(at) != names {
			t.Errorf("%d answers with 429, %d orders and %d certificates for %d names", s.Limited, len(at), len(s.Issued)-names, names)
		}
		now, high := c.memory(0)
		t.Logf("%d renewals with %d replicas in %s (asking for them took %s): %d newOrder, at most %d a second, %d x 429, %d requests in all; %.0f MiB in memory, %.0f at most",
			names, c.replicas, (took + asked).Round(time.Second), asked.Round(time.Second), len(at), mostIn(at, time.Second), s.Limited, len(s.Requests), now, high)
	})
}

// TestUnknownNames: a flood of names nobody knows costs no order, leaves nothing
// behind, and the known ones are served on.
func TestUnknownNames(t *testing.T) {
	lasts, rate := 3*time.Second, 500
	if *flooding > 0 {
		lasts, rate = *flooding, *floodRate
	}
	c := gather(t, crowdOptions{replicas: 1, names: 100, extra: "[acme.onDemandPolicy]\nallow = [\"*.customers.test\"]"})
	must(t, c.seed(t.Context()))
	must(t, c.startAll())
	c.allServed(t)
	must(t, c.ready(t.Context(), 0))
	measure := func(during func(context.Context)) (p50, p99 time.Duration) {
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		l := &load{crowd: c}
		var running sync.WaitGroup
		running.Go(func() { l.run(ctx, 50) })
		during(ctx)
		running.Wait()
		all, failed, p50, p99 := l.seen()
		if len(failed) > 0 {
			t.Errorf("%d of %d requests for known names failed, as %v", len(failed), all, failed[0])
		}
		return p50, p99
	}
	calm50, calm99 := measure(func(ctx context.Context) { <-ctx.Done() })
	before, _ := c.memory(0)
	tenth := time.Millisecond / 10
	for _, cheap := range []bool{true, false} {
		var seen flooded
		began, used := time.Now(), c.cpu(0)
		p50, p99 := measure(func(context.Context) {
			var err error
			seen, err = flood(t.Context(), floodOptions{Port: c.https[0], Parallel: 640, Rate: rate, Suffix: ".flood.test", Cheap: cheap, Lasts: lasts})
			must(t, err)
		})
		took := time.Since(began).Seconds()
		exchange, each := "X25519MLKEM768", float64(seen.all())/took
		if cheap {
			exchange = "X25519"
		}
		t.Logf("%s: %.0f a second for unknown names: %d answered, %d refused, %d failed; known names p50 %s, p99 %s; without them p50 %s, p99 %s; processors: %.2f the replica, %.2f the flood's client",
			exchange, each, seen.Answered, seen.Refused, seen.Failed, p50.Round(tenth), p99.Round(tenth), calm50.Round(tenth), calm99.Round(tenth),
			(c.cpu(0)-used).Seconds()/took, seen.CPU.Seconds()/took)
		if seen.Answered == 0 || seen.Failed > 0 && *flooding > 0 {
			t.Errorf("%d answered; %d failed, as %v", seen.Answered, seen.Failed, seen.Last)
		}
		if *flooding == 0 {
			continue
		}
		if seen.Refused == 0 && rate >= 10_000 {
			t.Error("nothing was refused")
		}
		switch late := p99 - calm99; {
		case each < 0.95*float64(rate):
			t.Logf("the bar is not shown: this machine asks for %.0f a second of %d", each, rate)
		case late > time.Millisecond:
			t.Errorf("p99 of known names is %s more than without the flood, want 1ms at most", late.Round(tenth))
		}
	}
	after, high := c.memory(0)
	t.Logf("memory %.0f MiB before, %.0f after, %.0f at most", before, after, high)
	if high > before+150 {
		t.Errorf("memory grew from %.0f to %.0f MiB", before, high)
	}
	time.Sleep(2 * time.Second)
	c.ca.Seen(func(s *smallca.Counts) {
		if len(s.Orders) > 0 {
			t.Errorf("orders for %d names", len(s.Orders))
		}
	})
	if n := c.left(t.Context(), "ondemand"); n != 0 {
		t.Errorf("%d names let in", n)
	}
}

func (c *crowd) ordersSince(at time.Time) (times []time.Time) {
	c.ca.Seen(func(s *smallca.Counts) {
		for _, r := range s.Requests {
			if r.Step == "newOrder" && r.At.After(at) {
				times = append(times, r.At)
			}
		}
	})
	return times
}

// beforeOutage gives a crowd that serves all its names, how long what it needs
// shall be away, and the requests a second meanwhile.
func beforeOutage(t *testing.T) (c *crowd, names int, lasts time.Duration, rate int) {
	t.Helper()
	names, lasts, rate = 60, 8*time.Second, 10
	if *outage > 0 {
		names, lasts, rate = 1000, *outage, 50
	}
	c = gather(t, crowdOptions{replicas: *replicas, names: names})
	must(t, c.seed(t.Context()))
	must(t, c.startAll())
	c.allServed(t)
	return c, names, lasts, rate
}

// TestCAIsAway: first it is silent, then it refuses; when it is back all is
// renewed, gently.
func TestCAIsAway(t *testing.T) {
	c, names, lasts, rate := beforeOutage(t)
	l := c.loaded(t.Context(), t, rate)
	began := time.Now()
	c.caWay.turn(silent)
	must(t, c.renewNow(t.Context(), names))
	time.Sleep(lasts / 2)
	c.caWay.turn(refusing)
	time.Sleep(time.Until(began.Add(lasts)))
	c.caWay.turn(open)
	back := time.Now()
	first := reaches(t, 2*time.Minute, "the first order", func() error {
		if len(c.ordersSince(back)) == 0 {
			return fmt.Errorf("none yet")
		}
		return nil
	})
	all := reaches(t, 30*time.Minute, "all renewed", func() error {
		time.Sleep(100 * time.Millisecond)
		if n := c.issued() - names; n < names {
			return fmt.Errorf("%d of %d", n, names)
		}
		return nil
	})
	l.judge(t)
	calls, minute := c.caWay.since(began, back)
	_, later := c.caWay.since(began.Add(lasts/2), back)
	burst := mostIn(c.ordersSince(back), time.Second)
	t.Logf("%d names, the CA away %s: %d calls came meanwhile (connections and what was sent), at most %d a minute, %d in the second half; first order %s after its return, at most %d orders a second, all renewed after %s",
		names, lasts, calls, minute, later, first.Round(time.Second/10), burst, (first + all).Round(time.Second))
	// What is short is not known to be an outage: the usual 20 a second, and 5.
	most := 10
	if *outage == 0 {
		most = 25
	}
	if first > time.Minute || burst > most {
		t.Errorf("the first order came after %s, at most %d a second", first, burst)
	}
	if n := c.issued(); n != 2*names {
		t.Errorf("%d certificates, want %d", n, 2*names)
	}
}

// TestStoreIsAway: first nothing comes through to etcd, then it is dead; a
// replica that starts meanwhile serves as the others do.
func TestStoreIsAway(t *testing.T) {
	c, names, lasts, rate := beforeOutage(t)
	time.Sleep(3 * time.Second) // the copies are written
	var starting atomic.Bool
	l := &load{crowd: c, skip: func(i int) bool { return i == 0 && starting.Load() }}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx, rate) }()
	defer func() { cancel(); <-done }()
	began := time.Now()
	c.relay.turn(silent)
	time.Sleep(lasts / 2)
	c.relay.turn(refusing)
	c.etcd.Kill()
	starting.Store(true)
	time.Sleep(time.Second) // those under way end
	must(t, c.procs[0].Stop(20*time.Second))
	must(t, c.start(0))
	restarted := reaches(t, time.Minute, "a replica that starts serves", func() error { return c.served(0) })
	starting.Store(false)
	time.Sleep(time.Until(began.Add(lasts)))
	must(t, c.etcd.Start(context.WithoutCancel(t.Context())))
	c.relay.turn(open)
	back := time.Now()
	reaches(t, 20*time.Second, "etcd asked", func() error { return c.renewNow(t.Context(), 3) })
	work := reaches(t, 2*time.Minute, "at work again", func() error {
		time.Sleep(10 * time.Millisecond)
		if len(c.ordersSince(back)) == 0 {
			return fmt.Errorf("no order")
		}
		return nil
	})
	reaches(t, 2*time.Minute, "renewed", func() error {
		if n := c.issued() - names; n != 3 {
			return fmt.Errorf("%d of 3", n)
		}
		return nil
	})
	l.judge(t)
	calls, minute := c.relay.since(began, back)
	late, _ := c.relay.since(back.Add(-lasts/4), back)
	t.Logf("%d names, etcd away %s: %d calls came meanwhile, at most %d a minute, %d in the last quarter; a replica started meanwhile served after %s; first order %s after etcd's return",
		names, lasts, calls, minute, late, restarted.Round(time.Millisecond), work.Round(time.Millisecond))
	most := 5 * time.Second
	if *outage == 0 {
		most = 20 * time.Second // beside other tests
	}
	if work > most {
		t.Errorf("at work after %s, want %s", work, most)
	}
	if n := len(c.ordersSince(began)) - len(c.ordersSince(back)); n > 0 {
		t.Errorf("%d orders while etcd was away", n)
	}
}

// TestRollingRestarts: every validation fails, and replicas are restarted again
// and again; each failure counts once, and its pause is kept.
func TestRollingRestarts(t *testing.T) {
	names, rounds := 30, 2
	if *restarts > 0 {
		names, rounds = 1000, *restarts
	}
	c := gather(t, crowdOptions{replicas: *replicas, names: names, fails: true, slow: 300 * time.Millisecond})
	must(t, c.startAll())
	for i := range c.replicas {
		must(t, c.ready(t.Context(), i))
	}
	began := time.Now()
	for range rounds {
		for i := range c.replicas {
			must(t, c.procs[i].Signal(syscall.SIGTERM))
			select {
			case <-c.procs[i].Done():
			case <-time.After(30 * time.Second):
				t.Fatal("it does not end")
			}
			must(t, c.start(i))
			must(t, c.ready(t.Context(), i))
		}
	}
	took := time.Since(began)
	for _, p := range c.procs {
		must(t, p.Stop(30*time.Second))
	}
	entries, err := store.List(t.Context(), c.store, "attempts")
	must(t, err)
	failures, under := 0, c.left(t.Context(), "orders")
	for _, e := range entries {
		var a struct{ Failures int }
		must(t, json.Unmarshal(e.Value, &a))
		failures += a.Failures
	}
	orders := c.ordersSince(time.Time{})
	made := 0
	c.ca.Seen(func(s *smallca.Counts) {
		for _, n := range s.Orders {
			made += n
		}
	})
	t.Logf("%d rolling restarts of %d replicas in %s, %d names that fail: %d newOrder made %d orders for %d failures told by %d names and %d orders under way; at most %d orders a second",
		rounds, c.replicas, took.Round(time.Second), names, len(orders), made, failures, len(entries), under, mostIn(orders, time.Second))
	// The end of a process waits for the answer of newOrder; only a lease that is
	// lost, where processors are short, breaks one off.
	if lost := c.told("lease lost during an order"); len(orders) < made || len(orders) > made+lost {
		t.Errorf("newOrder was sent %d times for %d orders, %d leases were lost meanwhile", len(orders), made, lost)
	}
	// A replica that ends right after the record has it recorded twice.
	if made > failures+under || made < failures-rounds*c.replicas {
		t.Errorf("%d orders were made, want one for each of %d failures and of at most %d under way", made, failures, under)
	}
}
