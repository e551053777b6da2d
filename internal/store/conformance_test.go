package store_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"gatehouse/internal/store"
	"gatehouse/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemConforms(t *testing.T) {
	mem := store.NewMem(ttl / 5)
	var mu sync.Mutex
	replicas := map[string][]*store.Replica{}
	open := func(t *testing.T, name string) store.Store {
		r := mem.Replica(name)
		mu.Lock()
		defer mu.Unlock()
		replicas[name] = append(replicas[name], r)
		return r
	}
	cut := func(cut bool, name string) {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range replicas[name] {
			r.Partition(cut)
		}
	}
	storetest.Run(t, open, storetest.Options{
		TTL: ttl / 5,
		Cut: func(_ *testing.T, name string, off bool) { cut(off, name) },
		Restart: func(_ *testing.T, whileDown func()) {
			for _, name := range []string{"a", "b"} {
				cut(true, name)
				defer cut(false, name)
			}
			whileDown()
		},
	})
}

func BenchmarkMemGet(b *testing.B) {
	r := store.NewMem(ttl).Replica("a")
	if _, err := r.Put(b.Context(), "k", make([]byte, 1024), ""); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Get(b.Context(), "k"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMemPut(b *testing.B) {
	r := store.NewMem(ttl).Replica("a")
	var rev store.Revision
	var err error
	value := make([]byte, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if rev, err = r.Put(b.Context(), "k", value, rev); err != nil {
			b.Fatal(err)
		}
	}
}

// One write seen by ten watches of a hundred keys each.
func BenchmarkMemWatchFanOut(b *testing.B) {
	const watches = 10
	mem := store.NewMem(ttl)
	r := mem.Replica("a")
	for i := range 100 {
		if _, err := r.Put(b.Context(), fmt.Sprintf("p/%d", i), nil, ""); err != nil {
			b.Fatal(err)
		}
	}
	seen := make(chan struct{})
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(b.Context())
	defer func() { cancel(); wg.Wait() }()
	for range watches {
		wg.Go(func() {
			for range r.Watch(ctx, "p") {
				select {
				case seen <- struct{}{}:
				case <-ctx.Done():
				}
			}
		})
	}
	for range watches {
		<-seen
	}
	var rev store.Revision
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if rev, err = r.Put(ctx, "p/k", nil, rev); err != nil {
			b.Fatal(err)
		}
		for range watches {
			<-seen
		}
	}
}
