package cert

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"

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
