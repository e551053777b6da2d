package proxy

import (
	"maps"
	"slices"
	"strings"
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
