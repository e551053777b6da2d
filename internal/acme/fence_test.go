package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"gatehouse/internal/store"
)

// stoppedLease is a lease whose time was over while the process was stopped: its
// context answers by the clock, but nothing has been told of it yet.
type stoppedLease struct {
	store.Lease
	over context.Context
}

func (l stoppedLease) Context() context.Context { return l.over }

// lateContext has ended, but its Done has not fired.
type lateContext struct{ context.Context }

func (lateContext) Err() error { return context.Canceled }

// counter counts what would have reached the CA.
type counter struct{ sent int }

func (c *counter) RoundTrip(*http.Request) (*http.Response, error) {
	c.sent++
	return nil, errors.New("no network here")
}

// TestNothingIsSentAfterTheLease: the last look at the lease's clock is right
// before a request that can change anything leaves.
func TestNothingIsSentAfterTheLease(t *testing.T) {
	st := store.NewMem(0).Replica("one")
	lease, err := st.Acquire(t.Context(), "orders/ca/x")
	if err != nil {
		t.Fatal(err)
	}
	for want, over := range []bool{true, false} { // the lease over: nothing is sent
		wire := &counter{}
		l := stoppedLease{Lease: lease, over: lease.Context()}
		if over {
			l.over = lateContext{lease.Context()}
		}
		ctx, stop := during(t.Context(), l)
		if ctx.Err() != nil {
			t.Fatal("the context was told already: the test tests nothing")
		}
		ctx, r := newRecord(ctx, time.Minute)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://ca.example/new-order", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := (&transport{base: wire}).RoundTrip(req); err == nil {
			_ = resp.Body.Close()
		}
		if wire.sent != want {
			t.Errorf("lease over %v: %d requests were sent, want %d", over, wire.sent, want)
		}
		if over && (solver{}).cleanUp(ctx, challenge{Type: http01}) == nil {
			t.Error("it cleaned up after the end of its lease")
		}
		r.cancel()
		stop()
	}
}

// TestStoppedOwnersChangeNothing is the pause of reliability F3, many times: an
// owner stops for longer than the lease lasts, another takes over and writes,
// the first wakes up and goes on with every kind of write it has.
func TestStoppedOwnersChangeNothing(t *testing.T) {
	trials := 10_000
	if testing.Short() {
		trials = 1000
	}
	mem := store.NewMem(0)
	for n := range trials {
		ctx, cancel := context.WithCancel(t.Context())
		one, two := mem.Replica("one"), mem.Replica("two")
		key := fmt.Sprintf("orders/ca/%d", n%16)
		first, err := one.Acquire(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		var rev store.Revision
		if e, err := first.Get(ctx, key); err == nil {
			rev = e.Revision
		}
		if rev, err = first.Put(ctx, key, fmt.Appendf(nil, "one %d", n), rev); err != nil {
			t.Fatal(err)
		}
		one.Expire() // stopped for too long: the server forgot it, it does not know
		second, err := two.Acquire(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if second.Epoch() <= first.Epoch() {
			t.Fatalf("epoch %d after %d", second.Epoch(), first.Epoch())
		}
		have := rev
		if n%2 == 0 { // even if the successor has written nothing yet
			if have, err = second.Put(ctx, key, fmt.Appendf(nil, "two %d", n), rev); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := first.Put(ctx, key, []byte("stale"), have); !errors.Is(err, store.ErrLeaseLost) {
			t.Fatalf("trial %d: stale write: %v", n, err)
		}
		if err := first.Delete(ctx, key, have); !errors.Is(err, store.ErrLeaseLost) {
			t.Fatalf("trial %d: stale delete: %v", n, err)
		}
		if e, err := second.Get(ctx, key); err != nil || e.Revision != have {
			t.Fatalf("trial %d: changed: %s %v", n, e.Value, err)
		}
		cancel()
	}
}
