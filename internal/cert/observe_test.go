package cert

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// A state that could not be taken over is told again with the next change, its
// values too.
func TestWatchAfterPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := store.NewMem(0).Replica("a")
		must(r.Put(t.Context(), "p/a", []byte("1"), ""))
		k := New(Options{Store: r, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
		states, told := 0, map[string]string{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.watch(ctx, "p", func(entries []store.Entry) {
				if states++; states == 1 {
					panic("index out of range")
				}
				for _, e := range entries {
					told[e.Key] += string(e.Value)
				}
			}, store.ValuesOnce)
		}()
		synctest.Wait()
		must(r.Put(t.Context(), "p/b", []byte("2"), ""))
		synctest.Wait()
		must(r.Put(t.Context(), "p/c", []byte("3"), ""))
		synctest.Wait()
		cancel()
		<-done
		if states != 3 || told["p/a"] != "1" || told["p/b"] != "2" || told["p/c"] != "3" {
			t.Errorf("%d states, told %q", states, told)
		}
	})
}

// What takes long to take over leaves time for all else; changes that come
// meanwhile are taken over together.
func TestWatchRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := store.NewMem(0).Replica("a")
		k := New(Options{Store: r, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		states, last := 0, 0
		go func() {
			defer close(done)
			k.watch(ctx, "p", func(entries []store.Entry) {
				time.Sleep(20 * time.Millisecond)
				states, last = states+1, len(entries)
			})
		}()
		for n := range 100 { // a second's changes
			must(r.Put(t.Context(), fmt.Sprintf("p/%d", n), nil, ""))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(time.Second)
		cancel()
		<-done
		if states > 13 || last != 100 {
			t.Errorf("%d states, the last of %d entries", states, last)
		}
	})
}
