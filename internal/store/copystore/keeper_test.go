package copystore_test

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"gatehouse/internal/store"
	"gatehouse/internal/store/copystore"
)

// watched runs a watch that is told values once, until the test ends.
func watched(t *testing.T, s store.Store, prefix string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	begun, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		first := true
		for _, err := range s.Watch(ctx, prefix, store.ValuesOnce) {
			if err == nil && first {
				close(begun)
				first = false
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-begun
}

// inCopy waits until the copy in dir is just these pairs of key and value.
func inCopy(t *testing.T, dir string, with func(*copystore.Options), pairs ...string) {
	t.Helper()
	want := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		want[pairs[i]] = pairs[i+1]
	}
	cut := store.NewMem(0).Replica("reader")
	cut.Partition(true)
	var got map[string]string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s, _ := keeping(cut, dir, func(o *copystore.Options) {
			o.Patience = time.Minute
			if with != nil {
				with(o)
			}
		})
		got = map[string]string{}
		for entries := range s.Watch(t.Context(), "certificates") { // the copy, or that the store does not answer
			for _, e := range entries {
				got[e.Key] = string(e.Value)
			}
			break
		}
		if fmt.Sprint(got) == fmt.Sprint(want) {
			return
		}
	}
	t.Fatalf("the copy holds %q, want %q", got, want)
}

// The next file is made of the last one and of what has changed, whatever
// became of the last one.
func TestWrittenFromTheLast(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, file string){
		"whole":   func(*testing.T, string) {},
		"deleted": func(t *testing.T, file string) { must(t, os.Remove(file)) },
		"replaced": func(t *testing.T, file string) {
			must(t, os.WriteFile(file+"2", nil, 0o600))
			must(t, os.Rename(file+"2", file))
		},
		"emptied": func(t *testing.T, file string) { must(t, os.Truncate(file, 0)) },
		"damaged": func(t *testing.T, file string) {
			text, err := os.ReadFile(file)
			must(t, err)
			f, err := os.OpenFile(file, os.O_WRONLY, 0)
			must(t, err)
			_, err = f.Write(bytes.Repeat([]byte("x"), len(text)))
			must(t, err)
			must(t, f.Close())
		},
	} {
		for kind, sealing := range map[string]store.Ring{"plain": {}, "sealed": ring(t, "k")} {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				in, dir := store.NewMem(0).Replica("a"), t.TempDir()
				with := func(o *copystore.Options) { o.Ring = sealing }
				put(t, in, "certificates/x/a", "1")
				put(t, in, "certificates/x/b", "2")
				put(t, in, "certificates/x/c", "")
				s, _ := keeping(in, dir, with)
				watched(t, s, "certificates")
				inCopy(t, dir, with, "certificates/x/a", "1", "certificates/x/b", "2", "certificates/x/c", "")
				harm(t, filepath.Join(dir, "certificates.copy"))
				put(t, in, "certificates/x/d", "4")
				e, err := in.Get(t.Context(), "certificates/x/b")
				must(t, err)
				must(t, in.Delete(t.Context(), "certificates/x/b", e.Revision))
				inCopy(t, dir, with, "certificates/x/a", "1", "certificates/x/c", "", "certificates/x/d", "4")
			})
		}
	}
}

// What could not be written is held until it can be.
func TestWrittenLater(t *testing.T) {
	in, dir := store.NewMem(0).Replica("a"), filepath.Join(t.TempDir(), "later")
	must(t, os.WriteFile(dir, nil, 0o600))
	put(t, in, "certificates/x/a", "1")
	s, log := keeping(in, dir, nil)
	watched(t, s, "certificates")
	for end := time.Now().Add(30 * time.Second); !bytes.Contains([]byte(log.String()), []byte("cannot be written")); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not told of: %s", log)
		}
	}
	must(t, os.Remove(dir))
	put(t, in, "certificates/x/b", "2")
	inCopy(t, dir, nil, "certificates/x/a", "1", "certificates/x/b", "2")
}

// What is in the file is not in memory.
func TestHoldsNoValues(t *testing.T) {
	const n, size, most = 500, 20_000, 2_000
	in, dir := store.NewMem(0).Replica("a"), t.TempDir()
	for i := range n {
		put(t, in, fmt.Sprintf("certificates/x/%04d", i), string(bytes.Repeat([]byte{byte('a' + i%26)}, size)))
	}
	s, _ := keeping(in, dir, func(o *copystore.Options) { o.Inner, o.Ring = cloning{in}, ring(t, "k") })
	before := liveHeap()
	watched(t, s, "certificates")
	var each int64
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if each = (liveHeap() - before) / n; each < most {
			if info, err := os.Stat(filepath.Join(dir, "certificates.copy")); err == nil && info.Size() > n*size {
				return
			}
		}
	}
	t.Errorf("%d bytes held of each value of %d", each, size)
}

// cloning gives values of their own, as a store over the network does.
type cloning struct{ store.Store }

func (c cloning) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		for entries, err := range c.Store.Watch(ctx, prefix, o...) {
			for i := range entries {
				entries[i].Value = bytes.Clone(entries[i].Value)
			}
			if !yield(entries, err) {
				return
			}
		}
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
