package acme

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// mute is a CA that says when to renew as it is told to.
type mute struct {
	certificationAuthority
	asked int
	say   func(context.Context) error
}

func (m *mute) RenewalInfo(ctx context.Context, _ string) (window, time.Duration, error) {
	m.asked++
	return window{}, 0, m.say(ctx)
}

// TestRenewalInfoWaitsAsTold: what the CA asked to wait is waited, also for other
// certificates, and a CA that swallows the question is not asked about each.
func TestRenewalInfoWaitsAsTold(t *testing.T) {
	for name, c := range map[string]struct {
		say   func(context.Context) error
		quiet time.Duration // nothing at all is asked before
	}{
		"429": {func(context.Context) error {
			return &callError{Op: "renewalInfo", Status: 429, After: time.Now().Add(10 * time.Hour)}
		}, 10 * time.Hour},
		"503": {func(context.Context) error {
			return &callError{Op: "renewalInfo", Status: 503, After: time.Now().Add(time.Hour)}
		}, time.Hour},
		"swallowed": {func(ctx context.Context) error {
			<-ctx.Done()
			return fmt.Errorf("renewalInfo: %w", context.Cause(ctx))
		}, askQuiet},
	} {
		synctest.Test(t, func(t *testing.T) {
			st := store.NewMem(0).Replica("one")
			ca := &mute{say: c.say}
			o := Options{ID: "mute", Directory: "https://ca.example/dir", Challenge: http01, Store: st}
			i := assemble(o, ca, func() {})
			key := signer(t, EC256)
			ask := func(n int) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				leaf := issue(t, "leaf", "ca", key, key, time.Now().Add(48*time.Hour), fmt.Sprintf("n%d.example.com", n))
				i.RenewAt(ctx, leaf.Raw)
			}
			began := time.Now()
			for n := range 50 {
				ask(n)
			}
			if ca.asked != 1 {
				t.Errorf("%s: asked %d times at once", name, ca.asked)
			}
			for n := 0; time.Since(began) < c.quiet-time.Minute; n++ {
				time.Sleep(c.quiet / 20)
				if time.Since(began) < c.quiet-time.Second {
					ask(n)
				}
			}
			if ca.asked != 1 {
				t.Errorf("%s: asked %d times before its time", name, ca.asked)
			}
			time.Sleep(24 * time.Hour)
			if ask(7); ca.asked != 2 {
				t.Errorf("%s: asked %d times in the end, want 2", name, ca.asked)
			}
			entries, err := store.List(t.Context(), st, "renewals/mute")
			if err != nil || len(entries) != 2 {
				t.Errorf("%s: stored %d answers: %v", name, len(entries), err)
			}
		})
	}
}
