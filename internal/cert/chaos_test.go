package cert

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

var seeds = flag.Uint64("seeds", 25, "how many random fault plans TestFaultPlans runs")

// Under a random plan of deaths, partitions, revoked sessions and an ailing
// CA: everything is served in the end, each certificate was issued once, and
// nothing is left behind. A failing seed names itself.
func TestFaultPlans(t *testing.T) {
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { faultPlan(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func faultPlan(t *testing.T, rnd *rand.Rand) {
	ca := newSmallCA(t, 90*day)
	ca.step = time.Duration(1+rnd.IntN(8000)) * time.Millisecond
	mem := store.NewMem(5 * time.Second)
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("n%d.example.com", i))
	}
	all := startAll(t, mem, ca, 3, wantNames(names...))
	for step := range 30 {
		time.Sleep(time.Duration(rnd.IntN(3000)) * time.Millisecond)
		i := rnd.IntN(len(all))
		switch r := all[i]; rnd.IntN(6) {
		case 0: // kill -9, and another comes up in its place
			r.store.Kill()
			r.stop()
			all[i] = start(t, mem, ca, fmt.Sprintf("r%d-%d", i+1, step), wantNames(names...))
		case 1: // a rolling restart
			r.stop()
			all[i] = start(t, mem, ca, fmt.Sprintf("r%d-%d", i+1, step), wantNames(names...))
		case 2:
			r.store.Partition(true)
		case 3:
			r.store.Partition(false)
		case 4:
			r.store.Expire()
		case 5:
			ca.say([]error{nil, errors.New("503")}[rnd.IntN(2)])
		}
	}
	ca.say(nil)
	for _, r := range all {
		r.store.Partition(false)
	}
	time.Sleep(2 * time.Hour)
	for _, r := range all {
		for _, n := range names {
			r.mustServe(n)
			if id := ID([]string{n}); r.has("orders/ca/"+id) || r.has("attempts/ca/"+id) || r.has("leases/orders/ca/"+id) {
				t.Errorf("something of %s is left in the store", n)
			}
		}
	}
	// An order whose answer died with its replica is lost to this CA; nothing
	// that was journaled is ever issued twice.
	_, issued, calls := ca.counts()
	if issued != len(names) {
		t.Errorf("%d certificates for %d names", issued, len(names))
	}
	time.Sleep(10 * time.Hour)
	if _, _, later := ca.counts(); later != calls {
		t.Errorf("%d calls while everything was valid", later-calls)
	}
}
