// Package store is the contract of shared state: bytes under keys with
// compare-and-swap, whole-state watches, and leases with fencing. The stores
// themselves live below it (filestore, etcd3store, etcd2store, kubestore); storetest is
// the suite every one of them passes.
//
// A lease saves work; compare-and-swap saves data. Nothing may be corrupted
// by losing a lease.
package store

import (
	"context"
	"errors"
	"iter"
)

// Errors a caller branches on. A failed read is any other error, never
// ErrNotFound: "cannot be read" is not "absent".
var (
	// ErrNotFound: the store was asked and holds no such key.
	ErrNotFound = errors.New("key not found")
	// ErrConflict: the key is not at the revision the caller has.
	ErrConflict = errors.New("key was changed by another")
	// ErrLeaseLost: the lease is, or may soon be, someone else's.
	ErrLeaseLost = errors.New("lease lost")
	// ErrTooLarge: the value is over the store's limit, which is MaxValue or
	// what the server says. Nothing was written.
	ErrTooLarge = errors.New("value too large for the store")
	// ErrInvalidKey: no store takes such a key, see CheckKey. Nothing was done.
	ErrInvalidKey = errors.New("invalid key")
)

// MaxValue is the largest value every store takes, in bytes.
const MaxValue = 1 << 20

// Revision names one state of one key. It is opaque and comparable only for
// equality. The zero Revision means "the key does not exist".
type Revision string

// Entry is one key with its value at a revision. Value must not be modified: a
// watch yields the same bytes again as long as they stay the same.
type Entry struct {
	Key      string
	Value    []byte
	Revision Revision
}

// WatchOption changes what a watch yields.
type WatchOption uint8

// ValuesOnce leaves values out that the same loop was given before, so that the
// store need not keep them: an entry may come without its Value if the state
// yielded last, trouble aside, has it at the same revision. One that is new or
// changed has its value, and in a new loop all have. Who watches so goes by
// revisions: a value may also come again at any time.
const ValuesOnce WatchOption = 1

// Store keeps bytes under slash-separated keys such as
// "certificates/local/3f2a" (CheckKey says what is a key). Keys are relative to
// the prefix the store was opened with. A key is never also the parent of
// another one: "a" and "a/b" together are refused by some stores. All methods
// may be called from any goroutine.
type Store interface {
	// Get reads one key: the newest state the store has agreed on.
	Get(ctx context.Context, key string) (Entry, error)
	// Put writes value if the key is at have (zero: if it does not exist) and
	// returns the new revision; else ErrConflict. An error that is neither
	// ErrConflict nor ErrTooLarge is ambiguous: the write may have been done.
	Put(ctx context.Context, key string, value []byte, have Revision) (Revision, error)
	// Delete removes the key if it is at have; ErrConflict if not, ErrNotFound
	// if it does not exist.
	Delete(ctx context.Context, key string, have Revision) error
	// Watch yields all entries under prefix (whole path segments: "a" is "a"
	// and what is below "a/", never "ab"; "" is everything), sorted by key:
	// now, even if there are none, and after each change, until ctx ends or
	// the loop breaks. Changes close together may be seen as one. It
	// survives compaction, restarts and partitions by itself: trouble is
	// yielded as an error (entries nil), then it goes on with back-off and
	// yields the whole state again once it can. It ends only with ctx.
	Watch(ctx context.Context, prefix string, o ...WatchOption) iter.Seq2[[]Entry, error]
	// Acquire waits until name is free and takes it: a lease of its own even
	// against other goroutines of this process. It keeps trying through
	// trouble of the store and returns an error only when ctx ends or the
	// settings can never work. While held, the entry "leases/"+name exists,
	// its value the holder's name, and is gone within the TTL of the
	// holder's death.
	Acquire(ctx context.Context, name string) (Lease, error)
	// Announce keeps key present with value for as long as this process
	// lives and ctx lasts: written again after trouble, gone within the TTL
	// of the process's death, at once when ctx ends. It returns when ctx ends,
	// with its error, or at once if the key or value can never be written.
	Announce(ctx context.Context, key string, value []byte) error
}

// Lease is the right to work on something, for as long as its context lasts.
// Its Get, Put and Delete are those of the Store, fenced: they fail with
// ErrLeaseLost once the lease may be another's, and what a later holder has
// read through its own lease can no longer be changed through this one.
type Lease interface {
	// Context ends when the lease is released or lost; if lost, with a margin
	// before another can hold it. It descends from the context of Acquire:
	// when that ends, the name is given free as by Release.
	Context() context.Context
	// Epoch grows with every acquisition of this name, by whomever.
	Epoch() uint64
	Get(ctx context.Context, key string) (Entry, error)
	Put(ctx context.Context, key string, value []byte, have Revision) (Revision, error)
	Delete(ctx context.Context, key string, have Revision) error
	// Release gives the name free at once. Releasing twice, or after losing,
	// is no error.
	Release(ctx context.Context) error
}
