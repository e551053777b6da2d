package sealstore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/store"
	"gatehouse/internal/store/sealstore"
	"gatehouse/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ring(t testing.TB, seeds ...string) store.Ring {
	t.Helper()
	if len(seeds) == 0 {
		return store.Ring{}
	}
	var text strings.Builder
	for _, s := range seeds {
		sum := sha256.Sum256([]byte(s))
		text.WriteString(base64.StdEncoding.EncodeToString(sum[:]) + "\n")
	}
	r, err := store.ParseRing(text.String())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sealed(inner store.Store, r store.Ring, log *bytes.Buffer) *sealstore.Store {
	logger := slog.New(slog.DiscardHandler)
	if log != nil {
		logger = slog.New(slog.NewTextHandler(log, nil))
	}
	return sealstore.New(sealstore.Options{Inner: inner, Ring: r, Prefixes: []string{"certificates"}, Passing: []string{"orders"}, Logger: logger})
}

// Around any store it is one: here what the suite writes is sealed, but for the
// largest value, as a sealed one is a third larger.
func TestConforms(t *testing.T) {
	const ttl = 3 * time.Second
	mem := store.NewMem(ttl)
	storetest.Run(t, func(t *testing.T, name string) store.Store {
		return sealstore.New(sealstore.Options{Inner: mem.Replica(name), Ring: ring(t, "k"), Prefixes: []string{
			"entries", "onewriterwins", "watch", "watchonce", "watchburst", "fencechange-data", "fencecreate-data", "fencedeleted-data",
		}, Logger: slog.New(slog.DiscardHandler)})
	}, storetest.Options{TTL: ttl})
}

func put(t *testing.T, s store.Store, key, value string) store.Revision {
	t.Helper()
	rev, err := s.Put(t.Context(), key, []byte(value), "")
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func raw(t *testing.T, s store.Store, key string) []byte {
	t.Helper()
	e, err := s.Get(context.WithoutCancel(t.Context()), key)
	if err != nil {
		t.Fatal(err)
	}
	return e.Value
}

func TestSealsWhatIsToBeSealed(t *testing.T) {
	in := store.NewMem(0).Replica("a")
	s := sealed(in, ring(t, "k"), nil)
	put(t, s, "certificates/x/y", "secret")
	put(t, s, "orders/x/y", "secret")
	put(t, s, "attempts/x/y", "known")
	for _, key := range []string{"certificates/x/y", "orders/x/y"} {
		if got := raw(t, in, key); store.SealedUnder(got) != ring(t, "k").IDs()[0] {
			t.Errorf("%s is stored as %q", key, got)
		}
		if got := raw(t, s, key); string(got) != "secret" {
			t.Errorf("%s is read as %q", key, got)
		}
	}
	if got := raw(t, in, "attempts/x/y"); string(got) != "known" {
		t.Errorf("attempts are stored as %q", got)
	}
}

// A replica without the key, or with another, changes nothing and takes
// nothing for absent.
func TestAnotherKeyWritesNothing(t *testing.T) {
	mem := store.NewMem(0)
	put(t, sealed(mem.Replica("a"), ring(t, "k"), nil), "certificates/x/y", "secret")
	for name, r := range map[string]store.Ring{"none": ring(t), "another": ring(t, "other")} {
		var log bytes.Buffer
		s := sealed(mem.Replica("b"), r, &log)
		if _, err := s.Get(t.Context(), "certificates/x/y"); !errors.Is(err, store.ErrSealed) {
			t.Errorf("%s: get: %v", name, err)
		}
		l, err := s.Acquire(t.Context(), "orders/"+name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Get(t.Context(), "certificates/x/y"); !errors.Is(err, store.ErrSealed) {
			t.Errorf("%s: get by lease: %v", name, err)
		}
		if _, err := l.Put(t.Context(), "certificates/x/new", nil, ""); !errors.Is(err, store.ErrSealed) {
			t.Errorf("%s: put: %v", name, err)
		}
		if _, err := s.Put(t.Context(), "attempts/x/"+name, nil, ""); err != nil {
			t.Errorf("%s: what is not sealed: %v", name, err)
		}
		if want := "key " + ring(t, "k").IDs()[0]; !strings.Contains(log.String(), want) || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("%s: the log says %q, want one line with %q", name, log.String(), want)
		}
		for entries, err := range s.Watch(t.Context(), "certificates") {
			if err != nil || len(entries) != 1 || store.CheckSealed(entries[0].Value) == nil {
				t.Errorf("%s: watch: %v %v", name, entries, err)
			}
			break
		}
	}
}

// A value damaged at rest is given to who decodes it, to be refused and put
// over: it would else never be made again.
func TestDamagedCanBePutOver(t *testing.T) {
	in := store.NewMem(0).Replica("a")
	s := sealed(in, ring(t, "k"), nil)
	rev := put(t, s, "certificates/x/y", "secret")
	value := raw(t, in, "certificates/x/y")
	rev, err := in.Put(t.Context(), "certificates/x/y", value[:len(value)-4], rev)
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Get(t.Context(), "certificates/x/y")
	if err != nil || store.CheckSealed(e.Value) == nil {
		t.Fatalf("got %q, %v", e.Value, err)
	}
	if _, err := s.Put(t.Context(), "certificates/x/y", []byte("new"), rev); err != nil {
		t.Fatal(err)
	}
}

// The way from no key to a key to the next, on two replicas that are not
// restarted at the same moment.
func TestKeysAreExchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		in := mem.Replica("look")
		run := func(name string, r store.Ring) (*sealstore.Store, func()) {
			ctx, cancel := context.WithCancel(t.Context())
			s := sealed(mem.Replica(name), r, nil)
			done := make(chan struct{})
			go func() { _ = s.Run(ctx); close(done) }()
			time.Sleep(time.Minute)
			return s, func() { cancel(); <-done }
		}
		under := func(id string) {
			t.Helper()
			if got := store.SealedUnder(raw(t, in, "certificates/x/y")); got != id {
				t.Errorf("sealed under %q, want %q", got, id)
			}
		}
		readable := func(list ...*sealstore.Store) {
			t.Helper()
			for i, s := range list {
				if got := raw(t, s, "certificates/x/y"); string(got) != "secret" {
					t.Errorf("replica %d reads %q", i, got)
				}
			}
		}
		old, next := ring(t, "old").IDs()[0], ring(t, "new").IDs()[0]
		put(t, in, "certificates/x/y", "secret") // of times before the key
		_, stop := run("none", ring(t))
		under("")
		stop()

		_, stopOld := run("a", ring(t, "old"))
		under(old)
		stopOld()
		a, stopA := run("a", ring(t, "old", "new")) // first all replicas learn the new key
		b, stopB := run("b", ring(t, "old", "new"))
		under(old)
		readable(a, b)
		stopB()
		b, stopB = run("b", ring(t, "new", "old")) // then it becomes the first, one by one
		under(next)
		readable(a, b)
		put(t, a, "certificates/x/z", "by the one that is not restarted yet")
		if got := store.SealedUnder(raw(t, in, "certificates/x/z")); got != next {
			t.Errorf("the other replica seals under %q, want %q", got, next)
		}
		stopA()
		_, stopA = run("a", ring(t, "old", "new")) // a replica that comes back with the old order does not turn it round
		under(next)
		stopA()
		stopB()
		b, stopB = run("b", ring(t, "new"))
		readable(b)
		stopB()
	})
}
