package cert

import (
	"context"
	"errors"
	"time"

	"gatehouse/internal/store"
)

const (
	// sweepGrace is how long a journal must have been nobody's: a replica that
	// has other settings may be about to go on with it, and a configuration
	// comes in parts.
	sweepGrace = 30 * time.Second
	// sweepEvery is the pause after a sweep of a journal by this replica.
	sweepEvery = 5 * time.Minute
)

// orphan is a journal nobody works on: its certificate is not wanted (any
// more), or another one serves, and the lease is free.
type orphan struct {
	since time.Time // when this replica first saw it so
	swept time.Time // when this replica last swept it; zero: not yet
	until time.Time // when there is something to sweep next; zero: that is not known
}

// orphaned says when to sweep a journal that is nobody's.
func orphaned(now time.Time, k key, o orphan, from time.Time) action {
	if o.since.IsZero() {
		o.since = now
	}
	a := action{key: k, do: sweep, at: o.since.Add(sweepGrace), orphan: &o}
	if again := o.swept.Add(sweepEvery); !o.swept.IsZero() && again.After(a.at) {
		a.at = again
	}
	if o.until.After(a.at) {
		a.at = o.until
	}
	if from.After(a.at) {
		a.at = from
	}
	if a.at.After(now) {
		a.do = rest
	}
	return a
}

// keepOrphans remembers what the plan found. One that is held for a while is an
// orphan anew after that, but not swept the sooner. k.mu is held.
func (k *Keeper) keepOrphans(actions []action) {
	found := map[key]orphan{}
	for _, a := range actions {
		if a.orphan != nil {
			found[a.key] = *a.orphan
		}
	}
	for kk, o := range k.orphans {
		_, journal := k.journals[kk]
		if _, ok := found[kk]; !ok && journal && !o.swept.IsZero() {
			found[kk] = orphan{swept: o.swept, until: o.until}
		}
	}
	k.orphans = found
}

// sweep has the lease of an order that was nobody's, and has its issuer take
// away what it left behind.
func (k *Keeper) sweep(ctx context.Context, lease store.Lease, t *turn) {
	s, ok := k.issuers[t.key.issuer].(Sweeper)
	if !ok {
		return
	}
	k.say(t, "sweep")
	err := guard(func() error {
		bounded, cancel := context.WithTimeout(lease.Context(), doneLimit)
		defer cancel()
		return s.Sweep(bounded, Request{ID: t.key.id, Lease: lease, Step: func(s string) { k.say(t, s) }})
	})
	now, left := time.Now(), orphan{swept: time.Now()}
	var later *RetryError
	waits := errors.As(err, &later) && later.Waits
	if waits {
		left.until = later.After
	}
	k.mu.Lock()
	k.orphans[t.key] = left
	k.mu.Unlock()
	if err != nil && !waits && ctx.Err() == nil {
		k.log.Warn("what an order left behind that nobody wants stays", "order", t.key.under(ordersPrefix),
			"issuer", t.key.issuer, "err", err, "next", now.Add(sweepEvery))
	}
}

// sweepable says from when on there is something to sweep from a journal.
func (k *Keeper) sweepable(kk key, journal []byte) (from time.Time, ok bool) {
	if s, is := k.issuers[kk.issuer].(Sweeper); is {
		if err := guard(func() error { from, ok = s.Orphaned(journal); return nil }); err != nil {
			return time.Time{}, false // seeJournals tells of it
		}
	}
	return from, ok
}
