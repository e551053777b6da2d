package copystore

import (
	"cmp"
	"maps"
	"os"
	"slices"
	"sync"

	"gatehouse/internal/store"
)

// keeper knows what is to be written, and where what was written is. The zero
// keeper is ready.
type keeper struct {
	mu      sync.Mutex
	newest  []store.Entry          // to be written: without values; nil: it is
	pending map[string]store.Entry // what of it is not in file
	file    *file                  // the last that was written; nil: none
}

// file is one that was written. It stays open, so that it can be read even when
// another process has put its own in its place.
type file struct {
	f      *os.File
	places []place // sorted by key
}

// place is where in a file an entry is.
type place struct {
	key      string
	revision store.Revision
	at       int64
	size     int
}

func (f *file) find(e store.Entry) (place, bool) {
	if f == nil {
		return place{}, false
	}
	i, ok := slices.BinarySearchFunc(f.places, e.Key, func(p place, key string) int { return cmp.Compare(p.key, key) })
	if !ok || f.places[i].revision != e.Revision {
		return place{}, false
	}
	return f.places[i], true
}

func (f *file) close() {
	if f != nil {
		_ = f.f.Close() // it was synced
	}
}

// keep has entries written next, and holds on to those of their values that are
// not in the file.
func (k *keeper) keep(entries []store.Entry) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.newest = store.Bare(entries)
	if k.pending == nil {
		k.pending = map[string]store.Entry{}
	}
	for _, e := range entries {
		if _, ok := k.file.find(e); !ok && k.pending[e.Key].Revision != e.Revision {
			k.pending[e.Key] = e
		}
	}
}

// toWrite gives the newest state, and where its values are.
func (k *keeper) toWrite() ([]store.Entry, map[string]store.Entry, *file) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.newest, maps.Clone(k.pending), k.file
}

// written takes over a file of what toWrite gave.
func (k *keeper) written(f *file) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.file.close()
	k.file = f
	left := map[string]store.Entry{}
	done := true
	for _, e := range k.newest {
		if _, ok := f.find(e); ok {
			continue
		}
		done = false
		if p, ok := k.pending[e.Key]; ok {
			left[e.Key] = p
		}
	}
	k.pending = left
	if done && len(k.newest) == len(f.places) {
		k.newest = nil
	}
}

func (k *keeper) close() { k.file.close() }
