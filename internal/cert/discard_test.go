package cert

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/store"
)

func TestDiscardPlan(t *testing.T) {
	const name = "a.example.com"
	k := key{"ca", ID([]string{name})}
	gone := key{"gone", k.id} // of an issuer that is not configured
	at := func(k key, c *Certificate) map[key]*Certificate {
		c.Issuer = k.issuer
		return map[key]*Certificate{k: c}
	}
	ended := func(ago time.Duration) *Certificate {
		c := certAt(-ago-90*day, -ago, name)
		c.TLS.Certificate = [][]byte{[]byte("x")}
		return c
	}
	tried := func(next time.Duration) map[key]attempt {
		return map[key]attempt{k: {Failures: 1, Last: noon.Add(next - time.Hour), Next: noon.Add(next)}}
	}
	seen := func(ago time.Duration) map[key]useless { return map[key]useless{k: {since: noon.Add(-ago)}} }
	long := discardGrace + discardTurn(k, "r1")
	first, now := k.id+" rest "+long.String(), []string{k.id + " discard"}
	leaf := newSmallCA(t, day).bundle([]string{name}, noon.Add(-120*day), noon.Add(-20*day))
	der := must(Check(leaf, nil)).raw()
	tests := []struct {
		name string
		v    view
		want []string
	}{
		{"valid", view{present: at(k, certAt(-10*day, 80*day, name))}, nil},
		{"ended a moment ago", view{present: at(k, ended(time.Second))}, nil},
		{"ended 29 days ago", view{present: at(k, ended(30*day-time.Second))}, nil},
		{"ended 30 days ago", view{present: at(k, ended(30*day))}, []string{first}},
		{"seen so for an hour", view{present: at(k, ended(31*day)), discards: seen(time.Hour)},
			[]string{k.id + " rest " + (long - time.Hour).String()}},
		{"its turn", view{present: at(k, ended(31*day)), discards: seen(long)}, now},
		{"put off", view{present: at(k, ended(31*day)), discards: map[key]useless{k: {noon.Add(-2 * day), noon.Add(day)}}}, []string{k.id + " rest 24h0m0s"}},
		{"wanted", view{present: at(k, ended(31*day)), discards: seen(long), wants: wantsFor(Want{Names: []string{name}, Issuer: "ca"})},
			[]string{k.id + " obtain"}},
		{"wanted of another issuer", view{present: at(k, ended(31*day)), discards: seen(long), wants: wantsFor(Want{Names: []string{name}, Issuer: "other"})},
			[]string{k.id + " discard", k.id + " obtain"}},
		{"wanted, and the issuer is not there", view{present: at(gone, ended(31*day)), rejected: []Status{{Issuer: "gone", ID: k.id}}}, nil},
		{"of an issuer that is not there", view{present: at(gone, ended(31*day)), discards: map[key]useless{gone: {since: noon.Add(-day)}}}, now},
		{"an order was begun", view{present: at(k, ended(31*day)), discards: seen(long), journals: map[key]string{k: ""}}, nil},
		{"somebody works on it", view{present: at(k, ended(31*day)), discards: seen(long), holders: map[key]string{k: "r2"}}, []string{k.id + " rest 0s"}},
		{"we work on it", view{present: at(k, ended(31*day)), discards: seen(long), holders: map[key]string{k: "r1"}}, now},
		{"tried of late", view{present: at(k, ended(31*day)), attempts: tried(-29 * day)}, nil},
		{"tried long ago", view{present: at(k, ended(31*day)), attempts: tried(-30 * day)}, []string{first}},
		{"tried by a clock far ahead", view{present: at(k, ended(31*day)), attempts: tried(900 * day)}, nil},
		{"only an attempt", view{attempts: tried(-30 * day)}, []string{first}},
		{"only an attempt, of late", view{attempts: tried(time.Hour)}, nil},
		{"asked for of late", view{present: at(k, ended(31*day)), requests: map[key]time.Time{k: noon.Add(-29 * day)}}, nil},
		{"only a request", view{requests: map[key]time.Time{k: noon.Add(-31 * day)}}, []string{first}},
		{"revoked", view{present: at(k, ended(31*day)), revocations: map[key]revocation{k: {Leaf: []byte("x"), Done: noon.Add(-90 * day)}}}, []string{first}},
		{"revoked for good", view{present: at(k, ended(31*day)), revocations: map[key]revocation{
			k: {Leaf: []byte("x"), Done: noon.Add(-90 * day), Stop: true, leaf: fingerprint([]byte("x"))}}}, nil},
		{"only a revocation", view{revocations: map[key]revocation{k: {Leaf: []byte("x"), Done: noon.Add(-31 * day)}}}, []string{first}},
		{"to be revoked, and not ended long", view{revocations: map[key]revocation{k: {Leaf: der}}}, nil},
		{"to be revoked, nobody knows what", view{revocations: map[key]revocation{k: {Leaf: []byte("x")}}}, nil},
		{"all of one", view{present: at(k, ended(31*day)), attempts: tried(-40 * day), requests: map[key]time.Time{k: noon.Add(-31 * day)},
			revocations: map[key]revocation{k: {Leaf: []byte("x"), Done: noon.Add(-90 * day)}}}, []string{first}},
		{"what cannot be read", view{present: at(key{id: "certificates/x"}, ended(31*day))}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.v.told = true
			var got []string
			for _, a := range plan(noon, tt.v, "r1") {
				got = append(got, line(a))
			}
			slices.Sort(got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("plan (-want +got):\n%s", d)
			}
			tt.v.told = false
			for _, a := range plan(noon, tt.v, "r1") {
				if a.useless != nil {
					t.Errorf("nobody told what is wanted: %s", line(a))
				}
			}
		})
	}
}

// Ten thousand at once are no storm, alike on all replicas.
func TestDiscardsAreSpread(t *testing.T) {
	v := view{told: true, present: map[key]*Certificate{}, discards: map[key]useless{}}
	for i := range 10_000 {
		n := fmt.Sprintf("n%d.example.com", i)
		v.present[key{"ca", ID([]string{n})}] = certAt(-130*day, -40*day, n)
	}
	minutes := map[time.Duration]int{}
	for _, a := range plan(noon, v, "r1") {
		if a.do != rest || a.at.Before(noon.Add(discardGrace)) || a.at.After(noon.Add(discardGrace+discardWindow+discardTurns)) {
			t.Fatal(line(a))
		}
		minutes[a.at.Sub(noon).Truncate(time.Minute)]++
	}
	for at, n := range minutes {
		if n > 120 {
			t.Errorf("%d in the minute from %s", n, at)
		}
	}
	for k := range v.present {
		if d := (discardTurn(k, "r1") - discardTurn(k, "r2")).Abs(); d == 0 || d > discardTurns {
			t.Fatalf("the turns of two replicas are %s apart", d)
		}
	}
}

// allDiscarded is later than any turn.
const allDiscarded = discardGrace + discardWindow + discardTurns + 2*planEvery

// seed puts certificates in a store as somebody left them.
func seed(t *testing.T, ca *smallCA, st store.Store, issuer string, ended time.Duration, names ...string) {
	t.Helper()
	now := time.Now()
	for _, n := range names {
		must(Import(t.Context(), st, issuer, ca.bundle([]string{n}, now.Add(-ended-90*day), now.Add(-ended))))
	}
}

func put(t *testing.T, st store.Store, name, value string) {
	t.Helper()
	must(st.Put(t.Context(), name, []byte(value), ""))
}

func deletions(all []*replica) (n int) {
	for _, r := range all {
		n += strings.Count(r.log.String(), `msg="expired certificate that nobody wants deleted"`)
	}
	return n
}

func TestExpiredAndUnwantedGoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		tool := mem.Replica("tool")
		seed(t, ca, tool, "ca", 40*day, "old.example.com", "older.example.com")
		seed(t, ca, tool, "removed", 40*day, "elsewhere.example.com")
		seed(t, ca, tool, "ca", 20*day, "recent.example.com")
		seed(t, ca, tool, "ca", -80*day, "valid.example.com")
		old := ID([]string{"old.example.com"})
		put(t, tool, "renewals/ca/"+old, `{"version":1}`)
		put(t, tool, "requests/ca/"+old, `{"version":1,"asked":"1999-01-01T00:00:00Z"}`)
		put(t, tool, "attempts/ca/"+old, `{"version":1,"failures":2,"error":"no","last":"1999-01-01T00:00:00Z","next":"1999-01-01T01:00:00Z"}`)
		put(t, tool, "renewals/ca/other", `{"version":1}`)
		all := startAll(t, mem, ca, 2, wantNames("new.example.com"))
		time.Sleep(discardGrace - time.Minute)
		if !all[0].has("certificates/ca/"+old) || all[0].served("old.example.com") == nil {
			t.Error("it went before it was seen to be useless for an hour")
		}
		if s := all[1].status(old); s.State != StateExpired || !s.DeleteAt.Before(time.Now()) {
			t.Errorf("status %+v", s)
		}
		recent := all[1].status(ID([]string{"recent.example.com"}))
		if d := recent.DeleteAt.Sub(recent.NotAfter); recent.State != StateExpired || d != uselessAfter {
			t.Errorf("status of one that ended of late: %+v", recent)
		}
		time.Sleep(allDiscarded)
		var left []string
		for _, e := range must(store.List(t.Context(), tool, "")) {
			left = append(left, e.Key)
		}
		want := []string{"renewals/ca/other"}
		for _, n := range []string{"new", "recent", "valid"} {
			want = append(want, "certificates/ca/"+ID([]string{n + ".example.com"}))
		}
		slices.Sort(want)
		if d := cmp.Diff(want, left); d != "" {
			t.Errorf("the store (-want +got):\n%s", d)
		}
		if n := deletions(all); n != 3 {
			t.Errorf("%d deletions of 3", n)
		}
		for _, r := range all {
			if r.served("old.example.com") != nil || r.served("valid.example.com") == nil || r.served("recent.example.com") == nil {
				t.Errorf("%s serves something else", r.name)
			}
		}
		time.Sleep(10 * day)
		if n := deletions(all); n != 4 { // with the recent one
			t.Errorf("%d deletions of 4", n)
		}
		all[0].mustServe("valid.example.com")
	})
}

// A certificate that is not wanted goes thirty days after its end, and not one
// whose name comes back before; that is ordered again, once.
func TestUnwantedNameComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		seed(t, ca, mem.Replica("tool"), "ca", 30*day, "a.example.com", "b.example.com")
		all := startAll(t, mem, ca, 2, nil)
		want := func(names ...string) {
			for _, r := range all {
				r.keeper.Want(wantNames(names...))
			}
		}
		a, b := "certificates/ca/"+ID([]string{"a.example.com"}), "certificates/ca/"+ID([]string{"b.example.com"})
		time.Sleep(discardGrace - 10*time.Minute)
		ca.say(errors.New("down"))
		want("a.example.com")
		time.Sleep(10 * time.Minute)
		want() // the failure is younger than thirty days now
		time.Sleep(allDiscarded)
		if !all[0].has(a) || all[0].has(b) {
			t.Errorf("the one that came back is there: %v, the other: %v", all[0].has(a), all[0].has(b))
		}
		time.Sleep(30*day + allDiscarded)
		if all[0].has(a) || all[0].has("attempts/ca/"+ID([]string{"a.example.com"})) {
			t.Error("a month later it is still there")
		}
		ca.say(nil)
		want("a.example.com", "b.example.com")
		time.Sleep(10 * time.Second)
		all[1].mustServe("a.example.com")
		all[1].mustServe("b.example.com")
		if orders, _, _ := ca.counts(); orders != 2 {
			t.Errorf("%d orders", orders)
		}
	})
}

// Before a replica was told what is wanted it deletes nothing; nor where another
// one tries to renew, with settings of its own.
func TestWhatMayBeWantedStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ca.say(errors.New("refused"))
		mem := store.NewMem(0)
		seed(t, ca, mem.Replica("tool"), "ca", 40*day, "a.example.com")
		untold := start(t, mem, ca, "untold", nil, func(_ *client, o *Options) {})
		untold.keeper.mu.Lock()
		untold.keeper.told = false
		untold.keeper.mu.Unlock()
		time.Sleep(3 * day)
		if !untold.has("certificates/ca/" + ID([]string{"a.example.com"})) {
			t.Error("it went before anybody was told what is wanted")
		}
		start(t, mem, ca, "wants", wantNames("a.example.com"))
		start(t, mem, ca, "does not", nil)
		time.Sleep(4 * day)
		if !untold.has("certificates/ca/"+ID([]string{"a.example.com"})) || !untold.has("attempts/ca/"+ID([]string{"a.example.com"})) {
			t.Error("it went although a replica wants it")
		}
	})
}

// A clock that is far ahead deletes nothing that has not expired by the CA's.
func TestClockAheadDeletesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		seed(t, ca, mem.Replica("tool"), "ca", 40*day, "a.example.com")
		r := start(t, mem, ca, "r1", nil, func(c *client, _ *Options) { c.behind = 15 * day })
		time.Sleep(4 * day)
		if !r.has("certificates/ca/" + ID([]string{"a.example.com"})) {
			t.Error("it went 29 days after its end by the CA's clock")
		}
		if n := strings.Count(r.log.String(), "level="); n > 5 {
			t.Errorf("%d messages:\n%s", n, r.log)
		}
		time.Sleep(3 * day)
		if r.has("certificates/ca/" + ID([]string{"a.example.com"})) {
			t.Error("it stays for ever")
		}
	})
}

// Under the lease the store is asked again: an order may have been begun, and
// what has changed since is not deleted.
func TestDiscardLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		r := start(t, mem, ca, "r1", nil)
		seed(t, ca, r.store, "ca", 40*day, "a.example.com")
		time.Sleep(time.Minute)
		kk := key{"ca", ID([]string{"a.example.com"})}
		lease := must(r.store.Acquire(t.Context(), kk.under(ordersPrefix)))
		look := func() (time.Duration, []store.Entry) {
			_, entries, until, err := r.keeper.uselessNow(time.Now(), lease, kk)
			if err != nil {
				t.Fatal(err)
			}
			return time.Until(until), entries
		}
		if until, entries := look(); until > 0 || len(entries) != 1 {
			t.Errorf("of use for %s, %d entries", until, len(entries))
		}
		put(t, r.store, kk.under(ordersPrefix), `{"Order":1}`)
		if until, entries := look(); until != discardAgain || len(entries) > 0 {
			t.Errorf("with a journal: of use for %s, %d entries", until, len(entries))
		}
		e := must(r.store.Get(t.Context(), kk.under(ordersPrefix)))
		if err := r.store.Delete(t.Context(), e.Key, e.Revision); err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		must(Import(t.Context(), r.store, "ca", ca.bundle([]string{"a.example.com"}, now.Add(-day), now.Add(day))))
		if until, entries := look(); until != uselessAfter+day || len(entries) > 0 {
			t.Errorf("with a newer one: of use for %s, %d entries", until, len(entries))
		}
		r.keeper.Want(wantNames("a.example.com"))
		if until, entries := look(); until != discardAgain || len(entries) > 0 {
			t.Errorf("wanted: of use for %s, %d entries", until, len(entries))
		}
		_ = lease.Release(t.Context())
	})
}

func TestDamagedValuesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		tool := mem.Replica("tool")
		seed(t, ca, tool, "ca", 40*day, "a.example.com", "b.example.com", "c.example.com")
		all := startAll(t, mem, ca, 2, nil)
		time.Sleep(time.Minute) // they know what was there
		a, b := ID([]string{"a.example.com"}), ID([]string{"b.example.com"})
		e := must(tool.Get(t.Context(), "certificates/ca/"+a))
		must(tool.Put(t.Context(), e.Key, e.Value[:len(e.Value)/2], e.Revision))
		put(t, tool, "revocations/ca/"+b, "{")
		put(t, tool, "orders/removed/x", "{")
		put(t, tool, "attempts/ca/x", "{")
		time.Sleep(allDiscarded + 4*day)
		for _, name := range []string{"certificates/ca/" + a, "certificates/ca/" + b, "revocations/ca/" + b, "orders/removed/x", "attempts/ca/x"} {
			if !isThere(t, tool, name) {
				t.Errorf("%s is gone", name)
			}
		}
		if n := deletions(all); n != 1 {
			t.Errorf("%d deletions, want that of c.example.com", n)
		}
		if s := all[0].status(a); s.Problem == "" || !s.DeleteAt.IsZero() {
			t.Errorf("status %+v", s)
		}
		if n := strings.Count(all[0].log.String(), "what there is of a certificate that nobody wants stays"); n < 2 || n > 12 {
			t.Errorf("told of %d times in 4 days, of two certificates", n)
		}
	})
}

func isThere(t *testing.T, st store.Store, name string) bool {
	_, err := st.Get(t.Context(), name)
	return err == nil
}

// A store that is away for the time of a deletion only delays it; a lease
// that was lost changes nothing.
func TestDiscardWithAFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		tool := mem.Replica("tool")
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprintf("n%d.example.com", i))
		}
		seed(t, ca, tool, "ca", 40*day, names...)
		all := startAll(t, mem, ca, 2, nil)
		for i := range 30 {
			time.Sleep(10 * time.Minute)
			all[i%2].store.Partition(i%3 == 0)
			all[1].store.Expire()
		}
		for _, r := range all {
			r.store.Partition(false)
		}
		time.Sleep(time.Hour)
		if left := must(store.List(t.Context(), tool, "")); len(left) > 0 {
			t.Errorf("%d keys are left: %s", len(left), left[0].Key)
		}
		if n := deletions(all); n > len(names) {
			t.Errorf("%d deletions of %d", n, len(names))
		}
	})
}

// The admission of a name that nobody permits any more goes with its
// certificate; one of a name that is in another certificate stays.
func TestAdmissionsGoWithTheirCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		mem := store.NewMem(0)
		tool := mem.Replica("tool")
		seed(t, ca, tool, "ca", 40*day, "gone.example", "kept.example", "young.example")
		admit := func(name string, ago time.Duration) {
			put(t, tool, onDemandKey(name), fmt.Sprintf(`{"version":1,"name":%q,"since":%q}`, name, time.Now().Add(-ago).Format(time.RFC3339)))
		}
		admit("gone.example", 400*day)
		admit("kept.example", 400*day)
		admit("young.example", 2*day)
		now := time.Now()
		must(Import(context.Background(), tool, "ca", ca.bundle([]string{"kept.example", "shared.example"}, now.Add(-day), now.Add(80*day))))
		start(t, mem, ca, "r1", nil)
		time.Sleep(allDiscarded)
		for name, want := range map[string]bool{"gone.example": false, "kept.example": true, "young.example": true} {
			if isThere(t, tool, onDemandKey(name)) != want {
				t.Errorf("%s is let in: %v", name, !want)
			}
		}
		if !isThere(t, tool, "certificates/ca/"+ID([]string{"young.example"})) || isThere(t, tool, "certificates/ca/"+ID([]string{"kept.example"})) {
			t.Error("the certificates are not as the names are")
		}
		time.Sleep(29 * day)
		if isThere(t, tool, onDemandKey("young.example")) {
			t.Error("a name nobody permits is let in for ever")
		}
	})
}
