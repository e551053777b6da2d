package acme

import (
	"errors"
	"strings"
	"testing"

	"gatehouse/e2e/rig"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// TestRevoke asks a real CA: the account that ordered may, another may not but
// with the certificate's key, and once is enough.
func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	mine := w.mem.Replica("one")
	issuer := w.issuer(http01, mine)
	order := func(name string) (cert.Request, cert.Revocation) {
		req := request(t, mine, name, name+".example.com")
		b, err := issuer.Obtain(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return req, cert.Revocation{Leaf: w.trusted(b, name+".example.com").Raw, Key: b.Key, Reason: "superseded", Lease: req.Lease}
	}
	_, r := order("one")
	if said, err := issuer.Revoke(t.Context(), r); err != nil || !strings.Contains(said, "took it back (200), asked by the account") {
		t.Errorf("revoked: %q, %v", said, err)
	}
	if said, err := issuer.Revoke(t.Context(), r); err != nil || !strings.Contains(said, "alreadyRevoked") {
		t.Errorf("revoked again: %q, %v", said, err)
	}
	_, r = order("two")
	other := store.NewMem(0).Replica("other")
	r.Lease = request(t, other, "two").Lease
	stranger, key := w.issuer(http01, other), r.Key
	r.Key = nil
	var no *cert.RefusedError
	if said, err := stranger.Revoke(t.Context(), r); !errors.As(err, &no) || !strings.Contains(err.Error(), "revokeCert: "+hostOf(w.proxy.Directory())+" said 403") {
		t.Errorf("by another account: %q, %v", said, err)
	}
	r.Key = key
	if said, err := stranger.Revoke(t.Context(), r); err != nil || !strings.Contains(said, "asked by the certificate's key, as the account may not") {
		t.Errorf("by its key: %q, %v", said, err)
	}
	if why := stranger.lastWord(&callError{Op: "revokeCert", Status: 503}); errors.As(why, &no) {
		t.Errorf("a CA in trouble has no last word: %v", why)
	}
}
