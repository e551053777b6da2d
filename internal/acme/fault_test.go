package acme

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// TestFaultsOfTheCA lets each kind of request go wrong in each way once: the
// attempt gets its certificate all the same, from one order.
func TestFaultsOfTheCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	ways := map[string]faultca.Fault{
		"reply lost":        {Lost: true},
		"not delivered":     {Undone: true},
		"503 page":          {Status: 503},
		"503 in a second":   {Status: 503, RetryAfter: "1", Problem: "serverInternal"},
		"429 in a second":   {Status: 429, RetryAfter: "1", Problem: "rateLimited"},
		"three times a 500": {Status: 500, Problem: "serverInternal", Times: 3},
	}
	steps := []faultca.Step{faultca.Directory, faultca.Nonce, faultca.NewAccount, faultca.NewOrder, faultca.Order,
		faultca.Authorization, faultca.Challenge, faultca.Finalize, faultca.Certificate}
	for way, fault := range ways {
		t.Run(way, func(t *testing.T) {
			for _, step := range steps {
				if fault.RetryAfter != "" && step != faultca.NewOrder && step != faultca.Finalize {
					continue // two seconds are enough
				}
				w.mem = store.NewMem(0)
				w.responderStore.set(w.mem.Replica("responder"))
				fault.Step = step
				w.proxy.Heal()
				w.proxy.Inject(fault)
				accounts := w.proxy.AccountKeys()
				st := w.mem.Replica("one")
				i := w.issuer(http01, st)
				names := []string{strings.ReplaceAll(way, " ", "-") + "." + strings.ToLower(string(step)) + ".example.com"}
				req := request(t, st, "x", names...)
				b, err := i.Obtain(t.Context(), req)
				if err != nil {
					t.Errorf("%s: %v", step, err)
					continue
				}
				w.trusted(b, names...)
				mostOrders := 1
				if step == faultca.NewOrder && fault.Lost {
					mostOrders = 2
				}
				if got := w.proxy.Orders(names...); got > mostOrders {
					t.Errorf("%s: %d orders", step, got)
				}
				if got := w.proxy.Certificates(names...); got != 1 {
					t.Errorf("%s: %d certificates", step, got)
				}
				if got := w.proxy.AccountKeys() - accounts; got != 1 {
					t.Errorf("%s: accounts with %d keys", step, got)
				}
				if err := i.Done(t.Context(), req); err != nil {
					t.Errorf("%s: %v", step, err)
				}
			}
		})
	}
}

// TestCADownKeepsTheOrder: an attempt ends with an error that says so, the
// next goes on with the same order.
func TestCADownKeepsTheOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st)
	req := request(t, st, "x", "down.example.com")
	w.proxy.Inject(faultca.Fault{Step: faultca.Finalize, Status: 503, Times: -1}, faultca.Fault{Step: faultca.Order, Status: 503, Times: -1})
	_, err := i.Obtain(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "said 503 Service Unavailable; tried 5 times, the order is kept") {
		t.Fatalf("while it is down: %v", err)
	}
	w.proxy.Heal()
	b, err := i.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.trusted(b, "down.example.com")
	if orders, certs := w.proxy.Orders("down.example.com"), w.proxy.Certificates("down.example.com"); orders != 1 || certs != 1 {
		t.Errorf("%d orders, %d certificates", orders, certs)
	}
}

func TestRetryAfterIsHandedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st)
	req := request(t, st, "x", "limited.example.com")
	w.proxy.Inject(faultca.Fault{Step: faultca.NewOrder, Status: 429, RetryAfter: "3600", Problem: "rateLimited"})
	_, err := i.Obtain(t.Context(), req)
	var retry *cert.RetryError
	if !errors.As(err, &retry) || time.Until(retry.After) < 59*time.Minute || time.Until(retry.After) > time.Hour {
		t.Fatalf("got %v", err)
	}
	if want := "newOrder: "; !strings.HasPrefix(err.Error(), want) || !strings.Contains(err.Error(), "said 429 rateLimited: made by faultca") {
		t.Errorf("message: %v", err)
	}
	if n := w.proxy.Forwarded(faultca.NewOrder); n != 0 {
		t.Errorf("%d newOrders", n)
	}
}

// TestCAThatLostEverything: Pebble is restarted at each step that asks it
// anything; account and order are made again.
func TestCAThatLostEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for _, op := range []string{"CA newOrder", "CA authorization", "DNS present", "CA challenge", "CA order", "CA finalize"} {
		for _, after := range []bool{false, true} {
			w.mem = store.NewMem(0)
			restarted := false
			l := &life{}
			l.meet = func(at point, now bool) bool {
				if at.op == op && now == after && !restarted {
					restarted = true
					w.pebble.Kill()
					if err := w.pebble.Start(t.Context()); err != nil {
						t.Error(err)
					}
				}
				return false
			}
			name := strings.ToLower(strings.ReplaceAll(op, " ", "-")) + map[bool]string{false: ".before", true: ".after"}[after] + ".example.com"
			b, err := w.live(l, w.mem.Replica("one"), dns01, "x", name)
			if err != nil {
				t.Errorf("restarted at %s (after: %v): %v", op, after, err)
				continue
			}
			if !restarted {
				t.Errorf("%s was not reached", op)
			}
			w.trusted(b, name)
			if left := w.left(); len(left) > 0 || w.dns.records() > 0 {
				t.Errorf("%s: left %v and %d records", op, left, w.dns.records())
			}
			if n := w.proxy.Orders(name); n > 2 {
				t.Errorf("%s: %d orders", op, n)
			}
		}
	}
}

// TestRefusedValidation: the error says who said what; nothing is left; the
// next attempt has a fresh order.
func TestRefusedValidation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st)
	w.deaf.Store(true)
	req := request(t, st, "x", "refused.example.com")
	_, err := i.Obtain(t.Context(), req)
	if err == nil {
		t.Fatal("it was validated")
	}
	for _, want := range []string{"http-01 refused.example.com: ", "unauthorized", "/.well-known/acme-challenge/", "404"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if left := w.left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	w.deaf.Store(false)
	b, err := i.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.trusted(b, "refused.example.com")
	if n := w.proxy.Orders("refused.example.com"); n != 2 {
		t.Errorf("%d orders", n)
	}
}

func TestRefusedName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(http01, st)
	for names, want := range map[string]string{
		"under_score.example.com": "newOrder: 127.0.0.1:",
		"*.example.com":           "http-01 *.example.com: a wildcard can only be proved by dns-01",
		"a b":                     "no name a certificate can have",
	} {
		_, err := i.Obtain(t.Context(), request(t, st, "x"+names[:1], names))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", names, err)
		}
	}
	if n := w.proxy.Accepted(faultca.NewOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
}
