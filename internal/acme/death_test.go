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

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/e2e/rig"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
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

// lifeStore, lifeLease, lifeCA and lifeDNS are the real ones under a life.
type lifeStore struct {
	store.Store
	life *life
}

func (s lifeStore) Acquire(ctx context.Context, name string) (lease store.Lease, err error) {
	err = s.life.do("acquire "+name, func() error {
		lease, err = s.Store.Acquire(ctx, name)
		lease = lifeLease{lease, s.life}
		return err
	})
	return lease, err
}

type lifeLease struct {
	store.Lease
	life *life
}

func (s lifeLease) Put(ctx context.Context, key string, value []byte, have store.Revision) (rev store.Revision, err error) {
	err = s.life.do("put "+kindOf(key), func() error {
		rev, err = s.Lease.Put(ctx, key, value, have)
		return err
	})
	return rev, err
}

func (s lifeLease) Get(ctx context.Context, key string) (store.Entry, error) {
	s.life.mu.Lock()
	defer s.life.mu.Unlock()
	if s.life.dead {
		return store.Entry{}, errDead
	}
	return s.Lease.Get(ctx, key)
}

func (s lifeLease) Delete(ctx context.Context, key string, have store.Revision) error {
	return s.life.do("delete "+kindOf(key), func() error { return s.Lease.Delete(ctx, key, have) })
}

func kindOf(key string) string { return key[:strings.IndexByte(key, '/')] }

type lifeCA struct {
	certificationAuthority
	life *life
}

func (c lifeCA) Register(ctx context.Context, a acmez.Account, eab *EAB) (out acmez.Account, err error) {
	err = c.life.do("CA newAccount", func() error {
		out, err = c.certificationAuthority.Register(ctx, a, eab)
		return err
	})
	return out, err
}

func (c lifeCA) NewOrder(ctx context.Context, a acmez.Account, o acmez.Order) (out acmez.Order, err error) {
	err = c.life.do("CA newOrder", func() error {
		out, err = c.certificationAuthority.NewOrder(ctx, a, o)
		return err
	})
	return out, err
}

func (c lifeCA) Order(ctx context.Context, a acmez.Account, url string) (out acmez.Order, wait time.Duration, err error) {
	err = c.life.do("CA order", func() error {
		out, wait, err = c.certificationAuthority.Order(ctx, a, url)
		return err
	})
	return out, wait, err
}

func (c lifeCA) Authorization(ctx context.Context, a acmez.Account, url string) (out acmez.Authorization, wait time.Duration, err error) {
	err = c.life.do("CA authorization", func() error {
		out, wait, err = c.certificationAuthority.Authorization(ctx, a, url)
		return err
	})
	return out, wait, err
}

func (c lifeCA) Tell(ctx context.Context, a acmez.Account, url string) error {
	return c.life.do("CA challenge", func() error { return c.certificationAuthority.Tell(ctx, a, url) })
}

func (c lifeCA) Finalize(ctx context.Context, a acmez.Account, url string, csr []byte) error {
	return c.life.do("CA finalize", func() error { return c.certificationAuthority.Finalize(ctx, a, url, csr) })
}

func (c lifeCA) Chains(ctx context.Context, a acmez.Account, url string) (out [][]byte, err error) {
	err = c.life.do("CA certificate", func() error {
		out, err = c.certificationAuthority.Chains(ctx, a, url)
		return err
	})
	return out, err
}

type lifeDNS struct {
	DNSSolver
	life *life
}

func (d lifeDNS) Plan(ctx context.Context, domain, value string) (rec dns.Record, err error) {
	err = d.life.do("DNS plan", func() error {
		rec, err = d.DNSSolver.Plan(ctx, domain, value)
		return err
	})
	return rec, err
}

func (d lifeDNS) Present(ctx context.Context, rec dns.Record) error {
	return d.life.do("DNS present", func() error { return d.DNSSolver.Present(ctx, rec) })
}

func (d lifeDNS) Wait(ctx context.Context, recs []dns.Record) error {
	return d.life.do("DNS wait", func() error { return d.DNSSolver.Wait(ctx, recs) })
}

func (d lifeDNS) CleanUp(ctx context.Context, rec dns.Record) error {
	return d.life.do("DNS clean up", func() error { return d.DNSSolver.CleanUp(ctx, rec) })
}

// live runs one process through Obtain and Done.
func (w *world) live(l *life, replica *store.Replica, kind, id string, names ...string) (cert.Bundle, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	l.end = cancel
	i := w.issuer(kind, lifeStore{replica, l}, func(o *Options) { o.DNS = lifeDNS{w.dns, l} })
	defer i.Close()
	i.ca = lifeCA{i.ca, l}
	i.accounts.ca = i.ca
	lease, err := replica.Acquire(ctx, "orders/pebble/"+id)
	if err != nil {
		return cert.Bundle{}, err
	}
	req := cert.Request{ID: id, Names: names, Lease: lifeLease{lease, l}}
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

	mostOrders := 1
	if at == (point{"CA newOrder", 1}) && after || at == (point{"put orders", 2}) && !after {
		mostOrders = 2 // its URL was nowhere yet; Boulder would give the same again
	}
	if got := w.proxy.Orders(names...); got > mostOrders {
		t.Errorf("%s: %d orders, want at most %d", name, got, mostOrders)
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
