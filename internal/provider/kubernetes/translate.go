package kubernetes

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
)

// Bounds of what one Ingress may ask for.
const (
	maxPaths      = 5000     // of one Ingress
	maxAnnotation = 64 << 10 // bytes of one annotation
)

// Translator turns objects into routing. It remembers what each Ingress came to,
// and what that stands on, and does again only what stands on something else now;
// the result is that of a new one (TestRemembered). It may be used by one goroutine
// at a time.
type Translator struct {
	settings     Settings
	unread       string // the kinds that were, and why
	blind        bool   // slices are among them
	parts        map[Name]*part
	pools        map[poolKey]*pool
	tunings      map[Name]*tuning // by Service
	byService    map[Name][]*pool // those in use
	certificates map[Name]checked
}

// Translate says what the objects mean. A part that cannot work is left out
// alone, or answers 503 where its absence would let requests reach something
// else; a finding tells of it.
func (tr *Translator) Translate(o Objects, s Settings) Result {
	tr.begin(o, s)
	t := &translation{
		translator: tr, objects: o, settings: s, index: newIndex(o),
		parts: make(map[Name]*part, len(tr.parts)), pools: make(map[poolKey]*pool, len(tr.pools)),
		tunings: map[Name]*tuning{}, secrets: map[Name]bool{}, toldOf: map[*tuning]bool{},
		out: config.Routing{
			Routers: make(map[string]config.Router, len(o.Ingresses)), Middlewares: map[string]config.Middleware{},
			Services: make(map[string]config.Service, len(o.Services)),
		},
		now: &part{},
	}
	t.missing()
	var ours []*Ingress
	class := newClasses(o, s)
	for _, in := range o.Ingresses {
		if !in.Leaving && class.serves(in) {
			ours = append(ours, in)
		}
	}
	byAge(ours)
	t.claimHosts(ours)
	t.declare(t.now)
	t.taken = make(map[routeKey]*Ingress, len(ours))
	for _, in := range ours {
		p := tr.parts[in.Name]
		if p == nil || !t.stands(p, in) {
			p = t.ingress(in)
		}
		t.parts[in.Name] = p
		t.declare(p)
	}
	t.close()
	tr.remember(t)
	slices.SortStableFunc(t.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Problem.Origin.Source, b.Problem.Origin.Source), cmp.Compare(a.Problem.String(), b.Problem.String()))
	})
	return Result{Routing: t.out, Findings: t.findings, Ours: ours, Secrets: t.secrets}
}

// translation is one translation under way.
type translation struct {
	translator *Translator
	objects    Objects
	settings   Settings
	index      index
	claims     claims
	taken      map[routeKey]*Ingress // who has a path of a host
	parts      map[Name]*part        // by Ingress
	pools      map[poolKey]*pool
	tunings    map[Name]*tuning // by Service
	toldOf     map[*tuning]bool // its findings are among ours
	closes     map[*Ingress]*notes
	now        *part // what is found and made belongs to
	secrets    map[Name]bool
	out        config.Routing
	findings   []Finding
}

// routeKey is what two routes of a namespace may not share.
type routeKey struct {
	host, path string
	kind       networkingv1.PathType
}

func (t *translation) find(in *Ingress, reason string, p config.Problem) {
	if in != nil && p.Object == "" {
		p.Object = "ingress " + in.Name.String()
	}
	t.now.findings = append(t.now.findings, Finding{in, reason, p})
}

// missing tells of kinds that are not known.
func (t *translation) missing() {
	for _, kind := range slices.Sorted(maps.Keys(t.objects.Unread)) {
		t.find(nil, KindUnread, config.Problem{
			Origin: config.Origin{Provider: name, Source: kind}, Warning: true,
			Message: fmt.Sprintf("cannot be read: %v; what depends on them does not work, the rest does", t.objects.Unread[kind]),
			Allowed: "a Role with get, list and watch on " + kind,
		})
	}
	for _, kind := range slices.Sorted(maps.Keys(t.objects.Old)) {
		t.find(nil, KindUnread, config.Problem{
			Origin: config.Origin{Provider: name, Source: kind}, Warning: true,
			Message: fmt.Sprintf("may not be read any more: %v; what was read before is served", t.objects.Old[kind]),
			Allowed: "a Role with get, list and watch on " + kind,
		})
	}
}

// ingress makes what one Ingress comes to.
func (t *translation) ingress(in *Ingress) *part {
	t.now = &part{in: in, hosts: t.hosts(in)}
	for _, host := range t.now.hosts {
		t.now.allowed = append(t.now.allowed, t.claims.allows(in, host))
	}
	n := t.notes(in)
	t.now.notes = n
	var order []routeKey
	backends := map[routeKey][]networkingv1.IngressBackend{}
	paths := 0
	for _, rule := range in.Spec.Rules {
		host := cleanHost(rule.Host)
		if !t.claims.allows(in, host) || rule.HTTP == nil {
			continue
		}
		for _, p := range rule.HTTP.Paths {
			if paths++; paths > maxPaths {
				break
			}
			key, trouble := keyOf(host, p)
			if trouble != "" {
				t.find(in, PathConflict, config.Problem{Origin: originOf(in, "spec.rules"), Message: trouble})
				continue
			}
			if backends[key] == nil {
				order = append(order, key)
			}
			backends[key] = append(backends[key], p.Backend)
		}
	}
	if paths > maxPaths {
		t.find(in, PathConflict, config.Problem{Origin: originOf(in, "spec.rules"), Message: "has too many paths; the rest is left out", Allowed: strconv.Itoa(maxPaths)})
	}
	for _, key := range order {
		t.path(in, n, key, backends[key])
	}
	if in.Spec.DefaultBackend != nil {
		t.now.fallback = t.told(in, *in.Spec.DefaultBackend, n)
	}
	t.tls(in)
	return t.now
}

// keyOf is a path as it is compared; an element-wise prefix has no final slash.
func keyOf(host string, p networkingv1.HTTPIngressPath) (key routeKey, trouble string) {
	key = routeKey{host: host, path: p.Path, kind: networkingv1.PathTypeImplementationSpecific}
	if p.PathType != nil {
		key.kind = *p.PathType
	}
	switch key.kind {
	case networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific:
		if key.path == "" {
			key.path = "/"
		}
	case networkingv1.PathTypePrefix:
		key.path = strings.TrimRight(key.path, "/")
	default:
		return key, fmt.Sprintf("path %q has the type %q, which is not known; it is left out", p.Path, key.kind)
	}
	if key.path != "" && key.path[0] != '/' {
		return key, fmt.Sprintf("path %q does not start with a slash; it is left out", p.Path)
	}
	return key, ""
}

// path makes the route of one path.
func (t *translation) path(in *Ingress, n *notes, key routeKey, backends []networkingv1.IngressBackend) {
	first := t.taken[key]
	t.now.keys = append(t.now.keys, usedKey{key, first})
	if first != nil {
		t.find(in, PathConflict, config.Problem{Origin: originOf(in, "spec.rules"),
			Message: fmt.Sprintf("%s%s is a path of Ingress %s already, which is older; it is left out", key.host, key.path, first.Name)})
		return
	}
	name := routeName(in, key.host, key.kind, key.path)
	pools := make([]*pool, len(backends))
	for i, b := range backends {
		pools[i] = t.told(in, b, n)
	}
	r := config.Router{
		Origin: originOf(in, "spec.rules"), Service: pools[0].name, PassHostHeader: t.passHost(),
		Priority: priority(key.host, kindRank[key.kind], length(key)),
	}
	if len(pools) > 1 {
		r.Service = name
		t.now.services = append(t.now.services, declared[config.Service]{name, t.shares(in, n, backends, pools)})
	}
	r.Rule = hostRule(key.host, pathRule(key))
	t.through(in, n, name, &r, &key, pools[0])
	if all := "PathPrefix(`/`)"; r.Rule == hostRule(key.host, all) || r.Rule == hostRule(key.host, "("+all+")") {
		t.now.roots = append(t.now.roots, key.host)
	}
	t.now.routers = append(t.now.routers, declared[config.Router]{name, r})
}

// told is a backend whose trouble is reported to the Ingress that names it.
func (t *translation) told(in *Ingress, b networkingv1.IngressBackend, n *notes) *pool {
	p := t.backend(in, b, n.scheme)
	if p.trouble != "" {
		t.find(in, BackendMissing, config.Problem{Origin: originOf(in, "spec"), Allowed: p.allowed, Message: p.trouble + "; its paths answer 503"})
	}
	return p
}

func (t *translation) passHost() *bool {
	if !t.settings.HideHost {
		return nil
	}
	return new(bool)
}

// kindRank puts Exact before Prefix before what is left to us, at one length.
var kindRank = map[networkingv1.PathType]int{
	networkingv1.PathTypeExact: 3, networkingv1.PathTypePrefix: 2, networkingv1.PathTypeImplementationSpecific: 1,
}

// length is what the path counts for: longer paths come first.
func length(k routeKey) int { return len("Host:;PathPrefix:") + len(k.host) + max(len(k.path), 1) }

// Priorities: a host that is named wins over a wildcard, which wins over no
// host; then the longer path; then the kind. They stay below what people give
// routers of other providers to come first.
const (
	perHost   = 1 << 18
	maxLength = perHost/4 - 1
)

func priority(host string, kind, length int) int {
	class := 2
	switch {
	case host == "":
		class = 0
	case strings.HasPrefix(host, "*."):
		class = 1
	}
	return class*perHost + min(length, maxLength)*4 + kind + 1
}

// routeName is unambiguous: only the path, which comes last, may have a slash.
func routeName(in *Ingress, host string, kind networkingv1.PathType, path string) string {
	sign := map[networkingv1.PathType]string{networkingv1.PathTypeExact: "=", networkingv1.PathTypeImplementationSpecific: "~"}[kind]
	if path == "" {
		path = "/"
	}
	return strings.ReplaceAll(in.Name.String()+"/"+host+sign+path, "@", "%40")
}

// hostRule and pathRule write rules; every text of an object is quoted.
func hostRule(host, rest string) string {
	if host == "" {
		return rest
	}
	return "Host(" + quote(host) + ") && " + rest
}

func pathRule(k routeKey) string {
	switch {
	case k.path == "":
		return "PathPrefix(`/`)"
	case k.kind == networkingv1.PathTypeExact:
		return "Path(" + quote(k.path) + ")"
	case k.kind == networkingv1.PathTypePrefix:
		return "(Path(" + quote(k.path) + ") || PathPrefix(" + quote(k.path+"/") + "))"
	}
	return "PathPrefix(" + quote(k.path) + ")"
}

func quote(s string) string {
	for i := range len(s) {
		if c := s[i]; c == '`' || c < ' ' || c >= 0x7f {
			return strconv.Quote(s)
		}
	}
	return "`" + s + "`"
}

// shares spreads the requests of a path that an Ingress names several times
// over its backends: by service-weights, else alike.
func (t *translation) shares(in *Ingress, n *notes, backends []networkingv1.IngressBackend, pools []*pool) config.Service {
	s := config.Service{Origin: originOf(in, "spec.rules"), Weighted: &config.Weighted{}}
	weights := n.weightsOf(backends)
	seen := map[string]bool{}
	for i, p := range pools {
		if !seen[p.name] {
			seen[p.name] = true
			s.Weighted.Services = append(s.Weighted.Services, config.WeightedService{Name: p.name, Weight: weights[i]})
		}
	}
	return s
}

// secret looks for a Secret in the Ingress's own namespace: there is no way to
// name another's.
func (t *translation) secret(in *Ingress, secret string, tls bool) (*Secret, error) {
	name := Name{in.Namespace, secret}
	s := t.index.secrets[name]
	t.now.secrets = append(t.now.secrets, usedSecret{name, tls, s})
	if s != nil {
		return s, nil
	}
	if err := t.objects.Unread["secrets"]; err != nil {
		return nil, fmt.Errorf("read Secret %s: %w", name, err)
	}
	return nil, nil
}
