package acme

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/e2e/rig/smallca"
	"gatehouse/internal/store"
)

var simRestarts = flag.Int("sim.restarts", 0, "rolling restarts with names that fail; 0: the short form")

// failing is a calm world whose validations all fail.
func failing(t *testing.T, names int) *simWorld {
	return calm(t, names, func(i int) string { return fmt.Sprintf("n%d.d%d.test", i, i/40) }, smallca.Options{
		Lifetime: 90 * 24 * time.Hour,
		Validate: func(string, string, string, string) error { return errors.New("connection refused") },
	})
}

// failures are those stored, of all names.
func (w *simWorld) failures() (n int) {
	entries, err := store.List(context.Background(), w.mem.Replica("looker"), "attempts")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range entries {
		var a struct{ Failures int }
		if err := json.Unmarshal(e.Value, &a); err != nil {
			w.t.Fatal(err)
		}
		n += a.Failures
	}
	return n
}

func (w *simWorld) made() (newOrders, orders int) {
	w.ca.Seen(func(c *smallca.Counts) {
		for names, n := range c.NewOrders {
			newOrders, orders = newOrders+n, orders+c.Orders[names]
		}
	})
	return newOrders, orders
}

// TestRefusedOrderIsCounted: whoever dies between the CA's refusal of an order
// and the record of the failure leaves it to the successor to record, and not
// to order again at once.
func TestRefusedOrderIsCounted(t *testing.T) {
	for _, dies := range []string{"put attempts", "delete orders", "delete challenges"} {
		t.Run(dies, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := failing(t, 1)
				r := w.boot(9)
				r.mu.Lock()
				r.dies = dies
				r.mu.Unlock()
				<-r.done
				w.bootAll(2)
				time.Sleep(14 * time.Second) // before the pause after a failure is over
				if _, n := w.made(); n != 1 || w.failures() != 1 {
					t.Errorf("%d orders for %d recorded failures, want 1", n, w.failures())
				}
				time.Sleep(time.Hour)
				// Who dies after the record may have it recorded twice: a longer
				// pause, and never one more order.
				if _, n := w.made(); n < 4 || n > w.failures() || n < w.failures()-1 {
					t.Errorf("after an hour %d orders for %d recorded failures", n, w.failures())
				}
				w.end()
			})
		})
	}
}

// TestRollingRestarts: replicas are restarted one after another, again and
// again, while every validation fails: no more orders than without that, and
// no newOrder is sent twice.
func TestRollingRestarts(t *testing.T) {
	names, rounds := 20, 10
	if *simRestarts > 0 {
		names, rounds = 1000, *simRestarts
	}
	const each = 20 * time.Second // one restart after another
	lasts := time.Duration(rounds*3) * each
	var without int
	synctest.Test(t, func(t *testing.T) {
		w := failing(t, names)
		w.bootAll(1)
		time.Sleep(lasts)
		_, without = w.made()
		w.end()
	})
	synctest.Test(t, func(t *testing.T) {
		w := failing(t, names)
		w.bootAll(3)
		for range rounds {
			for n, r := range w.replicas {
				r.cancel()
				<-r.done
				next := w.boot(n)
				w.note(func() { w.replicas[n] = next })
				time.Sleep(each)
			}
		}
		asked, orders := w.made()
		failures := w.failures()
		t.Logf("%d rolling restarts in %s, %d names that fail: %d newOrder made %d orders, %d failures recorded; one replica without restarts made %d orders",
			rounds, lasts, names, asked, orders, failures, without)
		if asked != orders {
			t.Errorf("%d newOrder for %d orders: some were sent again", asked, orders)
		}
		if under := orders - failures; under < 0 || under > 24 { // three replicas with eight each
			t.Errorf("%d orders for %d recorded failures", orders, failures)
		}
		// Pauses have a random part of a quarter.
		if float64(orders) > 1.1*float64(without)+10 {
			t.Errorf("%d orders, without restarts %d", orders, without)
		}
		w.end()
	})
}
