package config

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the want.* parts of testdata")

// story is one txtar file: inputs, and want.* for what comes out.
type story struct {
	t    *testing.T
	path string
	ar   *txtar.Archive
}

func stories(t *testing.T, pattern string, tell func(t *testing.T, s *story)) {
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories under %s: %v", pattern, err)
	}
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(abs)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			s := &story{t: t, path: abs, ar: ar}
			for _, f := range ar.Files {
				if strings.HasPrefix(f.Name, "want.") {
					continue
				}
				if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			tell(t, s)
			if *update {
				if err := os.WriteFile(abs, txtar.Format(s.ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// file gives a part's text and whether it is there.
func (s *story) file(name string) (string, bool) {
	for _, f := range s.ar.Files {
		if f.Name == name {
			return string(f.Data), true
		}
	}
	return "", false
}

func (s *story) lines(name string) []string {
	text, _ := s.file(name)
	return slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return l == "" })
}

// want compares a part with what came out, or rewrites it.
func (s *story) want(name, got string) {
	s.t.Helper()
	if *update {
		for i := range s.ar.Files {
			if s.ar.Files[i].Name == name {
				s.ar.Files[i].Data = []byte(got)
				return
			}
		}
		s.ar.Files = append(s.ar.Files, txtar.File{Name: name, Data: []byte(got)})
		return
	}
	want, ok := s.file(name)
	if !ok {
		s.t.Errorf("the story has no %s; got:\n%s", name, got)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func problemText(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		word := "error  "
		if p.Warning {
			word = "warning"
		}
		fmt.Fprintf(&b, "%s %s\n", word, p)
	}
	return b.String()
}

// dump lists every setting that is not zero, one per line.
func dump(b *strings.Builder, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return
		}
		fmt.Fprintf(b, "[%s]\n", name)
		dump(b, name, v.Elem())
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			dump(b, joinKey(name, f.name), v.FieldByIndex(f.index))
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			dump(b, joinKey(name, k.String()), v.MapIndex(k))
		}
	case reflect.Slice:
		for i := range v.Len() {
			dump(b, fmt.Sprintf("%s.%d", name, i), v.Index(i))
		}
	default:
		if !v.IsZero() {
			if s, ok := v.Interface().(Secret); ok {
				v = reflect.ValueOf(s.Reveal())
			}
			fmt.Fprintf(b, "%s = %v\n", name, v.Interface())
		}
	}
}

func dumpStatic(s *Static) string {
	var b strings.Builder
	dump(&b, "", reflect.ValueOf(s).Elem())
	return b.String()
}

// TestStaticStories loads a configuration as a process would: args, env and
// files in; problems and settings out; with a part kv, the store's tree on top.
func TestStaticStories(t *testing.T) {
	stories(t, "testdata/static/*.txtar", func(t *testing.T, s *story) {
		loaded, problems := Load(LoadInput{Args: s.lines("args"), Environ: s.lines("env"), Search: []string{"."}})
		s.want("want.problems", problemText(problems))
		if !Failed(problems) {
			s.want("want.static", dumpStatic(loaded.Static))
		}
		if _, ok := s.file("kv"); ok {
			before := dumpStatic(loaded.Static)
			overlaid, problems, differences := loaded.Overlay(kvNode(s.lines("kv")))
			s.want("want.kv.problems", problemText(problems))
			s.want("want.kv.differences", strings.Join(append(differences, ""), "\n"))
			s.want("want.kv.static", dumpStatic(overlaid))
			if diff := cmp.Diff(before, dumpStatic(loaded.Static)); diff != "" {
				t.Errorf("Overlay changed the Loaded (-before +after):\n%s", diff)
			}
		}
	})
}

// kvNode makes the Node of a store from lines "key/key value".
func kvNode(lines []string) *Node {
	origin := Origin{Provider: "etcd", Source: "etcd 127.0.0.1:2379"}
	root := &Node{Kind: Map, Origin: origin, Weak: true, Nanos: true}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, " ")
		origin.Key = "/traefik/" + key
		n := root
		parts := strings.Split(key, "/")
		for i, part := range parts {
			next := n.Get(part)
			if next == nil {
				next = &Node{Kind: Map, Origin: origin}
				if i == len(parts)-1 {
					next = &Node{Value: strings.TrimSpace(value), Origin: origin}
				}
				n.Fields = append(n.Fields, Field{Name: part, Origin: origin, Node: next})
			}
			n = next
		}
	}
	return root
}

// TestRoutingStories parses every file of a story as a provider of its name
// and merges them.
func TestRoutingStories(t *testing.T) {
	stories(t, "testdata/routing/*.txtar", func(t *testing.T, s *story) {
		sources := map[string]Routing{}
		var problems []Problem
		for _, f := range s.ar.Files {
			if strings.HasPrefix(f.Name, "want.") {
				continue
			}
			var n *Node
			var more []Problem
			if f.Name == "kv" {
				n = kvNode(s.lines(f.Name))
				n.Nanos = false
			} else {
				n, more = ParseFile(f.Name)
			}
			problems = append(problems, more...)
			provider := strings.TrimSuffix(f.Name, filepath.Ext(f.Name))
			r, more := ParseRouting(n, provider)
			problems = append(problems, more...)
			sources[provider] = r
		}
		merged, more := Merge(sources)
		s.want("want.problems", problemText(append(problems, more...)))
		s.want("want.routing", dumpRouting(merged))
	})
}

func dumpRouting(r Routing) string {
	var b strings.Builder
	for name, router := range sorted(r.Routers) {
		fmt.Fprintf(&b, "router %s at %s %s\n  %q priority %d entry points %v\n  -> %v -> %s\n", name,
			router.Origin.Provider, router.Origin, router.Rule, router.Priority, router.EntryPoints, router.Middlewares, router.Service)
		if router.TLS != nil {
			fmt.Fprintf(&b, "  tls %+v\n", *router.TLS)
		}
	}
	for name, m := range sorted(r.Middlewares) {
		fmt.Fprintf(&b, "middleware %s: %s\n", name, m.Kind)
		if m.Params != nil {
			for _, f := range m.Params.Fields {
				fmt.Fprintf(&b, "  %s\n", f.Name)
			}
		}
	}
	for name, s := range sorted(r.Services) {
		fmt.Fprintf(&b, "service %s\n", name)
		if lb := s.LoadBalancer; lb != nil {
			for _, server := range lb.Servers {
				fmt.Fprintf(&b, "  server %s = %s weight %d\n", server.Name, server.URL, server.Weight)
			}
			if lb.Sticky != nil {
				fmt.Fprintf(&b, "  sticky %+v\n", *lb.Sticky)
			}
			if lb.HealthCheck != nil {
				fmt.Fprintf(&b, "  health check %+v\n", *lb.HealthCheck)
			}
			if lb.PassHostHeader != nil {
				fmt.Fprintf(&b, "  pass host header %v\n", *lb.PassHostHeader)
			}
			fmt.Fprintf(&b, "  most %d, flush %v, transport %+v\n", lb.MaxConn, lb.ResponseForwarding, lb.ServersTransport)
		}
		if s.Weighted != nil {
			fmt.Fprintf(&b, "  weighted %+v sticky %v\n", s.Weighted.Services, s.Weighted.Sticky != nil)
		}
	}
	for _, c := range r.Certificates {
		fmt.Fprintf(&b, "certificate %s %s %v\n", c.CertFile, c.KeyFile, c.EntryPoints)
	}
	for name, o := range sorted(r.TLSOptions) {
		fmt.Fprintf(&b, "TLS options %s: profile %q min %q suites %v clients %v optional %v none %v\n",
			name, o.Profile, o.MinVersion, o.CipherSuites, o.ClientCAs, o.ClientOptional, o.NoClientCert)
	}
	return b.String()
}
