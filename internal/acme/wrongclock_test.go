package acme

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// TestAClockAheadHoldsUpNobody: what a replica whose clock is ahead has taken
// from a bucket does not make the others wait until their clocks are there.
func TestAClockAheadHoldsUpNobody(t *testing.T) {
	for _, ahead := range []time.Duration{time.Hour, 30 * time.Hour, 10 * 365 * 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			st := store.NewMem(0).Replica("one")
			p := &pace{issuer: "ca", store: st, log: slog.New(slog.DiscardHandler)}
			rules := limitModel{orders: 300, domain: 50, set: 5}.rules([]string{"a.example.com"}, false, false)
			for _, r := range append(rules, paceRule(false)) {
				err := change(t.Context(), p, r.bucket, func(b *bucketRecord) bool {
					wrong := time.Now().Add(ahead)
					b.read(wrong)
					for range 2 * r.burst { // it is empty, and more are waiting
						_, b.Full = r.slot(b.Full, wrong)
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			most := time.Duration(0)
			for _, r := range rules {
				most = max(most, time.Duration(r.burst+1)*r.interval)
			}
			turn, err := p.turn(t.Context(), time.Now().Add(ahead+2*week), rules)
			if wait := time.Until(turn); err != nil || wait > most {
				t.Errorf("%s ahead: a turn it took is in %s, want at most %s: %v", ahead, wait, most, err)
			}
			at, why, err := p.reserve(t.Context(), rules)
			if wait := time.Until(at); err != nil || wait > most {
				t.Errorf("%s ahead: it waits %s (%s), want at most %s: %v", ahead, wait, why, most, err)
			}
			if at, _, err = p.reserve(t.Context(), nil); err != nil || time.Until(at) > patience {
				t.Errorf("%s ahead: the pace alone makes it wait %s: %v", ahead, time.Until(at), err)
			}
		})
	}
}
