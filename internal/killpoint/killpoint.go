// Package killpoint names everything a replica does to the world outside it,
// so that a test can have the process killed, or stopped, right before or right
// after any of it. It does nothing in a product: only a build with the tag
// killpoints has the points (On), everywhere else Do calls what it is given
// and nothing more.
//
// A point is the part that is asked and what for: "CA newOrder", "DNS present",
// "put orders", "acquire orders". It owns no faults of its own making: those of
// networks and servers are made by the servers in e2e/rig.
package killpoint

import (
	"context"
	"strings"

	"gatehouse/internal/store"
)

// Doer runs act, which is what point names; it may end the process before or
// after. Do is the one of a test build, tests have others.
type Doer func(point string, act func() error) error

// Store gives s with its calls under do: "get", "put", "delete" and "acquire",
// each with the first segment of the key, through the store and through its
// leases.
func Store(s store.Store, do Doer) store.Store { return pointStore{s, do} }

// Lease is Store for one lease.
func Lease(l store.Lease, do Doer) store.Lease { return pointLease{l, do} }

type pointStore struct {
	store.Store
	do Doer
}

func (s pointStore) Get(ctx context.Context, key string) (store.Entry, error) {
	return get(ctx, s.Store.Get, s.do, key)
}

func (s pointStore) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	return put(ctx, s.Store.Put, s.do, key, value, have)
}

func (s pointStore) Delete(ctx context.Context, key string, have store.Revision) error {
	return s.do("delete "+kind(key), func() error { return s.Store.Delete(ctx, key, have) })
}

func (s pointStore) Acquire(ctx context.Context, name string) (store.Lease, error) {
	var lease store.Lease
	err := s.do("acquire "+kind(name), func() (err error) {
		lease, err = s.Store.Acquire(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return pointLease{lease, s.do}, nil
}

type pointLease struct {
	store.Lease
	do Doer
}

func (l pointLease) Get(ctx context.Context, key string) (store.Entry, error) {
	return get(ctx, l.Lease.Get, l.do, key)
}

func (l pointLease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	return put(ctx, l.Lease.Put, l.do, key, value, have)
}

func (l pointLease) Delete(ctx context.Context, key string, have store.Revision) error {
	return l.do("delete "+kind(key), func() error { return l.Lease.Delete(ctx, key, have) })
}

func get(ctx context.Context, read func(context.Context, string) (store.Entry, error), do Doer, key string) (store.Entry, error) {
	var e store.Entry
	err := do("get "+kind(key), func() (err error) {
		e, err = read(ctx, key)
		return err
	})
	return e, err
}

func put(ctx context.Context, write func(context.Context, string, []byte, store.Revision) (store.Revision, error), do Doer,
	key string, value []byte, have store.Revision,
) (store.Revision, error) {
	var rev store.Revision
	err := do("put "+kind(key), func() (err error) {
		rev, err = write(ctx, key, value, have)
		return err
	})
	return rev, err
}

func kind(key string) string {
	first, _, _ := strings.Cut(key, "/")
	return first
}
