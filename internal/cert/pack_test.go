package cert

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// packWorld is what a random history has made of some names: what is wanted, and
// what the store holds.
type packWorld struct {
	t      *testing.T
	rng    *rand.Rand
	now    time.Time
	size   int
	wanted map[string]bool
	v      view
}

func (w *packWorld) list() []Want {
	var list []Want
	for n := range w.wanted {
		list = append(list, Want{Names: []string{n}, Issuer: "ca", Source: "rule", FromRule: true})
	}
	w.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

func (w *packWorld) pack() map[string][]string {
	got := map[string][]string{}
	for _, one := range pack(w.now, map[string]int{"ca": w.size}, w.list(), w.v) {
		id := ID(one.Names)
		if got[id] != nil {
			w.t.Fatalf("%v is wanted twice", one.Names)
		}
		got[id] = one.Names
	}
	return got
}

func (w *packWorld) due(c *Certificate) bool {
	do, _ := decide(w.now, c, attempt{}, renewal{}, time.Time{})
	return do != rest
}

// check: every name is in one certificate, none too large, and the same whatever
// the order; what need not change does not.
func (w *packWorld) check() map[string][]string {
	w.t.Helper()
	got := w.pack()
	if again := w.pack(); !maps.EqualFunc(got, again, slices.Equal) {
		w.t.Fatalf("the order of what is wanted decides:\n%v\n%v", got, again)
	}
	in := map[string]int{}
	for id, names := range got {
		kept := w.v.present[key{"ca", id}] != nil && !w.due(w.v.present[key{"ca", id}])
		if _, begun := w.v.ordered[key{"ca", id}]; !kept && !begun && len(names) > w.size {
			w.t.Fatalf("%d names in one certificate, at most %d: %v", len(names), w.size, names)
		}
		for _, n := range names {
			if !kept {
				in[n]++
			} else if in[n] == 0 {
				in[n] = 1
			}
			if !kept && !begunWith(w.v, n) && !w.wanted[n] {
				w.t.Fatalf("%s is ordered, and nobody wants it", n)
			}
		}
	}
	for n := range w.wanted {
		if in[n] == 0 {
			w.t.Fatalf("%s is in no certificate: %v", n, got)
		}
	}
	for kk, c := range w.v.present {
		if w.due(c) {
			continue
		}
		only := slices.ContainsFunc(c.Names, func(n string) bool {
			return w.wanted[n] && !slices.ContainsFunc(slices.Collect(maps.Values(w.v.present)), func(o *Certificate) bool {
				return o != c && !w.due(o) && slices.Contains(o.Names, n)
			})
		})
		if only && got[kk.id] == nil {
			w.t.Fatalf("the certificate for %v is not due, and not kept", c.Names)
		}
	}
	return got
}

func begunWith(v view, n string) bool {
	for _, names := range v.ordered {
		if slices.Contains(names, n) {
			return true
		}
	}
	return false
}

// issue puts what is wanted and not there, or due, into the store.
func (w *packWorld) issue(share float64) {
	got := w.check()
	for _, id := range slices.Sorted(maps.Keys(got)) {
		kk := key{"ca", id}
		if c := w.v.present[kk]; c != nil && !w.due(c) || w.rng.Float64() > share {
			continue
		}
		names := got[id]
		delete(w.v.ordered, kk)
		switch bad := slices.IndexFunc(names, func(n string) bool { return strings.HasPrefix(n, "bad") }); {
		case bad >= 0:
			a := w.v.attempts[kk].after(errors.New("refused"))
			if w.rng.IntN(2) == 0 {
				a = w.v.attempts[kk].after(&NamesError{errors.New("refused"), []string{names[bad]}})
			}
			a.Names, a.Last, a.Next = names, w.now, w.now.Add(time.Minute)
			w.v.attempts[kk] = a
		case w.rng.IntN(10) == 0:
			w.v.ordered[kk] = names
		default:
			w.v.present[kk] = &Certificate{Issuer: "ca", ID: id, Names: names, Obtained: w.now, NotBefore: w.now, NotAfter: w.now.Add(90 * day)}
		}
	}
}

func TestPackProperties(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := &packWorld{t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: noon, wanted: map[string]bool{},
				v: view{present: map[key]*Certificate{}, attempts: map[key]attempt{}, ordered: map[key][]string{}}}
			w.size = 2 + w.rng.IntN(20)
			next := 0
			for range 30 {
				switch w.rng.IntN(4) {
				case 0:
					for range w.rng.IntN(2 * w.size) {
						kind := "n"
						if w.rng.IntN(20) == 0 {
							kind = "bad"
						}
						w.wanted[fmt.Sprintf("%s%d.d%d.test", kind, next, w.rng.IntN(5))] = true
						next++
					}
				case 1:
					for _, n := range slices.Sorted(maps.Keys(w.wanted)) {
						if w.rng.IntN(10) == 0 {
							delete(w.wanted, n)
						}
					}
				case 2:
					w.now = w.now.Add(time.Duration(w.rng.IntN(20)) * day)
				case 3:
					w.issue(0.7)
				}
				w.check()
			}
			for range 40 { // long enough for every half of a half
				w.now = w.now.Add(time.Minute)
				w.issue(1)
			}
			before := w.check()
			for n := range w.wanted {
				good := slices.ContainsFunc(slices.Collect(maps.Values(w.v.present)), func(c *Certificate) bool {
					return slices.Contains(c.Names, n) && c.NotAfter.After(w.now)
				})
				if good == strings.HasPrefix(n, "bad") {
					t.Errorf("%s: has a certificate: %v", n, good)
				}
			}
			// At rest, nothing moves: neither with time nor with another name.
			w.now = w.now.Add(time.Hour)
			w.wanted["another.d1.test"] = true
			after := w.check()
			for id, names := range before {
				if c := w.v.present[key{"ca", id}]; c != nil && !w.due(c) && after[id] == nil {
					t.Errorf("%v moved", names)
				}
			}
		})
	}
}

func TestPackLeavesAlone(t *testing.T) {
	v := view{}
	list := []Want{
		{Names: []string{"b.test"}, Issuer: "ca", FromRule: true, Source: "host rule"},
		{Names: []string{"a.test"}, Issuer: "ca", FromRule: true, Source: "on demand"},
		{Names: []string{"listed.test", "two.test"}, Issuer: "ca", Source: "acme.domains"},
		{Names: []string{"two.test"}, Issuer: "ca", FromRule: true, Source: "host rule"},
		{Names: []string{"x.wild.test"}, Issuer: "ca", FromRule: true, Source: "host rule"},
		{Names: []string{"*.wild.test"}, Issuer: "ca", FromRule: true, Source: "host rule"},
		{Names: []string{"c.test"}, Issuer: "local", FromRule: true, Source: "host rule"},
	}
	var got []string
	for _, w := range pack(noon, map[string]int{"ca": 10}, list, v) {
		got = append(got, fmt.Sprintf("%s %s %v %s", w.Issuer, strings.Join(w.Names, "+"), w.FromRule, w.Source))
	}
	want := []string{"ca listed.test+two.test false acme.domains", "ca two.test true host rule", "ca x.wild.test true host rule",
		"local c.test true host rule", "ca a.test+b.test+*.wild.test false host rule, on demand"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Three replicas, names that come and go, one that the CA refuses.
func TestPackedCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, mem := newSmallCA(t, 2*day), store.NewMem(0)
		names := func(from, to int) []Want {
			list := []Want{{Names: []string{"bad.example.com"}, Issuer: "ca", Source: "host rule", FromRule: true}}
			for i := from; i < to; i++ {
				list = append(list, Want{Names: []string{fmt.Sprintf("n%d.example.com", i)}, Issuer: "ca", Source: "host rule", FromRule: true})
			}
			return list
		}
		var all []*replica
		for i := range 3 {
			all = append(all, start(t, mem, ca, fmt.Sprintf("r%d", i), names(0, 59), func(c *client, o *Options) {
				o.Pack = map[string]int{"ca": 20}
				c.refuse = "bad.example.com"
			}))
		}
		served := func(from, to int) {
			t.Helper()
			for _, r := range all {
				for i := from; i < to; i++ {
					r.mustServe(fmt.Sprintf("n%d.example.com", i))
				}
			}
		}
		began := time.Now()
		time.Sleep(2 * time.Minute)
		served(0, 59)
		if _, issued, _ := ca.counts(); issued != 3 {
			t.Errorf("%d certificates for 59 names, 20 in each", issued)
		}
		for _, r := range all {
			r.keeper.Want(names(4, 64)) // four leave, five come
		}
		time.Sleep(2 * time.Minute)
		served(0, 64) // what is there is served on
		if _, issued, _ := ca.counts(); issued != 4 {
			t.Errorf("%d certificates after five names more, want one more", issued)
		}
		time.Sleep(26 * time.Hour)
		served(4, 64)
		for i := range 4 {
			if leaf := all[0].served(fmt.Sprintf("n%d.example.com", i)); leaf != nil && leaf.NotBefore.After(began.Add(time.Hour)) {
				t.Errorf("n%d has not left at the renewal", i)
			}
		}
		if _, issued, _ := ca.counts(); issued != 8 {
			t.Errorf("%d certificates, want each renewed once", issued)
		}
		if s := all[1].status(ID([]string{"bad.example.com"})); s.State != StateFailed || s.Failures < 8 {
			t.Errorf("the refused name: %+v", s)
		}
	})
}

func BenchmarkPack10k(b *testing.B) {
	v := view{present: map[key]*Certificate{}}
	var list []Want
	for i := range 10000 {
		list = append(list, Want{Names: []string{fmt.Sprintf("n%d.d%d.example.com", i, i%100)}, Issuer: "ca", FromRule: true})
	}
	for _, w := range pack(noon, map[string]int{"ca": 50}, list, v) {
		c := certAt(-day, 80*day, w.Names...)
		v.present[key{"ca", c.ID}] = c
	}
	b.ReportAllocs()
	for b.Loop() {
		pack(noon, map[string]int{"ca": 50}, list, v)
	}
}
