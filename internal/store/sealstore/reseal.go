package sealstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"gatehouse/internal/store"
)

// againAfter is how soon Run looks again at what it could not seal.
const againAfter = 5 * time.Second

// Run follows which key seals and seals what is not, or under an older key,
// until ctx ends. One replica at a time does so.
func (s *Store) Run(ctx context.Context) error {
	var work sync.WaitGroup
	defer work.Wait()
	stale := make(chan struct{}, 1)
	look := func() {
		select {
		case stale <- struct{}{}:
		default:
		}
	}
	work.Go(func() {
		for entries, err := range s.o.Inner.Watch(ctx, markKey) {
			if err == nil {
				s.follow(ctx, entries)
				look()
			}
		}
	})
	for _, prefix := range s.o.Prefixes {
		if s.o.Ring.Empty() {
			break // nothing can be sealed
		}
		work.Go(func() {
			for entries, err := range s.o.Origin.Watch(ctx, prefix, store.ValuesOnce) {
				if err == nil && s.anyStale(entries) {
					look()
				}
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-stale:
		}
		if err := s.reseal(ctx); err != nil && ctx.Err() == nil {
			s.o.Logger.Warn("values are not sealed anew yet", "err", err, "next", againAfter)
			store.Sleep(ctx, againAfter)
			look()
		}
	}
}

// follow takes over the value at "seal".
func (s *Store) follow(ctx context.Context, entries []store.Entry) {
	if len(entries) == 1 {
		m, err := decodeMark(entries[0].Value)
		if err != nil {
			s.set(&current{err: err})
			return
		}
		if c := s.judge(m); c.err != nil || !s.newer(m) {
			s.set(c)
			return
		}
	}
	if _, err := s.settle(ctx); err != nil && ctx.Err() == nil {
		s.o.Logger.Warn("it is not settled which key seals", "err", err, "next", "it is with the first write")
	}
}

func (s *Store) stale(e store.Entry) bool {
	c := s.current.Load()
	return c != nil && c.id != "" && store.SealedUnder(e.Value) != c.id
}

// anyStale looks at what has come; what came before was looked at, and is when
// another key seals.
func (s *Store) anyStale(entries []store.Entry) bool {
	for _, e := range entries {
		if len(e.Value) > 0 && s.stale(e) {
			return true
		}
	}
	return false
}

// reseal seals all that is stale, under a lease, so that one replica does.
func (s *Store) reseal(ctx context.Context) error {
	stale, err := s.listStale(ctx)
	if err != nil || len(stale) == 0 {
		return err
	}
	l, err := s.o.Inner.Acquire(ctx, markKey)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), againAfter)
		defer cancel()
		_ = l.Release(ctx) // it runs out by itself
	}()
	if stale, err = s.listStale(l.Context()); err != nil {
		return err
	}
	done := 0
	var first error
	for _, e := range stale {
		switch err := s.sealAgain(l, e); {
		case err == nil:
			done++
		case errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrSealed): // written meanwhile; told by open
		case errors.Is(err, store.ErrLeaseLost):
			return err
		case first == nil:
			first = err
		}
	}
	if done > 0 {
		s.o.Logger.Info("values sealed", "values", done, "key", s.current.Load().id)
	}
	return first
}

func (s *Store) sealAgain(l store.Lease, e store.Entry) error {
	plain, err := s.o.Ring.Open(e.Key, e.Value)
	if err != nil {
		return err
	}
	value, err := s.seal(l.Context(), e.Key, plain)
	if err != nil {
		return err
	}
	_, err = l.Put(l.Context(), e.Key, value, e.Revision)
	return err
}

func (s *Store) listStale(ctx context.Context) ([]store.Entry, error) {
	var stale []store.Entry
	for _, prefix := range s.o.Prefixes {
		entries, err := store.List(ctx, s.o.Origin, prefix)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if s.stale(e) {
				if id := store.SealedUnder(e.Value); id == "" || s.has(id) {
					stale = append(stale, e)
				}
			}
		}
	}
	return stale, nil
}

func (s *Store) has(id string) bool {
	for _, have := range s.o.Ring.IDs() {
		if have == id {
			return true
		}
	}
	return false
}
