package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gatehouse/internal/store"
)

// entries: what get, put and delete say for each state of a key.
func (s *suite) entries(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	ctx, key := within(t, patience), space(t)+"/some/key"

	foreign := mustPut(t, a, key+"-other", "", "")
	_, err := a.Get(ctx, key)
	want(t, "get of nothing", err, store.ErrNotFound)
	want(t, "delete of nothing", a.Delete(ctx, key, foreign), store.ErrNotFound)
	want(t, "delete of nothing at no revision", a.Delete(ctx, key, ""), store.ErrNotFound)
	_, err = a.Put(ctx, key, nil, foreign)
	want(t, "put over a revision of nothing", err, store.ErrConflict)

	first := mustPut(t, a, key, "one", "")
	if e := mustGet(t, b, key); string(e.Value) != "one" || e.Revision != first {
		t.Errorf("b reads %q at %q, want what a wrote at %q", e.Value, e.Revision, first)
	}
	_, err = b.Put(ctx, key, []byte("two"), "")
	want(t, "create of what exists", err, store.ErrConflict)
	second := mustPut(t, b, key, "two", first)
	_, err = a.Put(ctx, key, []byte("three"), first)
	want(t, "put over an old revision", err, store.ErrConflict)
	want(t, "delete of an old revision", a.Delete(ctx, key, first), store.ErrConflict)
	want(t, "delete at no revision", a.Delete(ctx, key, ""), store.ErrConflict)
	want(t, "delete at what is no revision", a.Delete(ctx, key, "x"), store.ErrConflict)

	same := mustPut(t, a, key, "two", second)
	if e := mustGet(t, b, key); string(e.Value) != "two" || e.Revision != same {
		t.Errorf("after a write of the same value: %q at %q, want %q", e.Value, e.Revision, same)
	}
	back := mustPut(t, a, key, "one", same)
	if back == first {
		t.Error("the first value written again has the first revision again")
	}
	if err := b.Delete(ctx, key, back); err != nil {
		t.Errorf("delete: %v", err)
	}
	_, err = a.Get(ctx, key)
	want(t, "get after delete", err, store.ErrNotFound)
	_, err = a.Put(ctx, key, []byte("one"), back)
	want(t, "put over a deleted revision", err, store.ErrConflict)
	if again := mustPut(t, a, key, "one", ""); again == first || again == back {
		t.Error("what was deleted and created has an old revision")
	}
}

// values: every byte comes back, up to MaxValue; not one more is taken.
func (s *suite) values(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for name, value := range map[string][]byte{
		"empty":     {},
		"text":      []byte("-----BEGIN CERTIFICATE-----\nMIIB+/=\n"),
		"routing":   []byte("Host:www.example.com;PathPrefix:/ä&b%20=\"<>\" +"),
		"separator": []byte("a\u2028b\u2029c\ufffdd"),
		"zeros":     make([]byte, 9),
		"every":     every,
		"half-rune": []byte("gr\xc3"),
		"512k":      bytes.Repeat(every, 2048),
		"512k-text": bytes.Repeat([]byte("abc\n"), 128<<10),
		"largest":   bytes.Repeat(every, store.MaxValue/256),
	} {
		key := space(t) + "/" + name
		rev := mustPut(t, a, key, string(value), "")
		if e := mustGet(t, b, key); !bytes.Equal(e.Value, value) || e.Revision != rev {
			t.Errorf("%s: %d bytes came back as %d: %.80q", name, len(value), len(e.Value), e.Value)
		}
		for entries, err := range b.Watch(within(t, patience), key) {
			if err != nil || len(entries) != 1 || !bytes.Equal(entries[0].Value, value) {
				t.Errorf("%s: watch gave %d entries, %v", name, len(entries), err)
			}
			break
		}
		if len(value) > 1<<16 {
			if err := a.Delete(within(t, patience), key, rev); err != nil {
				t.Error(err)
			}
		}
	}
	_, err := a.Put(within(t, patience), space(t)+"/large", make([]byte, store.MaxValue+1), "")
	want(t, "a value too large", err, store.ErrTooLarge)
	_, err = a.Get(within(t, patience), space(t)+"/large")
	want(t, "get of a value that was too large", err, store.ErrNotFound)
}

// keys: what CheckKey refuses is refused, what it allows works.
func (s *suite) keys(t *testing.T) {
	a := s.open(t, "a")
	ctx := within(t, patience)
	for _, key := range []string{"", "/", "/a", "a/", "a//b", "../a", "a/../b", "a/.", ".queue/a", "a\x00b", "a\nb", "\xff", strings.Repeat("x", 300)} {
		_, err := a.Get(ctx, key)
		want(t, fmt.Sprintf("get %.20q", key), err, store.ErrInvalidKey)
		_, err = a.Put(ctx, key, nil, "")
		want(t, fmt.Sprintf("put %.20q", key), err, store.ErrInvalidKey)
		want(t, fmt.Sprintf("delete %.20q", key), a.Delete(ctx, key, "1"), store.ErrInvalidKey)
		want(t, fmt.Sprintf("announce %.20q", key), a.Announce(ctx, key, nil), store.ErrInvalidKey)
		if key != "" && key[0] != '.' {
			_, err = a.Acquire(ctx, key)
			want(t, fmt.Sprintf("acquire %.20q", key), err, store.ErrInvalidKey)
		}
	}
	for _, key := range []string{"*.example.com", "a b", "ä", "100%", "%2e", "q?x=1#f", "a+b&c=d", `\"'`, ".hidden", "_s", "CON", strings.Repeat("x", 200)} {
		key := space(t) + "/" + key
		mustPut(t, a, key, key, "")
		if e := mustGet(t, a, key); string(e.Value) != key {
			t.Errorf("get %q gave %q", key, e.Value)
		}
	}
	for entries, err := range a.Watch(ctx, space(t)) {
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if string(e.Value) != e.Key {
				t.Errorf("watch calls %q %q", e.Value, e.Key)
			}
		}
		if len(entries) != 12 {
			t.Errorf("watch gave %d keys of 12", len(entries))
		}
		break
	}
}

// oneWriterWins: of many that write over the same revision, exactly one does.
func (s *suite) oneWriterWins(t *testing.T) {
	const writers, rounds = 8, 15
	stores := []store.Store{s.open(t, "a"), s.open(t, "b")}
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
	defer cancel()
	key, have := space(t)+"/k", store.Revision("")
	for round := range rounds {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var won []string
		for w := range writers {
			wg.Go(func() {
				value := fmt.Sprintf("round %d writer %d", round, w)
				_, err := stores[w%2].Put(ctx, key, []byte(value), have)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					won = append(won, value)
				case !errors.Is(err, store.ErrConflict):
					t.Errorf("%s: %v", value, err)
				}
			})
		}
		wg.Wait()
		e := mustGet(t, stores[round%2], key)
		if len(won) != 1 || string(e.Value) != won[0] {
			t.Fatalf("round %d: won %q, the store has %q", round, won, e.Value)
		}
		have = e.Revision
		if round%5 == 4 { // the next round creates
			if err := stores[0].Delete(ctx, key, have); err != nil {
				t.Fatal(err)
			}
			have = ""
		}
	}
}
