package kubernetes

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// part is what one Ingress came to, and what that stands on. It is not modified
// once it is made.
type part struct {
	// What it stands on, beside the Ingress itself:
	in      *Ingress
	hosts   []string // it names
	allowed []bool   // which of them it may have
	keys    []usedKey
	pools   []*pool
	secrets []usedSecret
	open    bool // on more than is listed here

	// What it came to:
	routers      []declared[config.Router]
	middlewares  []declared[config.Middleware]
	services     []declared[config.Service]
	certificates []config.Certificate
	wishes       []config.Wish
	findings     []Finding
	roots        []string // hosts of which it takes all paths
	fallback     *pool    // its default backend; nil: it has none
	notes        *notes
}

type declared[T any] struct {
	name  string
	value T
}

// usedKey is a path that was asked for, and who had it already.
type usedKey struct {
	key   routeKey
	first *Ingress
}

// usedSecret is a Secret that was looked for, and what was there.
type usedSecret struct {
	name   Name
	tls    bool
	secret *Secret
}

// begin drops what was remembered where that stands on something else now.
func (tr *Translator) begin(o Objects, s Settings) {
	var unread strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(o.Unread)) {
		fmt.Fprintf(&unread, "%s: %v\n", kind, o.Unread[kind])
	}
	if !reflect.DeepEqual(tr.settings, s) || tr.unread != unread.String() {
		*tr = Translator{settings: s, unread: unread.String(), blind: o.Unread["endpointslices"] != nil, certificates: tr.certificates}
	}
	if tr.certificates == nil {
		tr.certificates = map[Name]checked{}
	}
}

// remember keeps what a translation used, and no more.
func (tr *Translator) remember(t *translation) {
	tr.parts, tr.pools, tr.tunings = t.parts, t.pools, t.tunings
	tr.byService = make(map[Name][]*pool, len(t.pools))
	for _, p := range t.pools {
		tr.byService[p.key.service] = append(tr.byService[p.key.service], p)
	}
	maps.DeleteFunc(tr.certificates, func(name Name, _ checked) bool {
		_, used := t.secrets[name]
		return !used
	})
}

// hosts are those an Ingress names.
func (t *translation) hosts(in *Ingress) []string {
	if p := t.translator.parts[in.Name]; p != nil && p.in == in {
		return p.hosts
	}
	return hostsOf(in)
}

// stands tells whether a part is what the Ingress comes to now.
func (t *translation) stands(p *part, in *Ingress) bool {
	if p.in != in || p.open {
		return false
	}
	for i, host := range p.hosts {
		if t.claims.allows(in, host) != p.allowed[i] {
			return false
		}
	}
	return !slices.ContainsFunc(p.keys, func(k usedKey) bool { return t.taken[k.key] != k.first }) &&
		!slices.ContainsFunc(p.pools, func(used *pool) bool { return t.lookup(used.key) != used }) &&
		!slices.ContainsFunc(p.secrets, func(s usedSecret) bool { return t.index.secrets[s.name] != s.secret })
}

// declare puts what a part came to into what all came to.
func (t *translation) declare(p *part) {
	for _, r := range p.routers {
		t.out.Routers[r.name] = r.value
	}
	for _, m := range p.middlewares {
		t.out.Middlewares[m.name] = m.value
	}
	for _, s := range p.services {
		t.out.Services[s.name] = s.value
	}
	t.out.Certificates = append(t.out.Certificates, p.certificates...)
	t.out.Wishes = append(t.out.Wishes, p.wishes...)
	t.findings = append(t.findings, p.findings...)
	for _, used := range p.pools {
		t.out.Services[used.name] = used.made
		if tu := used.tuning; tu != nil && !t.toldOf[tu] {
			t.toldOf[tu] = true
			t.findings = append(t.findings, tu.findings...)
		}
	}
	for _, s := range p.secrets {
		t.secrets[s.name] = t.secrets[s.name] || s.tls
	}
	for _, k := range p.keys {
		if k.first == nil {
			t.taken[k.key] = p.in
		}
	}
	for _, host := range p.roots {
		t.claims[host].root = true
	}
	if p.fallback == nil {
		return
	}
	for i, host := range p.hosts {
		if c := t.claims[host]; p.allowed[i] && c.fallback == "" {
			c.fallback, c.fallbackOf, c.notes, c.pool = p.fallback.name, p.in, p.notes, p.fallback
		}
	}
}

func (t *translation) middleware(name string, m config.Middleware) {
	t.now.middlewares = append(t.now.middlewares, declared[config.Middleware]{name, m})
}

// Endpoints gives the result after last, where nothing but slices of some
// Services has changed since. It costs what those Services do, and a copy of the
// table of services. ok is false if everything is to be translated anew; changed
// if the result is another one.
func (tr *Translator) Endpoints(last Result, services map[Name]bool, slicesOf func(Name) []*Slice) (r Result, changed, ok bool) {
	if tr.blind {
		return last, false, false // what is missing may be said where there are no servers
	}
	r = last
	for service := range services {
		for _, p := range tr.byService[service] {
			if !p.follows {
				continue
			}
			p.slices = slicesOf(service)
			servers := serversOf(p.slices, p.port, p.scheme, tr.settings.Zone)
			if slices.Equal(servers, p.servers) {
				continue
			}
			p.serve(servers)
			if !changed {
				changed, r.Routing.Services = true, maps.Clone(r.Routing.Services)
			}
			r.Routing.Services[p.name] = p.made
		}
	}
	return r, changed, true
}
