// Package sealstore keeps private keys sealed in a store: a store.Store around
// another one that seals what is written under some prefixes, and opens what is
// read there, under a key of the operator's (store.Ring). Keys, revisions,
// leases and watches are those of the store within.
//
// The value at "seal" says, for all replicas, which key seals: they may have
// their rings in another order while keys are being exchanged. It is what keeps
// a replica without the key, or with a wrong one, from writing anything: a
// value it cannot open is an error and never absent, so nothing is ordered anew
// in its place. Values that are not sealed, of times before the key, are read
// as they are, and sealed by Run.
package sealstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"gatehouse/internal/store"
)

// Options make a Store. Inner and Logger are required.
type Options struct {
	Inner store.Store
	Ring  store.Ring // empty: nothing is sealed, and a store that is sealed is refused
	// Prefixes are what is sealed, and sealed again by Run.
	Prefixes []string
	// Passing are prefixes that are sealed too, but whose values are written
	// again soon anyway: Run leaves them alone.
	Passing []string
	// Origin is the store whose values Run looks at, if Inner is that store with
	// a copy around it: what is to be sealed anew is what the store itself says.
	// nil: Inner.
	Origin store.Store
	Logger *slog.Logger
}

// Store is a store.Store. Its methods may be called from any goroutine.
type Store struct {
	o       Options
	current atomic.Pointer[current]
}

// current is what is known of the value at "seal"; the pointer is nil until it
// was read.
type current struct {
	id  string // seals; "": nothing is sealed yet, and this replica has no key
	err error  // why this replica must not write
}

// New puts sealing around a store. It asks the store nothing yet.
func New(o Options) *Store {
	if o.Origin == nil {
		o.Origin = o.Inner
	}
	return &Store{o: o}
}

const (
	markKey     = "seal"
	markVersion = 1
	proofText   = "gatehouse"
)

// mark is the value at "seal".
type mark struct {
	Version int      `json:"version"`
	Current string   `json:"current"`           // id of the key that seals
	Retired []string `json:"retired,omitempty"` // ids of those before; none becomes current again
	Proof   string   `json:"proof"`             // sealed under the current key
}

func decodeMark(value []byte) (mark, error) {
	var m mark
	if err := json.Unmarshal(value, &m); err != nil {
		return mark{}, fmt.Errorf("read %s: it is damaged: %w", markKey, err)
	}
	if m.Version != markVersion || m.Current == "" {
		return mark{}, fmt.Errorf("read %s: version %d, key %q: this program does not know it", markKey, m.Version, m.Current)
	}
	return m, nil
}

// judge says what m means for this replica.
func (s *Store) judge(m mark) *current {
	_, err := s.o.Ring.Open(markKey, []byte(m.Proof))
	switch {
	case err == nil && slices.Contains(s.o.Ring.IDs(), m.Current):
		return &current{id: m.Current}
	case s.o.Ring.Empty():
		err = fmt.Errorf("the store is %w under key %s, and this replica has no key: set store.sealKey", store.ErrSealed, m.Current)
	default:
		err = fmt.Errorf("the store is %w under key %s, and this replica has only %s: add that key to store.sealKey",
			store.ErrSealed, m.Current, strings.Join(s.o.Ring.IDs(), ", "))
	}
	return &current{err: err}
}

// settle reads which key seals, and makes ours the one if it is newer than
// what is there.
func (s *Store) settle(ctx context.Context) (*current, error) {
	for {
		e, err := s.o.Inner.Get(ctx, markKey)
		var m mark
		switch {
		case errors.Is(err, store.ErrNotFound):
			if s.o.Ring.Empty() {
				return s.set(&current{}), nil
			}
		case err != nil:
			return nil, fmt.Errorf("read which key seals: %w", err)
		default:
			if m, err = decodeMark(e.Value); err != nil {
				return s.set(&current{err: err}), nil
			}
			if c := s.judge(m); c.err != nil || !s.newer(m) {
				return s.set(c), nil
			}
		}
		_, err = s.o.Inner.Put(ctx, markKey, s.next(m), e.Revision)
		switch {
		case errors.Is(err, store.ErrConflict): // another replica did; it is read again
		case err != nil:
			return nil, fmt.Errorf("write which key seals: %w", err)
		case m.Current != "":
			s.o.Logger.Info("another key seals from now on", "key", s.o.Ring.IDs()[0], "before", m.Current,
				"next", "what is sealed under the old one is sealed anew; then it may go from store.sealKey")
		default:
			s.o.Logger.Info("the store is sealed from now on", "key", s.o.Ring.IDs()[0])
		}
	}
}

// newer: our first key has never been the current one.
func (s *Store) newer(m mark) bool {
	first := s.o.Ring.IDs()[0]
	return first != m.Current && !slices.Contains(m.Retired, first)
}

func (s *Store) next(m mark) []byte {
	n := mark{Version: markVersion, Current: s.o.Ring.IDs()[0], Retired: m.Retired}
	if m.Current != "" {
		n.Retired = append(slices.Clone(m.Retired), m.Current)
	}
	proof, err := s.o.Ring.Seal(n.Current, markKey, []byte(proofText))
	if err != nil {
		panic(err) // the key is the ring's own
	}
	n.Proof = string(proof)
	value, err := json.MarshalIndent(n, "", " ")
	if err != nil {
		panic(err) // text only
	}
	return value
}

func (s *Store) set(c *current) *current {
	if old := s.current.Swap(c); c.err != nil && (old == nil || old.err == nil || old.err.Error() != c.err.Error()) {
		s.o.Logger.Error("the store's private keys cannot be used", "err", c.err,
			"next", "this replica serves what it has, and writes nothing, until it has the key")
	}
	return c
}

func (s *Store) sealed(key string) bool {
	under := func(prefix string) bool { return store.Under(key, prefix) }
	return slices.ContainsFunc(s.o.Prefixes, under) || slices.ContainsFunc(s.o.Passing, under)
}

// seal gives the value to write for key.
func (s *Store) seal(ctx context.Context, key string, value []byte) ([]byte, error) {
	if !s.sealed(key) {
		return value, nil
	}
	c := s.current.Load()
	if c == nil || c.err != nil {
		var err error
		if c, err = s.settle(ctx); err != nil {
			return nil, err
		}
	}
	switch {
	case c.err != nil:
		return nil, fmt.Errorf("write %s: %w", key, c.err)
	case c.id == "":
		return value, nil
	}
	return s.o.Ring.Seal(c.id, key, value)
}

// open gives what was read from key, opened.
func (s *Store) open(e store.Entry, err error) (store.Entry, error) {
	if err != nil || !s.sealed(e.Key) {
		return e, err
	}
	value, err := s.o.Ring.Open(e.Key, e.Value)
	switch {
	case err == nil:
		e.Value = value
	case errors.Is(err, store.ErrSealed):
		return store.Entry{}, err
	}
	return e, nil // a damaged one too: who decodes it refuses it
}

// Get is that of store.Store.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	return s.open(s.o.Inner.Get(ctx, key))
}

// Put is that of store.Store.
func (s *Store) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	value, err := s.seal(ctx, key, value)
	if err != nil {
		return "", err
	}
	return s.o.Inner.Put(ctx, key, value, have)
}

// Delete is that of store.Store.
func (s *Store) Delete(ctx context.Context, key string, have store.Revision) error {
	return s.o.Inner.Delete(ctx, key, have)
}

// Watch is that of store.Store. A value that cannot be opened is yielded as it
// is: who decodes it refuses it, see store.CheckSealed.
func (s *Store) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		opened := map[string]store.Entry{} // of the state before: most of it is the same
		once := slices.Contains(o, store.ValuesOnce)
		for entries, err := range s.o.Inner.Watch(ctx, prefix, o...) {
			if err == nil {
				entries, opened = s.openAll(entries, opened)
			}
			if once { // what is the same comes without its value
				opened = nil
			}
			if !yield(entries, err) {
				return
			}
		}
	}
}

func (s *Store) openAll(entries []store.Entry, before map[string]store.Entry) ([]store.Entry, map[string]store.Entry) {
	out, now := slices.Clone(entries), make(map[string]store.Entry, len(before))
	for i, e := range entries {
		if !s.sealed(e.Key) || store.SealedUnder(e.Value) == "" {
			continue
		}
		if last, ok := before[e.Key]; ok && last.Revision == e.Revision {
			out[i] = last
		} else if value, err := s.o.Ring.Open(e.Key, e.Value); err == nil {
			out[i].Value = value
		}
		now[e.Key] = out[i]
	}
	return out, now
}

// Acquire is that of store.Store.
func (s *Store) Acquire(ctx context.Context, name string) (store.Lease, error) {
	l, err := s.o.Inner.Acquire(ctx, name)
	if err != nil {
		return nil, err
	}
	return lease{l, s}, nil
}

// Announce is that of store.Store.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	return s.o.Inner.Announce(ctx, key, value)
}

// lease seals and opens as its store does.
type lease struct {
	store.Lease
	s *Store
}

func (l lease) Get(ctx context.Context, key string) (store.Entry, error) {
	return l.s.open(l.Lease.Get(ctx, key))
}

func (l lease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	value, err := l.s.seal(ctx, key, value)
	if err != nil {
		return "", err
	}
	return l.Lease.Put(ctx, key, value, have)
}
