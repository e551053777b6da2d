package filestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"gatehouse/internal/store"
)

// errHeld: the lease is someone's.
var errHeld = errors.New("held by another")

// Acquire is Store.Acquire.
func (s *Store) Acquire(ctx context.Context, name string) (store.Lease, error) {
	key := store.LeaseKey(name)
	if err := store.CheckWrite(key, []byte(s.name)); err != nil {
		return nil, err
	}
	s.begin.Do(func() { s.work.Go(s.live) }) // who waits must see who dies
	told := ""
	for ctx.Err() == nil && s.ctx.Err() == nil {
		changed := s.next()
		l, err := s.take(ctx, name)
		if err == nil {
			s.work.Go(l.keep)
			return l, nil
		}
		if !errors.Is(err, errHeld) && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			s.log.Warn("lease not acquired", "dir", s.dir, "lease", name, "error", err, "next", lookEvery)
		}
		s.wait(ctx, changed)
	}
	return nil, fmt.Errorf("acquire %s in %s: %w", name, s.dir, s.ended(ctx))
}

// ended is why a call that lasts has ended.
func (s *Store) ended(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errClosed
}

// take takes the lease if it is free.
func (s *Store) take(ctx context.Context, name string) (*lease, error) {
	key := store.LeaseKey(name)
	if at, err := s.stampOf(key); err == nil && !at.IsZero() && s.owned(key, at) {
		return nil, errHeld // asked without the guard: most often that is all
	}
	var l *lease
	err := s.guarded(ctx, func(t turn) error {
		at, err := s.stampOf(key)
		if err != nil {
			return err
		}
		if !at.IsZero() && s.owned(key, at) {
			return errHeld
		}
		n, err := s.need()
		if err != nil {
			return err
		}
		if err := s.writeOwn(t, n, key, []byte(s.name)); err != nil {
			return err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		l = &lease{store: s, session: n, name: name, stamp: t.stamp, hold: store.NewHold(ctx, n.until), free: make(chan struct{})}
		s.leases[l] = struct{}{}
		return nil
	})
	if l != nil {
		return l, nil // it is ours, even if telling the watches of it failed
	}
	return nil, err
}

// owned says whether the file of key with this time goes with a session. One
// that goes with none was left by hand or by a crash of the machine.
func (s *Store) owned(key string, at time.Time) bool {
	ids, err := s.others()
	if err != nil {
		return true
	}
	s.mu.Lock()
	if s.session != nil {
		ids = append(ids, s.session.id)
	}
	s.mu.Unlock()
	for _, id := range ids {
		if keys, err := s.readKeys(id); err != nil || keys[key].Equal(at) {
			return true
		}
	}
	return false
}

// keep waits for the end of the lease and gives the name free.
func (l *lease) keep() {
	defer close(l.free)
	select {
	case <-l.hold.Context().Done():
	case <-l.store.ctx.Done():
		l.hold.End(errClosed)
	}
	l.store.mu.Lock()
	delete(l.store.leases, l)
	l.store.mu.Unlock()
	l.store.insist(l.session, store.LeaseKey(l.name), l.stamp)
}

// insist removes a key that goes with our session, until it has or the session
// is over: its end does the same.
func (s *Store) insist(n *session, key string, stamp time.Time) {
	var backoff store.Backoff
	for s.ctx.Err() == nil {
		s.mu.Lock()
		over := s.session != n
		s.mu.Unlock()
		if over {
			return
		}
		err := s.removeOwn(s.ctx, n, key, stamp)
		if err == nil || s.ctx.Err() != nil {
			return
		}
		next := backoff.Next()
		if backoff.News(err) {
			s.log.Warn("key of ours not removed", "dir", s.dir, "key", key, "error", err, "next", next)
		}
		store.Sleep(s.ctx, next)
	}
}

// writeOwn writes a key that goes with our session. It is not synced: after a
// crash of the machine it is not wanted. The caller has the guard.
func (s *Store) writeOwn(t turn, n *session, key string, value []byte) error {
	if err := s.own(t, n, key); err != nil {
		return err
	}
	temp, err := newFile(t.stage, value, false)
	if err != nil {
		return err
	}
	if _, err := s.place(t, temp, s.path(key)); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}

// removeOwn removes a key that goes with our session.
func (s *Store) removeOwn(ctx context.Context, n *session, key string, stamp time.Time) error {
	return s.guarded(ctx, func(t turn) error {
		if err := s.removeAt(t, key, stamp); err != nil {
			return err
		}
		s.mu.Lock()
		over := s.session != n
		s.mu.Unlock()
		if over {
			return nil // whoever buries it has done the rest
		}
		return s.disown(t, n, key, stamp)
	})
}

// Announce is Store.Announce.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	if err := store.CheckWrite(key, value); err != nil {
		return err
	}
	tick := time.NewTicker(s.ttl / 3)
	defer tick.Stop()
	var n *session
	var mine time.Time
	for ctx.Err() == nil && s.ctx.Err() == nil {
		at, err := s.stampOf(key)
		if err == nil && (n == nil || !at.Equal(mine)) {
			err = s.guarded(ctx, func(t turn) error {
				if n, err = s.need(); err != nil {
					return err
				}
				mine = t.stamp
				return s.writeOwn(t, n, key, value)
			})
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("not announced", "dir", s.dir, "key", key, "error", err, "next", s.ttl/3)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
	}
	if n != nil {
		s.work.Go(func() { s.insist(n, key, mine) })
	}
	return fmt.Errorf("announce %s in %s: %w", key, s.dir, s.ended(ctx))
}

// lease implements store.Lease.
type lease struct {
	store   *Store
	session *session
	name    string
	stamp   time.Time // of the entry under leases/
	hold    *store.Hold
	free    chan struct{} // closed when the name is free, or the session over
}

func (l *lease) Context() context.Context { return l.hold.Context() }

func (l *lease) Epoch() uint64 { return uint64(l.stamp.UnixMicro()) }

// fence is asked with the guard in hand: nobody can take the lease between
// the answer and the write.
func (l *lease) fence() error {
	if err := l.hold.Err(); err != nil {
		return fmt.Errorf("lease %s: %w", l.name, err)
	}
	at, err := l.store.stampOf(store.LeaseKey(l.name))
	if err != nil {
		return err
	}
	if !at.Equal(l.stamp) {
		err := fmt.Errorf("%w: its entry in %s is not ours any more", store.ErrLeaseLost, l.store.dir)
		l.hold.End(err)
		return fmt.Errorf("lease %s: %w", l.name, err)
	}
	return nil
}

func (l *lease) Get(ctx context.Context, key string) (store.Entry, error) {
	e, err := l.store.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return store.Entry{}, err
	}
	// Whoever held the lease before us was refused from our acquisition on, so
	// what we read then is the last it wrote.
	if err := l.fence(); err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	return e, err
}

func (l *lease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	return l.store.put(ctx, key, value, have, l.fence)
}

func (l *lease) Delete(ctx context.Context, key string, have store.Revision) error {
	return l.store.delete(ctx, key, have, l.fence)
}

// Release ends the lease and waits until its entry has gone; if ctx ends
// before that, it goes later.
func (l *lease) Release(ctx context.Context) error {
	l.hold.Release()
	select {
	case <-l.free:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("release %s in %s: %w; tried again until its session ends", l.name, l.store.dir, context.Cause(ctx))
	}
}
