package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"
)

func TestTables(t *testing.T) {
	i := Inspection{
		Challenge: "_acme-challenge.example.org", Target: "x.alias.test",
		Aliases: []Query{{Name: "_acme-challenge.example.org", Type: "CNAME", Server: "10.0.0.1:53", Proto: "udp", Rcode: "NOERROR", Told: "alias of x.alias.test", Took: 3 * time.Millisecond}},
		Zone: Report{Name: "x.alias.test", Zone: "alias.test", How: "SOA", Lister: errors.New("route53: AccessDenied"), NoNS: []string{"x.alias.test"}, Queries: []Query{
			{Name: "x.alias.test", Type: "SOA", Server: "10.0.0.1:53", Proto: "tcp", Rcode: "NXDOMAIN", Told: "zone alias.test", Took: 1500 * time.Microsecond},
			{Name: "x.alias.test", Type: "SOA", Server: "[2001:db8::1]:53", Proto: "udp", Err: "timed out", Told: "nothing", Took: 2 * time.Second}}},
	}
	want := `_acme-challenge.example.org leads to x.alias.test
  NAME                         TYPE   SERVER       BY   ANSWER   TOLD                   TOOK
  _acme-challenge.example.org  CNAME  10.0.0.1:53  udp  NOERROR  alias of x.alias.test  3ms
x.alias.test is in zone alias.test (by SOA)
  provider: route53: AccessDenied
  zone x.alias.test does not count: it has no name servers
  NAME          TYPE  SERVER            BY   ANSWER     TOLD             TOOK
  x.alias.test  SOA   10.0.0.1:53       tcp  NXDOMAIN   zone alias.test  2ms
  x.alias.test  SOA   [2001:db8::1]:53  udp  timed out  nothing          2s
`
	if diff := cmp.Diff(want, i.Table()); diff != "" {
		t.Error(diff)
	}
	if got := (Inspection{Challenge: "a", Target: "a"}).Table(); got != "a is no alias\n" {
		t.Errorf("%q", got)
	}
	if got := (Report{Name: "a"}).Table(); got != "a: no zone found\n" {
		t.Errorf("%q", got)
	}
}

// TestInspect finds out by real questions, for people.
func TestInspect(t *testing.T) {
	s := startFake(t, world{zones: []string{"example.org", "alias.test"}, records: []string{
		"_acme-challenge.example.org. CNAME to.alias.test.", "alias.test. NS ns.example.net."}}.resolve)
	i := NewSolver(SolverOptions{Provider: &struct{ Provider }{&memory{}}, Resolvers: []string{s.addr}}).Inspect(testContext(t), "*.example.org")
	text := i.Table()
	for _, want := range []string{"_acme-challenge.example.org leads to to.alias.test\n", "alias of to.alias.test", "to.alias.test is in zone alias.test (by SOA)\n", "1 name servers"} {
		if i.Err != nil || !strings.Contains(text, want) {
			t.Errorf("error %v, no %q in\n%s", i.Err, want, text)
		}
	}
}

// TestFrozen: where a CNAME led when the record was planned is where it is
// removed, wherever the CNAME leads by then.
func TestFrozen(t *testing.T) {
	var mu sync.Mutex
	to := "first"
	s := startFake(t, func(proto string, r *mdns.Msg) *mdns.Msg {
		mu.Lock()
		defer mu.Unlock()
		return world{zones: []string{"example.org", "alias.test"}, records: []string{"_acme-challenge.example.org. CNAME " + to + ".alias.test."}}.resolve(proto, r)
	})
	p := &memory{}
	solver := NewSolver(SolverOptions{Provider: &struct{ Provider }{p}, Resolvers: []string{s.addr}})
	rec, err := solver.Plan(testContext(t), "example.org", "v")
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	to = "second"
	mu.Unlock()
	if err := errors.Join(solver.Present(t.Context(), rec), solver.CleanUp(t.Context(), rec)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"+alias.test first.alias.test v", "-alias.test first.alias.test v"}, p.records); diff != "" {
		t.Error(diff)
	}
}

// broom is a provider that fails for some values.
type broom struct {
	mu    sync.Mutex
	gone  []string
	fails map[string]error
}

func (*broom) Present(context.Context, Record) error { panic("a sweep presents nothing") }

func (b *broom) CleanUp(_ context.Context, r Record) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.gone = append(b.gone, r.Name+" "+r.Value)
	return b.fails[r.Value]
}

func TestSweep(t *testing.T) {
	trouble := errors.New("503")
	b := &broom{fails: map[string]error{"stays": trouble, "homeless": fmt.Errorf("asked: %w", ErrNoZone)}}
	rec := func(name, value string) Record { return Record{Zone: "example.org", Name: name, Value: value} }
	twice := rec("a", "1")
	twice.Domain = "of another journal"
	recs := []Record{rec("a", "1"), rec("a", "2"), rec("b", "stays"), twice, rec("c", "homeless")}
	var got []string
	for _, s := range NewSolver(SolverOptions{Provider: b}).Sweep(t.Context(), recs) {
		got = append(got, fmt.Sprintf("%s %s: %v", s.Record.Name, s.Record.Value, s.Err))
	}
	want := []string{"a 1: <nil>", "a 2: <nil>", "b stays: clean up TXT b in zone example.org: 503", "a 1: <nil>", "c homeless: <nil>"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	slices.Sort(b.gone)
	if diff := cmp.Diff([]string{"a 1", "a 2", "b stays", "c homeless"}, b.gone); diff != "" {
		t.Error(diff)
	}
}
