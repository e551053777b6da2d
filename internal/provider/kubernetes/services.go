package kubernetes

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
)

// pool is a Service's port as a service of ours.
type pool struct {
	name    string
	trouble string // why it has no servers; "": nothing is wrong
	allowed string
	tuning  *tuning // of the Service's annotations; nil: none
}

// backend makes a service of what a path names, and gives its name. One that
// is not there has no servers and answers 503: its path must not fall to
// another that shows something else.
func (t *translation) backend(in *networkingv1.Ingress, b networkingv1.IngressBackend, scheme string) *pool {
	if b.Service == nil {
		p := &pool{name: in.Namespace + "/(resource)", trouble: "resource backends do not exist here", allowed: "backend.service"}
		if b.Resource == nil {
			p.trouble = "names no Service"
		}
		t.serve(p, originOf(in, "spec"), nil)
		return p
	}
	port := b.Service.Port.Name
	if port == "" {
		port = strconv.Itoa(int(b.Service.Port.Number))
	}
	key := poolKey{Name{in.Namespace, b.Service.Name}, port, scheme}
	if p := t.pools[key]; p != nil {
		return p
	}
	p := t.pool(in, key)
	t.pools[key] = p
	return p
}

type poolKey struct {
	service Name
	port    string // as written
	scheme  string // asked for by the Ingress; "": as the port says
}

func (t *translation) pool(in *networkingv1.Ingress, key poolKey) *pool {
	origin := config.Origin{Provider: name, Source: "service " + key.service.String()}
	p := &pool{name: join(key.service.Namespace, key.service.Name, key.port, key.scheme)}
	s := t.index.services[key.service]
	if s == nil {
		if err := t.objects.Unread["services"]; err != nil {
			p.trouble = "Services cannot be read: " + err.Error()
		} else {
			p.trouble = fmt.Sprintf("there is no Service %s", key.service)
		}
		t.serve(p, origin, nil)
		return p
	}
	port := findPort(s, key.port)
	if port == nil {
		p.trouble, p.allowed = fmt.Sprintf("Service %s has no port %s", key.service, key.port), ports(s)
		t.serve(p, origin, nil)
		return p
	}
	p.name = join(key.service.Namespace, key.service.Name, strconv.Itoa(int(port.Port)), key.scheme)
	p.tuning = t.tuningOf(s)
	scheme := cmp.Or(key.scheme, schemeOf(port))
	var servers []config.Server
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		servers, p.trouble, p.allowed = t.external(s, port, scheme)
	} else {
		servers = t.servers(t.index.slices[key.service], port.Name, scheme)
		if err := t.objects.Unread["endpointslices"]; err != nil && len(servers) == 0 {
			p.trouble = "EndpointSlices cannot be read: " + err.Error()
		}
	}
	t.serve(p, origin, servers)
	return p
}

// serve declares the service of a pool.
func (t *translation) serve(p *pool, origin config.Origin, servers []config.Server) {
	lb := &config.LoadBalancer{}
	if p.tuning != nil {
		*lb = p.tuning.balancer
	}
	lb.Servers = servers
	t.out.Services[p.name] = config.Service{Origin: origin, LoadBalancer: lb}
}

func findPort(s *corev1.Service, written string) *corev1.ServicePort {
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			continue
		}
		if written != "" && (p.Name == written || strconv.Itoa(int(p.Port)) == written) {
			return p
		}
	}
	return nil
}

func ports(s *corev1.Service) string {
	var list []string
	for _, p := range s.Spec.Ports {
		list = append(list, strings.Trim(p.Name+" "+strconv.Itoa(int(p.Port)), " "))
	}
	return strings.Join(list, ", ")
}

// schemeOf is what a Service's port says about itself.
func schemeOf(p *corev1.ServicePort) string {
	if p.AppProtocol != nil {
		switch strings.ToLower(*p.AppProtocol) {
		case "kubernetes.io/h2c", "grpc":
			return "h2c"
		case "https":
			return "https"
		}
	}
	if p.Port == 443 || strings.HasPrefix(p.Name, "https") {
		return "https"
	}
	return "http"
}

// external leads to the name a Service stands for, if that is allowed at all:
// whoever may write a Service could else reach what only we can.
func (t *translation) external(s *corev1.Service, port *corev1.ServicePort, scheme string) ([]config.Server, string, string) {
	target := strings.TrimSuffix(s.Spec.ExternalName, ".")
	if !t.settings.ExternalNames {
		return nil, fmt.Sprintf("Service %s is an ExternalName, which are off", nameOf(s)), "kubernetes.allowExternalNameServices"
	}
	address, err := netip.ParseAddr(target)
	if target == "" || strings.ContainsAny(target, "/@?#:") && err != nil || err == nil && !reachable(address) ||
		strings.EqualFold(target, "localhost") || strings.HasSuffix(strings.ToLower(target), ".localhost") {
		return nil, fmt.Sprintf("Service %s leads to %q, which is refused", nameOf(s), s.Spec.ExternalName), "the name of another host"
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
	server  config.Server
	leaving bool     // serving still, but not to be given new clients
	zones   []string // it is meant for
}

// servers gives those that are ready; where none is, those that still serve
// while they are leaving. Hints of zones are followed if all that are ready
// have them and one is meant for ours.
func (t *translation) servers(list []*discoveryv1.EndpointSlice, port, scheme string) []config.Server {
	var all []endpoint
	seen := map[string]int{}
	for _, slice := range list {
		for _, p := range slice.Ports {
			if value(p.Name) != port || p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
				continue
			}
			for i := range slice.Endpoints {
				all = take(all, seen, &slice.Endpoints[i], scheme, *p.Port)
			}
		}
	}
	ready := slices.DeleteFunc(slices.Clone(all), func(e endpoint) bool { return e.leaving })
	if len(ready) == 0 {
		ready = all
	} else if near := t.inZone(ready); len(near) > 0 {
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
func take(all []endpoint, seen map[string]int, e *discoveryv1.Endpoint, scheme string, port int32) []endpoint {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	leaving := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	if len(e.Addresses) == 0 || !(ready && !leaving || serving && leaving) {
		return all
	}
	address, err := netip.ParseAddr(e.Addresses[0])
	if err != nil || !reachable(address) {
		return all
	}
	found := endpoint{leaving: leaving, server: config.Server{
		Name: e.Addresses[0], Weight: 1, URL: scheme + "://" + net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(port))),
	}}
	if e.TargetRef != nil && e.TargetRef.Name != "" {
		found.server.Name = e.TargetRef.Name
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			found.zones = append(found.zones, z.Name)
		}
	}
	if i, ok := seen[found.server.URL]; ok {
		if all[i].leaving && !leaving {
			all[i] = found
		}
		return all
	}
	seen[found.server.URL] = len(all)
	return append(all, found)
}

// inZone gives the endpoints meant for our zone; nil where hints do not count.
func (t *translation) inZone(list []endpoint) []endpoint {
	if t.settings.Zone == "" {
		return nil
	}
	var near []endpoint
	for _, e := range list {
		if len(e.zones) == 0 {
			return nil
		}
		if slices.Contains(e.zones, t.settings.Zone) {
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

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
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
