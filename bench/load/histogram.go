package load

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets at most a sixty-fourth wide, without
// allocating.
type histogram struct {
	counts [64 * 64]uint32
	total  int
}

const fine = 6 // bits of a bucket's number below the leading one

func (h *histogram) add(d time.Duration) {
	h.counts[bucket(uint64(max(d, 0)))]++
	h.total++
}

func bucket(v uint64) int {
	if v < 1<<fine {
		return int(v)
	}
	shift := bits.Len64(v) - fine - 1
	return (shift+1)<<fine + int(v>>shift)&(1<<fine-1)
}

// bound is the smallest value of a bucket.
func bound(i int) uint64 {
	shift := i>>fine - 1
	if shift < 0 {
		return uint64(i)
	}
	return uint64(1<<fine+i&(1<<fine-1)) << shift
}

// quantile gives the value that a share q of all is at or below; 0: none.
func (h *histogram) quantile(q float64) time.Duration {
	want := int(q * float64(h.total))
	for i, n := range h.counts {
		if want -= int(n); n > 0 && want < 0 {
			return time.Duration(bound(i))
		}
	}
	return 0
}
