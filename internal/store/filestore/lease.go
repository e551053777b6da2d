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
	for ctx.Err() == nil {
		changed, marks := s.mark()
		l, err := s.take(ctx, name)
		if err == nil {
			context.AfterFunc(l.hold.Context(), func() { s.giveBack(l) })
			return l, nil
		}
		if !errors.Is(err, errHeld) && ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			s.log.Warn("lease not acquired", "dir", s.dir, "lease", name, "error", err, "next", lookEvery)
		}
		s.wait(ctx, changed, marks)
	}
	return nil, fmt.Errorf("acquire %s in %s: %w", name, s.dir, context.Cause(ctx))
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
		l = &lease{store: s, session: n, name: name, stamp: t.stamp, hold: store.NewHold(ctx, n.until)}
		s.leases[l] = struct{}{}
		return nil
	})
	return l, err
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

// giveBack removes the entry of a lease whose context has ended. If it cannot,
// the session's end does.
func (s *Store) giveBack(l *lease) {
	s.mu.Lock()
	_, ours := s.leases[l]
	delete(s.leases, l)
	s.mu.Unlock()
	if !ours {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.ttl)
	defer cancel()
	if err := s.removeOwn(ctx, l.session, store.LeaseKey(l.name), l.stamp); err != nil && s.ctx.Err() == nil {
		s.log.Warn("lease not given back, its session's end will", "dir", s.dir, "lease", l.name, "error", err)
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
	for ctx.Err() == nil {
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
		}
	}
	if n != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.ttl)
		defer cancel()
		if err := s.removeOwn(last, n, key, mine); err != nil {
			s.log.Warn("announcement not removed, its session's end will", "dir", s.dir, "key", key, "error", err)
		}
	}
	return fmt.Errorf("announce %s in %s: %w", key, s.dir, context.Cause(ctx))
}

// lease implements store.Lease.
type lease struct {
	store   *Store
	session *session
	name    string
	stamp   time.Time // of the entry under leases/
	hold    *store.Hold
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

func (l *lease) Release(context.Context) error {
	l.hold.Release()
	l.store.giveBack(l)
	return nil
}
