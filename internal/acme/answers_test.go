package acme

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/faultca"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// TestEachRefusalHasItsAnswer lets Pebble's proxy say each of RFC 8555's problems
// at the step where it comes: what is done about it, how many orders it costs
// and what a person reads.
func TestEachRefusalHasItsAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, rig.PebbleOptions{})
	for _, c := range []struct {
		step    faultca.Step
		status  int
		problem string
		retry   string
		ends    string // of the attempt's error; empty: it gets its certificate
		orders  int    // accepted in this attempt
		after   time.Duration
	}{
		{faultca.NewOrder, 400, "badNonce", "", "", 1, 0},
		{faultca.Finalize, 400, "badNonce", "", "", 1, 0},
		{faultca.Finalize, 403, "orderNotReady", "", "", 1, 0},
		{faultca.NewOrder, 400, "accountDoesNotExist", "", "", 1, 0},
		{faultca.Authorization, 400, "accountDoesNotExist", "", "", 1, 0},
		{faultca.NewOrder, 403, "userActionRequired", "", "a person must agree to the CA's terms there", 0, 0},
		{faultca.NewOrder, 403, "rejectedIdentifier", "", "the CA does not issue for it", 0, 0},
		{faultca.NewOrder, 429, "rateLimited", "7200", "nothing like it is asked before 20", 0, 2 * time.Hour},
		{faultca.NewOrder, 429, "rateLimited", "", "nothing like it is asked before 20", 0, 10 * time.Minute},
		{faultca.NewOrder, 503, "", "3600", "nothing like it is asked before 20", 0, time.Hour},
		{faultca.Finalize, 403, "caa", "", "the CAA records of the name must allow this CA", 1, 0},
		{faultca.NewAccount, 403, "externalAccountRequired", "", "set acme.eab.kid and acme.eab.hmacEncoded", 0, 0},
	} {
		name := strings.ToLower(string(c.step)+"-"+c.problem+c.retry) + ".example.com"
		w.mem = store.NewMem(0) // a fresh account each time
		st := w.mem.Replica("one")
		w.responderStore.set(st)
		i := w.issuer(http01, st)
		w.proxy.Heal()
		w.proxy.Inject(faultca.Fault{Step: c.step, Status: c.status, Problem: c.problem, RetryAfter: c.retry})
		_, err := i.Obtain(t.Context(), request(t, st, "x", name))
		if (err == nil) != (c.ends == "") || err != nil && !strings.Contains(err.Error(), c.ends) {
			t.Errorf("%s %s: %v, want %q", c.step, c.problem, err, c.ends)
		}
		if got := w.proxy.Orders(name); got != c.orders {
			t.Errorf("%s %s: %d orders, want %d", c.step, c.problem, got, c.orders)
		}
		var retry *cert.RetryError
		if c.after > 0 {
			if !errors.As(err, &retry) || time.Until(retry.After) < c.after-time.Minute || time.Until(retry.After) > c.after {
				t.Errorf("%s %s: next %+v", c.step, c.problem, retry)
			}
			// It holds for another replica's order too, without asking.
			asked := w.proxy.Forwarded(faultca.NewOrder)
			two := w.mem.Replica("two")
			_, err := w.issuer(http01, two).Obtain(t.Context(), request(t, two, "y", "other-"+name))
			if !errors.As(err, &retry) || w.proxy.Forwarded(faultca.NewOrder) != asked {
				t.Errorf("%s %s: another replica's order: %v", c.step, c.problem, err)
			}
		}
	}
}

func TestReplacesIsDroppedOnlyForItsOwnSake(t *testing.T) {
	for _, c := range []struct {
		status  int
		problem string
		last    bool
		want    bool
	}{
		{http.StatusConflict, "alreadyReplaced", false, true},
		{http.StatusNotFound, "malformed", false, true},
		{http.StatusForbidden, "unauthorized", false, true},
		{http.StatusInternalServerError, "serverInternal", false, false},
		{http.StatusInternalServerError, "serverInternal", true, true},
		{http.StatusTooManyRequests, "rateLimited", true, false},
		{http.StatusForbidden, "rejectedIdentifier", true, false},
		{http.StatusForbidden, "userActionRequired", true, false},
	} {
		e := &callError{Op: "newOrder", Status: c.status, Problem: &acmez.Problem{Type: acmez.ProblemTypeNamespace + c.problem}}
		if got := replacesRefused(e, c.last); got != c.want {
			t.Errorf("%d %s, last %v: %v", c.status, c.problem, c.last, got)
		}
	}
}
