package acme

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// besides is a calm world whose names are wanted for two kinds of keys, at a CA
// that gives an open order again.
func besides(t *testing.T, names int, o smallca.Options) *simWorld {
	o.Lifetime = 90 * 24 * time.Hour
	w := calm(t, names, func(i int) string { return fmt.Sprintf("n%d.example.com", i) }, o)
	w.second = true
	for _, one := range w.wants {
		one.Issuer = "sim-second"
		w.wants = append(w.wants, one)
	}
	return w
}

// judgePairs: two orders and certificates for each set of names, one for each
// kind of key, and no failed attempt.
func (w *simWorld) judgePairs() {
	w.t.Helper()
	if n := w.failures(); n != 0 {
		w.t.Errorf("%d failures", n)
	}
	w.ca.Seen(func(c *smallca.Counts) {
		sizes := map[string]int{}
		for _, i := range c.Issued {
			sizes[fmt.Sprint(i.Names, i.Leaf.PublicKey.(*ecdsa.PublicKey).Curve.Params().BitSize)]++
		}
		for _, want := range w.wants[:len(w.wants)/2] {
			name := want.Names[0]
			if c.Orders[name] != 2 || c.Finalized[name] != 2 || sizes[name+"256"] != 1 || sizes[name+"384"] != 1 {
				w.t.Errorf("%s: %d newOrder made %d orders, %d certificates: %v", name, c.NewOrders[name], c.Orders[name], c.Finalized[name], sizes)
			}
		}
	})
	if entries, err := store.List(context.Background(), w.mem.Replica("looker"), "orders"); err != nil || len(entries) > 0 {
		w.t.Errorf("journals left: %d, %v", len(entries), err)
	}
}

// TestTwoKindsOfKey: certificates for the same names and two kinds of keys have
// an order each, on any number of replicas.
func TestTwoKindsOfKey(t *testing.T) {
	for _, replicas := range []int{1, 3} {
		for _, lists := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d replicas, lists %v", replicas, lists), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := besides(t, 4, smallca.Options{ListOrders: lists})
					w.bootAll(replicas)
					w.until(8, 3*time.Minute)
					time.Sleep(time.Minute)
					w.judgePairs()
					for _, want := range w.wants[:2] { // renewed together
						for _, issuer := range []string{"sim", "sim-second"} {
							if _, err := cert.RequestNow(context.Background(), w.mem.Replica("person"), issuer, cert.ID(want.Names)); err != nil {
								t.Fatal(err)
							}
						}
					}
					w.until(12, 3*time.Minute)
					if n := w.failures(); n != 0 {
						t.Errorf("%d failures", n)
					}
					if _, made := w.made(); made != 12 {
						t.Errorf("%d orders for 12 certificates", made)
					}
					w.end()
				})
			})
		}
	}
}

// TestTwoKindsOfKeySurviveDeath: the same, whatever a replica does as it dies.
func TestTwoKindsOfKeySurviveDeath(t *testing.T) {
	step := 7
	if raceDetector { // it takes four times as long
		step = 23
	}
	for fuse := 0; ; fuse += step {
		died := false
		synctest.Test(t, func(t *testing.T) {
			w := besides(t, 2, smallca.Options{})
			first := w.boot(8)
			first.mu.Lock()
			first.fuse = fuse
			first.mu.Unlock()
			time.Sleep(time.Minute)
			w.note(func() { died = w.deaths > 0 })
			if died {
				<-first.done
			} else {
				w.replicas = append(w.replicas, first)
			}
			w.bootAll(2)
			w.until(4, 5*time.Minute)
			time.Sleep(time.Minute)
			w.judgePairs()
			if t.Failed() {
				t.Logf("dead after %d steps\n%s", fuse, w.log.String())
			}
			w.end()
		})
		if !died || t.Failed() {
			return
		}
	}
}
