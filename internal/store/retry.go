package store

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	backoffLeast = 50 * time.Millisecond
	backoffMost  = 2 * time.Second // what returns is seen within it
)

// Backoff is how long the stores wait between attempts: longer each time, with
// jitter, never over two seconds and never giving up. The zero Backoff is
// ready. It belongs to one goroutine.
type Backoff struct {
	last time.Duration
	told string
}

// Next is how long to wait now.
func (b *Backoff) Next() time.Duration {
	b.last = min(max(2*b.last, backoffLeast), backoffMost)
	return b.last/2 + rand.N(b.last/2)
}

// Reset begins anew, after a success.
func (b *Backoff) Reset() { *b = Backoff{} }

// News says whether err is worth telling: it is another than the last one
// since Reset.
func (b *Backoff) News(err error) bool {
	news := err.Error() != b.told
	b.told = err.Error()
	return news
}

// Sleep waits for d and says whether ctx still lasts.
func Sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// Work is the goroutines of a store, which its Close waits for. The zero Work is
// ready.
type Work struct {
	mu     sync.Mutex
	closed bool
	group  sync.WaitGroup
}

// Go runs f in a goroutine; after Wait was called, at once, as f then finds
// that the store is closed and has little to do.
func (w *Work) Go(f func()) {
	w.mu.Lock()
	closed := w.closed
	if !closed {
		w.group.Go(f)
	}
	w.mu.Unlock()
	if closed {
		f()
	}
}

// Wait waits for all goroutines.
func (w *Work) Wait() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.group.Wait()
}
