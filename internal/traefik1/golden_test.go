package traefik1

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/internal/config"
	"gatehouse/internal/route"
	"gatehouse/internal/store"
)

var update = flag.Bool("update", false, "write what comes out as what is wanted")

// TestStories reads each story in testdata/routing: a file routes.toml or a
// store's keys in tree, and what becomes of it in want.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/routing/*.txtar")
	if err != nil || len(files) < 5 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got, want string
			for _, f := range a.Files {
				switch f.Name {
				case "routes.toml":
					n, problems := config.ParseTOML("routes.toml", f.Data)
					got = tell(t, n, problems, "file")
				case "tree":
					n, problems := Tree(entriesOf(t, string(f.Data)), TreeSource{Provider: "etcd", Prefix: "/traefik"})
					got = tell(t, n, problems, "etcd")
				case "want":
					want = string(f.Data)
				}
			}
			if *update {
				a.Files[len(a.Files)-1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// entriesOf reads lines "key = value".
func entriesOf(t testing.TB, text string) []store.Entry {
	t.Helper()
	var entries []store.Entry
	for line := range strings.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " =")
		if !ok {
			t.Fatalf("%q is not key = value", line)
		}
		entries = append(entries, store.Entry{Key: key, Value: []byte(strings.TrimPrefix(value, " "))})
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}

// tell parses n and writes the outcome. Every rule must be one package route
// takes.
func tell(t *testing.T, n *config.Node, problems []config.Problem, provider string) string {
	t.Helper()
	routing, more := Parse(n, provider)
	problems = append(problems, more...)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(routing.Routers)) {
		r := routing.Routers[name]
		if _, err := route.Parse(r.Rule); err != nil {
			t.Errorf("router %s: %s: %v", name, r.Rule, err)
		}
		fmt.Fprintf(&b, "router %s: %s -> %s, priority %d", name, r.Rule, r.Service, r.Priority)
		if len(r.EntryPoints) > 0 {
			fmt.Fprintf(&b, ", entry points %v", r.EntryPoints)
		}
		if r.PassHostHeader != nil {
			fmt.Fprintf(&b, ", pass host %v", *r.PassHostHeader)
		}
		fmt.Fprintf(&b, "  (%s)\n", r.Origin)
		for _, m := range r.Middlewares {
			what := "missing"
			if declared, ok := routing.Middlewares[m]; ok {
				what = describe(declared)
			}
			fmt.Fprintf(&b, "\tthrough %s: %s\n", m, what)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(routing.Services)) {
		lb := routing.Services[name].LoadBalancer
		fmt.Fprintf(&b, "service %s:", name)
		for _, s := range lb.Servers {
			fmt.Fprintf(&b, " %s=%s*%d", s.Name, s.URL, s.Weight)
		}
		if lb.Sticky != nil {
			fmt.Fprintf(&b, " sticky%+v", *lb.Sticky)
		}
		if lb.HealthCheck != nil {
			fmt.Fprintf(&b, " check%+v", *lb.HealthCheck)
		}
		if lb.ResponseForwarding != 0 {
			fmt.Fprintf(&b, " flush %s", lb.ResponseForwarding)
		}
		b.WriteString("\n")
	}
	for _, c := range routing.Certificates {
		fmt.Fprintf(&b, "certificate %s, %s, entry points %v\n", c.CertFile, c.KeyFile, c.EntryPoints)
	}
	for _, p := range problems {
		word := "problem"
		if p.Warning {
			word = "warning"
		}
		fmt.Fprintf(&b, "%s: %s\n", word, p)
	}
	return b.String()
}
