package acme

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/e2e/rig/smallca"
)

// TestRenewalInfoOfACAThatIsDown: the CA is not asked about each of many
// certificates while it gives no answer.
func TestRenewalInfoOfACAThatIsDown(t *testing.T) {
	const names = 60
	synctest.Test(t, func(t *testing.T) {
		w := calm(t, names, func(i int) string { return fmt.Sprintf("n%d.d%d.test", i, i/40) }, smallca.Options{Lifetime: 90 * 24 * time.Hour})
		w.bootAll(3)
		w.until(names, time.Hour)
		time.Sleep(time.Hour)
		down := time.Now()
		w.ca.Say(func(string) int { return 503 })
		time.Sleep(24 * time.Hour)
		w.ca.Say(nil)
		asked := func(from time.Time) (requests []smallca.Request) {
			w.ca.Seen(func(c *smallca.Counts) {
				for _, r := range c.Requests {
					if r.At.After(from) {
						requests = append(requests, r)
					}
				}
			})
			return requests
		}
		meanwhile := asked(down)
		if n := most(meanwhile, time.Minute, func(smallca.Request) bool { return true }); n > 6 || len(meanwhile) < 3 {
			t.Errorf("%d requests within a minute, %d in a day; want at most two of each replica, and some", n, len(meanwhile))
		}
		back := time.Now()
		time.Sleep(8 * time.Hour)
		if n := len(asked(back)); n < names {
			t.Errorf("%d requests in the 8 h after its return, want one for each of %d certificates", n, names)
		}
		w.end()
	})
}
