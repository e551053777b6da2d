package cert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"gatehouse/internal/store"
)

const (
	budgetKey    = "budgets/ondemand"
	budgetTries  = 20
	budgetLimit  = 5 * time.Second
	budgetWindow = time.Minute
)

// bucket is a token bucket kept as the time at which it is full again: size at
// once, then size in every minute.
type bucket struct {
	Version int       `json:"version"`
	Full    time.Time `json:"full"`
}

// take takes one, if there is one. A time further away than this bucket can be
// was written by another clock.
func (b bucket) take(now time.Time, size float64) (bucket, bool) {
	each := time.Duration(float64(budgetWindow) / size)
	if b.Full.Before(now) {
		b.Full = now
	}
	if last := now.Add(budgetWindow + each); b.Full.After(last) {
		b.Full = last
	}
	if b.Full.Add(each).After(now.Add(max(budgetWindow, each))) {
		return b, false
	}
	return bucket{recordVersion, b.Full.Add(each).UTC()}, true
}

// budget is how many names all replicas together let in a minute: counted in
// the store, by compare-and-swap. While the store cannot be asked, each replica
// has a share of it.
type budget struct {
	store     store.Store
	perMinute int
	replicas  func() int

	mu  sync.Mutex
	own bucket
}

// take uses one up; an error says that there is none.
func (b *budget) take(ctx context.Context) error {
	took, err := b.takeStored(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && !b.takeOwn(time.Now()):
		return fmt.Errorf("the names let in a minute cannot be counted (%w), and this replica's share of %d is used up", err, b.perMinute)
	case err == nil && !took:
		return fmt.Errorf("more than %d new names a minute, of all replicas together", b.perMinute)
	}
	return nil
}

func (b *budget) takeStored(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, budgetLimit)
	defer cancel()
	for try := 1; ; try++ {
		e, err := b.store.Get(ctx, budgetKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, fmt.Errorf("read %s: %w", budgetKey, err)
		}
		var now bucket
		if e.Revision != "" {
			_ = json.Unmarshal(e.Value, &now) // damaged: begun anew
		}
		next, ok := now.take(time.Now(), float64(b.perMinute))
		if !ok {
			return false, nil
		}
		value, err := json.Marshal(next)
		if err != nil {
			return false, err
		}
		_, err = b.store.Put(ctx, budgetKey, value, e.Revision)
		if err == nil {
			b.follow(next)
			return true, nil
		}
		if !errors.Is(err, store.ErrConflict) || try == budgetTries {
			return false, fmt.Errorf("write %s: %w", budgetKey, err)
		}
		if !store.Sleep(ctx, rand.N(time.Duration(try)*5*time.Millisecond)) {
			return false, fmt.Errorf("write %s: %w", budgetKey, context.Cause(ctx))
		}
	}
}

// follow makes the own share as empty as the whole is: an outage gives nobody
// more.
func (b *budget) follow(whole bucket) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.own = whole
}

func (b *budget) takeOwn(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, ok := b.own.take(now, float64(b.perMinute)/float64(max(b.replicas(), 1)))
	b.own = next
	return ok
}
