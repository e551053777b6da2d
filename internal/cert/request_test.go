package cert

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// Progress makes a client one that tells how far its orders are.
func (c *client) Progress(journal []byte) (string, error) {
	var j smallJournal
	if json.Unmarshal(journal, &j) != nil {
		panic("damaged")
	}
	return fmt.Sprintf("order %d", j.Order), nil
}

func (c *client) Ordered(journal []byte) []string {
	var j smallJournal
	_ = json.Unmarshal(journal, &j)
	return j.Names
}

// A person's "now" is obeyed once, by one replica, and goes when it was.
func TestRequestNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		all := startAll(t, mem, ca, 3, wantNames("a.example.com"))
		time.Sleep(day)
		first := all[0].mustServe("a.example.com")
		id := ID([]string{"a.example.com"})
		must(RequestNow(t.Context(), mem.Replica("cli"), "ca", id))
		time.Sleep(time.Minute)
		second := all[1].mustServe("a.example.com")
		if second.Equal(first) {
			t.Fatal("it is not renewed")
		}
		time.Sleep(day)
		if orders, _, _ := ca.counts(); orders != 2 {
			t.Errorf("%d orders, want 2", orders)
		}
		if all[0].has("requests/ca/" + id) {
			t.Error("the request is still there")
		}
		// While the CA is away it is tried at once, and then as ever.
		ca.say(errors.New("connection refused"))
		_, _, before := ca.counts()
		must(RequestNow(t.Context(), mem.Replica("cli"), "ca", id))
		time.Sleep(10 * time.Second)
		if _, _, calls := ca.counts(); calls != before+1 {
			t.Errorf("%d calls after the request, want 1", calls-before)
		}
		s := all[0].status(id)
		if s.Error == "" || !all[0].mustServe("a.example.com").Equal(second) {
			t.Errorf("status %+v", s)
		}
	})
}

// A second issuer steps in where the first keeps refusing, and steps back.
func TestFallbackIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, other := newSmallCA(t, 90*day), newSmallCA(t, 30*day)
		ca.say(errors.New("rejectedIdentifier"))
		want := Want{Names: []string{"a.example.com"}, Issuer: "ca", Fallback: []string{"other"}, Source: "test"}
		mem := store.NewMem(0)
		with := func(c *client, o *Options) {
			o.Issuers = append(o.Issuers, &client{smallCA: other, replica: c.replica, id: "other"})
		}
		r := start(t, mem, ca, "r1", []Want{want}, with)
		start(t, mem, ca, "r2", []Want{want}, with)
		time.Sleep(time.Minute)
		if r.served("a.example.com") != nil {
			t.Error("the second issuer was asked before the first had failed for some time")
		}
		time.Sleep(5 * time.Minute)
		first := r.mustServe("a.example.com")
		if orders, _, _ := other.counts(); orders != 1 {
			t.Errorf("%d orders at the second issuer, want 1", orders)
		}
		// It renews while the first still refuses, and no longer once it does not.
		time.Sleep(28 * day)
		if r.mustServe("a.example.com").Equal(first) {
			t.Error("not renewed by the second issuer")
		}
		ca.say(nil)
		time.Sleep(60 * day)
		if orders, _, _ := other.counts(); orders != 2 {
			t.Errorf("%d orders at the second issuer, want 2", orders)
		}
		if leaf := r.mustServe("a.example.com"); leaf.NotAfter.Sub(leaf.NotBefore) < 80*day {
			t.Errorf("served is one of %v", leaf.NotAfter.Sub(leaf.NotBefore))
		}
	})
}

// What any process can say from the store alone.
func TestInspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		start(t, mem, ca, "r1", wantNames("good.example.com", "bad.example.com"), func(c *client, _ *Options) {
			c.step = 0
		})
		time.Sleep(time.Minute)
		ca.say(errors.New("CAA says no"))
		r := start(t, mem, ca, "r2", wantNames("bad2.example.com"))
		time.Sleep(5 * time.Second)
		r.stop()
		must(mem.Replica("x").Put(t.Context(), "orders/ca/half-0123", must(json.Marshal(smallJournal{Order: 7})), ""))
		must(mem.Replica("x").Put(t.Context(), "orders/ca/odd-0123", []byte("{"), ""))
		must(mem.Replica("x").Put(t.Context(), "certificates/ca/broken-0123", []byte("{"), ""))
		list, err := Inspect(t.Context(), mem.Replica("cli"), []Issuer{&client{smallCA: ca, id: "ca"}})
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, s := range list {
			lines = append(lines, fmt.Sprintf("%s %v %s error=%v problem=%v next=%v journal=%q", strings.SplitN(s.ID, "-", 2)[0], s.Names, s.State,
				strings.Contains(s.Error, "CAA says no"), s.Problem != "", !s.NextAttempt.IsZero(), s.Journal))
		}
		got := strings.Join(lines, "\n")
		want := `bad.example.com [bad.example.com] valid error=false problem=false next=false journal=""
bad2.example.com [bad2.example.com] failed error=true problem=false next=true journal=""
broken [] failed error=false problem=true next=false journal=""
good.example.com [good.example.com] valid error=false problem=false next=false journal=""
half [] wanted error=false problem=false next=false journal="order 7"
odd [] wanted error=false problem=true next=false journal=""`
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}
