package acme

import (
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/internal/store"
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

func TestIssueForAnAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for _, kind := range []string{http01, tlsALPN01} {
		st := w.mem.Replica("one")
		b, err := w.issuer(kind, st).Obtain(t.Context(), request(t, st, kind, "127.0.0.1"))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		w.trusted(b, "127.0.0.1")
	}
}

// TestRenewal: the CA is told what is replaced; if it refuses that, it is
// asked without.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{Profiles: map[string]int{"short": 600, "long": 6000}})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st, func(o *Options) { o.Profile, o.KeyType = "short", EC384 })
	req := request(t, st, "x", "renewed.example.com")
	var replaced []byte
	for n := range 3 {
		b, err := i.Obtain(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		leaf := w.trusted(b, "renewed.example.com")
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 11*time.Minute {
			t.Errorf("the profile was not asked for: it lives %s", life)
		}
		if string(leaf.Raw) == string(req.Replaces) {
			t.Fatal("the old certificate came again")
		}
		// The second renewal says again that it replaces the first one: 409.
		if replaced == nil {
			replaced = leaf.Raw
		}
		req.Replaces = leaf.Raw
		if n != 1 { // the journal of the second is never done with
			if err := i.Done(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
	}
	req.Replaces = replaced
	if _, err := i.Obtain(t.Context(), req); err != nil {
		t.Fatalf("after it was replaced already: %v", err)
	}
	if refused := w.proxy.Forwarded(faultca.NewOrder) - w.proxy.Accepted(faultca.NewOrder); refused != 1 {
		t.Errorf("%d refused orders, want the one with replaces", refused)
	}
	if orders, certs := w.proxy.Orders("renewed.example.com"), w.proxy.Certificates("renewed.example.com"); orders != 4 || certs != 4 {
		t.Errorf("%d orders, %d certificates", orders, certs)
	}
}

func TestExternalAccountBinding(t *testing.T) {
	t.Parallel()
	const mac = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	w := newWorld(t, rig.PebbleOptions{EABKeys: map[string]string{"kid-1": mac}})
	st := w.mem.Replica("one")
	req := request(t, st, "x", "eab.example.com")
	_, err := w.issuer(http01, st).Obtain(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "asks for an external account binding") {
		t.Errorf("without: %v", err)
	}
	b, err := w.issuer(http01, st, func(o *Options) { o.EAB = &EAB{KeyID: "kid-1", MACKey: mac} }).Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.trusted(b, "eab.example.com")
}

func TestUnknownProfile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st, func(o *Options) { o.Profile = "gold" })
	_, err := i.Obtain(t.Context(), request(t, st, "x", "a.example.com"))
	if err == nil || !strings.Contains(err.Error(), `profile "gold": 127.0.0.1`) || !strings.HasSuffix(err.Error(), "offers default") {
		t.Errorf("got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := Options{Directory: "https://acme-v02.api.letsencrypt.org/directory", Challenge: http01, Store: store.NewMem(0).Replica("one")}
	i, err := New(good)
	if err != nil || i.ID() != "acme-v02.api.letsencrypt.org-directory" {
		t.Fatalf("%v %v", i, err)
	}
	for want, change := range map[string]func(*Options){
		"must be an https URL":            func(o *Options) { o.Directory = "http://127.0.0.1/dir" },
		"must be letters":                 func(o *Options) { o.ID = "a/b" },
		"must be dns-01":                  func(o *Options) { o.Challenge = "" },
		"dns-01 needs a DNS provider":     func(o *Options) { o.Challenge = dns01 },
		"must be EC256, EC384":            func(o *Options) { o.KeyType = "DSA" },
		"an issuer needs a store":         func(o *Options) { o.Store = nil },
		"directory \"\": must be an http": func(o *Options) { o.Directory = "" },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
