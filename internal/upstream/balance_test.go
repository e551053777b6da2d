package upstream

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func picks(b *balancer, n int) string {
	var s strings.Builder
	for range n {
		i := b.next(nil)
		if i < 0 {
			s.WriteByte('-')
			continue
		}
		s.WriteByte(byte('a' + i))
	}
	return s.String()
}

func newBalancer(weights ...int) (*balancer, []atomic.Bool, *atomic.Uint64) {
	m := &told{down: make([]atomic.Bool, len(weights))}
	return &balancer{weights: weights, of: m, position: new(atomic.Uint64)}, m.down, &m.changes
}

// told are members whose state tests tell.
type told struct {
	down    []atomic.Bool
	changes atomic.Uint64
}

func (m *told) up(i int) bool   { return !m.down[i].Load() }
func (m *told) version() uint64 { return m.changes.Load() }

func TestSmooth(t *testing.T) {
	for _, tc := range []struct {
		weights []int
		want    string
	}{
		{[]int{1, 1, 1}, "abcabc"},
		{[]int{5, 1, 1}, "aabacaaaabacaa"},
		{[]int{50, 10, 10}, "aabacaa"},
		{[]int{2, 0, 1}, "acaaca"},
		{[]int{0, 0}, "--"},
		{nil, "-"},
		{[]int{7}, "aaa"},
	} {
		b, _, _ := newBalancer(tc.weights...)
		if got := picks(b, len(tc.want)); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.weights, got, tc.want)
		}
	}
}

func TestSmoothFollowsHealth(t *testing.T) {
	b, down, version := newBalancer(1, 1, 1)
	if got := picks(b, 3); got != "abc" {
		t.Fatal(got)
	}
	down[2].Store(true)
	version.Add(1)
	// Those left share what c had, evenly.
	if got := picks(b, 6); strings.Count(got, "a") != 3 || strings.Count(got, "b") != 3 {
		t.Error(got)
	}
	down[0].Store(true)
	down[1].Store(true)
	version.Add(1)
	if got := picks(b, 1); got != "-" || b.any() {
		t.Error(got)
	}
	down[1].Store(false)
	version.Add(1)
	if got := picks(b, 2); got != "bb" || !b.any() {
		t.Error(got)
	}
}

func TestNextPassesOverTried(t *testing.T) {
	b, _, _ := newBalancer(1, 1, 1)
	for range 6 {
		if i := b.next([]int{0, 2}); i != 1 {
			t.Fatal(i)
		}
	}
	if i := b.next([]int{0, 1, 2}); i != -1 {
		t.Error(i)
	}
}

func TestLargeWeights(t *testing.T) {
	for _, weights := range [][]int{
		{1_000_003, 999_999}, {1, 1_000_000_007}, {math.MaxInt, math.MaxInt - 1, 1}, {math.MaxInt, 3}, slices.Repeat([]int{97, 89}, 2000),
	} {
		order := smooth(weights)
		if len(order) > 3*maxRound {
			t.Errorf("%.20v: a round of %d", fmt.Sprint(weights), len(order))
		}
		got := make([]int, len(weights))
		for _, i := range order {
			got[i]++
		}
		if slices.Contains(got, 0) {
			t.Errorf("%.20v: somebody gets nothing", fmt.Sprint(weights))
		}
	}
	order := smooth([]int{1_000_003, 999_999})
	if n := len(order); n < maxRound/2 {
		t.Error(n)
	}
}

func TestPicksAreFairAcrossGoroutines(t *testing.T) {
	b, _, _ := newBalancer(3, 2, 1)
	var counts [3]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 600 {
				counts[b.next(nil)].Add(1)
			}
		})
	}
	wg.Wait()
	if a, b, c := counts[0].Load(), counts[1].Load(), counts[2].Load(); a != 2400 || b != 1600 || c != 800 {
		t.Error(a, b, c)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 1000} {
		bal, _, _ := newBalancer(slices.Repeat([]int{1, 2}, n)[:n]...)
		b.Run(fmt.Sprintf("servers=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					bal.next(nil)
				}
			})
		})
	}
}
