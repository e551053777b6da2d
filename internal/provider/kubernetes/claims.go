package kubernetes

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// GrantAnnotation, on the Ingress that owns a host, names the namespaces whose
// Ingresses may add paths to it: "team-b, team-c".
const GrantAnnotation = "gatehouse.io/share-hosts-with"

// claims says whose a host is: the oldest Ingress that names it owns it for its
// namespace. An owned wildcard owns the names below it as well. "" stands for
// all hosts nobody names, and is owned like one.
type claims map[string]*claim

type claim struct {
	owner *Ingress
	// root: some route takes all paths of the host.
	root bool
	// fallback is the service of requests no path fits; "": none.
	fallback   string
	fallbackOf *Ingress // whose default backend that is
	notes      *notes   // of fallbackOf
	pool       *pool
}

// claimHosts gives out the hosts, oldest Ingress first, and reports who came too
// late.
func (t *translation) claimHosts(ours []*Ingress) {
	t.claims = claims{}
	for _, in := range ours {
		for _, host := range t.hosts(in) {
			first := t.claims.over(host)
			switch {
			case !isHost(host):
				t.find(in, HostConflict, config.Problem{Origin: originOf(in, "spec"), Message: fmt.Sprintf("%q is no host name; it is left out", host), Allowed: "shop.example.com, *.example.com"})
			case first == nil || first.owner.Namespace == in.Namespace || granted(first.owner, in.Namespace):
				if t.claims[host] == nil {
					t.claims[host] = &claim{owner: in}
				}
			default:
				t.hostConflict(in, host, first.owner)
			}
		}
	}
}

func (t *translation) hostConflict(in *Ingress, host string, owner *Ingress) {
	what := "host " + host
	if host == "" {
		what = "the routes without a host"
	}
	t.find(in, HostConflict, config.Problem{
		Origin:  originOf(in, "spec.rules"),
		Message: fmt.Sprintf("%s belongs to namespace %s, whose Ingress %s is older; not served from here", what, owner.Namespace, owner.Name.Name),
		Allowed: fmt.Sprintf("another host, or the annotation %s: %s on Ingress %s", GrantAnnotation, in.Namespace, owner.Name),
	})
}

// over finds the claim a host falls under: its own, or that of the wildcard
// over it.
func (c claims) over(host string) *claim {
	if own := c[host]; own != nil {
		return own
	}
	if !strings.HasPrefix(host, "*.") {
		if _, parent, ok := strings.Cut(host, "."); ok {
			return c["*."+parent]
		}
	}
	return nil
}

// allows tells whether an Ingress may have routes for a host.
func (c claims) allows(in *Ingress, host string) bool {
	first := c[host]
	if first == nil {
		return false // the wildcard over it is somebody else's
	}
	if first.owner.Namespace == in.Namespace {
		return true
	}
	return granted(first.owner, in.Namespace)
}

func granted(owner *Ingress, namespace string) bool {
	for part := range strings.SplitSeq(owner.Annotations[GrantAnnotation], ",") {
		if part = strings.TrimSpace(part); part == namespace || part == "*" {
			return true
		}
	}
	return false
}

// hostsOf gives every host an Ingress names, in rules and below tls, as they
// are compared; "" where a rule, or a default backend without rules, means all.
func hostsOf(in *Ingress) []string {
	var hosts []string
	for _, r := range in.Spec.Rules {
		hosts = append(hosts, cleanHost(r.Host))
	}
	for _, tls := range in.Spec.TLS {
		for _, h := range tls.Hosts {
			if h = cleanHost(h); h != "" {
				hosts = append(hosts, h)
			}
		}
	}
	if len(in.Spec.Rules) == 0 && in.Spec.DefaultBackend != nil {
		hosts = append(hosts, "")
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// isHost is what the API server lets pass, and a little more.
func isHost(host string) bool {
	if host == "" {
		return true
	}
	if len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(host, "*."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

func cleanHost(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// close keeps each host to its owner: a request that fits none of its paths
// goes to its default backend, to the one of its namespace for all hosts, or is
// answered 404; it never falls through to a wildcard or to routes without a
// host.
func (t *translation) close() {
	t.now = &part{}
	t.closes = map[*Ingress]*notes{}
	everywhere := t.claims[""]
	for host, c := range t.claims {
		if c.root {
			continue
		}
		to := c
		if c.fallback == "" && everywhere != nil && everywhere.owner.Namespace == c.owner.Namespace {
			to = everywhere
		}
		r := config.Router{Origin: originOf(c.owner, "spec.rules"), Rule: hostRule(host, "PathPrefix(`/`)"), Priority: priority(host, 0, 0)}
		name := join(c.owner.Namespace, c.owner.Name.Name, host)
		switch {
		case to.fallback != "" && (to == c || t.mayFall(host)):
			r.Origin, r.Service, r.PassHostHeader = originOf(to.fallbackOf, "spec.defaultBackend"), to.fallback, t.passHost()
			name += "!default"
			t.through(to.fallbackOf, t.closing(to), name, &r, nil, to.pool)
			t.now.routers = append(t.now.routers, declared[config.Router]{name, r})
		case host != "" && t.mayFall(host):
			r.Closed = true
			t.now.routers = append(t.now.routers, declared[config.Router]{name + "!none", r})
		}
	}
	t.declare(t.now)
}

// closing gives the notes of a default backend, to be changed here alone: those
// of the part stay what they are.
func (t *translation) closing(c *claim) *notes {
	n := t.closes[c.fallbackOf]
	if n == nil {
		n = new(*c.notes)
		n.said = maps.Clone(n.said)
		t.closes[c.fallbackOf] = n
	}
	return n
}

// mayFall tells whether anything else could take a request to host that none
// of its paths fits. Whose that is must not matter: else one namespace's
// objects would decide what another's host answers.
func (t *translation) mayFall(host string) bool {
	if t.claims[""] != nil {
		return true
	}
	_, parent, ok := strings.Cut(host, ".")
	return ok && !strings.HasPrefix(host, "*.") && t.claims["*."+parent] != nil
}
