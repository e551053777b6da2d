package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gatehouse/internal/config"
	"gatehouse/internal/proxy"
)

// TestTLSOptionsOfWildcards: a name below a wildcard that has other TLS options
// does not lead to the wildcard's router, whose options no handshake for that
// name has asked for.
func TestTLSOptionsOfWildcards(t *testing.T) {
	origin := originNamed(t, "server")
	wild := config.Router{Rule: "Host(`*.d`)", Service: "s@f", TLS: &config.RouterTLS{Options: "strict@f"}}
	compiled := func(rule, demand string) (*proxy.Snapshot, []config.Problem) {
		return compile(t, config.Routing{
			Services:   map[string]config.Service{"s@f": {LoadBalancer: &config.LoadBalancer{Servers: []config.Server{{URL: origin, Weight: 1}}}}},
			TLSOptions: map[string]config.TLSOptions{"strict@f": {}, "lax@f": {NoClientCert: true}},
			Routers:    map[string]config.Router{"wild@f": wild, "one@f": {Rule: rule, Service: "s@f", TLS: &config.RouterTLS{Options: demand}}},
		}, options())
	}
	for _, c := range []struct {
		rule, options, url string
		want, problems     int
	}{
		{"Host(`x.d`) && PathPrefix(`/open`)", "lax@f", "http://x.d/open", 200, 1},
		{"Host(`x.d`) && PathPrefix(`/open`)", "lax@f", "http://x.d/", 503, 1},
		{"Host(`x.d`) && PathPrefix(`/open`)", "lax@f", "http://X.D.:443/", 503, 1},
		{"Host(`x.d`) && PathPrefix(`/open`)", "lax@f", "http://y.d/", 200, 1},
		{"Host(`x.d`) && PathPrefix(`/open`)", "strict@f", "http://x.d/", 200, 0},
		{"Host(`x.d`) && PathPrefix(`/open`)", "", "http://x.d/", 200, 0}, // x.d has the wildcard's
		{"Host(`x.d`)", "lax@f", "http://x.d/", 200, 0},
		{"Host(`x.d`) && Method(`GET`)", "lax@f", "http://x.d/", 200, 0},
	} {
		s, problems := compiled(c.rule, c.options)
		p := proxy.New(nil)
		p.Swap(s)
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/"+strings.TrimLeft(strings.SplitN(c.url, "/", 4)[3], "/"), http.NoBody)
		r.Host = strings.SplitN(c.url, "/", 4)[2]
		p.Handler("https").ServeHTTP(w, r)
		if w.Code != c.want || len(problems) != c.problems || c.want == 503 && w.Header().Get("X-Gatehouse-Reason") != "bad-tls" {
			t.Errorf("%s with %q, %s: %d %v, want %d; problems %v, want %d", c.rule, c.options, c.url, w.Code, w.Header(), c.want, problems, c.problems)
		}
	}
	s, _ := compiled("Host(`x.d`) && PathPrefix(`/open`)", "lax@f")
	defer s.Discard()
	if hosts := fmt.Sprint(s.TLSHosts("https")); hosts != "map[*.d:strict@f x.d:lax@f]" {
		t.Error(hosts)
	}
}
