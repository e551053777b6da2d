package acme

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"gatehouse/e2e/rig"
	"gatehouse/internal/acme/dns"
)

// TestAnotherChallengeIsConfigured: who gives one kind of challenge up for
// another need not wait until the order that was begun has expired.
func TestAnotherChallengeIsConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for _, op := range []string{"present", "wait"} {
		st := w.mem.Replica("one")
		name := op + ".example.com"
		req := request(t, st, op, name)
		faulty := &faultyDNS{DNSSolver: w.dns, fail: op}
		if _, err := w.issuer(dns01, st, func(o *Options) { o.DNS = faulty }).Obtain(t.Context(), req); err == nil {
			t.Fatal("it was proved by dns-01")
		}
		i := w.issuer(http01, st, func(o *Options) { o.DNS = nil })
		b, err := i.Obtain(t.Context(), req)
		if err != nil {
			t.Errorf("%s failed, then by http-01: %v", op, err)
			continue
		}
		w.trusted(b, name)
		if n := w.proxy.Orders(name); n != 1 {
			t.Errorf("%s: %d orders", op, n)
		}
	}
}

// placed is a solver whose zone is set by a person.
type placed struct {
	*faultyDNS
	zone, suffix string

	mu      sync.Mutex
	cleaned []string
}

func (p *placed) Plan(ctx context.Context, domain, value string) (dns.Record, error) {
	rec, err := p.faultyDNS.Plan(ctx, domain, value)
	rec.Zone, rec.Name = p.zone, rec.Name+p.suffix
	return rec, err
}

func (p *placed) Seen(ctx context.Context, recs []dns.Record) bool {
	return recs[0].Zone == "example.com" && p.faultyDNS.Seen(ctx, recs)
}

func (p *placed) CleanUp(ctx context.Context, rec dns.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleaned = append(p.cleaned, rec.Zone+" "+rec.Name)
	return p.faultyDNS.CleanUp(ctx, rec)
}

// TestAnotherZoneIsConfigured: what was wrong with the zone or the alias of a
// challenge is mended for the order that was begun, and what was written to the
// wrong place is taken away from there.
func TestAnotherZoneIsConfigured(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for _, op := range []string{"present", "wait"} {
		st := w.mem.Replica("one")
		name := op + "." + "zone.example.com"
		req := request(t, st, op, name)
		solver := &placed{faultyDNS: &faultyDNS{DNSSolver: w.dns, fail: op}, zone: "wrong.test", suffix: ".wrong.test"}
		i := w.issuer(dns01, st, func(o *Options) { o.DNS = solver })
		if _, err := i.Obtain(t.Context(), req); err == nil {
			t.Fatal("it was proved")
		}
		solver.fail, solver.zone, solver.suffix = "", "example.com", ""
		if _, err := i.Obtain(t.Context(), req); err != nil {
			t.Errorf("%s failed, then with another zone: %v", op, err)
			continue
		}
		if err := i.Done(t.Context(), req); err != nil {
			t.Error(err)
		}
		if want := "wrong.test _acme-challenge." + name + ".wrong.test"; !slices.Contains(solver.cleaned, want) {
			t.Errorf("%s: cleaned up %q, not %q", op, solver.cleaned, want)
		}
		if n := w.proxy.Orders(name); n != 1 {
			t.Errorf("%s: %d orders", op, n)
		}
	}
}

// moved is a solver whose zone has gone to another provider.
type moved struct{ DNSSolver }

func (moved) CleanUp(context.Context, dns.Record) error {
	return fmt.Errorf("clean up: %w", dns.ErrNoZone)
}

// TestZoneIsGone: what nobody can clean up any more is not tried for ever.
func TestZoneIsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(dns01, st, func(o *Options) { o.DNS = moved{w.dns} })
	req := request(t, st, "x", "gone.example.com")
	if _, err := i.Obtain(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if err := i.Done(t.Context(), req); err != nil || len(w.left()) > 0 {
		t.Errorf("%v, left %v", err, w.left())
	}
}
