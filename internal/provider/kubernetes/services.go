package kubernetes

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
)

// pool is a Service's port as a service of ours. All but its slices and servers
// stays what it is.
type pool struct {
	key     poolKey
	service *Service // nil: there is none
	name    string
	origin  config.Origin
	trouble string // why it has no servers; "": nothing is wrong
	allowed string
	tuning  *tuning // of the Service's annotations
	follows bool    // its servers are those of slices
	port    string  // their port's name
	scheme  string
	slices  []*Slice
	servers []config.Server
	made    config.Service // of all that
}

// poolKey is what a path names.
type poolKey struct {
	service Name
	port    string // as written
	scheme  string // asked for by the Ingress; "": as the port says
	nothing string // why it can be none; "": it names a Service
}

// backend makes a service of what a path names. One that is not there has no
// servers and answers 503: its path must not fall to another that shows something
// else.
func (t *translation) backend(in *Ingress, b networkingv1.IngressBackend, scheme string) *pool {
	var key poolKey
	switch {
	case b.Service != nil:
		port := b.Service.Port.Name
		if port == "" {
			port = strconv.Itoa(int(b.Service.Port.Number))
		}
		key = poolKey{service: Name{in.Namespace, b.Service.Name}, port: port, scheme: scheme}
	case b.Resource != nil:
		key = poolKey{service: Name{in.Namespace, "(resource)"}, nothing: "resource backends do not exist here"}
	default:
		key = poolKey{service: Name{in.Namespace, "(resource)"}, nothing: "names no Service"}
	}
	p := t.lookup(key)
	if !slices.Contains(t.now.pools, p) {
		t.now.pools = append(t.now.pools, p)
	}
	return p
}

// lookup gives the pool of a key: the one it was before, if only its servers
// differ.
func (t *translation) lookup(key poolKey) *pool {
	if p := t.pools[key]; p != nil {
		return p
	}
	was := t.translator.pools[key]
	service, list := t.index.services[key.service], t.index.slices[key.service]
	if was != nil && was.service == service && (!was.follows || slices.Equal(was.slices, list)) {
		t.tuningOf(service)
		t.pools[key] = was
		return was
	}
	p := t.pool(key, service, list)
	if was != nil && was.like(p) {
		was.service, was.slices = p.service, p.slices
		if !slices.Equal(was.servers, p.servers) {
			was.serve(p.servers)
		}
		p = was
	}
	t.pools[key] = p
	return p
}

// like tells whether two pools differ in nothing but their servers.
func (p *pool) like(other *pool) bool {
	return p.name == other.name && p.trouble == other.trouble && p.allowed == other.allowed && p.tuning == other.tuning &&
		p.follows == other.follows && p.port == other.port && p.scheme == other.scheme
}

func (t *translation) pool(key poolKey, s *Service, list []*Slice) (p *pool) {
	defer func() { p.serve(p.servers) }()
	p = &pool{key: key, service: s, name: join(key.service.Namespace, key.service.Name, key.port, key.scheme),
		origin: config.Origin{Provider: name, Source: "service " + key.service.String()}}
	switch {
	case key.nothing != "":
		p.trouble, p.allowed = key.nothing, "backend.service"
		if key.nothing == "names no Service" {
			p.allowed = ""
		}
		return p
	case s == nil:
		p.trouble = fmt.Sprintf("there is no Service %s", key.service)
		if err := t.objects.Unread["services"]; err != nil {
			p.trouble = "Services cannot be read: " + err.Error()
		}
		return p
	}
	port := findPort(s, key.port)
	if port == nil {
		p.trouble, p.allowed = fmt.Sprintf("Service %s has no port %s", key.service, key.port), ports(s)
		return p
	}
	p.name = join(key.service.Namespace, key.service.Name, strconv.Itoa(int(port.Port)), key.scheme)
	p.tuning = t.tuningOf(s)
	p.scheme = cmp.Or(key.scheme, schemeOf(port))
	if s.ExternalName != nil {
		p.servers, p.trouble, p.allowed = t.external(s, port, p.scheme)
		return p
	}
	p.follows, p.port, p.slices = true, port.Name, list
	p.servers = serversOf(list, p.port, p.scheme, t.settings.Zone)
	if err := t.objects.Unread["endpointslices"]; err != nil && len(p.servers) == 0 {
		p.trouble = "EndpointSlices cannot be read: " + err.Error()
	}
	return p
}

// serve gives the pool its servers.
func (p *pool) serve(servers []config.Server) {
	lb := &config.LoadBalancer{}
	if p.tuning != nil {
		*lb = p.tuning.balancer
	}
	lb.Servers = servers
	p.servers, p.made = servers, config.Service{Origin: p.origin, LoadBalancer: lb}
}

func findPort(s *Service, written string) *ServicePort {
	for i := range s.Ports {
		p := &s.Ports[i]
		if written != "" && (p.Name == written || strconv.Itoa(int(p.Port)) == written) {
			return p
		}
	}
	return nil
}

func ports(s *Service) string {
	var list []string
	for _, p := range s.Ports {
		list = append(list, strings.Trim(p.Name+" "+strconv.Itoa(int(p.Port)), " "))
	}
	return strings.Join(list, ", ")
}

// schemeOf is what a Service's port says about itself.
func schemeOf(p *ServicePort) string {
	switch p.Protocol {
	case "kubernetes.io/h2c", "grpc":
		return "h2c"
	case "https":
		return "https"
	}
	if p.Port == 443 || strings.HasPrefix(p.Name, "https") {
		return "https"
	}
	return "http"
}

// external leads to the name a Service stands for, if that is allowed at all:
// whoever may write a Service could else reach what only we can.
func (t *translation) external(s *Service, port *ServicePort, scheme string) ([]config.Server, string, string) {
	target := strings.TrimSuffix(*s.ExternalName, ".")
	if !t.settings.ExternalNames {
		return nil, fmt.Sprintf("Service %s is an ExternalName, which are off", s.Name), "kubernetes.allowExternalNameServices"
	}
	address, err := netip.ParseAddr(target)
	if target == "" || strings.ContainsAny(target, "/@?#:") && err != nil || err == nil && !reachable(address) ||
		strings.EqualFold(target, "localhost") || strings.HasSuffix(strings.ToLower(target), ".localhost") {
		return nil, fmt.Sprintf("Service %s leads to %q, which is refused", s.Name, *s.ExternalName), "the name of another host"
	}
	return []config.Server{{Name: target, URL: scheme + "://" + net.JoinHostPort(target, strconv.Itoa(int(port.Port))), Weight: 1}}, "", ""
}

// reachable refuses addresses that mean this machine or its network's own
// services, such as a cloud's metadata.
func reachable(a netip.Addr) bool {
	a = a.Unmap()
	return !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified()
}

// endpoint is one address of a slice that is of use.
type endpoint struct {
	*Endpoint
	server config.Server
}

// serversOf gives those that are ready; where none is, those that still serve
// while they are leaving. Hints of zones are followed if all that are ready
// have them and one is meant for ours.
func serversOf(list []*Slice, port, scheme, zone string) []config.Server {
	var all []endpoint
	seen := map[string]int{}
	for _, slice := range list {
		for _, p := range slice.Ports {
			if p.Name != port {
				continue
			}
			for i := range slice.Endpoints {
				all = take(all, seen, &slice.Endpoints[i], scheme, p.Port)
			}
		}
	}
	ready := slices.DeleteFunc(slices.Clone(all), func(e endpoint) bool { return e.Leaving })
	if len(ready) == 0 {
		ready = all
	} else if near := inZone(ready, zone); len(near) > 0 {
		ready = near
	}
	servers := make([]config.Server, len(ready))
	for i, e := range ready {
		servers[i] = e.server
	}
	slices.SortFunc(servers, func(a, b config.Server) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.URL, b.URL))
	})
	return distinct(servers)
}

// take adds the address of an endpoint, once; ready wins over leaving.
func take(all []endpoint, seen map[string]int, e *Endpoint, scheme string, port int32) []endpoint {
	address, err := netip.ParseAddr(e.Address)
	if err != nil || !reachable(address) {
		return all
	}
	found := endpoint{e, config.Server{
		Name: cmp.Or(e.Pod, e.Address), Weight: 1, URL: scheme + "://" + net.JoinHostPort(e.Address, strconv.Itoa(int(port))),
	}}
	if i, ok := seen[found.server.URL]; ok {
		if all[i].Leaving && !e.Leaving {
			all[i] = found
		}
		return all
	}
	seen[found.server.URL] = len(all)
	return append(all, found)
}

// inZone gives the endpoints meant for our zone; nil where hints do not count.
func inZone(list []endpoint, zone string) []endpoint {
	if zone == "" {
		return nil
	}
	var near []endpoint
	for _, e := range list {
		if len(e.Zones) == 0 {
			return nil
		}
		if slices.Contains(e.Zones, zone) {
			near = append(near, e)
		}
	}
	return near
}

// distinct gives servers of one name, such as a pod with two addresses, names
// of their own.
func distinct(servers []config.Server) []config.Server {
	last := ""
	for i := range servers {
		if servers[i].Name == last {
			servers[i].Name += " " + servers[i].URL
			continue
		}
		last = servers[i].Name
	}
	return servers
}

// join makes a name of parts so that no two lists of parts give the same one:
// namespaces, names and ports have no slash. A name that ends in @something
// would be another provider's.
func join(parts ...string) string {
	for len(parts) > 0 && parts[len(parts)-1] == "" {
		parts = parts[:len(parts)-1]
	}
	return strings.ReplaceAll(strings.Join(parts, "/"), "@", "%40")
}
