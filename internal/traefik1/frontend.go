package traefik1

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"gatehouse/internal/config"
)

// frontend makes a router of a 1.x frontend, with its own middlewares.
func (t *translator) frontend(name string, n *config.Node) {
	o := t.open(n, "frontend "+name)
	f := &frontend{translator: t, object: o, name: name}
	r := config.Router{Origin: n.Origin, EntryPoints: o.list("entryPoints")}
	var backendAt *config.Node
	r.Service, backendAt = o.text("backend")
	priority := int(o.integer(0, 0, maxPriority, "priority"))
	if o.field("passHostHeader") != nil {
		pass := o.boolean(true, "passHostHeader")
		r.PassHostHeader = &pass
	}
	rule, length, understood := f.rules(o.field("routes"))
	r.Rule, r.Priority = rule.Text, length
	if priority > 0 {
		r.Priority = priority
	}
	f.chain()
	o.done()
	if !understood {
		return // said where it is wrong; without a rule there is nothing to match
	}
	f.backend(&r, backendAt)
	for _, m := range rule.Middlewares {
		m.Origin = n.Origin
		f.use(m.Kind, m)
	}
	if *o.broken {
		t.warn(n.Origin, o.name, "answers 503 until the problems above are mended", "")
		f.names = []string{name + "/refused"} // no such middleware, on purpose
	}
	r.Middlewares = f.names
	t.out.Routers[name] = r
}

const maxPriority = 1 << 30

// Bounds of what a tree's rules may cost to read.
const (
	maxRoutes = 100     // rules of one frontend
	maxRules  = 1 << 20 // bytes of all rules
)

// frontend is one frontend under way. names is its chain, outermost first.
type frontend struct {
	*translator
	*object
	name  string
	names []string
}

// use declares a middleware of this frontend and adds it to the chain. The
// last part of its name has no slash, so that no two frontends can meet.
func (f *frontend) use(suffix string, m config.Middleware) {
	name := f.name + "/" + suffix
	f.out.Middlewares[name] = m
	f.names = append(f.names, name)
}

// rules reads routes/R/rule, all of which must match. length is the sum of
// the rules' lengths, which is the priority 1.x gives.
func (f *frontend) rules(routes *config.Node) (rule Rule, length int, understood bool) {
	var t translation
	var at config.Origin
	count := 0
	understood = true
	for _, c := range children(routes) {
		route := f.open(c.node, fmt.Sprintf("%s, route %s", f.object.name, c.name))
		text, n := route.text("rule")
		route.done()
		switch {
		case *route.broken:
			*f.broken = true
		case n == nil:
			f.object.fail(c.node.Origin, fmt.Sprintf("route %s has no rule", c.name), "rule: Host:a.example.com")
			understood = false
		default:
			at = n.Origin
			if f.ruleBytes += len(text); f.ruleBytes > maxRules || count >= maxRoutes {
				f.object.fail(at, "is over the bound of rules and left out", fmt.Sprintf("at most %d rules a frontend, %d bytes of rules in all", maxRoutes, maxRules))
				return rule, 0, false
			}
			if err := t.add(text); err != nil {
				f.badRule(at, err)
				understood = false
			}
			count++
			length += len(text)
		}
	}
	if count == 0 && understood {
		f.object.fail(f.node.Origin, "has no rule", "routes.<name>.rule: Host:a.example.com")
	}
	if count == 0 || !understood {
		return rule, 0, false
	}
	rule = t.rule()
	for _, w := range rule.Warnings {
		f.object.warn(at, w, "")
	}
	return rule, length, true
}

// badRule reports a rule that is not understood, with its column.
func (f *frontend) badRule(at config.Origin, err error) {
	var re *RuleError
	if errors.As(err, &re) {
		f.object.fail(at, fmt.Sprintf("rule %q, column %d: %s", re.Rule, re.Column, re.Message), re.Allowed)
		return
	}
	f.object.fail(at, err.Error(), "")
}

// backend joins the router to its service, and the backend's limits to the
// router's chain. A backend that is missing or broken leaves the router in
// place: it answers 503, where 1.x dropped it and answered 404.
func (f *frontend) backend(r *config.Router, at *config.Node) {
	if r.Service == "" {
		if !*f.broken {
			f.object.fail(f.node.Origin, "has no backend", "backend: name")
		}
		r.Service = "(none)"
		return
	}
	b, known := f.backends[r.Service]
	switch {
	case !known:
		f.object.warn(at.Origin, fmt.Sprintf("backend %q is not defined: answers 503", r.Service), f.suggestBackend(r.Service))
	case b.broken:
		f.object.warn(at.Origin, fmt.Sprintf("backend %q was left out: answers 503", r.Service), "")
	}
	for _, m := range b.middlewares {
		f.use(m.suffix, m.Middleware)
	}
}

func (f *frontend) suggestBackend(name string) string {
	if len(f.backends) > 50 {
		return ""
	}
	return f.translator.report.suggest(name, slices.Sorted(maps.Keys(f.backends)))
}
