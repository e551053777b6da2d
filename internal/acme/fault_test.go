package acme

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/internal/acme/dns"
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
				if n := w.proxy.Unmet(); n > 0 {
					t.Errorf("%s: %d faults did not happen", step, n)
				}
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
	if _, again := i.Obtain(t.Context(), req); fmt.Sprint(again) != err.Error() || w.proxy.Orders("refused.example.com") != 1 {
		t.Errorf("before it is recorded: %v, %d orders", again, w.proxy.Orders("refused.example.com"))
	}
	if err := i.Recorded(t.Context(), req); err != nil {
		t.Fatal(err)
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
	if asked, made := w.proxy.Forwarded(faultca.NewOrder), w.proxy.Accepted(faultca.NewOrder); asked != 1 || made != 0 {
		t.Errorf("the CA was asked %d times and made %d orders", asked, made)
	}
}

// TestDNSTrouble: it is told with the name, the order is kept, and what could
// not be cleaned up is cleaned up later.
func TestDNSTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	faulty := &faultyDNS{DNSSolver: w.dns}
	i := w.issuer(dns01, st, func(o *Options) { o.DNS = faulty })
	req := request(t, st, "x", "office.example.com")
	for _, c := range []struct{ op, want string }{ // in the order of an attempt
		{"plan", "dns-01 office.example.com: no zone"},
		{"present", "dns-01 office.example.com: present: no zone"},
		{"wait", "dns-01 office.example.com: wait until it can be seen: no zone"},
	} {
		faulty.fail = c.op
		if _, err := i.Obtain(t.Context(), req); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.op, err, c.want)
		}
	}
	faulty.fail = "clean up"
	b, err := i.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.proxy.Orders("office.example.com"); n != 1 {
		t.Errorf("%d orders", n)
	}
	if err := i.Done(t.Context(), req); err == nil || err.Error() != "dns-01 office.example.com: clean up: no zone" {
		t.Errorf("Done: %v", err)
	}
	e, err := st.Get(t.Context(), "orders/pebble/x")
	if err != nil {
		t.Fatal(err)
	}
	if j, err := decodeJournal(e.Value); err != nil || len(j.Key) > 0 || len(j.Leftovers) != 1 {
		t.Errorf("the journal holds more than what is left over: %v %s", err, e.Value)
	}
	faulty.fail = ""
	req.Replaces = w.trusted(b, "office.example.com").Raw
	if b, err = i.Obtain(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	req.Replaces = w.trusted(b, "office.example.com").Raw
	if w.dns.records() > 1 {
		t.Errorf("%d records: the next order did not clean up", w.dns.records())
	}
	if err := i.Done(t.Context(), req); err != nil || len(w.left()) > 0 || w.dns.records() > 0 {
		t.Errorf("%v, left %v and %d records", err, w.left(), w.dns.records())
	}
}

// faultyDNS fails one kind of call.
type faultyDNS struct {
	DNSSolver
	fail string
}

func (f *faultyDNS) err(op string) error {
	if f.fail == op {
		return errors.New("no zone")
	}
	return nil
}

func (f *faultyDNS) Plan(ctx context.Context, domain, value string) (dns.Record, error) {
	if err := f.err("plan"); err != nil {
		return dns.Record{}, err
	}
	return f.DNSSolver.Plan(ctx, domain, value)
}

func (f *faultyDNS) Present(ctx context.Context, rec dns.Record) error {
	return cmp.Or(f.err("present"), f.DNSSolver.Present(ctx, rec))
}

func (f *faultyDNS) Wait(ctx context.Context, recs []dns.Record) error {
	return cmp.Or(f.err("wait"), f.DNSSolver.Wait(ctx, recs))
}

func (f *faultyDNS) CleanUp(ctx context.Context, rec dns.Record) error {
	if err := f.err("clean up"); err != nil {
		return err
	}
	return f.DNSSolver.CleanUp(ctx, rec)
}

// TestNameInAnotherOrder: TLS-ALPN-01 answers for one order at a time.
func TestNameInAnotherOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(tlsALPN01, st)
	other := entry{Version: 1, Order: "orders/other/y", Name: "busy.example.com", Value: digest("x"), Expires: time.Now().Add(time.Hour)}
	rev := put(t, st, alpnKey("busy.example.com"), other)
	req := request(t, st, "x", "busy.example.com")
	_, err := i.Obtain(t.Context(), req)
	if err == nil || !strings.Contains(err.Error(), "tls-alpn-01 busy.example.com: present: the order orders/other/y is just proving busy.example.com") {
		t.Errorf("got %v", err)
	}
	if err := st.Delete(t.Context(), alpnKey("busy.example.com"), rev); err != nil {
		t.Fatal(err)
	}
	other.Expires = time.Now().Add(-time.Hour)
	put(t, st, alpnKey("busy.example.com"), other)
	if _, err := i.Obtain(t.Context(), req); err != nil {
		t.Errorf("an expired one stood in the way: %v", err)
	}
	if n := w.proxy.Orders("busy.example.com"); n != 1 {
		t.Errorf("%d orders", n)
	}
}

func TestDamagedAccountIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	if _, err := st.Put(t.Context(), "accounts/pebble", []byte(`{"version":1,"key":"aGVsbG8="}`), ""); err != nil {
		t.Fatal(err)
	}
	_, err := w.issuer(http01, st).Obtain(t.Context(), request(t, st, "x", "a.example.com"))
	if err == nil || !strings.Contains(err.Error(), "accounts/pebble") {
		t.Errorf("got %v", err)
	}
	if e, err := st.Get(t.Context(), "accounts/pebble"); err != nil || !strings.Contains(string(e.Value), "aGVsbG8=") || w.proxy.AccountKeys() > 0 {
		t.Errorf("it was replaced: %v", err)
	}
}

// TestRefusedFinalize: a refusal that leaves the order ready keeps it, as what
// is wrong may be mended; one of the key gives it up with the key.
func TestRefusedFinalize(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for problem, orders := range map[string]int{"caa": 1, "badCSR": 2} {
		st := w.mem.Replica("one")
		i := w.issuer(http01, st)
		name := strings.ToLower(problem) + ".example.com"
		req := request(t, st, problem, name)
		w.proxy.Inject(faultca.Fault{Step: faultca.Finalize, Status: 403, Problem: problem})
		_, err := i.Obtain(t.Context(), req)
		if err == nil || !strings.Contains(err.Error(), "said 403 "+problem+": made by faultca") {
			t.Errorf("%s: %v", problem, err)
		}
		if err := i.Recorded(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Obtain(t.Context(), req); err != nil {
			t.Errorf("%s, then mended: %v", problem, err)
		}
		if n, certs := w.proxy.Orders(name), w.proxy.Certificates(name); n != orders || certs != 1 {
			t.Errorf("%s: %d orders, %d certificates; want %d and 1", problem, n, certs, orders)
		}
	}
}
