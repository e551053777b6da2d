package proxy_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"go.uber.org/goleak"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "rewrite the want.* parts of testdata")

// tag is a middleware that says on the answer that it was passed; deny refuses.
func builders() map[string]middleware.Builder {
	return map[string]middleware.Builder{
		"tag": func(n *config.Node, env middleware.Env) (middleware.Middleware, []config.Problem) {
			name := n.Get("name")
			if name == nil {
				return middleware.Middleware{}, []config.Problem{{Origin: env.Origin, Object: "middleware " + env.Name, Message: "key name is missing"}}
			}
			return middleware.Middleware{Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Add("Passed", name.Value.(string))
					next.ServeHTTP(w, r)
				})
			}}, nil
		},
		"deny": func(*config.Node, middleware.Env) (middleware.Middleware, []config.Problem) {
			return middleware.Middleware{Wrap: func(http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
			}}, nil
		},
		"panic": func(*config.Node, middleware.Env) (middleware.Middleware, []config.Problem) {
			return middleware.Middleware{Wrap: func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Query().Has("late") {
						io.WriteString(w, strings.Repeat("x", 10_000))
					}
					panic("oh dear")
				})
			}}, nil
		},
	}
}

func params(kv ...string) *config.Node {
	n := &config.Node{Kind: config.Map}
	for i := 0; i+1 < len(kv); i += 2 {
		n.Fields = append(n.Fields, config.Field{Name: kv[i], Node: &config.Node{Value: kv[i+1]}})
	}
	return n
}

func tagged(name string) config.Middleware {
	return config.Middleware{Kind: "tag", Params: params("name", name)}
}

func options() proxy.Options {
	return proxy.Options{
		EntryPoints: []proxy.EntryPoint{
			{Name: "http", Address: "127.0.0.1:80"},
			{Name: "https", Address: "127.0.0.1:443", TLS: true, Middlewares: []config.Middleware{tagged("https")}},
		},
		Builders: builders(), Retry: 1,
	}
}

func newRegistry(t testing.TB) *upstream.Registry {
	r := upstream.NewRegistry(upstream.Options{})
	t.Cleanup(r.Close)
	return r
}

// TestStories compiles routing files and compares the canonical text.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		story, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sources := map[string]config.Routing{}
		var known []config.Problem
		want := -1
		for i, f := range story.Files {
			if f.Name == "want.txt" {
				want = i
				continue
			}
			n, problems := config.ParseTOML(f.Name, f.Data)
			known = append(known, problems...)
			provider := strings.TrimSuffix(f.Name, ".toml")
			sources[provider], problems = config.ParseRouting(n, provider)
			known = append(known, problems...)
		}
		merged, problems := config.Merge(sources)
		o := options()
		o.Known = append(known, problems...)
		reg := newRegistry(t)
		s, _ := proxy.Compile(merged, reg, o)
		got := s.String()
		for range 5 {
			again, _ := proxy.Compile(merged, reg, o)
			if diff := cmp.Diff(got, again.String()); diff != "" {
				t.Errorf("%s: not the same twice: %s", file, diff)
			}
			again.Discard()
		}
		shown, err := json.Marshal(s.View())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"hush", "apr1"} {
			if strings.Contains(got, secret) || bytes.Contains(shown, []byte(secret)) {
				t.Errorf("%s: %q is shown", file, secret)
			}
		}
		s.Discard()
		if *update {
			story.Files[want].Data = []byte(got)
			if err := os.WriteFile(file, txtar.Format(story), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := cmp.Diff(string(story.Files[want].Data), got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

// compile is for routing without problems that matter.
func compile(t testing.TB, r config.Routing, o proxy.Options) (*proxy.Snapshot, []config.Problem) {
	s, problems := proxy.Compile(r, newRegistry(t), o)
	t.Cleanup(s.Discard)
	return s, problems
}

func ask(h http.Handler, url string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
	return w
}

func originNamed(t testing.TB, name string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return s.URL
}

func service(urls ...string) config.Service {
	lb := &config.LoadBalancer{}
	for _, u := range urls {
		lb.Servers = append(lb.Servers, config.Server{URL: u, Weight: 1})
	}
	return config.Service{LoadBalancer: lb}
}

// TestChainPerRoute: routers that share a service share nothing else (the
// fault of 1.5 where one frontend got another's authentication, or none).
func TestChainPerRoute(t *testing.T) {
	s, _ := compile(t, config.Routing{
		Routers: map[string]config.Router{
			"open@f":   {Rule: "Host(`open`)", Service: "s@f"},
			"closed@f": {Rule: "Host(`closed`)", Service: "s@f", Middlewares: []string{"deny@f"}},
			"one@f":    {Rule: "Host(`one`)", Service: "s@f", Middlewares: []string{"a@f", "b@f"}},
			"two@f":    {Rule: "Host(`two`)", Service: "s@f", Middlewares: []string{"b@f", "a@f"}},
		},
		Middlewares: map[string]config.Middleware{"deny@f": {Kind: "deny"}, "a@f": tagged("a"), "b@f": tagged("b")},
		Services:    map[string]config.Service{"s@f": service(originNamed(t, "origin"))},
	}, options())
	p := proxy.New(nil)
	p.Swap(s)
	for host, want := range map[string]string{"open": "200 origin []", "closed": "403  []", "one": "200 origin [a b]", "two": "200 origin [b a]"} {
		w := ask(p.Handler("http"), "http://"+host+"/")
		if got := sprint(w); got != want {
			t.Errorf("%s: %s, want %s", host, got, want)
		}
	}
	// The entry point's own stand around, and only around matched routes.
	if got := sprint(ask(p.Handler("https"), "https://one/")); got != "200 origin [https a b]" {
		t.Error(got)
	}
	if got := ask(p.Handler("https"), "https://nobody/"); got.Code != 404 || got.Header().Get("Passed") != "" {
		t.Error(sprint(got))
	}
	if got := ask(p.Handler("unknown"), "https://one/"); got.Code != 404 {
		t.Error(sprint(got))
	}
}

func sprint(w *httptest.ResponseRecorder) string {
	passed := strings.Join(w.Header()["Passed"], " ")
	return strings.Join([]string{itoa(w.Code), strings.TrimSpace(w.Body.String()), "[" + passed + "]"}, " ")
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestNothingIsExposed: a route that must not serve without its middleware
// does not let its requests fall to a wider one.
func TestNothingIsExposed(t *testing.T) {
	r := config.Routing{
		Routers: map[string]config.Router{
			"wide@f":    {Rule: "PathPrefix(`/`)", Service: "s@f"},
			"bad@f":     {Rule: "PathPrefix(`/admin`)", Service: "s@f", Middlewares: []string{"bad@f"}},
			"missing@f": {Rule: "PathPrefix(`/missing`)", Service: "s@f", Middlewares: []string{"nobody@f"}},
			"kind@f":    {Rule: "PathPrefix(`/kind`)", Service: "s@f", Middlewares: []string{"kind@f"}},
			"lost@f":    {Rule: "PathPrefix(`/lost`)", Service: "gone@f", Middlewares: []string{"ok@f"}},
			"rule@f":    {Rule: "PathPrefix(`/rule`", Service: "s@f"},
		},
		Middlewares: map[string]config.Middleware{"bad@f": {Kind: "tag"}, "kind@f": {Kind: "nothing"}, "ok@f": tagged("ok")},
		Services:    map[string]config.Service{"s@f": service(originNamed(t, "origin"))},
	}
	s, problems := compile(t, r, options())
	p := proxy.New(nil)
	p.Swap(s)
	for path, want := range map[string]struct {
		code   int
		reason string
		passed string
	}{
		"/":          {200, "", ""},
		"/admin/x":   {503, "bad-middleware", ""},
		"/missing":   {503, "bad-middleware", ""},
		"/kind":      {503, "bad-middleware", ""},
		"/lost":      {503, "no-service", "ok"},
		"/rule":      {200, "", ""},
		"/adm":       {200, "", ""},
		"/missing/y": {503, "bad-middleware", ""},
	} {
		w := ask(p.Handler("http"), "http://x"+path)
		if h := w.Header(); w.Code != want.code || h.Get("X-Gatehouse-Reason") != want.reason || h.Get("Passed") != want.passed {
			t.Error(path, w.Code, h)
		}
		if w.Code == 503 && w.Header().Get("Retry-After") == "" {
			t.Error(path, "no Retry-After")
		}
	}
	if len(problems) != 7 {
		t.Error(len(problems), problems)
	}
	// Problems known before are shown, and not told again.
	o := options()
	o.Known = problems
	again, more := compile(t, r, o)
	if len(more) != 0 || len(again.Problems()) != len(problems) {
		t.Error(more)
	}
}

// TestBadEntryPointMiddleware blocks that entry point, and no other.
func TestBadEntryPointMiddleware(t *testing.T) {
	o := options()
	o.EntryPoints[0].Middlewares = []config.Middleware{{Kind: "tag"}}
	s, problems := compile(t, config.Routing{
		Routers:  map[string]config.Router{"a@f": {Rule: "PathPrefix(`/`)", Service: "s@f"}},
		Services: map[string]config.Service{"s@f": service(originNamed(t, "origin"))},
	}, o)
	p := proxy.New(nil)
	p.Swap(s)
	if w := ask(p.Handler("http"), "http://x/"); w.Code != 503 {
		t.Error(w.Code)
	}
	if w := ask(p.Handler("https"), "https://x/"); w.Code != 200 {
		t.Error(w.Code)
	}
	if len(problems) != 1 || problems[0].Object != "middleware entryPoints.http.tag" {
		t.Error(problems)
	}
}

func TestHostsAndWants(t *testing.T) {
	s, problems := compile(t, config.Routing{
		Routers: map[string]config.Router{
			"a@f": {Rule: "Host(`b`,`a`) && !Host(`c`)", Service: "s@f"},
			"b@f": {Rule: "Host(`a`) || Host(`d`,`e`)", Service: "s@f", EntryPoints: []string{"https"}, TLS: &config.RouterTLS{CertResolver: "le"}},
			"c@f": {Rule: "Host(`f`)", Service: "s@f", TLS: &config.RouterTLS{Domains: []config.Domain{{Main: "g"}}}},
			"d@f": {Rule: "PathPrefix(`/`)", Service: "s@f", TLS: &config.RouterTLS{CertResolver: "le"}},
		},
		Services: map[string]config.Service{"s@f": service()},
	}, options())
	if len(problems) > 0 {
		t.Error(problems)
	}
	if diff := cmp.Diff([]string{"a", "b"}, s.Hosts("http")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "d", "e", "f"}, s.Hosts("https")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]proxy.Want{
		{Router: "b@f", Resolver: "le", Domains: []config.Domain{{Main: "a", SANs: []string{"d", "e"}}}},
		{Router: "c@f", Domains: []config.Domain{{Main: "g"}}},
	}, s.Wants()); diff != "" {
		t.Error(diff)
	}
}

func TestPriorityAndTies(t *testing.T) {
	urls := map[string]config.Service{}
	for _, n := range []string{"a", "b", "c"} {
		urls[n+"@f"] = service(originNamed(t, n))
	}
	p := proxy.New(nil)
	for want, routers := range map[string]map[string]config.Router{
		"a": {"x@f": {Rule: "PathPrefix(`/xy`)", Service: "a@f"}, "y@f": {Rule: "PathPrefix(`/x`)", Service: "b@f"}},
		"b": {"x@f": {Rule: "PathPrefix(`/xy`)", Service: "a@f"}, "y@f": {Rule: "PathPrefix(`/x`)", Service: "b@f", Priority: 100}},
		"c": {"x@f": {Rule: "PathPrefix(`/xy`)", Service: "c@f"}, "y@f": {Rule: "PathPrefix(`/xy`)", Service: "b@f"}},
	} {
		s, _ := compile(t, config.Routing{Routers: routers, Services: urls}, options())
		p.Swap(s)
		if got := ask(p.Handler("http"), "http://h/xyz").Body.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
