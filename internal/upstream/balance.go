package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
)

// balancer spreads picks over members by smooth weighted round robin: in each
// round a member comes as often as its weight says, evenly spaced. A round is
// computed once for each set of members that are up; a pick is then one
// atomic increment. Safe for any goroutine.
type balancer struct {
	weights  []int // 0: never picked
	of       members
	position *atomic.Uint64        // outlives the balancer
	building sync.Mutex            // one goroutine computes a round
	round    atomic.Pointer[round] // nil: none yet
}

// members are what a balancer picks from.
type members interface {
	up(i int) bool   // may member i be picked
	version() uint64 // changes after up did
}

// round is one cycle of picks; empty: nobody is up.
type round struct {
	version uint64
	order   []uint32
}

// next gives the next member that is not among tried, -1 where there is none.
func (b *balancer) next(tried []int) int {
	r := b.round.Load()
	if v := b.of.version(); r == nil || r.version != v {
		r = b.rebuild(v)
	}
	n := uint64(len(r.order))
	if n == 0 {
		return -1
	}
	at := b.position.Add(1) - 1
	if len(tried) == 0 {
		return int(r.order[at%n])
	}
	for k := range n {
		if i := int(r.order[(at+k)%n]); !slices.Contains(tried, i) {
			return i
		}
	}
	return -1
}

func (b *balancer) rebuild(version uint64) *round {
	b.building.Lock()
	defer b.building.Unlock()
	if r := b.round.Load(); r != nil && r.version == version {
		return r
	}
	weights := make([]int, len(b.weights))
	for i, w := range b.weights {
		if w > 0 && b.of.up(i) {
			weights[i] = w
		}
	}
	r := &round{version: version, order: smooth(weights)}
	b.round.Store(r)
	return r
}

// any reports whether some member can be picked.
func (b *balancer) any() bool {
	for i, w := range b.weights {
		if w > 0 && b.of.up(i) {
			return true
		}
	}
	return false
}

// Bounds of one round: its length, and the work to compute it.
const (
	maxRound = 1 << 14
	maxWork  = 1 << 22
)

// smooth computes a round: at each step every member gains its weight, the
// richest is picked and pays the sum. Weights too large for one round are
// scaled down; none falls to 0 by that.
func smooth(weights []int) []uint32 {
	weights = reduce(weights)
	sum := 0
	for _, w := range weights {
		sum += w
	}
	credit := make([]int, len(weights))
	order := make([]uint32, 0, sum)
	for range sum {
		best := -1
		for i, w := range weights {
			credit[i] += w
			if w > 0 && (best < 0 || credit[i] > credit[best]) {
				best = i
			}
		}
		credit[best] -= sum
		order = append(order, uint32(best))
	}
	return order
}

// reduce divides weights by what they have in common, then, if a round would
// be too long, by what makes it fit.
func reduce(weights []int) []int {
	divisor, sum, n := 0, 0.0, 0
	for _, w := range weights {
		for a, b := w, divisor; ; a, b = b, a%b {
			if b == 0 {
				divisor = a
				break
			}
		}
		sum += float64(w)
		if w > 0 {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	out := make([]int, len(weights))
	limit := float64(max(2*n, min(maxRound, maxWork/len(weights))))
	scale := max(1, sum/float64(divisor)/limit)
	for i, w := range weights {
		if w > 0 {
			out[i] = max(1, int(float64(w/divisor)/scale))
		}
	}
	return out
}
