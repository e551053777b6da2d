package acme

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

var (
	simLong     = flag.Bool("sim.long", false, "the simulations of days and of thousands of names in full")
	simNames    = flag.Int("sim.names", 1000, "names with -sim.long; work grows with the square")
	simReplicas = flag.Int("sim.replicas", 3, "replicas of them")
)

// calm is a simulated world without a plan of faults: n names, three replicas.
func calm(t *testing.T, n int, domain func(int) string, o smallca.Options) *simWorld {
	w := &simWorld{t: t, mem: store.NewMem(0), rng: rand.New(rand.NewPCG(1, 0)),
		stored: map[string]string{}, epochs: map[string]uint64{}, kind: http01}
	w.dns = &simDNS{w: w, records: map[string]bool{}}
	w.life = o.Lifetime
	o.URL = "https://" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + ".test"
	o.Validation, o.Issuance = 500*time.Millisecond, 500*time.Millisecond
	w.ca = smallca.New(o)
	for i := range n {
		w.wants = append(w.wants, cert.Want{Names: []string{domain(i)}, Issuer: "sim", Source: "sim"})
	}
	return w
}

func (w *simWorld) bootAll(n int) {
	for i := range n {
		w.replicas = append(w.replicas, w.boot(i))
	}
}

func (w *simWorld) end() {
	for _, r := range w.replicas {
		r.cancel()
		<-r.done
	}
	time.Sleep(time.Minute)
}

// until waits for a number of certificates.
func (w *simWorld) until(n int, most time.Duration) {
	w.t.Helper()
	for began := time.Now(); ; time.Sleep(time.Second) {
		var got int
		w.ca.Seen(func(c *smallca.Counts) { got = len(c.Issued) })
		if got >= n {
			return
		}
		if time.Since(began) > most {
			w.t.Fatalf("%d certificates after %s, want %d; %v", got, most, n, w.unrest()[:min(3, len(w.unrest()))])
		}
	}
}

// most is the largest number of requests for which pick says so in any window.
func most(requests []smallca.Request, window time.Duration, pick func(smallca.Request) bool) int {
	var at []time.Time
	best := 0
	for _, r := range requests {
		if !pick(r) {
			continue
		}
		at = append(at, r.At)
		i, _ := slices.BinarySearchFunc(at, r.At.Add(-window), time.Time.Compare)
		best = max(best, len(at)-i)
	}
	return best
}

func orders(r smallca.Request) bool { return r.Step == "newOrder" }

// TestCAIsDown: however many names wait, the replicas together ask every 30 s
// whether it is back, never stop, and begin gently once it is.
func TestCAIsDown(t *testing.T) {
	names, down := 30, 3*time.Hour
	if *simLong {
		names, down = 1000, 72*time.Hour
	}
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, names, func(i int) string { return fmt.Sprintf("n%d.example.com", i) }, smallca.Options{})
		w.ca.Say(func(string) int { return 503 })
		w.bootAll(3)
		time.Sleep(10 * time.Minute) // it takes some tries to know that it is down
		var before int
		w.ca.Seen(func(c *smallca.Counts) { before = len(c.Requests) })
		time.Sleep(down)
		var probes []smallca.Request
		w.ca.Seen(func(c *smallca.Counts) { probes = slices.Clone(c.Requests[before:]) })
		if got := most(probes, 29*time.Second, func(smallca.Request) bool { return true }); got > 1 {
			t.Errorf("%d requests within 29 s of a CA that is down", got)
		}
		if least := int(down/(time.Minute)) - 1; len(probes) < least {
			t.Errorf("only %d probes in %s: it gave up", len(probes), down)
		}
		back := time.Now()
		w.ca.Say(nil)
		w.until(names, time.Duration(names)*3*time.Second+time.Hour)
		w.ca.Seen(func(c *smallca.Counts) {
			first := slices.IndexFunc(c.Requests, orders)
			if wait := c.Requests[first].At.Sub(back); wait > time.Minute {
				t.Errorf("the first order came %s after the CA's return", wait)
			}
			burst := most(c.Requests, time.Second, orders)
			if burst > 10 {
				t.Errorf("%d orders within a second", burst)
			}
			t.Logf("%d names, down %s: %d probes; first order %s after the return, at most %d orders a second, all after %s",
				names, down, len(probes), c.Requests[first].At.Sub(back).Round(time.Second), burst, time.Since(back).Round(time.Second))
		})
		w.end()
	})
}

// TestNoLimitIsReached: new names under Let's Encrypt's limits cause no 429, and
// each order that must wait says until when.
func TestNoLimitIsReached(t *testing.T) {
	names, limit := 60, 40
	if *simLong {
		names, limit = *simNames, 300
	}
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, names, func(i int) string { return fmt.Sprintf("n%d.d%d.test", i, i/40) }, smallca.Options{Limits: true, NewOrders: limit})
		w.model = limitModel{orders: limit, domain: 50, set: 5}
		w.bootAll(*simReplicas)
		began := time.Now()
		time.Sleep(30 * time.Minute)
		waiting := 0
		for _, s := range w.replicas[0].keeper.Status() {
			if s.State == cert.StateWaiting && strings.Contains(s.Waits, fmt.Sprintf("%d new orders in 3 h", limit)) && s.NextAttempt.After(time.Now()) {
				waiting++
			}
		}
		if waiting < (names-limit-60*limit/300)/2 || waiting == 0 {
			t.Errorf("only %d names say when their turn is", waiting)
		}
		w.until(names, time.Duration(names)*4*time.Hour/time.Duration(limit))
		w.ca.Seen(func(c *smallca.Counts) {
			if c.Limited > 0 {
				t.Errorf("%d answers with 429", c.Limited)
			}
			t.Logf("%d new names: %d orders, %d certificates, 0 x 429 in %s", names, len(c.Orders), len(c.Issued), time.Since(began).Round(time.Minute))
		})
		w.end()
	})
}

// TestFailedValidationsReachNoLimit: several orders prove a name that cannot be
// proved. No order is placed that the CA would refuse for it, on any replica,
// and the time of the next is told.
func TestFailedValidationsReachNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 1, func(int) string { return "bad.test" }, smallca.Options{Limits: true,
			Validate: func(_, name, _, _ string) error {
				if name == "bad.test" {
					return errors.New("connection refused")
				}
				return nil
			}})
		for n := range 4 {
			w.wants = append(w.wants, cert.Want{Names: []string{"bad.test", fmt.Sprintf("n%d.bad.test", n)}, Issuer: "sim", Source: "sim"})
		}
		w.model = modelOf("https://acme-v02.api.letsencrypt.org/directory")
		w.bootAll(3)
		told := 0
		for range 3 * 60 {
			time.Sleep(time.Minute)
			for _, s := range w.replicas[0].keeper.Status() {
				if s.State == cert.StateWaiting && strings.Contains(s.Waits, "5 failed validations of bad.test an hour") && s.NextAttempt.After(time.Now()) {
					told++
				}
			}
		}
		if told == 0 {
			t.Error("no order says that it waits for failed validations")
		}
		w.ca.Seen(func(c *smallca.Counts) {
			if c.Limited > 0 {
				t.Errorf("%d answers with 429", c.Limited)
			}
			if n := len(c.Requests); n == 0 || most(c.Requests, 3*time.Hour, orders) < 10 {
				t.Errorf("%d orders in 3 h: it gave up", most(c.Requests, 3*time.Hour, orders))
			}
		})
		w.end()
	})
}

// TestPausedByTheCA: only a person can end it, and is told how; until then the
// CA is asked once a day, and at once when the person says so.
func TestPausedByTheCA(t *testing.T) {
	const link = "https://portal.test/sfe/v1/unpause?jwt=abc.def"
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 1, func(int) string { return "bad.test" }, smallca.Options{})
		w.ca.Pause(link)
		w.bootAll(3)
		time.Sleep(72 * time.Hour)
		w.ca.Seen(func(c *smallca.Counts) {
			if n := most(c.Requests, 73*time.Hour, orders); n < 3 || n > 4 {
				t.Errorf("%d orders in three days", n)
			}
		})
		s := w.replicas[0].keeper.Status()[0]
		if want := "a person must open " + link + ", then say"; !strings.Contains(s.Error, want) {
			t.Errorf("the error does not say %q: %s", want, s.Error)
		}
		w.ca.Pause("")
		time.Sleep(time.Hour)
		if _, err := cert.RequestNow(t.Context(), w.mem.Replica("person"), s.Issuer, s.ID); err != nil {
			t.Fatal(err)
		}
		w.until(1, time.Minute)
		w.end()
	})
}

// TestPackedNames: thirty names in certificates of ten. One of them cannot be
// proved, and the others do not wait for it.
func TestPackedNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 30, func(i int) string { return fmt.Sprintf("n%d.example.com", i) }, smallca.Options{
			Validate: func(_, name, _, _ string) error {
				if name == "n7.example.com" {
					return errors.New("connection refused")
				}
				return nil
			}})
		w.pack = 10
		for i := range w.wants {
			w.wants[i].FromRule = true
		}
		w.bootAll(3)
		w.until(3, time.Minute)
		time.Sleep(time.Hour)
		w.ca.Seen(func(c *smallca.Counts) {
			var names []string
			for _, i := range c.Issued {
				names = append(names, strings.Fields(i.Names)...)
			}
			if len(c.Issued) != 3 || len(names) != 29 || slices.Contains(names, "n7.example.com") {
				t.Errorf("%d certificates for %d names: %v", len(c.Issued), len(names), names)
			}
		})
		for _, s := range w.replicas[2].keeper.Status() {
			switch alone := len(s.Names) == 1 && s.Names[0] == "n7.example.com"; {
			case alone && !strings.Contains(s.Error, "connection refused"):
				t.Errorf("the name that fails: %+v", s)
			case !alone && s.State != cert.StateValid:
				t.Errorf("%v: %s %s", s.Names, s.State, s.Error)
			}
		}
		w.end()
	})
}

// TestRenewalsInTheWindow: with 160 h of life the CA's window is 3.2 h wide.
func TestRenewalsInTheWindow(t *testing.T) {
	names, generations := 20, 3
	if *simLong {
		names = *simNames
	}
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, names, func(i int) string { return fmt.Sprintf("n%d.example.com", i) }, smallca.Options{Lifetime: 160 * time.Hour})
		w.bootAll(*simReplicas)
		w.until(names, time.Hour)
		w.until(names*generations, time.Duration(generations)*100*time.Hour)
		time.Sleep(time.Minute)
		w.ca.Seen(func(c *smallca.Counts) {
			renewals, in, polls := 0, 0, 0
			for _, i := range c.Issued {
				if i.Replaces != "" {
					renewals++
					if i.InWindow {
						in++
					}
				}
			}
			for _, n := range c.ARI {
				polls += n
			}
			if renewals < names*(generations-1) || float64(in) < 0.999*float64(renewals) {
				t.Errorf("%d of %d renewals were ordered in the window", in, renewals)
			}
			// One poll for each certificate and Retry-After (6 h), whatever
			// the number of replicas.
			if most := len(c.Issued) * 20; polls > most {
				t.Errorf("%d polls for %d certificates", polls, len(c.Issued))
			}
			t.Logf("%d renewals, %d in the window; %d polls for %d certificates, each some 82 h in service, by %d replicas", renewals, in, polls, len(c.Issued), *simReplicas)
		})
		w.end()
	})
}

// TestRevokedGoesFirst: the CA moves the window of one into the past.
func TestRevokedGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, 5, func(i int) string { return fmt.Sprintf("n%d.example.com", i) }, smallca.Options{})
		w.bootAll(3)
		w.until(5, time.Hour)
		time.Sleep(24 * time.Hour)
		w.ca.Revoke("n3.example.com")
		revoked := time.Now()
		w.until(6, 10*time.Hour)
		w.ca.Seen(func(c *smallca.Counts) {
			if last := c.Issued[len(c.Issued)-1]; last.Names != "n3.example.com" {
				t.Errorf("%s was renewed", last.Names)
			}
			t.Logf("renewed %s after its window was moved", time.Since(revoked).Round(time.Minute))
		})
		w.end()
	})
}
