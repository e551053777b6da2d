package upstream

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"gatehouse/internal/config"
)

// Set is all services of one snapshot: immutable settings over the registry's
// state. Whoever builds a Set must Release it once.
type Set struct {
	registry *Registry
	services map[string]*Service
	pools    []*pool
	states   []*serviceState // of weighted services
	released atomic.Bool
}

// Service is one service of a set.
type Service struct {
	name     string
	declared config.Service
	pool     *pool     // either this
	weighted *weighted // or this
}

// Build makes the services ready to be asked; it opens no connection and
// starts nothing. Names must be qualified. retry is how many further servers
// are tried when one cannot be reached. A service or server that cannot work is
// left out with a problem.
func (r *Registry) Build(services map[string]config.Service, retry int) (*Set, []config.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := builder{
		registry: r, declared: services, retry: retry, building: map[string]bool{},
		set: &Set{registry: r, services: map[string]*Service{}},
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		b.service(name)
	}
	return b.set, b.problems
}

// Service gives a service by its qualified name; ok is false where it was not
// declared or left out.
func (s *Set) Service(name string) (service *Service, ok bool) {
	service, ok = s.services[name]
	return service, ok
}

// Activate makes this set the one whose servers are probed.
func (s *Set) Activate() {
	r := s.registry
	r.probing.Lock()
	defer r.probing.Unlock()
	if !r.closed {
		r.active = s
		r.replaceProbes(s.pools)
	}
}

// Release gives back what the set uses; state and connections that no other
// set uses are dropped. Requests still under way are not disturbed. A second
// call does nothing.
func (s *Set) Release() {
	if s.released.Swap(true) {
		return
	}
	r := s.registry
	r.probing.Lock()
	if r.active == s {
		r.active = nil
		r.replaceProbes(nil)
	}
	r.probing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range s.pools {
		r.drop(p)
	}
	for _, state := range s.states {
		r.dropService(state)
	}
}

// Handler asks the service. passHostHeader, when not nil, overrides whether
// servers see the host the client asked for.
func (s *Service) Handler(passHostHeader *bool) http.Handler {
	if s.weighted != nil {
		return s.weighted.handler(passHostHeader)
	}
	return s.pool.handler(passHostHeader)
}

func (s *Service) available() bool {
	if s.weighted != nil {
		return s.weighted.balancer.any()
	}
	return s.pool.balancer.any()
}

func (s *Service) version() uint64 {
	if s.weighted != nil {
		return s.weighted.balancer.version()
	}
	return s.pool.state.health.Load()
}

// builder makes the services of one set. Registry.mu is held.
type builder struct {
	registry *Registry
	declared map[string]config.Service
	retry    int
	building map[string]bool // true: under way, false: done or left out
	set      *Set
	problems []config.Problem
	settings *config.ServersTransport // those of via; nil: none yet
	via      *transport               // found last: most services share one
}

func (b *builder) problem(o config.Origin, service, allowed, format string, args ...any) {
	b.problems = append(b.problems, config.Problem{
		Origin: o, Object: "service " + service, Message: fmt.Sprintf(format, args...), Allowed: allowed,
	})
}

// service builds a service, its parts first; nil where it is left out.
func (b *builder) service(name string) *Service {
	if _, seen := b.building[name]; seen {
		return b.set.services[name]
	}
	b.building[name] = true
	defer func() { b.building[name] = false }()
	d := b.declared[name]
	s := &Service{name: name, declared: d}
	switch {
	case d.LoadBalancer != nil && d.Weighted == nil:
		s.pool = b.pool(name, d)
	case d.Weighted != nil && d.LoadBalancer == nil:
		s.weighted = b.weighted(name, d)
	default:
		b.problem(d.Origin, name, "one of loadBalancer, weighted", "a service has exactly one form; it is left out")
	}
	if s.pool == nil && s.weighted == nil {
		return nil
	}
	b.set.services[name] = s
	return s
}

func (b *builder) pool(name string, d config.Service) *pool {
	lb := d.LoadBalancer
	if wrong, allowed := checkHealth(lb.HealthCheck); wrong != "" {
		b.problem(d.Origin, name, allowed, "%s; the service is left out", wrong)
		return nil
	}
	if wrong, allowed := checkSticky(lb.Sticky); wrong != "" {
		b.problem(d.Origin, name, allowed, "%s; the service is left out", wrong)
		return nil
	}
	if lb.MaxConn < 0 {
		b.problem(d.Origin, name, "0 (no bound) or more", "the bound of connections is %d; the service is left out", lb.MaxConn)
		return nil
	}
	via, err := b.transport(&lb.ServersTransport)
	if err != nil {
		b.problem(d.Origin, name, "", "%v; the service is left out", err)
		return nil
	}
	p := &pool{name: name, transport: via, state: b.registry.service(name), health: lb.HealthCheck, retry: b.retry,
		maxConn: int64(lb.MaxConn), buffers: &b.registry.buffers, logger: b.registry.logger}
	names := map[string]bool{}
	for _, declared := range lb.Servers {
		if s := b.server(p, d, declared, names); s != nil {
			p.servers = append(p.servers, s)
		}
	}
	p.init(lb)
	b.set.pools = append(b.set.pools, p)
	return p
}

// transport is Registry.transport, quick where the settings are those of the
// service before.
func (b *builder) transport(s *config.ServersTransport) (*transport, error) {
	if l := b.settings; l != nil && l.ServerName == s.ServerName && l.InsecureSkipVerify == s.InsecureSkipVerify &&
		l.DisableHTTP2 == s.DisableHTTP2 && slices.Equal(l.RootCAs, s.RootCAs) && slices.Equal(l.Certificates, s.Certificates) {
		b.via.refs++
		return b.via, nil
	}
	via, err := b.registry.transport(*s)
	if err == nil {
		b.settings, b.via = s, via
	}
	return via, err
}

// server checks one server and joins it to its state.
func (b *builder) server(p *pool, d config.Service, declared config.Server, names map[string]bool) *server {
	origin := declared.Origin
	if origin == (config.Origin{}) {
		origin = d.Origin
	}
	u, err := url.Parse(declared.URL)
	const form = "http://host:port, https://host:port or h2c://host:port"
	switch {
	case err != nil:
		b.problem(origin, p.name, form, "the URL of server %q cannot be read; the server is left out", declared.Name)
		return nil
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c",
		u.Hostname() == "", u.RawQuery != "", u.Fragment != "", u.User != nil, u.Opaque != "":
		b.problem(origin, p.name, form, "the URL of server %q is %q; the server is left out", declared.Name, u.Redacted())
		return nil
	case declared.Weight < 0:
		b.problem(origin, p.name, "0 (gets nothing) or more", "the weight of server %q is %d; the server is left out", declared.Name, declared.Weight)
		return nil
	case declared.Name != "" && names[declared.Name]:
		b.problem(origin, p.name, "", "there are two servers named %q; the second is left out", declared.Name)
		return nil
	}
	names[declared.Name] = true
	if u.Path != "" && u.Path != "/" {
		b.problem(origin, p.name, "use the middleware addPrefix", "the path of server URL %q is not used", declared.URL)
		b.problems[len(b.problems)-1].Warning = true
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443", "h2c": "80"}[u.Scheme])
	}
	s := &server{name: declared.Name, weight: declared.Weight, via: p.transport.forScheme(u.Scheme), scheme: u.Scheme}
	s.url = &url.URL{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	s.text = s.url.String()
	if s.scheme == "h2c" {
		s.scheme = "http"
	}
	if s.origin = p.transport.origin(u.Scheme, s.url.Host); s.origin != nil {
		s.via = &http1RoundTripper{origin: s.origin, fallback: s.via}
	}
	s.state = p.state.server(s.identity())
	return s
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
