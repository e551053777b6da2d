package proxy

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"gatehouse/internal/http1"
	"gatehouse/internal/route"
	"gatehouse/internal/wire"
)

// tlsOptions names the TLS options the hosts of a router have; "": none of
// their own.
func (r *router) tlsOptions() string {
	if r.declared.TLS == nil {
		return ""
	}
	return r.declared.TLS.Options
}

// TLSHosts gives the hosts of an entry point that have TLS options of their
// own, and the options' names; "": routers demand different ones, so none can
// be right.
func (s *Snapshot) TLSHosts(entryPoint string) map[string]string {
	hosts := map[string]string{}
	s.demands(func(r *router, point, host string) {
		if point != entryPoint {
			return
		}
		options := r.tlsOptions()
		if other, ok := hosts[host]; ok && other != options {
			options = ""
		}
		hosts[host] = options
	})
	return hosts
}

// demands tells of each host for which a router demands TLS options.
func (s *Snapshot) demands(tell func(r *router, point, host string)) {
	for _, r := range s.routers {
		if r.tlsOptions() == "" {
			continue
		}
		hosts, _ := r.rule.Bound()
		for _, at := range r.at {
			for _, host := range hosts {
				tell(r, s.points[at.point].Name, host)
			}
		}
	}
}

// checkTLS sees that the TLS options a router demands can hold for all it
// serves.
func (c *compiler) checkTLS(r *router) {
	name := r.tlsOptions()
	if name == "" {
		return
	}
	if _, ok := c.routing.TLSOptions[name]; !ok {
		r.refusal, r.why = BadTLS, "no such TLS options: "+name
		c.wrong(r.name, false, strings.Join(slices.Sorted(maps.Keys(c.routing.TLSOptions)), ", "),
			"no such TLS options: %s; its hosts are refused, and the router answers 503", name)
	}
	if _, ok := r.rule.Bound(); !ok {
		r.refusal, r.why = BadTLS, "TLS options hold for hosts, and its rule may match any"
		c.wrong(r.name, false, "Host(`a.example.com`) && ...",
			"TLS options hold for hosts, and the rule may match any; the router answers 503")
	}
}

// tlsConflicts tells of hosts for which routers demand different TLS options.
func (c *compiler) tlsConflicts() {
	type place struct{ point, host string }
	first := map[place]*router{}
	c.snapshot.demands(func(r *router, point, host string) {
		other := first[place{point, host}]
		switch {
		case other == nil:
			first[place{point, host}] = r
		case other.tlsOptions() != r.tlsOptions():
			c.wrong(r.name, false, other.tlsOptions()+", as router "+other.name+" does",
				"it demands TLS options %s for %s, and another router others; the host is refused at %s", r.tlsOptions(), host, point)
		}
	})
}

// tlsWildcards keeps routers for *.domain from requests for names below it that
// have other TLS options: the handshake was done with those of the name.
func (c *compiler) tlsWildcards() {
	if !slices.ContainsFunc(c.snapshot.routers, func(r *router) bool { return r.tlsOptions() != "" }) {
		return
	}
	for i, p := range c.points {
		hosts := c.snapshot.TLSHosts(p.Name)
		below := map[string][]string{}
		for host := range hosts {
			if dot := strings.IndexByte(host, '.'); dot > 0 && host[0] != '*' {
				below["*"+host[dot:]] = append(below["*"+host[dot:]], host)
			}
		}
		for _, r := range c.snapshot.routers {
			if r.tlsOptions() == "" {
				continue
			}
			at := slices.IndexFunc(r.at, func(at placed) bool { return at.point == i })
			if at >= 0 {
				c.keepOff(r, p, r.at[at].served, hosts, below)
			}
		}
	}
}

// keepOff keeps a router from the names its wildcards cover that have other
// options, and tells of the first that leads to it nevertheless.
func (c *compiler) keepOff(r *router, p *building, s *served, hosts map[string]string, below map[string][]string) {
	others := map[string]bool{}
	bound, _ := r.rule.Bound()
	for _, host := range bound {
		for _, name := range below[host] {
			if hosts[name] != r.tlsOptions() {
				others[name] = true
			}
		}
	}
	if len(others) == 0 {
		return
	}
	s.keepOff(others)
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if found := p.table.Match(&route.Head{Method: http.MethodGet, Host: name, Path: "/"}); found >= 0 && p.routes[found] == s {
			c.wrong(r.name, false, "a router for all of "+name+", or the same options",
				"it demands TLS options %s for all names beside %s, which has others; requests for %s that come to it are answered 503", r.tlsOptions(), name, name)
			return
		}
	}
}

// keepOff has requests for hosts answered 503.
func (s *served) keepOff(hosts map[string]bool) {
	handler, plain := s.handler, s.plain
	refusal := refuse(BadTLS)
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hosts[http1.HostName(r.Host)] {
			refusal.ServeHTTP(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
	if plain != nil {
		s.plain = func(x *wire.Exchange) bool { return !hosts[http1.HostName(text(x.Req.Host()))] && plain(x) }
	}
}
