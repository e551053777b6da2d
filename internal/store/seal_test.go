package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"gatehouse/internal/store"
)

func keyText(seed string) string {
	sum := sha256.Sum256([]byte(seed))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func ring(t testing.TB, seeds ...string) store.Ring {
	t.Helper()
	lines := []string{"# the newest first", ""}
	for _, s := range seeds {
		lines = append(lines, keyText(s))
	}
	r, err := store.ParseRing(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSeal(t *testing.T) {
	both, first := ring(t, "new", "old"), ring(t, "old")
	plain := []byte("a private key")
	sealed, err := both.Seal(both.IDs()[1], "certificates/a/b", plain)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, plain) || store.SealedUnder(sealed) != first.IDs()[0] {
		t.Fatalf("sealed: %s", sealed)
	}
	for _, r := range []store.Ring{both, first} {
		if got, err := r.Open("certificates/a/b", sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("open: %q, %v", got, err)
		}
	}
	if got, err := (store.Ring{}).Open("x", plain); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("what is not sealed: %q, %v", got, err)
	}
	again, _ := both.Seal(both.IDs()[1], "certificates/a/b", plain)
	if bytes.Equal(again, sealed) {
		t.Error("sealed twice it is the same")
	}
}

func TestSealedIsNotOpened(t *testing.T) {
	r := ring(t, "one")
	sealed, err := r.Seal(r.IDs()[0], "k", []byte("value"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(sealed)
	flipped[len(flipped)-6] ^= 1
	for name, c := range map[string]struct {
		ring  store.Ring
		name  string
		value []byte
		says  string
		key   bool // is there
	}{
		"another key":  {ring(t, "two"), "k", sealed, "this replica has " + ring(t, "two").IDs()[0], false},
		"no key":       {store.Ring{}, "k", sealed, "this replica has no key", false},
		"another name": {r, "other", sealed, "written for another name", true},
		"changed":      {r, "k", flipped, "damaged", true},
		"cut short":    {r, "k", sealed[:len(sealed)-8], "damaged", true},
		"cut shorter":  {r, "k", sealed[:bytes.LastIndexByte(sealed, ':')+1], "cut short", true},
	} {
		if _, err := c.ring.Open(c.name, c.value); err == nil || errors.Is(err, store.ErrSealed) == c.key || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	if err := store.CheckSealed(sealed); err == nil {
		t.Errorf("CheckSealed: %v", err)
	}
	if err := store.CheckSealed([]byte("{}")); err != nil {
		t.Errorf("CheckSealed of a plain value: %v", err)
	}
}

func TestRingRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":   "\n# no key\n",
		"a word":    "secret",
		"too short": base64.StdEncoding.EncodeToString(make([]byte, 16)),
		"twice":     keyText("a") + "\n" + keyText("a"),
	} {
		_, err := store.ParseRing(text)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), keyText("a")) {
			t.Errorf("%s: the error shows what is secret: %v", name, err)
		}
	}
	raw := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(keyText("a"))
	if r, err := store.ParseRing(raw); err != nil || r.IDs()[0] != ring(t, "a").IDs()[0] {
		t.Errorf("base64url: %v", err)
	}
}

func FuzzOpenSealed(f *testing.F) {
	r := ring(f, "one")
	sealed, _ := r.Seal(r.IDs()[0], "k", []byte("value"))
	f.Add(sealed)
	f.Add([]byte("gatehouse-sealed:1::"))
	f.Fuzz(func(t *testing.T, value []byte) {
		got, err := r.Open("k", value)
		if err == nil && store.SealedUnder(value) != "" && string(got) != "value" {
			t.Errorf("%q opens as %q", value, got)
		}
	})
}
