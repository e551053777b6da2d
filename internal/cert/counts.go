package cert

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// Outcome is what came of an attempt.
type Outcome string

// The outcomes of attempts.
const (
	Obtained    Outcome = "obtained"
	Failed      Outcome = "failed"
	Unreached   Outcome = "unreached"   // the issuer did not answer
	Waited      Outcome = "waited"      // it is not its turn yet: nothing was asked for
	Interrupted Outcome = "interrupted" // the lease or the store was lost, or the replica stopped
)

// Transition is what became of the lease of an order.
type Transition string

// The transitions of leases.
const (
	Acquired Transition = "acquired"
	Released Transition = "released"
	Lost     Transition = "lost"
)

// Count is how often something happened on this replica since it started:
// either an outcome or a transition.
type Count struct {
	Issuer     string
	Outcome    Outcome
	Transition Transition
	N          uint64
}

type countKey struct {
	issuer     string
	outcome    Outcome
	transition Transition
}

// Counts gives all that has happened, in a stable order.
func (k *Keeper) Counts() []Count {
	k.mu.Lock()
	defer k.mu.Unlock()
	list := make([]Count, 0, len(k.counts))
	for c, n := range k.counts {
		list = append(list, Count{c.issuer, c.outcome, c.transition, n})
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(strings.Compare(a.Issuer, b.Issuer), cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Transition, b.Transition))
	})
	return list
}

func (k *Keeper) count(issuer string, o Outcome) { k.add(countKey{issuer: issuer, outcome: o}) }

func (k *Keeper) countLease(issuer string, t Transition) {
	k.add(countKey{issuer: issuer, transition: t})
}

func (k *Keeper) add(c countKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts[c]++
}

// Limits gives those of all issuers that know any.
func (k *Keeper) Limits() []Limit {
	list := []Limit{}
	for _, id := range slices.Sorted(maps.Keys(k.issuers)) {
		if l, ok := k.issuers[id].(Limiter); ok {
			list = append(list, l.Limits()...)
		}
	}
	return list
}
