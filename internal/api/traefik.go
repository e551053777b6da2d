package api

import (
	"fmt"
	"net/http"
	"strings"

	"gatehouse/internal/config"
)

// The JSON shapes of Traefik 1.5's /api/providers: services are shown as
// backends and routers as frontends, rules in our language. No key, hash or
// certificate is in them.

type backend struct {
	Servers      map[string]server1x `json:"servers"`
	LoadBalancer *balancer1x         `json:"loadBalancer,omitempty"`
	MaxConn      *maxConn1x          `json:"maxConn,omitempty"`
	HealthCheck  *health1x           `json:"healthCheck,omitempty"`
}

type server1x struct {
	URL    string `json:"url"`
	Weight int    `json:"weight"`
}

type balancer1x struct {
	Method     string        `json:"method"`
	Stickiness *stickiness1x `json:"stickiness,omitempty"`
}

type stickiness1x struct {
	CookieName string `json:"cookieName,omitempty"`
}

type maxConn1x struct {
	Amount        int    `json:"amount"`
	ExtractorFunc string `json:"extractorFunc"`
}

type health1x struct {
	Path     string `json:"path,omitempty"`
	Port     int    `json:"port,omitempty"`
	Interval string `json:"interval,omitempty"`
}

type frontend struct {
	EntryPoints    []string           `json:"entryPoints"`
	Backend        string             `json:"backend"`
	Routes         map[string]route1x `json:"routes"`
	PassHostHeader bool               `json:"passHostHeader"`
	Priority       int                `json:"priority"`
	Middlewares    []string           `json:"middlewares,omitempty"`
}

type route1x struct {
	Rule string `json:"rule"`
}

type providerView struct {
	Backends  map[string]backend  `json:"backends"`
	Frontends map[string]frontend `json:"frontends"`
}

func viewOf(r config.Routing) providerView {
	v := providerView{Backends: map[string]backend{}, Frontends: map[string]frontend{}}
	for name, s := range r.Services {
		v.Backends[name] = backendOf(s)
	}
	for name, router := range r.Routers {
		v.Frontends[name] = frontend{
			EntryPoints: orEmpty(router.EntryPoints), Backend: router.Service,
			Routes:         map[string]route1x{"rule": {Rule: router.Rule}},
			PassHostHeader: passHostHeader(router, r.Services[router.Service]),
			Priority:       router.Priority, Middlewares: router.Middlewares,
		}
	}
	return v
}

func passHostHeader(r config.Router, s config.Service) bool {
	switch {
	case r.PassHostHeader != nil:
		return *r.PassHostHeader
	case s.LoadBalancer != nil && s.LoadBalancer.PassHostHeader != nil:
		return *s.LoadBalancer.PassHostHeader
	}
	return true
}

func backendOf(s config.Service) backend {
	b := backend{Servers: map[string]server1x{}}
	lb := s.LoadBalancer
	if lb == nil {
		return b
	}
	for _, srv := range lb.Servers {
		name := srv.Name
		if name == "" {
			name = srv.URL
		}
		b.Servers[name] = server1x{URL: srv.URL, Weight: srv.Weight}
	}
	b.LoadBalancer = &balancer1x{Method: "wrr"}
	if lb.Sticky != nil {
		b.LoadBalancer.Stickiness = &stickiness1x{CookieName: lb.Sticky.CookieName}
	}
	if lb.MaxConn > 0 {
		b.MaxConn = &maxConn1x{Amount: lb.MaxConn, ExtractorFunc: "request.host"}
	}
	if h := lb.HealthCheck; h != nil {
		b.HealthCheck = &health1x{Path: h.Path, Port: h.Port, Interval: h.Interval.String()}
	}
	return b
}

func (a *server) providers(w http.ResponseWriter, _ *http.Request) {
	all := map[string]providerView{}
	for name, r := range a.Sources() {
		all[name] = viewOf(r)
	}
	reply(w, http.StatusOK, all)
}

// provider answers /api/providers/{p}[/backends|frontends[/{name}[/servers|
// routes[/{name}]]]]. Names may hold slashes, plain or encoded: the longest
// name that exists is meant.
func (a *server) provider(w http.ResponseWriter, r *http.Request) {
	name, rest, _ := strings.Cut(r.PathValue("name"), "/")
	if name == "web" {
		name = "rest"
	}
	routing, ok := a.Sources()[name]
	if !ok {
		fail(w, http.StatusNotFound, fmt.Sprintf("no provider %q has published; /api/providers lists them", name))
		return
	}
	found, ok := descend(viewOf(routing), strings.Trim(rest, "/"))
	if !ok {
		fail(w, http.StatusNotFound, fmt.Sprintf("provider %s has no %q", name, rest))
		return
	}
	reply(w, http.StatusOK, found)
}

func descend(v providerView, rest string) (any, bool) {
	kind, rest, _ := strings.Cut(rest, "/")
	switch kind {
	case "":
		return v, true
	case "backends":
		if rest == "" {
			return v.Backends, true
		}
		return inside(v.Backends, rest, "servers", func(b backend) map[string]server1x { return b.Servers })
	case "frontends":
		if rest == "" {
			return v.Frontends, true
		}
		return inside(v.Frontends, rest, "routes", func(f frontend) map[string]route1x { return f.Routes })
	}
	return nil, false
}

// inside finds rest = name, name/<kind> or name/<kind>/<part>; of several
// readings the one with the longest name.
func inside[T, P any](all map[string]T, rest, kind string, parts func(T) map[string]P) (any, bool) {
	if found, ok := all[rest]; ok {
		return found, true
	}
	for at := len(rest) - 1; at >= 0; at-- {
		tail, ok := strings.CutPrefix(rest[at:], "/"+kind)
		owner, known := all[rest[:at]]
		if !ok || !known {
			continue
		}
		if tail == "" {
			return parts(owner), true
		}
		if name, ok := strings.CutPrefix(tail, "/"); ok {
			if part, ok := parts(owner)[name]; ok {
				return part, true
			}
		}
	}
	return nil, false
}
