package upstream

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/spread"
)

// Build makes the services ready to be asked; it opens no connection and
// starts nothing. Names must be qualified. retry is how many further servers
// are tried when one cannot be reached. A service or server that cannot work is
// left out with a problem. A service that is declared as in another set that
// was not released yet is that one: it costs no more than the comparison.
func (r *Registry) Build(services map[string]config.Service, retry int) (*Set, []config.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := builder{
		registry: r, declared: services, retry: retry, building: map[string]bool{},
		set: &Set{registry: r, services: make(map[string]*Service, len(services)), pools: make([]*pool, 0, len(services))},
	}
	if more := len(services) - len(r.services); more > 0 {
		b.pending = make([]pending, 0, more)
	}
	if len(r.services) == 0 {
		r.services = make(map[string]*serviceState, len(services))
	}
	var rest []string
	for name, d := range services {
		switch {
		case d.LoadBalancer == nil || d.Weighted != nil:
			rest = append(rest, name)
		case !b.reuse(name, d):
			b.pending = append(b.pending, pending{name: name, declared: d})
		}
	}
	b.loadBalancers()
	slices.Sort(rest)
	for _, name := range rest {
		b.service(name)
	}
	for key, t := range r.transports {
		if t.refs == 0 { // nobody came to use it
			delete(r.transports, key)
			t.closeIdle()
		}
	}
	// Each service's are in order; the order of the map goes.
	slices.SortStableFunc(b.problems, func(x, y config.Problem) int { return cmp.Compare(x.Object, y.Object) })
	return b.set, b.problems
}

// builder makes the services of one set. Registry.mu is held.
type builder struct {
	registry *Registry
	declared map[string]config.Service
	retry    int
	pending  []pending
	building map[string]bool // weighted ones; true: under way, false: done or left out
	set      *Set
	problems []config.Problem
	found    []foundTransport // most services share one
}

// foundTransport is the answer to settings, for the time of one build.
type foundTransport struct {
	settings *config.ServersTransport
	via      *transport
	err      error
}

// pending is a service with servers that no other set has.
type pending struct {
	name     string
	declared config.Service
	via      *transport
	pool     *pool // nil: it is left out
	problems []config.Problem
}

func (b *builder) problem(o config.Origin, service, allowed, format string, args ...any) {
	b.problems = append(b.problems, problemOf(o, service, allowed, format, args...))
}

func problemOf(o config.Origin, service, allowed, format string, args ...any) config.Problem {
	return config.Problem{Origin: o, Object: "service " + service, Message: fmt.Sprintf(format, args...), Allowed: allowed}
}

// reuse takes a service over from another set; false: none has it so.
func (b *builder) reuse(name string, d config.Service) bool {
	state := b.registry.services[name]
	if state == nil {
		return false
	}
	for _, p := range slices.Backward(state.pools) {
		old := &p.service.declared
		if p.retry != b.retry || len(p.problems) > 0 && !sameOrigins(old, &d) || !sameBalancer(old.LoadBalancer, d.LoadBalancer) {
			continue
		}
		// What it names may have changed: certificates are read from files.
		if via, err := b.transport(&d.LoadBalancer.ServersTransport); err != nil || via != p.transport {
			continue
		}
		s := p.service
		if s.declared.Origin != d.Origin {
			s = &Service{name: name, declared: d, pool: p}
			p.service = s
		}
		b.problems = append(b.problems, p.problems...)
		b.take(s)
		return true
	}
	return false
}

// take enters a service with servers.
func (b *builder) take(s *Service) {
	s.pool.refs++
	b.set.services[s.name] = s
	b.set.pools = append(b.set.pools, s.pool)
	if s.pool.health != nil {
		b.set.probed = append(b.set.probed, s.pool)
	}
}

// loadBalancers makes what is pending: first by itself, on all cores, then
// joined to what is known of its servers.
func (b *builder) loadBalancers() {
	for i := range b.pending {
		p := &b.pending[i]
		var err error
		if p.via, err = b.transport(&p.declared.LoadBalancer.ServersTransport); err != nil {
			p.problems = append(p.problems, problemOf(p.declared.Origin, p.name, "", "%v; the service is left out", err))
		}
	}
	spread.Over(b.pending, func(part []pending) struct{} {
		for i := range part {
			if part[i].via != nil {
				part[i].make(b.registry, b.retry)
			}
		}
		return struct{}{}
	})
	for i := range b.pending {
		p := &b.pending[i]
		b.problems = append(b.problems, p.problems...)
		if p.pool != nil {
			b.registry.join(p.pool)
			b.take(p.pool.service)
		}
	}
}

// make makes the pool, without what outlives it.
func (q *pending) make(r *Registry, retry int) {
	d, lb := q.declared, q.declared.LoadBalancer
	wrong := func(allowed, what string) {
		q.problems = append(q.problems, problemOf(d.Origin, q.name, allowed, "%s; the service is left out", what))
	}
	if what, allowed := checkHealth(lb.HealthCheck); what != "" {
		wrong(allowed, what)
		return
	}
	if what, allowed := checkSticky(lb.Sticky); what != "" {
		wrong(allowed, what)
		return
	}
	if lb.MaxConn < 0 {
		wrong("0 (no bound) or more", fmt.Sprintf("the bound of connections is %d", lb.MaxConn))
		return
	}
	p := &pool{name: q.name, transport: q.via, health: lb.HealthCheck, retry: retry,
		maxConn: int64(lb.MaxConn), buffers: &r.buffers, logger: r.logger}
	p.first = Service{name: q.name, declared: d, pool: p}
	p.service = &p.first
	block, names := make([]server, 0, len(lb.Servers)), map[string]bool{}
	for i := range lb.Servers {
		if s, ok := q.server(i, names); ok {
			block = append(block, s)
		}
	}
	if len(block) > 0 {
		p.servers = make([]*server, len(block))
	}
	for i := range block {
		p.servers[i] = &block[i]
	}
	p.init(lb)
	p.problems = q.problems
	q.pool = p
}

// server checks one server; names are those of the servers before.
func (q *pending) server(i int, names map[string]bool) (s server, ok bool) {
	d, declared := &q.declared, &q.declared.LoadBalancer.Servers[i]
	origin := declared.Origin
	if origin == (config.Origin{}) {
		origin = d.Origin
	}
	problem := func(allowed, format string, args ...any) {
		q.problems = append(q.problems, problemOf(origin, q.name, allowed, format, args...))
	}
	at, wrong := readAddress(declared.URL, declared.Name)
	switch {
	case wrong != "":
		problem("http://host:port, https://host:port or h2c://host:port", "%s; the server is left out", wrong)
		return s, false
	case declared.Weight < 0:
		problem("0 (gets nothing) or more", "the weight of server %q is %d; the server is left out", declared.Name, declared.Weight)
		return s, false
	case declared.Name != "" && names[declared.Name]:
		problem("", "there are two servers named %q; the second is left out", declared.Name)
		return s, false
	}
	if declared.Name != "" {
		names[declared.Name] = true
	}
	if at.path {
		problem("use the middleware addPrefix", "the path of server URL %q is not used", declared.URL)
		q.problems[len(q.problems)-1].Warning = true
	}
	return server{name: declared.Name, weight: declared.Weight, url: at.address, text: at.text, scheme: at.wire()}, true
}

// service builds a service that is weighted, or wrong, its parts first; nil
// where it is left out.
func (b *builder) service(name string) *Service {
	if s := b.set.services[name]; s != nil {
		return s
	}
	d := b.declared[name]
	if _, seen := b.building[name]; seen || d.LoadBalancer != nil && d.Weighted == nil {
		return nil
	}
	b.building[name] = true
	defer func() { b.building[name] = false }()
	if d.Weighted == nil || d.LoadBalancer != nil {
		b.problem(d.Origin, name, "one of loadBalancer, weighted", "a service has exactly one form; it is left out")
		return nil
	}
	w := b.weighted(name, d)
	if w == nil {
		return nil
	}
	s := &Service{name: name, declared: d, weighted: w}
	b.set.services[name] = s
	return s
}

// transport is Registry.transport, asked once for equal settings.
func (b *builder) transport(s *config.ServersTransport) (*transport, error) {
	for i := range b.found {
		if f := &b.found[i]; f.settings == s || sameTransport(f.settings, s) {
			return f.via, f.err
		}
	}
	via, err := b.registry.transport(*s)
	if b.found = append(b.found, foundTransport{s, via, err}); len(b.found) > 64 {
		b.found = b.found[1:]
	}
	return via, err
}

func checkSticky(s *config.Sticky) (wrong, allowed string) {
	if s == nil {
		return "", ""
	}
	switch strings.ToLower(s.SameSite) {
	case "", "lax", "strict", "none":
		return "", ""
	}
	return fmt.Sprintf("sameSite of the sticky cookie is %q", s.SameSite), "lax, strict, none"
}
