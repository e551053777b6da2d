package kubernetes

import (
	"regexp"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
	"gatehouse/internal/traefik1"
)

// through adds to a route what annotations say: the Ingress's, and those limits
// of its Service that are a matter of the route. It is done by making a 1.x
// frontend of them and having that translated. key is nil for routes that have
// no path of their own.
func (t *translation) through(in *Ingress, n *notes, name string, r *config.Router, key *routeKey, p *pool) {
	if n.broken {
		r.Middlewares = []string{name + "/refused"} // no such middleware, on purpose
		return
	}
	template := key != nil && key.kind == networkingv1.PathTypeImplementationSpecific && strings.ContainsAny(key.path, "{}")
	if n.written == nil && (p.tuning == nil || p.tuning.empty) && !template {
		return
	}
	rule, trouble := n.rule(key)
	if trouble != "" {
		t.refuse(in, n, "metadata.annotations", trouble, "rule-type: Path, PathPrefix, PathStrip or PathPrefixStrip; request-modifier: AddPrefix, ReplacePath or ReplacePathRegex")
		r.Middlewares = []string{name + "/refused"}
		return
	}
	o := originOf(in, "metadata.annotations")
	routing, problems := traefik1.Translate(t.frontend(n, name, rule, key, p, o))
	for _, problem := range problems {
		if problem.Origin.Source == o.Source { // the Service's are told once, with it
			t.sayOnce(in, n, problem)
		}
	}
	made, understood := routing.Routers[name]
	if !understood {
		r.Middlewares = []string{name + "/refused"}
		return
	}
	for _, m := range made.Middlewares {
		if declared, ok := routing.Middlewares[m]; ok {
			t.middleware(m, n.named(declared))
		}
		r.Middlewares = append(r.Middlewares, m)
	}
	r.EntryPoints = made.EntryPoints
	if made.PassHostHeader != nil {
		r.PassHostHeader = made.PassHostHeader
	}
	if key == nil {
		return
	}
	if key.kind == networkingv1.PathTypeImplementationSpecific {
		r.Rule = hostRule(key.host, "("+made.Rule+")")
	}
	if given, err := strconv.Atoi(n.written.text("priority")); err == nil && given > 0 {
		r.Priority = priority(key.host, kindRank[key.kind], given)
	}
	t.rewrite(n, name, r, key)
}

// frontend writes the Ingress's settings, the Service's and a rule as 1.x has
// them.
func (t *translation) frontend(n *notes, name, rule string, key *routeKey, p *pool, o config.Origin) *config.Node {
	own := newTree(o)
	if n.frontend.node != nil {
		own.node.Fields = append(own.node.Fields, n.frontend.node.Fields...)
	}
	own.put("backend", scalar(o, p.name))
	route := newTree(o)
	route.put("rule", scalar(o, rule))
	own.put("routes", &config.Node{Kind: config.Map, Weak: true, Origin: o, Fields: []config.Field{{Name: "r", Origin: o, Node: route.node}}})
	if root := n.written.text("app-root"); root != "" && key != nil && (key.path == "" || key.path == "/") && n.written.text("redirect-regex") == "" {
		ro := o
		ro.Key = n.written["app-root"].key
		own.put("redirect.regex", scalar(ro, `^(https?://[^/]+)/?$`))
		own.put("redirect.replacement", scalar(ro, "${1}/"+strings.ReplaceAll(strings.TrimLeft(root, "/"), "$", "$$")))
	}
	backend := newTree(o)
	if p.tuning != nil && !p.tuning.empty {
		backend = p.tuning.backend
	}
	group := func(name string, node *config.Node) *config.Node {
		return &config.Node{Kind: config.Map, Weak: true, Origin: o, Fields: []config.Field{{Name: name, Origin: o, Node: node}}}
	}
	return &config.Node{Kind: config.Map, Weak: true, Origin: o, Fields: []config.Field{
		{Name: "backends", Origin: o, Node: group(p.name, backend.node)},
		{Name: "frontends", Origin: o, Node: group(name, own.node)},
	}}
}

// rule is the path as 1.x writes it, with the modifiers that annotations ask
// for. Its matcher counts only for paths of no other type.
func (n *notes) rule(key *routeKey) (rule, trouble string) {
	modifier := strings.TrimSpace(n.written.text("request-modifier"))
	kind := n.written.text("rule-type")
	switch kind {
	case "", "PathPrefix", "Path", "PathStrip", "PathPrefixStrip":
	case "ReplacePath", "AddPrefix": // 1.5 took modifiers here too
		if key != nil && modifier == "" {
			modifier = kind + ":" + key.path
		}
		kind = ""
	default:
		return "", "rule-type is " + strconv.Quote(kind)
	}
	if kind == "" {
		kind = "PathPrefix"
	}
	rule = "PathPrefix:/"
	if key != nil && key.path != "" {
		quoted := key.path
		if strings.ContainsAny(quoted, ",; ") {
			if quoted = "`" + quoted + "`"; strings.Contains(key.path, "`") {
				return "", "the path has a backtick"
			}
		}
		rule = kind + ":" + quoted
	}
	if modifier != "" {
		// A matcher in there would make the route another one than was checked.
		if parsed, err := traefik1.ParseRule(modifier); err != nil || parsed.Text != "PathPrefix(`/`)" {
			return "", "request-modifier " + strconv.Quote(modifier) + " is no modifier"
		}
		rule += ";" + modifier
	}
	return rule, ""
}

// rewrite replaces the path that was matched by another, as 1.7 does.
func (t *translation) rewrite(n *notes, name string, r *config.Router, key *routeKey) {
	target := n.written.text("rewrite-target")
	if target == "" {
		return
	}
	literal := strings.ReplaceAll(strings.TrimRight(target, "/"), "$", "$$")
	o := r.Origin
	o.Key = n.written["rewrite-target"].key
	t.middleware(name+"/rewrite", config.Middleware{Origin: o, Kind: "replacePathRegex", Params: &config.Node{Kind: config.Map, Origin: o, Fields: []config.Field{
		{Name: "regex", Origin: o, Node: scalar(o, "^"+regexp.QuoteMeta(strings.TrimRight(key.path, "/"))+"(/.*)?$")},
		{Name: "replacement", Origin: o, Node: scalar(o, literal+"${1}")},
	}}})
	r.Middlewares = append(r.Middlewares, name+"/rewrite")
}

// named gives basicAuth the realm the Ingress asks for.
func (n *notes) named(m config.Middleware) config.Middleware {
	realm := n.written.text("auth-realm")
	if m.Kind != "basicAuth" || realm == "" {
		return m
	}
	params := *m.Params
	params.Fields = append(params.Fields[:len(params.Fields):len(params.Fields)], config.Field{Name: "realm", Origin: m.Origin, Node: scalar(m.Origin, realm)})
	m.Params = &params
	return m
}

// sayOnce reports what is wrong with annotations once for all paths.
func (t *translation) sayOnce(in *Ingress, n *notes, p config.Problem) {
	id := p.Origin.String() + p.Message
	if n.said[id] {
		return
	}
	if n.said == nil {
		n.said = map[string]bool{}
	}
	n.said[id] = true
	p.Object = ""
	reason := AnnotationProblem
	if !p.Warning {
		reason = RouteRefused
	}
	t.find(in, reason, p)
}
