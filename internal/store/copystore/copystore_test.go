package copystore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gatehouse/internal/store"
	"gatehouse/internal/store/copystore"
	"gatehouse/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 200 * time.Millisecond

func ring(t testing.TB, seed string) store.Ring {
	t.Helper()
	sum := sha256.Sum256([]byte(seed))
	r, err := store.ParseRing(base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// logBuffer is what a store says; tests read it while it may still speak.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func keeping(inner store.Store, dir string, change func(*copystore.Options)) (*copystore.Store, *logBuffer) {
	log := &logBuffer{}
	o := copystore.Options{Inner: inner, Dir: dir, Source: "etcd 1.2.3.4 /gatehouse", Prefixes: []string{"certificates", ""},
		Patience: patience, Logger: slog.New(slog.NewTextHandler(log, nil))}
	if change != nil {
		change(&o)
	}
	return copystore.New(o), log
}

// take gives what a watch yields until until is content with it.
func take(t *testing.T, s store.Store, prefix string, until func([]store.Entry, error) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for entries, err := range s.Watch(ctx, prefix) {
		if until(entries, err) {
			return
		}
	}
	t.Fatal("the watch did not yield what was waited for")
}

func holds(text string) func([]store.Entry, error) bool {
	return func(entries []store.Entry, err error) bool {
		return err == nil && strings.Contains(fmt.Sprintf("%s", entries), text)
	}
}

func put(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, []byte(value), ""); err != nil {
		t.Fatal(err)
	}
}

// Around any store it is one, with or without its copy.
func TestConforms(t *testing.T) {
	const ttl = 3 * time.Second
	mem, dir := store.NewMem(ttl), t.TempDir()
	storetest.Run(t, func(t *testing.T, name string) store.Store {
		s, _ := keeping(mem.Replica(name), dir, func(o *copystore.Options) {
			o.Prefixes = []string{"entries", "watch", "watchonce", "watchends", "watchprefix", "watchburst", "watchprefix/a"}
		})
		return s
	}, storetest.Options{TTL: ttl})
}

func TestStartsWithoutItsStore(t *testing.T) {
	for name, sealing := range map[string]store.Ring{"plain": {}, "sealed": ring(t, "k")} {
		t.Run(name, func(t *testing.T) {
			mem, dir := store.NewMem(0), t.TempDir()
			with := func(o *copystore.Options) { o.Ring = sealing }
			first := mem.Replica("a")
			put(t, first, "certificates/x/y", "a private key")
			s, _ := keeping(first, dir, with)
			take(t, s, "certificates", holds("a private key"))

			text, err := os.ReadFile(filepath.Join(dir, "certificates.copy"))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("a private key")) == (name == "sealed") {
				t.Errorf("the file says %q", text)
			}
			info, err := os.Stat(filepath.Join(dir, "certificates.copy"))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}

			again := mem.Replica("a")
			again.Partition(true) // the store is down, and another replica goes on writing
			put(t, first, "certificates/x/z", "newer")
			s, log := keeping(again, dir, with)
			began, step := time.Now(), 0
			take(t, s, "certificates", func(entries []store.Entry, err error) bool {
				switch step {
				case 0:
					want := []store.Entry{{Key: "certificates/x/y", Value: []byte("a private key")}}
					for i := range entries {
						want[i].Revision = entries[i].Revision
					}
					if diff := cmp.Diff(want, entries); diff != "" || err != nil {
						t.Errorf("first: %v\n%s", err, diff)
					}
					if took := time.Since(began); took > 10*patience {
						t.Errorf("the copy came after %v", took)
					}
					if _, stale := s.Stale(); !stale || !strings.Contains(log.String(), "what it held last is used") {
						t.Errorf("stale is %v, the log says %q", stale, log)
					}
					again.Partition(false)
					began = time.Now()
				default:
					if !holds("newer")(entries, err) {
						return false
					}
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("at work after %v", took)
					}
					if _, stale := s.Stale(); stale {
						t.Error("it is still called stale")
					}
					return true
				}
				step++
				return false
			})
		})
	}
}

// No copy, or one that cannot be used, is no obstacle: the store is waited for.
func TestUselessCopies(t *testing.T) {
	mem, dir := store.NewMem(0), t.TempDir()
	put(t, mem.Replica("a"), "certificates/x/y", "value")
	s, _ := keeping(mem.Replica("a"), dir, nil)
	take(t, s, "certificates", holds("value"))
	file := filepath.Join(dir, "certificates.copy")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)/2] ^= 1
	for name, c := range map[string]struct {
		content []byte
		change  func(*copystore.Options)
		says    string
	}{
		"none":      {nil, nil, ""},
		"flipped":   {flipped, nil, "damaged"},
		"cut short": {good[:len(good)-3], nil, "damaged"},
		"empty":     {[]byte{}, nil, "no copy"},
		"something": {bytes.Repeat([]byte("x"), 10<<20), nil, "no copy"},
		"foreign":   {good, func(o *copystore.Options) { o.Source = "etcd elsewhere" }, "another store"},
	} {
		t.Run(name, func(t *testing.T) {
			_ = os.Remove(file)
			if c.content != nil {
				if err := os.WriteFile(file, c.content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r := mem.Replica("b")
			r.Partition(true)
			s, log := keeping(r, dir, c.change)
			var seen error
			take(t, s, "certificates", func(entries []store.Entry, err error) bool {
				if seen == nil {
					if seen = err; err == nil {
						t.Errorf("first: %v, want the store's error", entries)
					}
					time.AfterFunc(2*patience, func() { r.Partition(false) })
				}
				return holds("value")(entries, err)
			})
			if c.says != "" && !strings.Contains(log.String(), c.says) {
				t.Errorf("the log says %q, want %q", log, c.says)
			}
		})
	}
}

// A folder that cannot be written costs the copy, nothing else, and is told of
// once.
func TestFolderThatCannotBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	in := store.NewMem(0).Replica("a")
	put(t, in, "certificates/x/y", "1")
	s, log := keeping(in, dir, nil)
	take(t, s, "certificates", holds("1"))
	take(t, s, "certificates", holds("1"))
	if n := strings.Count(log.String(), "cannot be written"); n != 1 {
		t.Errorf("told %d times: %s", n, log)
	}
}

// What is asked for by name is the store's word alone.
func TestOnlyWatchesAreAnswered(t *testing.T) {
	mem, dir := store.NewMem(0), t.TempDir()
	put(t, mem.Replica("a"), "certificates/x/y", "value")
	s, _ := keeping(mem.Replica("a"), dir, nil)
	take(t, s, "certificates", holds("value"))
	r := mem.Replica("b")
	r.Partition(true)
	s, _ = keeping(r, dir, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.Get(ctx, "certificates/x/y"); err == nil || errors.Is(err, store.ErrNotFound) {
		t.Errorf("get: %v, want that the store does not answer", err)
	}
}

func FuzzCopy(f *testing.F) {
	dir := f.TempDir()
	f.Add([]byte("gatehouse-copy 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "certificates.copy"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		r := store.NewMem(0).Replica("a")
		r.Partition(true)
		s, _ := keeping(r, dir, func(o *copystore.Options) { o.Patience = time.Microsecond })
		for range s.Watch(t.Context(), "certificates") {
			break
		}
	})
}

// What is deleted, a private key perhaps, goes from the copy too.
func TestDeletedGoesFromTheCopy(t *testing.T) {
	mem, dir := store.NewMem(0), t.TempDir()
	s, _ := keeping(mem.Replica("a"), dir, nil)
	put(t, s, "certificates/ca/a", "the old key")
	put(t, s, "certificates/ca/b", "the new key")
	copied := func(want, unwanted string) bool {
		data, err := os.ReadFile(filepath.Join(dir, "certificates.copy"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
		return strings.Contains(string(data), want) && (unwanted == "" || !strings.Contains(string(data), unwanted))
	}
	wait := func(want, unwanted string) {
		for end := time.Now().Add(20 * time.Second); !copied(want, unwanted); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("the copy does not become one with %q and without %q", want, unwanted)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for entries, err := range s.Watch(ctx, "certificates") {
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) < 2 { // the watch goes on meanwhile
			wait("the new key", "the old key")
			return
		}
		wait("the old key", "")
		if err := s.Delete(ctx, entries[0].Key, entries[0].Revision); err != nil {
			t.Fatal(err)
		}
	}
}
