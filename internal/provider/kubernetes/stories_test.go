package kubernetes

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
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	kyaml "sigs.k8s.io/yaml"

	"gatehouse/internal/config"
	"gatehouse/internal/route"
)

var update = flag.Bool("update", false, "write what comes out as what is wanted")

// TestStories reads each story in testdata/stories: objects, settings if there
// are any, questions ("GET host path -> answer" in ask) and what becomes of
// the objects in want.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d stories, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var o Objects
			var s Settings
			var ask, want string
			for _, f := range a.Files {
				switch f.Name {
				case "settings.yaml":
					decode(t, string(f.Data), &s)
				case "ask":
					ask = string(f.Data)
				case "want":
					want = string(f.Data)
				default:
					readObjects(t, &o, f.Data)
				}
			}
			result := new(Translator).Translate(o, s)
			answers(t, result.Routing, ask)
			got := tell(t, result)
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

// readObjects reads YAML documents as the API's objects; "unread: kind" is a
// kind that cannot be read, "old: kind" one that may not be read any more.
func readObjects(t testing.TB, o *Objects, text []byte) {
	t.Helper()
	for doc := range strings.SplitSeq(string(text), "\n---\n") {
		var head struct{ Kind, Unread, Old string }
		if err := kyaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatal(err)
		}
		take := func(into any) { t.Helper(); decode(t, doc, into) }
		switch head.Kind {
		case "Ingress":
			in := &networkingv1.Ingress{}
			take(in)
			o.Ingresses = append(o.Ingresses, ingressOf(in))
		case "IngressClass":
			c := &networkingv1.IngressClass{}
			take(c)
			o.Classes = append(o.Classes, classOf(c))
		case "Service":
			s := &corev1.Service{}
			take(s)
			o.Services = append(o.Services, serviceOf(s))
		case "EndpointSlice":
			s := &discoveryv1.EndpointSlice{}
			take(s)
			o.Slices = append(o.Slices, sliceOf(s))
		case "Secret":
			s := &corev1.Secret{}
			take(s)
			for k, v := range s.StringData {
				if s.Data == nil {
					s.Data = map[string][]byte{}
				}
				if path, ok := strings.CutPrefix(v, "file:"); ok {
					text, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					v = string(text)
				}
				s.Data[k] = []byte(v)
			}
			o.Secrets = append(o.Secrets, secretOf(s))
		default:
			if o.Unread == nil {
				o.Unread, o.Old = map[string]error{}, map[string]error{}
			}
			switch {
			case head.Unread != "":
				o.Unread[head.Unread] = fmt.Errorf("list %s: forbidden", head.Unread)
			case head.Old != "":
				o.Old[head.Old] = fmt.Errorf("list %s: forbidden", head.Old)
			default:
				t.Fatalf("no object: %s", doc)
			}
		}
	}
}

// decode reads YAML strictly by the names of JSON.
func decode(t testing.TB, text string, into any) {
	t.Helper()
	if err := kyaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// asked is where a request goes: a service, "404", or "503" where its route
// cannot work.
func asked(t testing.TB, r config.Routing, host, path string) string {
	t.Helper()
	names := slices.Sorted(maps.Keys(r.Routers))
	var entries []route.Entry
	for _, n := range names {
		rule, err := route.Parse(r.Routers[n].Rule)
		if err != nil {
			continue // left out by package proxy, with a problem
		}
		entries = append(entries, route.Entry{Name: n, Rule: rule, Priority: r.Routers[n].Priority})
	}
	i := route.NewTable(entries).Match(&route.Head{Method: "GET", Host: host, Path: path})
	if i < 0 {
		return "404"
	}
	router := r.Routers[entries[i].Name]
	if router.Closed {
		return "404"
	}
	for _, m := range router.Middlewares {
		if _, ok := r.Middlewares[m]; !ok {
			return "503"
		}
	}
	s, ok := r.Services[router.Service]
	if !ok || s.LoadBalancer != nil && len(s.LoadBalancer.Servers) == 0 {
		return "503"
	}
	return router.Service
}

// answers checks lines "host path -> service".
func answers(t *testing.T, r config.Routing, ask string) {
	t.Helper()
	for line := range strings.Lines(ask) {
		question, want, ok := strings.Cut(strings.TrimSpace(line), " -> ")
		host, path, isQuestion := strings.Cut(question, " ")
		if !ok || !isQuestion {
			t.Fatalf("%q is no question", line)
		}
		if got := asked(t, r, host, path); got != want {
			t.Errorf("%s %s: %s, want %s", host, path, got, want)
		}
	}
}

// tell writes what objects came to.
func tell(t testing.TB, result Result) string {
	t.Helper()
	var b strings.Builder
	r := result.Routing
	for _, name := range slices.Sorted(maps.Keys(r.Routers)) {
		tellRouter(t, &b, r, name)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Services)) {
		s := r.Services[name]
		fmt.Fprintf(&b, "service %s:", name)
		if s.Weighted != nil {
			fmt.Fprintf(&b, " weighted%v\n", s.Weighted.Services)
			continue
		}
		for _, server := range s.LoadBalancer.Servers {
			fmt.Fprintf(&b, " %s=%s", server.Name, server.URL)
		}
		if s.LoadBalancer.Sticky != nil {
			fmt.Fprintf(&b, " sticky%+v", *s.LoadBalancer.Sticky)
		}
		if s.LoadBalancer.ResponseForwarding != 0 {
			fmt.Fprintf(&b, " flush %s", s.LoadBalancer.ResponseForwarding)
		}
		b.WriteString("\n")
	}
	for _, c := range r.Certificates {
		fmt.Fprintf(&b, "certificate for %v  (%s)\n", c.Hosts, c.Origin)
	}
	for _, w := range r.Wishes {
		fmt.Fprintf(&b, "wish for %v", w.Domain.Names())
		if w.Resolver != "" {
			fmt.Fprintf(&b, " from %s", w.Resolver)
		}
		if w.Secret.Name != "" {
			fmt.Fprintf(&b, " in Secret %s/%s", w.Secret.Namespace, w.Secret.Name)
		}
		fmt.Fprintf(&b, "  (%s)\n", w.Origin)
	}
	for _, f := range result.Findings {
		word := "problem"
		if f.Problem.Warning {
			word = "warning"
		}
		about := ""
		if f.Ingress != nil {
			about = " " + f.Ingress.Name.String()
		}
		fmt.Fprintf(&b, "%s %s%s: %s\n", word, f.Reason, about, f.Problem)
	}
	return b.String()
}

func tellRouter(t testing.TB, b *strings.Builder, r config.Routing, name string) {
	t.Helper()
	router := r.Routers[name]
	if _, err := route.Parse(router.Rule); err != nil {
		t.Errorf("router %s: %s: %v", name, router.Rule, err)
	}
	to := router.Service
	if router.Closed {
		to = "404"
	}
	fmt.Fprintf(b, "router %s: %s -> %s, priority %d", name, router.Rule, to, router.Priority)
	if len(router.EntryPoints) > 0 {
		fmt.Fprintf(b, ", entry points %v", router.EntryPoints)
	}
	if router.PassHostHeader != nil {
		fmt.Fprintf(b, ", pass host %v", *router.PassHostHeader)
	}
	b.WriteString("\n")
	for _, m := range router.Middlewares {
		declared, ok := r.Middlewares[m]
		if !ok {
			fmt.Fprintf(b, "\tthrough %s: missing\n", m)
			continue
		}
		fmt.Fprintf(b, "\tthrough %s: %s%s\n", m[strings.LastIndexByte(m, '/')+1:], declared.Kind, tellNode(declared.Params))
	}
}

func tellNode(n *config.Node) string {
	if n == nil {
		return ""
	}
	var parts []string
	switch n.Kind {
	case config.Scalar:
		return fmt.Sprint(n.Value)
	case config.List:
		for _, item := range n.Items {
			parts = append(parts, tellNode(item))
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	for _, f := range n.Fields {
		parts = append(parts, f.Name+"="+tellNode(f.Node))
	}
	return "{" + strings.Join(parts, " ") + "}"
}
