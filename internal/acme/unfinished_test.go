package acme

import (
	"errors"
	"testing"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// TestDoneKeepsAnOrderInFlight: a replica to which the renewal does not look due
// yet must not clean up after one that died while it was renewing.
func TestDoneKeepsAnOrderInFlight(t *testing.T) {
	old := []byte("the leaf in the store")
	for name, c := range map[string]struct {
		renews string
		in     []byte
		keep   bool
	}{
		"renews what is there":        {fingerprint(old), old, true},
		"what it renewed is past":     {fingerprint(old), []byte("the new one"), false},
		"first, then one came":        {"", old, false},
		"first, and nothing is there": {"", nil, false},
	} {
		st := store.NewMem(0).Replica("one")
		lease, err := st.Acquire(t.Context(), "orders/ca/x")
		if err != nil {
			t.Fatal(err)
		}
		req := cert.Request{ID: "x", Names: []string{"a.example.com"}, Lease: lease, Replaces: c.in}
		b, err := openBook(t.Context(), "ca", req, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		j := fullJournal(t)
		j.Renews, j.Challenges, j.Leftovers = c.renews, nil, nil
		if err := b.write(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		i := assemble(Options{ID: "ca", Challenge: http01, Store: st}, nil, func() {})
		if err := i.Done(t.Context(), req); errors.Is(err, cert.ErrUnfinished) != c.keep || err != nil && !c.keep {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := st.Get(t.Context(), "orders/ca/x"); (err == nil) != c.keep {
			t.Errorf("%s: the journal: %v", name, err)
		}
	}
}
