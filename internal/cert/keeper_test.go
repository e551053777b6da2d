package cert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/store"
)

func TestMain(m *testing.M) {
	if raceDetector {
		// Timers that are due at once are run by several processors at a time,
		// with one race context for all of a bubble: golang/go#78156.
		runtime.GOMAXPROCS(1)
	}
	goleak.VerifyTestMain(m)
}

// replica is one process of ours: its store, its keeper, its index.
type replica struct {
	t      *testing.T
	name   string
	store  *store.Replica
	client *client
	index  *Index
	keeper *Keeper
	stop   func() // and wait
	log    *syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start runs a replica; adjust may change its client and options before.
func start(t *testing.T, mem *store.Mem, ca *smallCA, name string, wants []Want, adjust ...func(*client, *Options)) *replica {
	t.Helper()
	r := &replica{t: t, name: name, store: mem.Replica(name), log: &syncBuffer{},
		client: &client{smallCA: ca, replica: name, id: "ca"}, index: must(NewIndex(IndexOptions{Strict: true}))}
	o := Options{Store: r.store, Index: r.index, Replica: name,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(r.log), nil))}
	for _, f := range adjust {
		f(r.client, &o)
	}
	o.Issuers = append(o.Issuers, r.client)
	r.keeper = New(o)
	r.keeper.Want(wants)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.keeper.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	return r
}

func startAll(t *testing.T, mem *store.Mem, ca *smallCA, n int, wants []Want) []*replica {
	t.Helper()
	var all []*replica
	for i := range n {
		all = append(all, start(t, mem, ca, fmt.Sprintf("r%d", i+1), wants))
	}
	return all
}

func wantNames(names ...string) []Want {
	var wants []Want
	for _, n := range names {
		wants = append(wants, Want{Names: []string{n}, Issuer: "ca", Source: "test"})
	}
	return wants
}

func (r *replica) served(name string) *x509.Certificate {
	c, err := r.index.GetCertificate(&tls.ClientHelloInfo{ServerName: name})
	if err != nil {
		r.t.Fatalf("%s: handshake for %s: %v", r.name, name, err)
	}
	if c == nil {
		return nil
	}
	return must(x509.ParseCertificate(c.Certificate[0]))
}

func (r *replica) mustServe(name string) *x509.Certificate {
	r.t.Helper()
	leaf := r.served(name)
	switch now := time.Now(); {
	case leaf == nil:
		r.t.Fatalf("%s: nothing is served for %s; status %+v\n%s", r.name, name, r.keeper.Status(), r.log)
	case now.After(leaf.NotAfter):
		r.t.Fatalf("%s: what is served for %s ended %s, it is %s", r.name, name, leaf.NotAfter, now)
	}
	return leaf
}

func (r *replica) status(id string) Status {
	r.t.Helper()
	for _, s := range r.keeper.Status() {
		if s.ID == id {
			return s
		}
	}
	r.t.Fatalf("%s: no status of %s", r.name, id)
	return Status{}
}

func (r *replica) has(key string) bool {
	r.t.Helper()
	_, err := r.store.Get(r.t.Context(), key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		r.t.Fatal(err)
	}
	return err == nil
}

const day = 24 * time.Hour

func TestThreeReplicasPlaceOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("n%d.example.com", i))
		}
		all := startAll(t, store.NewMem(0), ca, 3, wantNames(names...))
		// 30 orders of 2 s, 3 x 8 at once: done within two rounds, and seen
		// everywhere within the second after.
		time.Sleep(5 * time.Second)
		for _, r := range all {
			for _, n := range names {
				r.mustServe(n)
			}
		}
		time.Sleep(day)
		if orders, issued, calls := ca.counts(); orders != 30 || issued != 30 || calls != 30 {
			t.Errorf("%d orders, %d certificates, %d calls for 30 names", orders, issued, calls)
		}
		for _, s := range all[0].keeper.Status() {
			if s.State != StateValid || s.Error != "" || s.Holder != "" || s.Sources[0] != "test" {
				t.Errorf("status %+v", s)
			}
		}
	})
}

func TestNewWantWhileRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		all := startAll(t, store.NewMem(0), ca, 2, nil)
		time.Sleep(time.Minute)
		for _, r := range all {
			r.keeper.Want(wantNames("a.example.com"))
		}
		time.Sleep(2*time.Second + 100*time.Millisecond)
		for _, r := range all {
			r.mustServe("a.example.com")
		}
		if len(ca.allCalls()) != 1 {
			t.Errorf("calls: %v", ca.allCalls())
		}
	})
}

func TestHolderIsKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ttl = 5 * time.Second
		ca := newSmallCA(t, 90*day)
		ca.step = 10 * time.Second
		all := startAll(t, store.NewMem(ttl), ca, 3, wantNames("a.example.com"))
		id := ID([]string{"a.example.com"})
		time.Sleep(15 * time.Second) // the order is placed, not finished
		s := all[0].status(id)
		if s.State != StateOrdering || s.Holder == "" {
			t.Fatalf("in the middle of the order: %+v", s)
		}
		var left []*replica
		killed := time.Now()
		for _, r := range all {
			if r.name == s.Holder {
				if s := r.status(id); s.Step != "finalize" {
					t.Errorf("the holder's step is %q", s.Step)
				}
				r.store.Kill()
				r.stop()
			} else {
				left = append(left, r)
			}
		}
		time.Sleep(ttl + 11*time.Second)
		for _, r := range left {
			r.mustServe("a.example.com")
		}
		calls := ca.allCalls()
		if orders, issued, _ := ca.counts(); orders != 1 || issued != 1 || len(calls) != 2 {
			t.Fatalf("%d orders, %d certificates, calls %v", orders, issued, calls)
		}
		if took := calls[1].at.Sub(killed); took > ttl+time.Second {
			t.Errorf("the successor began %s after the kill", took)
		}
		if left[0].has("attempts/ca/" + id) {
			t.Error("the kill was counted as a failure")
		}
	})
}

func TestHolderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.step = 10 * time.Second
		all := startAll(t, store.NewMem(0), ca, 2, wantNames("a.example.com"))
		time.Sleep(5 * time.Second)
		first := ca.allCalls()[0].replica
		stopped := time.Now()
		for _, r := range all {
			if r.name == first {
				r.stop()
			}
		}
		time.Sleep(300 * time.Millisecond)
		calls := ca.allCalls()
		if len(calls) != 2 || calls[1].at.Sub(stopped) > 300*time.Millisecond {
			t.Errorf("stopped at %s, calls %v", stopped, calls)
		}
	})
}

func TestCADownForDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.say(errors.New("directory answered 503 Service Unavailable"))
		began := time.Now()
		all := startAll(t, store.NewMem(0), ca, 3, wantNames("a.example.com"))
		id := ID([]string{"a.example.com"})
		time.Sleep(72 * time.Hour)
		s := all[1].status(id)
		if s.State != StateFailed || !strings.Contains(s.Error, "503 Service Unavailable") || s.NextAttempt.Before(time.Now()) {
			t.Errorf("status %+v", s)
		}
		calls := ca.allCalls()
		if len(calls) < 15 || len(calls) > 25 {
			t.Errorf("%d attempts in 72 h", len(calls))
		}
		if gap := calls[1].at.Sub(calls[0].at); gap > time.Minute {
			t.Errorf("first retry after %s", gap)
		}
		for i := 2; i < len(calls); i++ {
			if gap := calls[i].at.Sub(calls[i-1].at); gap < 10*time.Second || gap > 6*time.Hour+5*time.Second {
				t.Errorf("attempt %d came %s after the one before", i+1, gap)
			}
		}
		if s.Failures != len(calls) {
			t.Errorf("%d failures stored of %d", s.Failures, len(calls))
		}
		ca.say(nil)
		time.Sleep(time.Until(s.NextAttempt) + 5*time.Second)
		for _, r := range all {
			r.mustServe("a.example.com")
			if s := r.status(id); s.State != StateValid || s.Error != "" || s.Failures != 0 {
				t.Errorf("afterwards: %+v", s)
			}
		}
		t.Logf("%d attempts in 72 h, certificate %s after the start", len(calls), time.Since(began))
	})
}

func TestCADownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.say(errors.New("connection refused"))
		all := startAll(t, store.NewMem(0), ca, 3, wantNames("a.example.com"))
		time.Sleep(2 * time.Minute)
		ca.say(nil)
		time.Sleep(2*time.Minute + 5*time.Second)
		all[2].mustServe("a.example.com")
	})
}

func TestRestartsSpendNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.say(&RetryError{Err: errors.New("429 too many orders"), After: time.Now().Add(20 * time.Hour)})
		mem := store.NewMem(0)
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("n%d.example.com", i))
		}
		r := start(t, mem, ca, "r0", wantNames(names...))
		time.Sleep(30 * time.Second)
		r.stop()
		_, _, before := ca.counts()
		if before != 20 {
			t.Fatalf("%d calls for 20 names", before)
		}
		for i := range 100 {
			r := start(t, mem, ca, fmt.Sprintf("r%d", i+1), wantNames(names...))
			time.Sleep(10 * time.Minute)
			r.stop()
		}
		if _, _, after := ca.counts(); after != before {
			t.Errorf("100 restarts cost %d calls", after-before)
		}
		ca.say(nil)
		r = start(t, mem, ca, "last", wantNames(names...))
		time.Sleep(4 * time.Hour)
		for _, n := range names {
			r.mustServe(n)
		}
	})
}

func TestLostLeaseIsNoFailure(t *testing.T) {
	for name, lose := range map[string]func(*store.Replica){
		"revoked":   func(r *store.Replica) { r.Expire() },
		"partition": func(r *store.Replica) { r.Partition(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newSmallCA(t, 90*day)
				ca.step = 20 * time.Second
				all := startAll(t, store.NewMem(0), ca, 2, wantNames("a.example.com"))
				id := ID([]string{"a.example.com"})
				time.Sleep(25 * time.Second)
				holder, other := all[0], all[1]
				if holder.status(id).Holder != holder.name {
					holder, other = other, holder
				}
				lose(holder.store)
				time.Sleep(30 * time.Second)
				other.mustServe("a.example.com")
				if orders, issued, _ := ca.counts(); orders != 1 || issued != 1 {
					t.Errorf("%d orders, %d certificates", orders, issued)
				}
				if other.has("attempts/ca/" + id) {
					t.Error("the lost lease was counted as a failure")
				}
				holder.store.Partition(false)
				time.Sleep(5 * time.Second)
				holder.mustServe("a.example.com")
				if !strings.Contains(holder.log.String(), "lease lost during an order") {
					t.Errorf("the holder does not tell:\n%s", holder.log)
				}
			})
		})
	}
}

func TestStoreDownForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		all := startAll(t, mem, ca, 3, wantNames("a.example.com", "b.example.com"))
		time.Sleep(time.Minute)
		for _, r := range all {
			r.store.Partition(true)
			r.keeper.Want(wantNames("a.example.com", "b.example.com", "new.example.com"))
		}
		late := start(t, mem, ca, "late", wantNames("a.example.com"))
		late.store.Partition(true)
		for range 24 * 12 {
			time.Sleep(5 * time.Minute)
			for _, r := range all {
				r.mustServe("a.example.com")
				r.mustServe("b.example.com")
			}
		}
		if _, _, calls := ca.counts(); calls != 2 {
			t.Errorf("%d calls, 2 of them before the store went", calls)
		}
		for _, r := range append(all, late) {
			r.store.Partition(false)
		}
		time.Sleep(5 * time.Second)
		for _, r := range all {
			r.mustServe("new.example.com")
		}
		late.mustServe("a.example.com")
		if _, _, calls := ca.counts(); calls != 3 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestIssuerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		r := start(t, store.NewMem(0), ca, "r1", wantNames("bad.example.com", "good.example.com"), func(c *client, _ *Options) {
			c.onObtain = func(_ context.Context, req Request) error {
				if req.Names[0] == "bad.example.com" {
					panic("index out of range")
				}
				return nil
			}
		})
		time.Sleep(10 * time.Second)
		r.mustServe("good.example.com")
		s := r.status(ID([]string{"bad.example.com"}))
		if s.State != StateFailed || s.Failures != 1 || !strings.Contains(s.Error, "index out of range") {
			t.Errorf("status %+v", s)
		}
		if s.Holder != "" {
			t.Errorf("%s keeps the lease", s.Holder)
		}
		if !strings.Contains(r.log.String(), "onObtain") && !strings.Contains(r.log.String(), "TestIssuerPanics") {
			t.Errorf("no stack in the log:\n%s", r.log)
		}
	})
}

func TestIssuerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		r := start(t, store.NewMem(0), ca, "r1", wantNames("a.example.com"), func(c *client, _ *Options) {
			c.onObtain = func(ctx context.Context, _ Request) error { <-ctx.Done(); return ctx.Err() }
		})
		time.Sleep(turnLimit + time.Second)
		s := r.status(ID([]string{"a.example.com"}))
		if s.Failures != 1 || !strings.Contains(s.Error, "longer than 30m0s") || s.Holder != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// A replica that is busy waiting for others' leases goes on with what is free.
func TestHeldLeasesTakeNoSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		foreign := mem.Replica("foreign")
		var names []string
		for i := range 10 {
			names = append(names, fmt.Sprintf("n%d.example.com", i))
		}
		for _, n := range names[:6] { // taken, and nothing comes of it
			must(foreign.Acquire(t.Context(), "orders/ca/"+ID([]string{n})))
		}
		var g gauge
		r := start(t, mem, ca, "r1", wantNames(names...), func(c *client, o *Options) { o.MaxParallel, c.onObtain = 2, g.hook })
		time.Sleep(16 * time.Second)
		for _, n := range names[6:] {
			r.mustServe(n)
		}
		if s := r.status(ID(names[:1])); s.State != StateOrdering || s.Holder != "foreign" {
			t.Errorf("status of a name held elsewhere: %+v", s)
		}
		foreign.Kill() // all six are free at once
		time.Sleep(40 * time.Second)
		for _, n := range names {
			r.mustServe(n)
		}
		if g.most != 2 {
			t.Errorf("%d orders at once", g.most)
		}
	})
}

// gauge tells how many orders were at work at once.
type gauge struct {
	mu        sync.Mutex
	now, most int
}

func (g *gauge) hook(_ context.Context, _ Request) error {
	g.mu.Lock()
	g.now++
	g.most = max(g.most, g.now)
	g.mu.Unlock()
	time.Sleep(5 * time.Second)
	g.mu.Lock()
	g.now--
	g.mu.Unlock()
	return nil
}

func TestMaxParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		var names []string
		for i := range 25 {
			names = append(names, fmt.Sprintf("n%d.example.com", i))
		}
		var g gauge
		r := start(t, store.NewMem(0), ca, "a", wantNames(names...), func(c *client, o *Options) {
			o.MaxParallel, c.onObtain = 3, g.hook
		})
		time.Sleep(2 * time.Minute)
		for _, n := range names {
			r.mustServe(n)
		}
		if g.most != 3 {
			t.Errorf("%d orders at once", g.most)
		}
	})
}

func TestUnwantedWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		foreign := mem.Replica("foreign")
		lease := must(foreign.Acquire(t.Context(), "orders/ca/"+ID([]string{"a.example.com"})))
		r := start(t, mem, ca, "r1", wantNames("a.example.com"))
		time.Sleep(5 * time.Second)
		r.keeper.Want(nil)
		time.Sleep(time.Second)
		r.keeper.mu.Lock()
		waiting := len(r.keeper.turns)
		r.keeper.mu.Unlock()
		if waiting != 0 {
			t.Errorf("%d turns wait for what nobody wants", waiting)
		}
		_ = lease.Release(t.Context())
		time.Sleep(time.Minute)
		if _, _, calls := ca.counts(); calls != 0 {
			t.Errorf("%d calls", calls)
		}
	})
}

func TestShortLivesAreRenewedInTime(t *testing.T) {
	for _, life := range []time.Duration{time.Minute, 160 * time.Hour, 45 * day} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ca := newSmallCA(t, life)
				all := startAll(t, store.NewMem(0), ca, 2, wantNames("a.example.com"))
				time.Sleep(life / 20)
				for range 4 * 20 {
					time.Sleep(life / 20)
					for _, r := range all {
						r.mustServe("a.example.com")
					}
				}
				// Renewed at half or two thirds of the life: four lives are
				// seven to nine certificates.
				orders, _, calls := ca.counts()
				if orders != calls || orders < 7 || orders > 9 {
					t.Errorf("%d orders, %d calls in four lifetimes", orders, calls)
				}
				for i, c := range ca.allCalls() {
					if c.replaces != (i > 0) {
						t.Errorf("call %d: replaces %v", i, c.replaces)
					}
				}
			})
		})
	}
}

func TestIssuerSaysWhenToRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.renewAt = func(leaf *x509.Certificate) time.Time { return leaf.NotBefore.Add(20 * day) }
		r := start(t, store.NewMem(0), ca, "r1", wantNames("a.example.com"))
		time.Sleep(20*day - time.Hour)
		if _, _, calls := ca.counts(); calls != 1 {
			t.Fatalf("%d calls before the time", calls)
		}
		time.Sleep(2 * time.Hour)
		if _, _, calls := ca.counts(); calls != 2 {
			t.Fatalf("%d calls after the time", calls)
		}
		// Revoked: the window is in the past. Seen at the next time of asking.
		ca.mu.Lock()
		revoked := r.mustServe("a.example.com").SerialNumber
		ca.renewAt = func(leaf *x509.Certificate) time.Time {
			if leaf.SerialNumber.Cmp(revoked) == 0 {
				return time.Now().Add(-time.Hour)
			}
			return leaf.NotBefore.Add(20 * day)
		}
		ca.mu.Unlock()
		time.Sleep(askEvery + time.Hour)
		if got := r.mustServe("a.example.com").SerialNumber; got.Cmp(revoked) == 0 {
			t.Error("the revoked certificate is still served")
		}
	})
}

// TestIssuerThatSaidNothing is asked again before it would be for a change.
func TestIssuerThatSaidNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.renewAt = func(*x509.Certificate) time.Time { return time.Time{} } // not within reach
		r := start(t, store.NewMem(0), ca, "r1", wantNames("a.example.com"))
		time.Sleep(30 * time.Minute)
		revoked := r.mustServe("a.example.com").SerialNumber
		ca.mu.Lock()
		ca.renewAt = func(leaf *x509.Certificate) time.Time {
			if leaf.SerialNumber.Cmp(revoked) == 0 {
				return time.Now().Add(-time.Hour)
			}
			return leaf.NotBefore.Add(60 * day)
		}
		ca.mu.Unlock()
		time.Sleep(askUnknown + 30*time.Minute)
		if got := r.mustServe("a.example.com").SerialNumber; got.Cmp(revoked) == 0 {
			t.Error("the revoked certificate is still served")
		}
	})
}

func TestDamagedValueIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		r := start(t, mem, ca, "r1", wantNames("a.example.com", "b.example.com"))
		time.Sleep(10 * time.Second)
		good := r.mustServe("a.example.com")
		id := ID([]string{"a.example.com"})
		name := "certificates/ca/" + id
		e := must(r.store.Get(t.Context(), name))
		other := must(r.store.Get(t.Context(), "certificates/ca/"+ID([]string{"b.example.com"})))
		rev := e.Revision
		for what, value := range map[string][]byte{
			"truncated": e.Value[:len(e.Value)/2],
			"foreign":   other.Value,
			"empty":     nil,
			"huge":      append(bytes.Clone(e.Value), bytes.Repeat([]byte(" "), maxValue)...),
			"no JSON":   []byte("-----BEGIN CERTIFICATE-----"),
		} {
			rev = must(r.store.Put(t.Context(), name, value, rev))
			time.Sleep(time.Minute)
			if got := r.mustServe("a.example.com"); !got.Equal(good) {
				t.Errorf("%s: another certificate is served", what)
			}
			if s := r.status(id); s.Problem == "" || s.State != StateValid {
				t.Errorf("%s: status %+v", what, s)
			}
		}
		if _, _, calls := ca.counts(); calls != 2 {
			t.Errorf("%d calls while the last good one was there", calls)
		}
		// A replica that has never seen the good one orders it anew and heals the value.
		start(t, mem, ca, "r2", wantNames("a.example.com"))
		time.Sleep(10 * time.Second)
		if s := r.status(id); s.Problem != "" || r.mustServe("a.example.com").Equal(good) {
			t.Errorf("not healed: %+v", s)
		}
	})
}

// TestValueOfALaterVersion: while replicas are brought up to date one by one,
// those that are not yet order nothing in place of what they cannot read.
func TestValueOfALaterVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		later := mem.Replica("later")
		ready := start(t, mem, ca, "r1", wantNames("a.example.com"))
		time.Sleep(10 * time.Second)
		name := "certificates/ca/" + ID([]string{"a.example.com"})
		e := must(later.Get(t.Context(), name))
		value := []byte(`{"version":2,"chain":{"a":1}}`)
		must(later.Put(t.Context(), name, value, e.Revision))
		old := start(t, mem, ca, "r2", wantNames("a.example.com"))
		time.Sleep(day)
		ready.mustServe("a.example.com")
		if _, _, calls := ca.counts(); calls != 1 {
			t.Errorf("%d calls of the CA, want the first one only", calls)
		}
		if e = must(later.Get(t.Context(), name)); !bytes.Equal(e.Value, value) {
			t.Errorf("it was written over by %.60s", e.Value)
		}
		if s := old.status(ID([]string{"a.example.com"})); !strings.Contains(s.Problem, "a later version wrote it") {
			t.Errorf("status %+v", s)
		}
	})
}

func TestDeletedValueIsServedUntilOrderedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		r := start(t, store.NewMem(0), ca, "r1", wantNames("a.example.com"))
		time.Sleep(10 * time.Second)
		first := r.mustServe("a.example.com")
		ca.say(errors.New("down"))
		name := "certificates/ca/" + ID([]string{"a.example.com"})
		e := must(r.store.Get(t.Context(), name))
		if err := r.store.Delete(t.Context(), name, e.Revision); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if !r.mustServe("a.example.com").Equal(first) {
			t.Error("another is served")
		}
		ca.say(nil)
		time.Sleep(10 * time.Minute)
		if r.mustServe("a.example.com").Equal(first) {
			t.Error("it was not ordered anew")
		}
	})
}

// The holder dies after the certificate is stored and before Done.
func TestJournalLeftBehindGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		broken := func(c *client, _ *Options) { c.onDone = func() error { return errors.New("killed here") } }
		a := start(t, mem, ca, "a", wantNames("a.example.com"), broken)
		time.Sleep(5 * time.Second)
		a.mustServe("a.example.com")
		a.store.Kill()
		a.stop()
		b := start(t, mem, ca, "b", wantNames("a.example.com"))
		time.Sleep(time.Minute)
		b.mustServe("a.example.com")
		if id := ID([]string{"a.example.com"}); b.has("orders/ca/" + id) {
			t.Error("the journal is still there")
		}
		if orders, _, calls := ca.counts(); orders != 1 || calls != 1 {
			t.Errorf("%d orders, %d calls", orders, calls)
		}
	})
}

// A renewal that finds the journal of the certificate in service must not take
// its result for a new one.
func TestRenewalWithAnOldJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 30*day)
		var mended atomic.Bool
		r := start(t, store.NewMem(0), ca, "a", wantNames("a.example.com"), func(c *client, _ *Options) {
			c.onDone = func() error {
				if !mended.Load() {
					return errors.New("store: timeout")
				}
				return nil
			}
		})
		time.Sleep(19*day + 23*time.Hour)
		first := r.mustServe("a.example.com")
		mended.Store(true)
		r.keeper.mu.Lock()
		r.keeper.pauses[key{"ca", ID([]string{"a.example.com"})}] = time.Now().Add(3 * time.Hour) // keep finish away
		r.keeper.mu.Unlock()
		time.Sleep(4 * time.Hour)
		if r.mustServe("a.example.com").Equal(first) {
			t.Errorf("not renewed: %+v", r.keeper.Status())
		}
		if orders, _, _ := ca.counts(); orders != 2 {
			t.Errorf("%d orders", orders)
		}
	})
}

func TestBadBundlesAreNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		now := time.Now()
		good := ca.bundle([]string{"a.example.com"}, now, now.Add(day))
		for what, b := range map[string]Bundle{
			"carries":      ca.bundle([]string{"other.example.com"}, now, now.Add(day)),
			"ended":        ca.bundle([]string{"a.example.com"}, now.Add(-2*day), now.Add(-day)),
			"private key":  {Chain: good.Chain, Key: ca.bundle([]string{"a.example.com"}, now, now.Add(day)).Key},
			"holds no":     {Key: good.Key},
			"only CERTIFI": {Chain: append(bytes.Clone(good.Chain), good.Key...), Key: good.Key},
		} {
			iss := &constIssuer{b}
			index := must(NewIndex(IndexOptions{Strict: true}))
			mem := store.NewMem(0).Replica("r")
			k := New(Options{Store: mem, Index: index, Replica: "r", Logger: slog.New(slog.DiscardHandler), Issuers: []Issuer{iss}})
			k.Want([]Want{{Names: []string{"a.example.com"}, Issuer: "const"}})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = k.Run(ctx) }()
			time.Sleep(time.Second)
			if s := k.Status()[0]; s.State != StateFailed || !strings.Contains(s.Error, what) {
				t.Errorf("%s: status %+v", what, s)
			}
			if c, _ := index.GetCertificate(&tls.ClientHelloInfo{ServerName: "a.example.com"}); c != nil {
				t.Errorf("%s: served", what)
			}
			cancel()
			<-done
		}
	})
}

type constIssuer struct{ b Bundle }

func (i *constIssuer) ID() string                                      { return "const" }
func (i *constIssuer) Obtain(context.Context, Request) (Bundle, error) { return i.b, nil }
func (i *constIssuer) Done(context.Context, Request) error             { return nil }
func (i *constIssuer) RenewAt(context.Context, []byte) time.Time       { return time.Time{} }

func TestRejectedWantsAreShown(t *testing.T) {
	k := New(Options{Issuers: []Issuer{&constIssuer{}}})
	k.Want([]Want{
		{Names: []string{"a.example.com"}, Issuer: "nobody", Source: "router x@file"},
		{Names: []string{"a b"}, Issuer: "const", Source: "router y@file"},
		{Names: []string{"B.example.com", "a.example.com."}, Issuer: "const", Source: "one"},
		{Names: []string{"a.example.com", "b.example.com"}, Issuer: "const", Source: "two"},
	})
	got := map[string]Status{}
	for _, s := range k.Status() {
		got[strings.Join(s.Sources, " ")] = s
	}
	if len(got) != 3 {
		t.Errorf("status: %v", maps.Keys(got))
	}
	if s := got["router x@file"]; s.State != StateFailed || !strings.Contains(s.Error, `no issuer "nobody" is configured (known: const)`) {
		t.Errorf("unknown issuer: %+v", s)
	}
	if s := got["router y@file"]; s.State != StateFailed || !strings.Contains(s.Error, `"a b" is not a host name`) {
		t.Errorf("bad name: %+v", s)
	}
	if s := got["one two"]; s.State != StateWanted || len(s.Names) != 2 {
		t.Errorf("merged: %+v", s)
	}
}

func TestImportSavesTheOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		tool := mem.Replica("storeconfig")
		names := []string{"example.com", "*.example.com"}
		now := time.Now()
		older := ca.bundle(names, now.Add(-50*day), now.Add(10*day))
		newer := ca.bundle(names, now.Add(-30*day), now.Add(60*day))
		for i, want := range []bool{true, false, true, false, false} {
			b := []Bundle{older, older, newer, newer, older}[i]
			if changed := must(Import(t.Context(), tool, "ca", b)); changed != want {
				t.Errorf("import %d: changed %v", i, changed)
			}
		}
		r := start(t, mem, ca, "r1", []Want{
			{Names: []string{"*.example.com", "example.com"}, Issuer: "ca", Source: "acme.domains"},
			{Names: []string{"www.example.com"}, Issuer: "ca", Source: "router w", FromRule: true},
		})
		time.Sleep(day)
		r.mustServe("www.example.com")
		if _, _, calls := ca.counts(); calls != 0 {
			t.Errorf("%d calls", calls)
		}
		if s := r.status(ID([]string{"www.example.com"})); s.State != StateCovered || s.CoveredBy != ID(names) {
			t.Errorf("status of a covered name: %+v", s)
		}
		time.Sleep(35 * day)
		if _, _, calls := ca.counts(); calls != 1 {
			t.Errorf("%d calls once it was due", calls)
		}
	})
}

// Who imported a certificate without its intermediates can mend that.
func TestImportOfMoreOfTheChain(t *testing.T) {
	ca := newSmallCA(t, 90*day)
	b := ca.bundle([]string{"a.example.com"}, time.Now(), time.Now().Add(day))
	leaf, rest := pem.Decode(b.Chain)
	if other, _ := pem.Decode(rest); other == nil {
		b.Chain = append(b.Chain, b.Chain...)
	}
	short := Bundle{Chain: pem.EncodeToMemory(leaf), Key: b.Key}
	tool := store.NewMem(0).Replica("tool")
	for i, want := range []bool{true, false, true, false, false} {
		if changed := must(Import(t.Context(), tool, "ca", []Bundle{short, short, b, b, short}[i])); changed != want {
			t.Errorf("import %d: changed %v", i, changed)
		}
	}
}

// What an import stores while an order runs is not overwritten by an older one.
func TestImportDuringAnOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 30*day)
		mem := store.NewMem(0)
		r := start(t, mem, ca, "r1", wantNames("a.example.com"))
		time.Sleep(1500 * time.Millisecond)
		now := time.Now()
		must(Import(t.Context(), mem.Replica("tool"), "ca", ca.bundle([]string{"a.example.com"}, now, now.Add(80*day))))
		time.Sleep(time.Minute)
		if end := r.mustServe("a.example.com").NotAfter; end.Sub(now) < 79*day {
			t.Errorf("what is served ends %s", end)
		}
	})
}
