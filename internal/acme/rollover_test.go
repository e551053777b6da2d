package acme

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"log/slog"
	"testing"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/store"
)

// keyBook is a CA with one account, whose answers to keyChange can be lost.
type keyBook struct {
	accountCA
	key  crypto.PublicKey
	lose bool  // the answer, after the change
	down error // nothing is done
}

const bookAccount = "https://ca.example/acct/1"

func (b *keyBook) has(key crypto.Signer) bool {
	return key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(b.key)
}

func (b *keyBook) FindAccount(_ context.Context, key crypto.Signer) (acmez.Account, error) {
	if b.down != nil {
		return acmez.Account{}, b.down
	}
	if !b.has(key) {
		return acmez.Account{}, &callError{Op: "find account", Status: 400, Problem: &acmez.Problem{Type: acmez.ProblemTypeNamespace + "accountDoesNotExist"}}
	}
	return acmez.Account{Location: bookAccount}, nil
}

func (b *keyBook) ChangeKey(_ context.Context, a acmez.Account, key crypto.Signer) error {
	if b.down != nil {
		return b.down
	}
	if !b.has(a.PrivateKey) {
		return errors.New("signed by another key")
	}
	b.key = key.Public()
	if b.lose {
		return &callError{Op: "keyChange", Err: errors.New("connection reset")}
	}
	return nil
}

// Whatever is lost on the way, CA and store agree in the end, and a replica
// that knows the old key learns the new one.
func TestRollover(t *testing.T) {
	for name, c := range map[string]struct {
		lose    bool
		down    bool
		fails   bool
		changed bool
	}{
		"all goes well":      {changed: true},
		"the answer lost":    {lose: true, changed: true},
		"the CA is away":     {down: true, fails: true},
		"lost, then a death": {lose: true, changed: true},
	} {
		t.Run(name, func(t *testing.T) {
			st := store.NewMem(0).Replica("a")
			pem, err := newKey(EC256)
			if err != nil {
				t.Fatal(err)
			}
			first, err := parseKey(pem)
			if err != nil {
				t.Fatal(err)
			}
			book := &keyBook{key: first.Public(), lose: c.lose}
			a := &accounts{issuer: "ca", directory: "https://ca.example/dir", store: st, keys: book, log: slog.New(slog.DiscardHandler)}
			lease, err := st.Acquire(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.put(t.Context(), lease, account{Version: 1, Directory: a.directory, Key: pem, Location: bookAccount}, ""); err != nil {
				t.Fatal(err)
			}
			before, err := a.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if c.down {
				book.down = errors.New("no answer")
			}
			if name == "lost, then a death" {
				// The CA has the new key, and nobody wrote so.
				rec, e, err := a.stored(t.Context(), lease)
				if err != nil {
					t.Fatal(err)
				}
				if rec.Next, err = newKey(EC256); err != nil {
					t.Fatal(err)
				}
				if _, err := a.put(t.Context(), lease, rec, e.Revision); err != nil {
					t.Fatal(err)
				}
				next, err := parseKey(rec.Next)
				if err != nil {
					t.Fatal(err)
				}
				_ = book.ChangeKey(t.Context(), before, next)
			} else if _, err := (&Issuer{accounts: a}).Rollover(t.Context()); (err != nil) != c.fails {
				t.Fatalf("rollover: %v", err)
			}
			book.down = nil
			after, err := a.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !book.has(after.PrivateKey) || book.has(before.PrivateKey) == c.changed {
				t.Errorf("the CA has the key: %v; still the one before: %v", book.has(after.PrivateKey), book.has(before.PrivateKey))
			}
			e, err := st.Get(t.Context(), a.key())
			if err != nil || bytes.Contains(e.Value, []byte(`"next"`)) {
				t.Errorf("stored: %s, %v", e.Value, err)
			}
		})
	}
}
