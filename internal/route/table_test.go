package route

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// naive evaluates a rule from its text arguments alone, sharing nothing with
// the real evaluator: it is what the table is held against.
func naive(n *node, h *Head) bool {
	switch n.op {
	case opNot:
		return !naive(n.kids[0], h)
	case opAnd:
		return !slices.ContainsFunc(n.kids, func(k *node) bool { return !naive(k, h) })
	case opOr:
		return slices.ContainsFunc(n.kids, func(k *node) bool { return naive(k, h) })
	}
	host := h.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	query, _ := url.ParseQuery(h.RawQuery)
	re := func(s string) *regexp.Regexp { return regexp.MustCompile(s) }
	args := n.leaf.args
	any := func(ok func(arg string) bool) bool { return slices.ContainsFunc(args, ok) }
	switch n.leaf.name() {
	case "Host":
		return any(func(a string) bool {
			first, rest, _ := strings.Cut(host, ".")
			return a == host || first != "" && rest != "" && a == "*."+rest
		})
	case "HostRegexp":
		return any(func(a string) bool { return re(a).MatchString(host) })
	case "Path":
		return any(func(a string) bool { return a == h.Path })
	case "PathPrefix":
		return any(func(a string) bool { return len(h.Path) >= len(a) && h.Path[:len(a)] == a })
	case "PathRegexp":
		return any(func(a string) bool { return re(a).MatchString(h.Path) })
	case "Method":
		return any(func(a string) bool { return a == h.Method })
	case "Header":
		return slices.Contains(h.Header.Values(args[0]), args[1])
	case "HeaderRegexp":
		return slices.ContainsFunc(h.Header.Values(args[0]), re(args[1]).MatchString)
	case "Query":
		return query.Has(args[0]) && (len(args) == 1 || slices.Contains(query[args[0]], args[1]))
	case "QueryRegexp":
		return slices.ContainsFunc(query[args[0]], re(args[1]).MatchString)
	case "ClientIP":
		return any(func(a string) bool {
			if !strings.Contains(a, "/") {
				return h.RemoteAddr == net.JoinHostPort(a, "1")
			}
			return netip.MustParsePrefix(a).Contains(netip.MustParseAddrPort(h.RemoteAddr).Addr())
		})
	}
	panic(n.leaf.name())
}

// linear is the reference: every entry, best priority first, ties by name.
func linear(entries []Entry, h *Head) int {
	best := -1
	for i, e := range entries {
		if !naive(e.Rule.root, h) {
			continue
		}
		if best < 0 || e.Priority > entries[best].Priority ||
			e.Priority == entries[best].Priority && e.Name < entries[best].Name {
			best = i
		}
	}
	return best
}

var (
	someHosts   = []string{"a", "a.b", "*.b", "x.a.b", "*.a.b", "b", "c.d"}
	somePaths   = []string{"/", "/a", "/ab", "/a/", "/a/b", "/abc", "/b"}
	someMethods = []string{"GET", "POST"}
	someRest    = []string{
		"HostRegexp(`^a`)", "PathRegexp(`b$`)", "Header(`X`,`1`)", "HeaderRegexp(`X`,`[12]`)", "Query(`q`)",
		"Query(`q`,`1`)", "QueryRegexp(`q`,`2`)", "ClientIP(`10.0.0.0/8`)", "ClientIP(`192.0.2.1`)",
	}
)

func randomRule(r *rand.Rand, depth int) string {
	pick := func(list []string) string { return list[r.IntN(len(list))] }
	strs := func(list []string) string {
		s := "`" + pick(list) + "`"
		for r.IntN(3) == 0 {
			s += ",`" + pick(list) + "`"
		}
		return s
	}
	if depth > 0 {
		switch r.IntN(5) {
		case 0, 1:
			return "(" + randomRule(r, depth-1) + " && " + randomRule(r, depth-1) + ")"
		case 2:
			return "(" + randomRule(r, depth-1) + " || " + randomRule(r, depth-1) + ")"
		case 3:
			return "!" + randomRule(r, depth-1)
		}
	}
	switch r.IntN(7) {
	case 0, 1:
		return "Host(" + strs(someHosts) + ")"
	case 2:
		return "Path(" + strs(somePaths) + ")"
	case 3, 4:
		return "PathPrefix(" + strs(somePaths) + ")"
	case 5:
		return "Method(" + strs(someMethods) + ")"
	}
	return pick(someRest)
}

func randomHead(r *rand.Rand) *Head {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	host := pick("a", "a.b", "z.b", "x.a.b", "q.a.b", "x.q.a.b", "b", "c.d", "A.B", ".b", "", "nobody.org")
	return &Head{
		Method:     pick("GET", "POST", "PUT"),
		Host:       host + pick("", "", ":80", "."),
		Path:       pick(append([]string{"", "*", "/abcd", "/a/b/c", "/z"}, somePaths...)...),
		RawQuery:   pick("", "q=1", "q=2&q=1", "q", "%71=2", "q;=1", "r=1"),
		Header:     map[string][]string{"X": {pick("", "1", "2", "3")}},
		RemoteAddr: pick("10.1.2.3:1", "192.0.2.1:1", "[2001:db8::1]:1"),
	}
}

// FuzzTable holds the table against the linear reference on random tables;
// the fuzzer steers the generator through its seeds.
func FuzzTable(f *testing.F) {
	for seed := range uint64(150) {
		f.Add(seed, seed*7)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		r := rand.New(rand.NewPCG(a, b))
		entries := make([]Entry, r.IntN(24))
		for i := range entries {
			entries[i] = Entry{
				Name:     fmt.Sprintf("r%02d", (i*7)%24),
				Rule:     mustParse(t, randomRule(r, r.IntN(4))),
				Priority: r.IntN(4),
			}
		}
		table := NewTable(entries)
		for range 40 {
			h := randomHead(r)
			want := linear(entries, h)
			if got := table.Match(h); got != want {
				t.Fatalf("%+v\n got %d\nwant %d of %v", h, got, want, entries)
			}
			for _, e := range entries {
				if e.Rule.Match(h) != naive(e.Rule.root, h) {
					t.Fatalf("%s on %+v", e.Rule, h)
				}
			}
		}
	})
}

// TestTooManyKeys: a product of alternatives too large to enter one by one
// still gives the right answer.
func TestTooManyKeys(t *testing.T) {
	var hosts, paths, more []string
	for i := range 200 {
		hosts = append(hosts, fmt.Sprintf("`h%d`", i))
		paths = append(paths, fmt.Sprintf("`/p%d`", i))
		more = append(more, fmt.Sprintf("`/p%d/x`", i))
	}
	rule := "Host(" + strings.Join(hosts, ",") + ") && PathPrefix(" + strings.Join(paths, ",") + ") && Path(" + strings.Join(more, ",") + ")"
	table := NewTable([]Entry{{Name: "big", Rule: mustParse(t, rule)}})
	for _, tc := range []struct {
		host, path string
		want       int
	}{{"h3", "/p4/x", 0}, {"h3", "/p4/y", -1}, {"h200", "/p4/x", -1}} {
		if got := table.Match(&Head{Host: tc.host, Path: tc.path}); got != tc.want {
			t.Errorf("%s %s: %d", tc.host, tc.path, got)
		}
	}
}

func TestOrder(t *testing.T) {
	r := mustParse(t, "Path(`/`)")
	table := NewTable([]Entry{{"b", r, 1}, {"a", r, 1}, {"c", r, 2}, {"none", Rule{}, 9}})
	if got := table.Order(); !slices.Equal(got, []int{3, 2, 1, 0}) {
		t.Error(got)
	}
	if got := table.Match(&Head{Path: "/"}); got != 2 {
		t.Error(got)
	}
	if got := NewTable(nil).Match(&Head{Path: "/"}); got != -1 {
		t.Error(got)
	}
}

func hostTable(tb testing.TB, n int) (*Table, []Entry) {
	entries := make([]Entry, 0, n+3)
	for i := range n {
		rule := fmt.Sprintf("Host(`host%d.example.com`) && PathPrefix(`/api`)", i)
		if i%2 == 0 {
			rule = fmt.Sprintf("Host(`host%d.example.com`)", i)
		}
		entries = append(entries, Entry{fmt.Sprintf("r%d", i), mustParse(tb, rule), len(rule)})
	}
	entries = append(entries,
		Entry{"wild", mustParse(tb, "Host(`*.example.org`) && Path(`/x`)"), 10},
		Entry{"method", mustParse(tb, "Host(`host1.example.com`) && Method(`PUT`)"), 1000},
		Entry{"all", mustParse(tb, "PathPrefix(`/`)"), 1},
	)
	return NewTable(entries), entries
}

func TestMatchAllocatesNothing(t *testing.T) {
	table, entries := hostTable(t, 100)
	h := &Head{Method: "GET", Path: "/api/v1", RemoteAddr: "10.0.0.1:1"}
	for host, want := range map[string]string{
		"host7.example.com": "r7", "host7.example.com:443": "r7", "host8.example.com.": "r8", "nobody.example.org": "all", "host1.example.com": "r1",
	} {
		h.Host = host
		var got int
		if n := testing.AllocsPerRun(100, func() { got = table.Match(h) }); n != 0 {
			t.Errorf("%s: %v allocations", host, n)
		}
		if entries[got].Name != want {
			t.Errorf("%s: %s", host, entries[got].Name)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{10, 10_000, 100_000} {
		table, _ := hostTable(b, n)
		heads := make([]Head, 1024)
		for i := range heads {
			heads[i] = Head{Method: "GET", Host: fmt.Sprintf("host%d.example.com", rand.IntN(n)), Path: "/api/v1/things"}
		}
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if table.Match(&heads[i&1023]) < 0 {
					b.Fatal("no route")
				}
				i++
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("hosts=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				hostTable(b, n)
			}
		})
	}
}
