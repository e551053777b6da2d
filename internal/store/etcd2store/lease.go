package etcd2store

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"gatehouse/internal/store"
)

// tombstoneTTL is how long a node says that its key is absent.
const tombstoneTTL = time.Hour

// Acquire is Store.Acquire.
func (s *Store) Acquire(ctx context.Context, name string) (store.Lease, error) {
	key := store.LeaseKey(name)
	if err := store.CheckWrite(key, []byte(s.o.Replica)); err != nil {
		return nil, err
	}
	var backoff store.Backoff
	for {
		n, index, err := s.create(ctx, key)
		if err == nil && n != nil {
			l := &lease{store: s, name: name, node: n, read: map[string]uint64{}}
			l.hold = store.NewHold(ctx, n.until)
			s.work.Go(l.keep)
			return l, nil
		}
		if err == nil { // held by another
			_, err = s.api.wait(ctx, pollFor, s.path(key), index+1, false)
		}
		if ctx.Err() != nil {
			return nil, s.failed("acquire", key, context.Cause(ctx))
		}
		if s.ctx.Err() != nil {
			return nil, s.failed("acquire", key, errClosed)
		}
		if err == nil {
			backoff.Reset()
			continue
		}
		next := backoff.Next()
		if backoff.News(err) {
			s.log.Warn("lease not acquired", "store", s.api.names(), "lease", name, "error", err, "next", next)
		}
		store.Sleep(ctx, next)
	}
}

var errClosed = errors.New("the store was closed")

// mortal is a node of ours that lives as long as it is refreshed.
type mortal struct {
	store *Store
	key   string
	made  uint64 // created index: which of the nodes of this key is ours
	free  chan struct{}

	mu    sync.Mutex
	index uint64    // modified index: changed by each refresh
	until time.Time // etcd keeps it until then, less the margin
}

// create makes the node of a lease; if there is one, nil and the index to wait
// from. An answer that does not arrive may leave one that is nobody's: it goes
// after the TTL, as nobody refreshes it.
func (s *Store) create(ctx context.Context, key string) (*mortal, uint64, error) {
	sent := time.Now()
	r, err := s.api.do(ctx, http.MethodPut, s.path(key), nil,
		url.Values{"value": {encode([]byte(s.o.Replica))}, "ttl": {seconds(s.ttl)}, "prevExist": {"false"}})
	switch {
	case isCode(err, codeNodeExist):
		return nil, r.Index, nil
	case err != nil:
		return nil, 0, err
	}
	return s.ours(key, r, sent), 0, nil
}

func (s *Store) ours(key string, r *answer, sent time.Time) *mortal {
	return &mortal{
		store: s, key: key, made: r.Node.CreatedIndex, free: make(chan struct{}),
		index: r.Node.ModifiedIndex, until: s.until(sent),
	}
}

// until is when a node refreshed by a message sent at this time ends for us.
func (s *Store) until(sent time.Time) time.Time { return sent.Add(s.ttl - store.Margin(s.ttl)) }

// errNotOurs: the node has gone, or is another's.
var errNotOurs = errors.New("its node is not ours any more")

// at asks the quorum whether the node is still ours, and at which index.
func (m *mortal) at(ctx context.Context) (uint64, error) {
	st, err := m.store.read(ctx, m.key)
	if err != nil {
		return 0, err
	}
	if st.index == 0 || st.made != m.made {
		return 0, errNotOurs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.index = st.index
	return st.index, nil
}

// change does something to the node at the index it is at. Somebody may have
// changed it: a refresh whose answer did not arrive, or a person.
func (m *mortal) change(ctx context.Context, do func(index string) error) error {
	m.mu.Lock()
	index := m.index
	m.mu.Unlock()
	for {
		err := do(strconv.FormatUint(index, 10))
		if isCode(err, codeKeyNotFound) {
			return errNotOurs
		}
		if !isCode(err, codeTestFailed) {
			return err
		}
		if index, err = m.at(ctx); err != nil {
			return err
		}
	}
}

// refresh gives the node another TTL; watches do not see it.
func (m *mortal) refresh(ctx context.Context) error {
	return m.change(ctx, func(index string) error {
		sent := time.Now()
		r, err := m.store.api.ask(ctx, m.store.ttl/3, http.MethodPut, m.store.path(m.key), nil,
			url.Values{"refresh": {"true"}, "prevExist": {"true"}, "prevIndex": {index}, "ttl": {seconds(m.store.ttl)}})
		if err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.index, m.until = r.Node.ModifiedIndex, m.store.until(sent)
		return nil
	})
}

// remove removes the node, if it is still ours.
func (m *mortal) remove(ctx context.Context) error {
	err := m.change(ctx, func(index string) error {
		_, err := m.store.api.do(ctx, http.MethodDelete, m.store.path(m.key), url.Values{"prevIndex": {index}}, nil)
		return err
	})
	if errors.Is(err, errNotOurs) {
		return nil
	}
	return err
}

// bury removes the node, as long as it takes, or until its TTL has passed.
func (m *mortal) bury() {
	defer close(m.free)
	m.mu.Lock()
	last := m.until.Add(store.Margin(m.store.ttl))
	m.mu.Unlock()
	if m.store.ctx.Err() != nil { // closing: one attempt
		last = time.Now().Add(time.Second)
	}
	ctx, cancel := context.WithDeadline(context.Background(), last)
	defer cancel()
	var backoff store.Backoff
	for m.remove(ctx) != nil && m.store.ctx.Err() == nil && store.Sleep(ctx, backoff.Next()) {
	}
}

// keep refreshes the node until done ends or the node is lost, and tells
// renewed each time until when it holds. It returns why it ended.
func (m *mortal) keep(done context.Context, renewed func(until time.Time)) error {
	var trouble store.Backoff
	wait := m.store.ttl / 3
	for {
		select {
		case <-m.store.ctx.Done():
			return errClosed
		case <-done.Done():
			return context.Cause(done)
		case <-time.After(wait):
		}
		wait = m.store.ttl / 3
		switch err := m.refresh(done); {
		case err == nil:
			trouble.Reset()
			m.mu.Lock()
			renewed(m.until)
			m.mu.Unlock()
		case errors.Is(err, errNotOurs):
			return err
		case done.Err() == nil:
			wait = m.store.ttl / 20
			if trouble.News(err) {
				m.store.log.Warn("not refreshed", "store", m.store.api.names(), "key", m.key, "error", err, "next", wait)
			}
		}
	}
}

// Announce is Store.Announce.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	if err := store.CheckWrite(key, value); err != nil {
		return err
	}
	var backoff store.Backoff
	for ctx.Err() == nil && s.ctx.Err() == nil {
		sent := time.Now()
		// Not cut short when ctx ends: only who knows the node can remove it.
		r, err := s.api.do(context.WithoutCancel(ctx), http.MethodPut, s.path(key), nil,
			url.Values{"value": {encode(value)}, "ttl": {seconds(s.ttl)}})
		if err != nil {
			if ctx.Err() == nil {
				next := backoff.Next()
				if backoff.News(err) {
					s.log.Warn("not announced", "store", s.api.names(), "key", key, "error", err, "next", next)
				}
				store.Sleep(ctx, next)
			}
			continue
		}
		backoff.Reset()
		m := s.ours(key, r, sent)
		err = m.keep(ctx, func(time.Time) {})
		if !errors.Is(err, errNotOurs) {
			s.work.Go(m.bury)
		}
	}
	if ctx.Err() == nil {
		return s.failed("announce", key, errClosed)
	}
	return s.failed("announce", key, context.Cause(ctx))
}

// lease implements store.Lease.
type lease struct {
	store *Store
	name  string
	node  *mortal
	hold  *store.Hold

	mu   sync.Mutex
	read map[string]uint64 // key -> the index it was last read or written at
}

// keep keeps the lease until its context ends, then gives the name free.
func (l *lease) keep() {
	err := l.node.keep(l.hold.Context(), func(until time.Time) { l.hold.Extend(until) })
	if l.hold.Context().Err() == nil {
		l.hold.End(fmt.Errorf("%w: lease %s: %w", store.ErrLeaseLost, l.name, err))
	}
	l.node.bury()
}

func (l *lease) Context() context.Context { return l.hold.Context() }

func (l *lease) Epoch() uint64 { return l.node.made }

// check asks whether the lease is still ours.
func (l *lease) check(ctx context.Context) error {
	err := l.hold.Err()
	if err == nil {
		if _, err = l.node.at(ctx); errors.Is(err, errNotOurs) {
			err = fmt.Errorf("%w: %w", store.ErrLeaseLost, err)
			l.hold.End(err)
		}
	}
	if err == nil {
		err = l.hold.Err() // the answer may have come late
	}
	if err != nil {
		return fmt.Errorf("lease %s: %w", l.name, err)
	}
	return nil
}

func (l *lease) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	err := l.check(ctx)
	var st state
	for err == nil {
		st, err = l.own(ctx, key)
		if err == nil {
			err = l.check(ctx)
			break
		}
		if errors.Is(err, store.ErrConflict) {
			err = l.check(ctx) // changed meanwhile: read again
		}
	}
	if err == nil && st.absent {
		err = store.ErrNotFound
	}
	if err != nil {
		return store.Entry{}, l.store.failed("get", key, err)
	}
	return store.Entry{Key: key, Value: st.value, Revision: st.revision()}, nil
}

// own reads a key and moves it to a new index, so that whoever read it before
// cannot change it any more. A key that is absent gets a node that says so.
func (l *lease) own(ctx context.Context, key string) (state, error) {
	st, err := l.store.read(ctx, key)
	if err != nil || l.known(key) == st.index && st.index != 0 {
		return st, err
	}
	switch {
	case st.absent:
		st.index, err = l.store.swap(ctx, key, tombstone, st.index, tombstoneTTL)
	case !st.mortal: // the others are leases and announcements: their owners write them
		st.index, err = l.store.swap(ctx, key, st.raw, st.index, 0)
	}
	if err == nil {
		l.note(key, st.index)
	}
	return st, err
}

func (l *lease) known(key string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read[key]
}

func (l *lease) note(key string, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read[key] = index
}

func (l *lease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	// The order matters: the index first, then the check. If the check passes,
	// whoever holds the lease after us reads the key after it, and moves it.
	var base uint64
	err := l.hold.Err()
	if err == nil {
		base, err = l.store.base(ctx, key, have)
		if cerr := l.check(ctx); cerr != nil {
			err = cerr
		}
	}
	if err == nil {
		base, err = l.store.swap(ctx, key, encode(value), base, 0)
	}
	if err != nil {
		return "", l.store.failed("put", key, err)
	}
	l.note(key, base)
	return revision(base), nil
}

func (l *lease) Delete(ctx context.Context, key string, have store.Revision) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := l.check(ctx)
	if err == nil {
		var index uint64
		if index, err = indexOf(have); err == nil {
			index, err = l.store.swap(ctx, key, tombstone, index, tombstoneTTL)
		}
		if err == nil {
			l.note(key, index)
		}
		err = l.store.deleted(ctx, key, err)
	}
	if err != nil {
		return l.store.failed("delete", key, err)
	}
	return nil
}

// Release ends the lease and waits until etcd has heard it; if ctx ends
// before that, it is said again until the TTL is over.
func (l *lease) Release(ctx context.Context) error {
	l.hold.Release()
	select {
	case <-l.node.free:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w; tried again until its TTL is over", l.store.failed("release", l.node.key, context.Cause(ctx)))
	}
}
