package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/internal/cert"
	"gatehouse/internal/killpoint"
	"gatehouse/internal/store"
)

var errDead = errors.New("this process is dead")

// point is one thing a process does: op for the kth time.
type point struct {
	op  string
	kth int
}

func (p point) String() string { return fmt.Sprintf("%s (%d)", p.op, p.kth) }

// life sees everything a process does to the world outside it: each write of
// the store, each call of the CA and of the DNS. meet is told before and after
// each; if it says so the process dies there: nothing it does from then on has
// any effect.
type life struct {
	meet    func(at point, after bool) (die bool)
	meeting sync.Mutex

	mu   sync.Mutex
	ops  []point
	dead bool
	end  context.CancelFunc
}

func (l *life) do(op string, act func() error) error {
	l.mu.Lock()
	if l.dead {
		l.mu.Unlock()
		return errDead
	}
	if strings.HasPrefix(op, "get ") { // to die at a read is to die after what was before
		l.mu.Unlock()
		return act()
	}
	at := point{op, 1}
	for _, before := range l.ops {
		if before.op == op {
			at.kth++
		}
	}
	l.ops = append(l.ops, at)
	l.mu.Unlock()
	if l.meets(at, false) {
		return l.die()
	}
	err := act()
	if l.meets(at, true) {
		return l.die()
	}
	return err
}

// meets asks meet, one at a time: DNS records are written side by side.
func (l *life) meets(at point, after bool) bool {
	l.meeting.Lock()
	defer l.meeting.Unlock()
	return l.meet != nil && l.meet(at, after)
}

func (l *life) die() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	l.end()
	return errDead
}

// live runs one process through Obtain and Done.
func (w *world) live(l *life, replica *store.Replica, kind, id string, names ...string) (cert.Bundle, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l.end = cancel
	i := w.issuer(kind, killpoint.Store(replica, l.do), func(o *Options) { o.DNS = pointDNS{w.dns, l.do} })
	defer i.Close()
	i.ca = pointCA{i.ca, l.do}
	i.accounts.ca = i.ca
	lease, err := replica.Acquire(ctx, "orders/pebble/"+id)
	if err != nil {
		return cert.Bundle{}, err
	}
	req := cert.Request{ID: id, Names: names, Lease: killpoint.Lease(lease, l.do)}
	b, err := i.Obtain(ctx, req)
	if err != nil {
		return b, err
	}
	if err := i.Done(ctx, req); err != nil {
		return b, err
	}
	return b, lease.Release(ctx)
}

// TestEveryStepSurvivesDeath kills the process before and after each thing it
// does to the outside, and lets another go on: one certificate, one order.
func TestEveryStepSurvivesDeath(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{http01, tlsALPN01, dns01} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, rig.PebbleOptions{})
			whole := &life{}
			names := []string{"whole." + kind + ".example.com", "two.whole." + kind + ".example.com"}
			w.mem = store.NewMem(0)
			w.responderStore.set(w.mem.Replica("responder"))
			if _, err := w.live(whole, w.mem.Replica("one"), kind, "whole", names...); err != nil {
				t.Fatal(err)
			}
			t.Logf("steps: %v", whole.ops)
			for n, at := range whole.sure() {
				w.dieAt(t, at, kind, fmt.Sprintf("before%d", n), false)
				w.dieAt(t, at, kind, fmt.Sprintf("after%d", n), true)
			}
		})
	}
}

// sure are the points every life comes to: how often it looks whether the CA
// is ready depends on the CA.
func (l *life) sure() []point {
	return slices.DeleteFunc(slices.Clone(l.ops), func(p point) bool {
		return (p.op == "CA authorization" || p.op == "CA order") && p.kth > 2
	})
}

func (w *world) dieAt(t *testing.T, at point, kind, label string, after bool) {
	t.Helper()
	name := fmt.Sprintf("dead at %s (after: %v)", at, after)
	first := label + "." + kind + ".example.com"
	names := []string{first, "two." + first}
	w.mem = store.NewMem(0)
	w.responderStore.set(w.mem.Replica("responder"))
	accounts := w.proxy.AccountKeys()

	died := false
	one, two := w.mem.Replica("one"), w.mem.Replica("two")
	b, err := w.live(&life{meet: func(here point, now bool) bool {
		died = died || here == at && now == after
		return died
	}}, one, kind, "x", names...)
	if !died {
		t.Errorf("%s: was not reached", name)
	}
	if err == nil {
		t.Errorf("%s: the dead came to an end", name)
	}
	one.Kill()
	one.Expire()
	if len(b.Chain) == 0 { // else it died in Done, its certificate safe
		if b, err = w.live(&life{}, two, kind, "x", names...); err != nil {
			t.Errorf("%s: the successor: %v", name, err)
			return
		}
	} else if err := w.done(two, kind, "x", names...); err != nil {
		t.Errorf("%s: the successor's Done: %v", name, err)
	}
	w.trusted(b, names...)

	// Pebble makes an order each time it is asked, but lists them.
	if got := w.proxy.Orders(names...); got > 1 {
		t.Errorf("%s: %d orders", name, got)
	}
	if got := w.proxy.Certificates(names...); got != 1 {
		t.Errorf("%s: %d certificates", name, got)
	}
	if got := w.proxy.AccountKeys() - accounts; got != 1 {
		t.Errorf("%s: accounts with %d keys", name, got)
	}
	if left := w.left(); len(left) > 0 || w.dns.records() > 0 {
		t.Errorf("%s: left %v and %d records", name, left, w.dns.records())
	}
}

// done is what package cert does when it finds the certificate in the store
// and the journal still there.
func (w *world) done(replica *store.Replica, kind, id string, names ...string) error {
	lease, err := replica.Acquire(w.t.Context(), "orders/pebble/"+id)
	if err != nil {
		return err
	}
	i := w.issuer(kind, replica)
	return i.Done(w.t.Context(), cert.Request{ID: id, Names: names, Lease: lease})
}

// TestLeaseEndsEverything takes the lease away at each step, the process alive:
// it stops at once and changes nothing more anywhere.
func TestLeaseEndsEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	whole := &life{}
	if _, err := w.live(whole, w.mem.Replica("one"), dns01, "whole", "whole.example.com"); err != nil {
		t.Fatal(err)
	}
	points := whole.sure()
	for n, at := range points {
		name := fmt.Sprintf("lost%d.example.com", n)
		w.mem = store.NewMem(0)
		replica := w.mem.Replica("one")
		var late []string
		lost := false
		l := &life{}
		l.meet = func(here point, after bool) bool {
			if lost && !after && (strings.HasPrefix(here.op, "CA") || strings.HasPrefix(here.op, "DNS")) {
				late = append(late, here.op)
			}
			if here == at && after {
				lost = true
				replica.Kill() // the lease ends; the process does not know why
			}
			return false
		}
		_, err := w.live(l, replica, dns01, "x", name)
		if n < len(points)-1 && !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("lease lost after %s: %v", at, err)
		}
		if len(late) > 0 {
			t.Errorf("lease lost after %s: went on with %v", at, late)
		}
	}
}
