package load

import (
	"testing"
	"time"
)

func TestQuantiles(t *testing.T) {
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("median of nothing: %s", got)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Microsecond, 0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond} {
		got := h.quantile(q)
		if got < want*98/100 || got > want*102/100 {
			t.Errorf("quantile %g: %s, want about %s", q, got, want)
		}
	}
}

// TestBuckets: every value falls into the bucket whose bounds hold it.
func TestBuckets(t *testing.T) {
	for v := uint64(1); v < 1<<62; v += v/8 + 1 {
		i := bucket(v)
		if low, high := bound(i), bound(i+1); v < low || v >= high || high-low > max(1, low>>fine) {
			t.Fatalf("%d is in bucket %d, from %d to %d", v, i, low, high)
		}
	}
}
