package proxy_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
)

// world makes random configurations that differ little from one another.
type world struct {
	*rand.Rand
	servers []string // URLs
	file    string   // what the middleware "file" reads
}

func (w *world) pick(list ...string) string { return list[w.IntN(len(list))] }

func (w *world) origin() config.Origin { return config.Origin{Source: "f", Line: w.IntN(3)} }

func (w *world) router() config.Router {
	r := config.Router{
		Origin: w.origin(), Priority: w.IntN(3), Service: fmt.Sprint("s", w.IntN(5), "@f"), Closed: w.IntN(12) == 0,
		Rule: w.pick("Host(`a`)", "Host(`b`)", "Host(`a`,`c`) && PathPrefix(`/x`)", "Host(`*.d`)", "Host(`x.d`) && PathPrefix(`/x`)", "PathPrefix(`/y`)", "Host(`", "Host(`c`) && Method(`POST`)"),
	}
	for range w.IntN(3) {
		r.Middlewares = append(r.Middlewares, fmt.Sprint("m", w.IntN(3), "@f"))
	}
	for range w.IntN(2) {
		r.EntryPoints = append(r.EntryPoints, w.pick("http", "http", "https", "https", "other"))
	}
	if w.IntN(4) == 0 {
		r.TLS = &config.RouterTLS{CertResolver: w.pick("", "acme"), Options: w.pick("", "", "o0@f", "o1@f")}
	}
	if w.IntN(4) == 0 {
		r.PassHostHeader = new(w.IntN(2) == 0)
	}
	return r
}

func (w *world) middleware() config.Middleware {
	m := tagged(w.pick("one", "two"))
	switch w.IntN(8) {
	case 0:
		m = config.Middleware{Kind: "file"}
	case 1:
		m = config.Middleware{Kind: w.pick("tag", "unknown")}
	}
	m.Origin = w.origin()
	return m
}

func (w *world) service() config.Service {
	s := config.Service{Origin: w.origin()}
	if w.IntN(5) == 0 {
		s.Weighted = &config.Weighted{Services: []config.WeightedService{{Name: fmt.Sprint("s", w.IntN(8), "@f"), Weight: 1}}}
		return s
	}
	s.LoadBalancer = &config.LoadBalancer{MaxConn: max(-1, w.IntN(9)-1) * 5}
	if w.IntN(6) > 0 {
		s.LoadBalancer.Servers = []config.Server{{URL: w.pick(w.servers...), Weight: 1, Origin: w.origin()}}
	}
	return s
}

// change gives a routing like r, of new values all through.
func (w *world) change(r config.Routing) config.Routing {
	n := config.Routing{Routers: maps.Clone(r.Routers), Services: maps.Clone(r.Services), Middlewares: maps.Clone(r.Middlewares)}
	n.TLSOptions = map[string]config.TLSOptions{w.pick("o0@f", "o1@f"): {}}
	if len(r.Routers) > 0 && w.IntN(3) == 0 { // what did not change may be the same
		n.Routers, n.Middlewares = r.Routers, r.Middlewares
		n.Services[fmt.Sprint("s", w.IntN(5), "@f")] = w.service()
		return n
	}
	if n.Routers == nil {
		n = config.Routing{Routers: map[string]config.Router{}, Services: map[string]config.Service{}, Middlewares: map[string]config.Middleware{}}
	}
	for name, s := range n.Services {
		if s.LoadBalancer != nil && w.IntN(2) == 0 {
			copied := *s.LoadBalancer
			s.LoadBalancer = &copied
			n.Services[name] = s
		}
	}
	for range 1 + w.IntN(6) {
		router, service, middleware := fmt.Sprint("r", w.IntN(8), "@f"), fmt.Sprint("s", w.IntN(5), "@f"), fmt.Sprint("m", w.IntN(3), "@f")
		switch w.IntN(16) {
		case 0:
			delete(n.Routers, router)
		case 1:
			delete(n.Services, service)
		case 2:
			delete(n.Middlewares, middleware)
		case 3: // written elsewhere
			if r, ok := n.Routers[router]; ok {
				r.Origin = w.origin()
				n.Routers[router] = r
			}
		case 4:
			if s, ok := n.Services[service]; ok {
				s.Origin = w.origin()
				n.Services[service] = s
			}
		case 5, 6, 7:
			n.Services[service] = w.service()
		case 8, 9, 10:
			n.Middlewares[middleware] = w.middleware()
		default:
			n.Routers[router] = w.router()
		}
	}
	return n
}

// fileBuilders are builders, and "file": a tag that is read from a file.
func fileBuilders(file string) map[string]middleware.Builder {
	all := builders()
	all["file"] = func(_ *config.Node, env middleware.Env) (middleware.Middleware, []config.Problem) {
		env.Reads()
		text, err := os.ReadFile(file)
		if err != nil {
			return *new(middleware.Middleware), []config.Problem{{Origin: env.Origin, Object: "middleware " + env.Name, Message: "cannot be read"}}
		}
		return all["tag"](tagged(string(text)).Params, env)
	}
	return all
}

// FuzzCompiler: whatever was compiled before, the result is that of a compile
// from scratch: what is shown, what is told, and what is answered.
func FuzzCompiler(f *testing.F) {
	for seed := range uint64(60) {
		f.Add(seed)
	}
	var servers []string
	for i := range 3 {
		servers = append(servers, originNamed(f, fmt.Sprint("server", i)))
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		w := &world{Rand: rand.New(rand.NewPCG(seed, 2)), servers: servers, file: filepath.Join(t.TempDir(), "file")}
		o := options()
		o.Builders, o.Memory = fileBuilders(w.file), new(middleware.Memory)
		if w.IntN(3) == 0 {
			o.EntryPoints[0].Middlewares = []config.Middleware{{Kind: w.pick("file", "file", "unknown")}}
		}
		reg := upstream.NewRegistry(upstream.Options{})
		defer reg.Close()
		compiler := proxy.NewCompiler(reg, o)
		p := proxy.New(nil)
		var r config.Routing
		for range 10 {
			switch w.IntN(8) {
			case 0, 1, 2:
				if err := os.WriteFile(w.file, []byte(w.pick("x", "y")), 0o600); err != nil {
					t.Fatal(err)
				}
			case 3:
				os.Remove(w.file)
			}
			r = w.change(r)
			now, problems := compiler.Compile(r, nil)
			if w.IntN(6) == 0 {
				now.Discard()
				continue
			}
			p.Swap(now)
			compareWithScratch(t, w, r, o, p, now, problems)
		}
	})
}

func compareWithScratch(t *testing.T, w *world, r config.Routing, o proxy.Options, p *proxy.Proxy, now *proxy.Snapshot, problems []config.Problem) {
	t.Helper()
	fresh := upstream.NewRegistry(upstream.Options{})
	defer fresh.Close()
	o.Memory = nil
	want, wanted := proxy.Compile(r, fresh, o)
	q := proxy.New(nil)
	q.Swap(want)
	defer want.Discard()
	for what, pair := range map[string][2]any{
		"problems": {wanted, problems}, "problems shown": {want.Problems(), now.Problems()}, "text": {want.String(), now.String()},
		"view": {want.View(), now.View()}, "wants": {want.Wants(), now.Wants()},
		"hosts with TLS options": {want.TLSHosts("https"), now.TLSHosts("https")},
		"hosts":                  {want.Hosts("https"), now.Hosts("https")}, "other hosts": {want.Hosts("http"), now.Hosts("http")},
	} {
		if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
			t.Fatalf("%s: from scratch (-), after changes (+)\n%s", what, diff)
		}
	}
	for range 12 {
		entry := w.pick("http", "https")
		method, url := w.pick("GET", "POST"), "http://"+w.pick("a", "b", "c", "x.d", "e")+w.pick("/", "/x", "/y")
		answer := func(p *proxy.Proxy) string {
			rec := httptest.NewRecorder()
			p.Handler(entry).ServeHTTP(rec, httptest.NewRequest(method, url, http.NoBody))
			return fmt.Sprint(rec.Code, rec.Header()["Passed"], rec.Body)
		}
		if want, got := answer(q), answer(p); want != got {
			t.Fatalf("%s %s at %s: from scratch %s, after changes %s", method, url, entry, want, got)
		}
	}
}
