package route53

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	double "gatehouse/e2e/rig/route53"
)

// text is the changes of a work in one line each.
func text(w *work) (lines []string) {
	for _, c := range w.changes() {
		var values []string
		for _, r := range c.ResourceRecordSet.ResourceRecords {
			values = append(values, *r.Value)
		}
		lines = append(lines, fmt.Sprintf("%s %s %d %s", c.Action, *c.ResourceRecordSet.Name, *c.ResourceRecordSet.TTL, strings.Join(values, " ")))
	}
	return lines
}

func TestPlan(t *testing.T) {
	add := func(v string) wish { return wish{name: "n", value: v, ttl: 10, add: true} }
	remove := func(v string) wish { return wish{name: "n", value: v, ttl: 10} }
	force := wish{name: "n", value: "c", ttl: 10, add: true, force: true}
	ab := belief{held: true, set: newSet(60, "b", "a")}
	for _, c := range []struct {
		name   string
		belief belief
		wishes []wish
		want   []string
	}{
		{"first value", belief{}, []wish{add("a")}, []string{`CREATE n. 10 "a"`}},
		{"two at once", belief{}, []wish{add("b"), add("a"), add("b")}, []string{`CREATE n. 10 "a" "b"`}},
		{"one more", ab, []wish{add("c")}, []string{`DELETE n. 60 "a" "b"`, `CREATE n. 10 "a" "b" "c"`}},
		{"one less keeps the TTL", ab, []wish{remove("a")}, []string{`DELETE n. 60 "a" "b"`, `CREATE n. 60 "b"`}},
		{"none left", ab, []wish{remove("a"), remove("b")}, []string{`DELETE n. 60 "a" "b"`}},
		{"exchange", ab, []wish{remove("a"), add("c")}, []string{`DELETE n. 60 "a" "b"`, `CREATE n. 10 "b" "c"`}},
		{"remove what nobody knows of", belief{}, []wish{remove("a"), remove("b")}, []string{`DELETE n. 10 "a" "b"`}},
		{"exchange of what nobody knows of", belief{}, []wish{remove("a"), add("b")}, []string{`DELETE n. 10 "a"`, `CREATE n. 10 "b"`}},
		{"add to what became uncertain", belief{live: []string{"x"}}, []wish{add("a")}, []string{`DELETE n. 10 "x"`, `CREATE n. 10 "a" "x"`}},
		{"remove from what became uncertain", belief{live: []string{"x"}}, []wish{remove("a")}, []string{`DELETE n. 10 "a" "x"`, `CREATE n. 10 "x"`}},
		{"known to be gone", belief{held: true}, []wish{remove("a")}, nil},
		{"last resort keeps what is ours", belief{live: []string{"x"}}, []wish{force}, []string{`UPSERT n. 10 "c" "x"`}},
	} {
		w := &work{name: "n"}
		w.from, w.to, w.upsert = plan(c.belief, c.wishes)
		if diff := cmp.Diff(c.want, text(w)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestChunksKeepTheLimits(t *testing.T) {
	var works []*work
	for i := range 2000 {
		w := &work{name: fmt.Sprint("n", i), to: newSet(10, strings.Repeat("v", 43)), upsert: i%3 == 0}
		if i%5 == 0 {
			w.from = newSet(10, "a", "b")
		}
		works = append(works, w)
	}
	seen := 0
	for _, chunk := range chunks(works) {
		values, chars := 0, 0
		for _, w := range chunk {
			v, c := w.weight()
			values, chars = values+v, chars+c
			seen++
		}
		if values > maxValues || chars > maxChars {
			t.Errorf("a batch of %d values, %d characters", values, chars)
		}
	}
	if seen != len(works) {
		t.Errorf("%d of %d works", seen, len(works))
	}
}

func TestBlame(t *testing.T) {
	a, b, c := &work{name: "a.test"}, &work{name: "b.test"}, &work{name: "c.test"}
	messages := []string{
		"Tried to create resource record set [name='A.test.', type='TXT'] but it already exists",
		"Tried to delete resource record set [name='b.test.', type='TXT'] but it was not found",
		"RRSet of type TXT with DNS name c.test. is not permitted as it conflicts with other records that already exist",
	}
	if diff := cmp.Diff(map[string]bool{"a.test": false, "b.test": true}, names(blame(messages, []*work{a, b, c}))); diff != "" {
		t.Error(diff)
	}
	if got := blame([]string{"Number of records limit of 1000 exceeded."}, []*work{a}); len(got) != 0 {
		t.Error(names(got))
	}
}

func names(guilty map[*work]bool) map[string]bool {
	out := map[string]bool{}
	for w, gone := range guilty {
		out[w.name] = gone
	}
	return out
}

// TestHolders: the zone is found with few requests in accounts of any size.
func TestHolders(t *testing.T) {
	zones := []double.Zone{{ID: "Z1", Name: "example.org"}, {ID: "Z2", Name: "office.example.org"}, {ID: "ZOTHER", Name: "fooexample.org"}, {ID: "ZUK", Name: "example.co.uk"}}
	for i := range 250 {
		zones = append(zones, double.Zone{ID: fmt.Sprintf("ZC%d", i), Name: fmt.Sprintf("c%03d.example.org", i)},
			double.Zone{ID: fmt.Sprintf("ZU%d", i), Name: fmt.Sprintf("u%03d.co.uk", i)})
	}
	d := start(t, double.Options{Zones: zones})
	p, _ := replica(t, d, blind{})
	for name, want := range map[string]string{
		"_acme-challenge.office.example.org": "office.example.org", "_acme-challenge.a.b.example.org": "example.org",
		"_acme-challenge.c249.example.org": "c249.example.org", "_acme-challenge.example.co.uk": "example.co.uk",
		"_acme-challenge.u240.co.uk": "u240.co.uk", "fooexample.org": "fooexample.org",
	} {
		before := len(d.Calls())
		zone, err := p.FindZone(ctxOf(t), name)
		if zone != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, zone, err, want)
		}
		if n := len(d.Calls()) - before; n > 3 {
			t.Errorf("%s took %d calls", name, n)
		}
	}
}

func FuzzQuote(f *testing.F) {
	f.Add("plain")
	f.Add(`a "quoted\" one`)
	f.Fuzz(func(t *testing.T, v string) {
		if got := unquote(quote(v)); got != v {
			t.Errorf("%q became %q", v, got)
		}
		unquote(v)
	})
}

func FuzzChoose(f *testing.F) {
	f.Add("_acme-challenge.a.example.org", "example.org a.example.org org")
	f.Fuzz(func(t *testing.T, name, list string) {
		var known []zone
		for i, z := range strings.Fields(list) {
			if within(name, z) {
				known = append(known, zone{id: fmt.Sprint("Z", i), name: z, private: i%3 == 2})
			}
		}
		z, err := choose(name, "", known)
		if err == nil && (z.private || !within(name, z.name) || slices.ContainsFunc(known, func(o zone) bool { return !o.private && len(o.name) > len(z.name) })) {
			t.Errorf("chose %v of %v for %q", z, known, name)
		}
	})
}

// TestBeliefsArePatient: of two wishes that were refused one after the other,
// the first to find out what is there is believed, and a refusal of what was
// planned before that does not undo it.
func TestBeliefsArePatient(t *testing.T) {
	w := &writer{sets: map[string]*belief{}}
	planned := func(value string) *work {
		wk := w.merge([]*pending{{wish: wish{name: "n", value: value, ttl: 10}, done: make(chan error, 1)}})[0]
		return wk
	}
	conflictOf := func(wk *work) *conflict {
		w.refused(wk, false, errors.New("do not match"))
		return (<-wk.wishes[0].done).(*conflict)
	}
	first, second := planned("a"), planned("b")
	c1, c2 := conflictOf(first), conflictOf(second)
	late := planned("c")
	w.believe("n", c1, newSet(10, "a", "b", "c"))
	conflictOf(late)
	w.believe("n", c2, newSet(10, "a", "b", "c", "stale"))
	if got := text(planned("a")); !slices.Equal(got, []string{`DELETE n. 10 "a" "b" "c"`, `CREATE n. 10 "b" "c"`}) {
		t.Errorf("planned %q", got)
	}
}
