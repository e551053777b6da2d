package acme

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/cert"
)

// asked waits until the CA is asked for an order, whose answer is on its way
// for d then, and is not there before the CA has made it at half of d.
func (w *simWorld) asked(d time.Duration) (at <-chan struct{}) {
	asked := make(chan struct{}, 8)
	w.delay = func(step string) time.Duration {
		if step != "newOrder" {
			return 0
		}
		asked <- struct{}{}
		return d / 2
	}
	return asked
}

// TestStopWaitsForTheOrder: a process that is asked to end while the answer of
// newOrder is on its way ends with it, and the successor goes on with that
// order. What takes too long is given up; nothing waits for anything else.
func TestStopWaitsForTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		answer, stop time.Duration // after newOrder was sent
		ends         time.Duration // after the stop
		calls        int
	}{
		"before the CA has it":   {4 * time.Second, time.Second, 3 * time.Second, 1},
		"before the answer":      {4 * time.Second, 3 * time.Second, time.Second, 1},
		"the answer is there":    {time.Second, 1500 * time.Millisecond, 0, 1},
		"no answer in good time": {25 * time.Second, 3 * time.Second, 8 * time.Second, 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := calm(t, 1, func(int) string { return "a.example.com" }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
				asked := w.asked(c.answer)
				r := w.boot(0)
				<-asked
				time.Sleep(c.stop)
				began := time.Now()
				r.cancel()
				<-r.done
				if took := time.Since(began); took != c.ends {
					t.Errorf("it ended after %s, want %s", took, c.ends)
				}
				if journal := w.journal(); strings.Contains(journal, `"order":"`) != (c.calls == 1) {
					t.Errorf("journal: %s", journal)
				}
				time.Sleep(c.answer) // what is on the wire arrives
				w.delay = nil
				w.bootAll(1)
				w.until(1, time.Minute)
				if calls, made := w.made(); calls != c.calls || made != 1 {
					t.Errorf("%d newOrder made %d orders, want %d and one", calls, made, c.calls)
				}
				if n := w.failures(); n != 0 {
					t.Errorf("%d failures", n)
				}
				w.end()
			})
		})
	}
}

// journal is the only one there is.
func (w *simWorld) journal() string {
	w.t.Helper()
	var all []string
	for entries, err := range w.mem.Replica("looker").Watch(w.t.Context(), "orders") {
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			all = append(all, string(e.Value))
		}
		break
	}
	return strings.Join(all, "\n")
}

// TestStopKeepsARefusal: the CA's refusal of newOrder that comes while the
// process is about to end is stored, so that nobody asks again at once.
func TestStopKeepsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 1, func(int) string { return "a.example.com" }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
		w.ca.Pause("https://ca.test/unpause")
		asked := w.asked(4 * time.Second)
		r := w.boot(0)
		<-asked
		time.Sleep(time.Second)
		r.cancel()
		<-r.done
		w.delay = nil
		w.bootAll(2)
		time.Sleep(14 * time.Second)
		if n := w.failures(); n != 1 {
			t.Errorf("%d failures recorded, want 1", n)
		}
		w.ca.Seen(func(c *smallca.Counts) {
			if c.Limited != 1 {
				t.Errorf("the CA was asked %d times", c.Limited)
			}
		})
		w.end()
	})
}

// TestLostLeaseWaitsForNothing: a lease that is lost ends a newOrder at once,
// whether or not the process is about to end.
func TestLostLeaseWaitsForNothing(t *testing.T) {
	for name, stops := range map[string]bool{"while it runs": false, "while it ends": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := calm(t, 1, func(int) string { return "a.example.com" }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
				asked := w.asked(14 * time.Second)
				r := w.boot(0)
				<-asked
				began := time.Now()
				if stops {
					r.cancel()
				}
				time.Sleep(time.Second)
				r.mem.Kill()
				if !stops {
					r.cancel()
				}
				<-r.done
				if took := time.Since(began); took != time.Second {
					t.Errorf("it ended after %s", took)
				}
				w.end()
			})
		})
	}
}

// TestNoSecondTryAtTheEnd: a refused nonce makes nobody send newOrder again
// once the process was asked to end.
func TestNoSecondTryAtTheEnd(t *testing.T) { synctest.Test(t, noSecondTry) }

func noSecondTry(t *testing.T) {
	ca := smallca.New(smallca.Options{URL: "https://ca.test"})
	var sent []string
	w := smallca.Wire{CA: ca}
	c := newClient(ca.Directory(), "test", nil)
	c.wire = &transport{base: roundTrip(func(req *http.Request) (*http.Response, error) {
		sent = append(sent, req.Method+" "+req.URL.Path)
		if req.URL.Path == "/newOrder" {
			return says(400, "application/problem+json", `{"type":"urn:ietf:params:acme:error:badNonce"}`, "Replay-Nonce", "next")(req)
		}
		return w.RoundTrip(req)
	})}
	c.http.Transport = c.wire
	key := signer(t, EC256)
	account, err := c.Register(t.Context(), acmez.Account{PrivateKey: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, ends := range []bool{false, true} {
		sent = nil
		asked := 0
		ctx := askedBefore(t.Context(), func() error {
			if asked++; asked > 1 && ends {
				return cert.ErrEnding
			}
			return nil
		})
		_, err := c.NewOrder(ctx, account, acmez.Order{Identifiers: identifiers([]string{"a.example.com"})})
		n := strings.Count(strings.Join(sent, "\n"), "/newOrder")
		if ends && (n != 1 || !errors.Is(err, cert.ErrEnding)) || !ends && (n < 2 || asked != n) {
			t.Errorf("ends %v: %d sent, asked %d times, %v: %v", ends, n, asked, sent, err)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
