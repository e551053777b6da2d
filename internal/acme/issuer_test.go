package acme

import (
	"strings"
	"testing"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
)

func TestIssueByEachChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{NonceReject: 15})
	for kind, names := range map[string][]string{
		http01:    {"a.example.com", "b.example.com"},
		tlsALPN01: {"c.example.com", "d.example.com"},
		dns01:     {"example.com", "*.example.com", "e.example.com"},
	} {
		t.Run(kind, func(t *testing.T) {
			st := w.mem.Replica("one")
			i := w.issuer(kind, st)
			req := request(t, st, kind, names...)
			b, err := i.Obtain(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			w.trusted(b, names[0], strings.Replace(names[1], "*", "w", 1))
			if w.proxy.Orders(names...) != 1 || w.proxy.Certificates(names...) != 1 {
				t.Errorf("%d orders, %d certificates", w.proxy.Orders(names...), w.proxy.Certificates(names...))
			}
			again, err := i.Obtain(t.Context(), req)
			if err != nil || string(again.Chain) != string(b.Chain) || string(again.Key) != string(b.Key) {
				t.Errorf("before Done the same bundle must come again: %v", err)
			}
			for range 2 {
				if err := i.Done(t.Context(), req); err != nil {
					t.Fatal(err)
				}
			}
			if left := w.left(); len(left) > 0 || w.dns.records() > 0 {
				t.Errorf("left: %v, %d records", left, w.dns.records())
			}
		})
	}
	if w.dns.waits != 1 {
		t.Errorf("%d waits for propagation, want one for all names", w.dns.waits)
	}
	if n := w.proxy.Accepted(faultca.NewAccount); n != 1 {
		t.Errorf("%d accounts were asked for, want 1 for all issuers of the store", n)
	}
}
