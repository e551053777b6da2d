package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/store"
)

// lease: what a held lease shows and can, and what remains when it is released.
func (s *suite) lease(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	name, key := space(t)+"/one", space(t)+"-data/k"
	type secret struct{}
	ctx := context.WithValue(within(t, patience), secret{}, "mine")
	l, err := a.Acquire(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	if l.Context().Value(secret{}) != "mine" || l.Context().Err() != nil {
		t.Error("the lease's context does not descend from that of Acquire")
	}
	if e := mustGet(t, b, store.LeaseKey(name)); string(e.Value) != "a" {
		t.Errorf("%s is %q, want the holder's name", e.Key, e.Value)
	}

	foreign := mustPut(t, a, name+"-other", "", "")
	_, err = l.Get(ctx, key)
	want(t, "get of nothing", err, store.ErrNotFound)
	want(t, "delete of nothing", l.Delete(ctx, key, foreign), store.ErrNotFound)
	want(t, "delete of nothing at no revision", l.Delete(ctx, key, ""), store.ErrNotFound)
	_, err = l.Put(ctx, key, nil, foreign)
	want(t, "put over a revision of nothing", err, store.ErrConflict)
	first := mustPut(t, l, key, "1", "")
	_, err = l.Put(ctx, key, nil, "")
	want(t, "create of what exists", err, store.ErrConflict)
	if e := mustGet(t, b, key); string(e.Value) != "1" || e.Revision != first {
		t.Errorf("b reads %q at %q, want 1 at %q", e.Value, e.Revision, first)
	}
	e := mustGet(t, l, key)
	if string(e.Value) != "1" {
		t.Errorf("read through the lease: %q", e.Value)
	}
	second := mustPut(t, l, key, "2", e.Revision)
	_, err = l.Put(ctx, key, nil, e.Revision)
	want(t, "put over an old revision", err, store.ErrConflict)
	want(t, "delete of an old revision", l.Delete(ctx, key, e.Revision), store.ErrConflict)
	want(t, "delete at no revision", l.Delete(ctx, key, ""), store.ErrConflict)
	if err := l.Delete(ctx, key, second); err != nil {
		t.Errorf("delete: %v", err)
	}
	_, err = b.Get(ctx, key)
	want(t, "get after delete", err, store.ErrNotFound)
	want(t, "delete after delete", l.Delete(ctx, key, second), store.ErrNotFound)
	third := mustPut(t, b, key, "3", "")
	mustPut(t, l, key, "4", third)
	for entries, err := range b.Watch(ctx, space(t)+"-data") {
		if err != nil || len(entries) != 1 || string(entries[0].Value) != "4" {
			t.Errorf("watch gave %v, %v", entries, err)
		}
		break
	}

	for range 2 {
		if err := l.Release(ctx); err != nil {
			t.Errorf("release: %v", err)
		}
	}
	if l.Context().Err() == nil {
		t.Error("the context goes on after the release")
	}
	eventually(t, patience, "the entry goes", gone(b, store.LeaseKey(name)))
	s.refused(t, "after release", l, key)
}

// refused: nothing can be done through l any more.
func (s *suite) refused(t *testing.T, when string, l store.Lease, key string) {
	t.Helper()
	ctx := within(t, patience)
	_, err := l.Get(ctx, key)
	want(t, "get "+when, err, store.ErrLeaseLost)
	_, err = l.Put(ctx, key+"-new", nil, "")
	want(t, "put "+when, err, store.ErrLeaseLost)
	want(t, "delete "+when, l.Delete(ctx, key, "1"), store.ErrLeaseLost)
	if l.Context().Err() == nil {
		t.Error(when + ": the lease's context goes on")
	}
}

// leaseExclusive: one holder at a time, between processes and goroutines, and
// each epoch above the last.
func (s *suite) leaseExclusive(t *testing.T) {
	const goroutines, rounds = 3, 3
	ctx := within(t, 3*patience)
	var holders, epoch atomic.Int64
	var wg sync.WaitGroup
	for _, replica := range []string{"a", "b"} {
		st := s.open(t, replica)
		for range goroutines {
			wg.Go(func() {
				for range rounds {
					l, err := st.Acquire(ctx, space(t))
					if err != nil {
						t.Error(err)
						return
					}
					if n := holders.Add(1); n != 1 {
						t.Errorf("%d holders", n)
					}
					if last := epoch.Swap(int64(l.Epoch())); int64(l.Epoch()) <= last {
						t.Errorf("epoch %d after %d", l.Epoch(), last)
					}
					time.Sleep(5 * time.Millisecond)
					holders.Add(-1)
					if err := l.Release(ctx); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
}

// leaseHandedOver: a release is seen at once by who waits.
func (s *suite) leaseHandedOver(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	sometimes(t, func() error { return s.handOver(t, a, b) })
}

func (s *suite) handOver(t *testing.T, a, b store.Store) error {
	t.Helper()
	l := mustAcquire(t, a, space(t))
	acquired := make(chan time.Time, 1)
	go func() {
		next := mustAcquireIn(t, b, space(t))
		acquired <- time.Now()
		if next != nil {
			_ = next.Release(context.Background())
		}
	}()
	time.Sleep(300 * time.Millisecond)
	select {
	case <-acquired:
		t.Fatal("two hold it")
	default:
	}
	released := time.Now()
	if err := l.Release(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	if took := (<-acquired).Sub(released); took > s.TTL/2 { // who waits for the TTL takes longer
		return fmt.Errorf("handed over after %v", took)
	}
	return nil
}

// mustAcquireIn is mustAcquire for goroutines other than the test's.
func mustAcquireIn(t *testing.T, s store.Store, name string) store.Lease {
	l, err := s.Acquire(within(t, 3*patience), name)
	if err != nil {
		t.Errorf("acquire %s: %v", name, err)
	}
	return l
}

// leaseEndsWithContext: the context of Acquire bounds the wait and the lease.
func (s *suite) leaseEndsWithContext(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l, err := a.Acquire(ctx, space(t))
	if err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer stop()
	if _, err := b.Acquire(short, space(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a wait whose time is over: %v", err)
	}
	cancel()
	if l.Context().Err() == nil {
		t.Error("the lease goes on after the context it was acquired with")
	}
	next := mustAcquire(t, b, space(t)) // nobody called Release
	s.refused(t, "after its context", l, space(t)+"-data")
	if err := next.Release(within(t, patience)); err != nil {
		t.Error(err)
	}
}

// leaseLasts: a lease that is not released is renewed.
func (s *suite) leaseLasts(t *testing.T) {
	a := s.open(t, "a")
	sometimes(t, func() error {
		l := mustAcquire(t, a, space(t))
		select {
		case <-l.Context().Done():
			return fmt.Errorf("lost with nothing wrong: %w", context.Cause(l.Context()))
		case <-time.After(s.TTL*5/2 + 100*time.Millisecond):
		}
		if _, err := l.Put(within(t, patience), space(t)+"-data", []byte("1"), ""); err != nil {
			return err
		}
		return l.Release(within(t, patience))
	})
}

// revoke removes the entry of a lease as an operator would, behind the
// holder's back.
func revoke(t *testing.T, s store.Store, name string) {
	t.Helper()
	e := mustGet(t, s, store.LeaseKey(name))
	eventually(t, patience, "the lease is removed", func() error {
		err := s.Delete(within(t, patience), e.Key, e.Revision)
		if errors.Is(err, store.ErrConflict) {
			e = mustGet(t, s, e.Key)
		}
		return err
	})
}

// leaseRevoked: what the server no longer knows cannot write, whatever its
// clock says, and is told.
func (s *suite) leaseRevoked(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	l := mustAcquire(t, a, space(t))
	revoke(t, b, space(t))
	_, err := l.Put(within(t, patience), space(t)+"-data", nil, "")
	want(t, "put after the lease was revoked", err, store.ErrLeaseLost)
	next := mustAcquire(t, b, space(t))
	if next.Epoch() <= l.Epoch() {
		t.Errorf("epoch %d after %d", next.Epoch(), l.Epoch())
	}
	s.refused(t, "after it was revoked", l, space(t)+"-data")
	if err := l.Release(within(t, patience)); err != nil {
		t.Errorf("release of what is lost: %v", err)
	}
	mustPut(t, next, space(t)+"-data", "mine", "")
	if e := mustGet(t, b, store.LeaseKey(space(t))); string(e.Value) != "b" {
		t.Errorf("the old holder's release took the new one's entry: %q", e.Value)
	}
	_ = next.Release(within(t, patience))
}

// takenOver gives name to b behind a's back.
func (s *suite) takenOver(t *testing.T, a, b store.Store) (older, newer store.Lease) {
	t.Helper()
	older = mustAcquire(t, a, space(t))
	revoke(t, b, space(t))
	newer = mustAcquire(t, b, space(t))
	t.Cleanup(func() { _ = newer.Release(context.Background()) })
	return older, newer
}

// failed: err is one of a fenced write that was not done.
func failed(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrLeaseLost) && !errors.Is(err, store.ErrConflict) {
		t.Errorf("%s: %v, want ErrLeaseLost or ErrConflict", what, err)
	}
}

// fenceChange: what a later holder has read stays as it read it.
func (s *suite) fenceChange(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	key := space(t) + "-data/k"
	mustPut(t, a, key, "1", "")
	older := mustAcquire(t, a, space(t))
	had := mustGet(t, older, key)
	revoke(t, b, space(t))
	newer := mustAcquire(t, b, space(t))
	has := mustGet(t, newer, key)
	_, err := older.Put(within(t, patience), key, []byte("2"), had.Revision)
	failed(t, "put of the old holder", err)
	failed(t, "delete of the old holder", older.Delete(within(t, patience), key, had.Revision))
	mustPut(t, newer, key, "3", has.Revision)
	_ = newer.Release(within(t, patience))
}

// fenceCreate: the same for what the later holder has found absent.
func (s *suite) fenceCreate(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	key := space(t) + "-data/k"
	older, newer := s.takenOver(t, a, b)
	_, err := newer.Get(within(t, patience), key)
	want(t, "get of nothing", err, store.ErrNotFound)
	_, err = a.Get(within(t, patience), key)
	want(t, "get of nothing by another", err, store.ErrNotFound)
	_, err = older.Put(within(t, patience), key, []byte("2"), "")
	failed(t, "create by the old holder", err)
	mustPut(t, newer, key, "3", "")
	if e := mustGet(t, a, key); string(e.Value) != "3" {
		t.Errorf("it is %q", e.Value)
	}
}

// fenceDeleted: the same for what the later holder has deleted.
func (s *suite) fenceDeleted(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	key := space(t) + "-data/k"
	mustPut(t, a, key, "1", "")
	older, newer := s.takenOver(t, a, b)
	e := mustGet(t, newer, key)
	if err := newer.Delete(within(t, patience), key, e.Revision); err != nil {
		t.Fatal(err)
	}
	_, err := older.Put(within(t, patience), key, []byte("2"), "")
	failed(t, "create by the old holder", err)
	for entries, err := range a.Watch(within(t, patience), space(t)+"-data") {
		if err != nil || len(entries) != 0 {
			t.Errorf("watch gave %v, %v, want nothing", entries, err)
		}
		break
	}
	// Anybody who holds no lease may create it.
	mustPut(t, a, key, "3", "")
}

// announce: there as long as its context, also when somebody removes it.
func (s *suite) announce(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	key := space(t) + "/a"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	mustPut(t, b, key, "left over", "")
	go func() { ended <- a.Announce(ctx, key, []byte("10.0.0.1")) }()
	eventually(t, patience, "announced", there(b, key, "10.0.0.1"))
	time.Sleep(s.TTL * 3 / 2)
	eventually(t, s.TTL/2, "there after the TTL", there(b, key, "10.0.0.1"))
	e := mustGet(t, b, key)
	if err := b.Delete(within(t, patience), key, e.Revision); err != nil && !errors.Is(err, store.ErrConflict) {
		t.Errorf("delete: %v", err)
	}
	eventually(t, 2*s.TTL+patience, "announced again", there(b, key, "10.0.0.1"))
	cancel()
	select {
	case err := <-ended:
		want(t, "announce", err, context.Canceled)
	case <-time.After(patience):
		t.Fatal("announce goes on after its context")
	}
	eventually(t, patience, "it goes", gone(b, key))
}

// partition: the one that is cut off stops before another begins, and is
// refused afterwards.
func (s *suite) partition(t *testing.T) {
	a, b := s.open(t, "parted"), s.open(t, "b")
	ctx := within(t, 3*patience)
	l := mustAcquire(t, a, space(t))
	f := follow(t, a, space(t)+"-data")
	f.is(t, patience)
	s.Cut(t, "parted", true)
	start := time.Now()
	stopped := make(chan time.Time, 1)
	context.AfterFunc(l.Context(), func() { stopped <- time.Now() })
	next, err := b.Acquire(ctx, space(t))
	began := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	if took := began.Sub(start); took > 2*s.TTL+slack {
		t.Errorf("the next holder came after %v", took)
	}
	select {
	case at := <-stopped:
		if !at.Before(began) {
			t.Errorf("the old holder stopped %v after the new one began", at.Sub(began))
		}
	default:
		t.Error("the old holder has not stopped")
	}
	_, err = l.Put(ctx, space(t)+"-data/k", nil, "")
	want(t, "put while cut off", err, store.ErrLeaseLost)
	mustPut(t, next, space(t)+"-data/k", "1", "")
	short, cancel := context.WithTimeout(ctx, time.Second)
	_, err = a.Get(short, space(t)+"-data/k")
	cancel()
	if err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get while cut off: %v, want that it cannot be read", err)
	}
	s.Cut(t, "parted", false)
	f.is(t, patience, space(t)+"-data/k", "1")
	_, err = l.Put(ctx, space(t)+"-data/k2", nil, "")
	want(t, "put when joined again", err, store.ErrLeaseLost)
	if err := next.Context().Err(); err != nil {
		t.Errorf("the new holder's context: %v", err)
	}
	_ = next.Release(ctx)
	back := mustAcquire(t, a, space(t))
	mustPut(t, back, space(t)+"-data/k3", "1", "")
	_ = back.Release(ctx)
}

// partitionAnnounce: who cannot be heard is not there; who returns is.
func (s *suite) partitionAnnounce(t *testing.T) {
	a, b := s.open(t, "parted-member"), s.open(t, "b")
	ctx := within(t, 3*patience)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-ended }()
	go func() {
		defer close(ended)
		_ = a.Announce(ctx, space(t)+"/a", []byte("v"))
	}()
	eventually(t, patience, "announced", there(b, space(t)+"/a", "v"))
	s.Cut(t, "parted-member", true)
	eventually(t, 2*s.TTL+slack, "it goes", gone(b, space(t)+"/a"))
	s.Cut(t, "parted-member", false)
	eventually(t, patience, "announced again", there(b, space(t)+"/a", "v"))
}
