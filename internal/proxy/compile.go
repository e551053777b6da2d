package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/route"
	"gatehouse/internal/upstream"
)

// Compile makes what Merge gave servable. It never fails: an object that
// cannot work is left out with a problem, and the rest stands. A router whose
// rule is bad is left out. A router whose middleware or service is bad or
// missing keeps its place and answers 503: its requests must not fall to a
// less specific route that would show more. The result does not depend on the
// order of maps. Nothing is started before the snapshot is served.
//
// It is a Compiler's first Compile.
func Compile(r config.Routing, reg *upstream.Registry, o Options) (*Snapshot, []config.Problem) {
	return NewCompiler(reg, o).Compile(r, o.Known)
}

// unknown drops problems that were reported before.
func unknown(problems, known []config.Problem) []config.Problem {
	type identity struct {
		object, message string
		origin          config.Origin
	}
	seen := make(map[identity]bool, len(known))
	for _, p := range known {
		seen[identity{p.Object, p.Message, p.Origin}] = true
	}
	var news []config.Problem
	for _, p := range problems {
		if id := (identity{p.Object, p.Message, p.Origin}); !seen[id] {
			seen[id] = true
			news = append(news, p)
		}
	}
	return news
}

// compiler makes one snapshot.
type compiler struct {
	options  Options
	routing  config.Routing
	last     *parts // of the snapshot before
	next     *parts
	points   []*building
	anew     bool // an entry point's middlewares are not those before
	checks   []*check
	byName   map[string]*check // middlewares
	snapshot *Snapshot
	problems []config.Problem
	reads    bool // something built since this was false is not to be reused
}

// building is an entry point on its way.
type building struct {
	point
	around []middleware.Middleware
	bad    string // why nothing may be served here; "": all is well
	fixed  bool   // around is good for the next snapshot
}

// wrong reports a router's mistake.
func (c *compiler) wrong(name string, warning bool, allowed, format string, args ...any) {
	c.problems = append(c.problems, config.Problem{
		Origin: c.routing.Routers[name].Origin, Object: "router " + name,
		Message: fmt.Sprintf(format, args...), Allowed: allowed, Warning: warning,
	})
}

func (c *compiler) entryPoint(ep EntryPoint) {
	b := &building{point: point{EntryPoint: ep}}
	before := len(c.problems)
	c.reads = false
	for _, m := range ep.Middlewares {
		built, ok := c.build("entry point "+ep.Name, "entryPoints."+ep.Name+"."+m.Kind, m)
		if !ok {
			b.bad = "the middleware " + m.Kind + " of entry point " + ep.Name + " cannot work"
		}
		if ok {
			b.around = append(b.around, built)
		}
	}
	b.fixed = !c.reads && len(c.problems) == before
	c.points = append(c.points, b)
}

// build makes a middleware for a route ("": to see whether it can be) and
// reports its problems.
func (c *compiler) build(route, name string, m config.Middleware) (middleware.Middleware, bool) {
	builder, ok := middleware.Find(c.options.Builders, m.Kind)
	if !ok {
		c.problems = append(c.problems, config.Problem{
			Origin: m.Origin, Object: "middleware " + name, Message: fmt.Sprintf("there is no kind of middleware %q", m.Kind),
			Allowed: strings.Join(slices.Sorted(maps.Keys(c.options.Builders)), ", "),
		})
		return middleware.Middleware{}, false
	}
	env := middleware.Env{Name: name, Origin: m.Origin, Logger: c.options.Logger, EntryPoint: c.lookup, Reads: func() { c.reads = true }}
	if route != "" {
		env.Memory, env.Route = c.options.Memory, route
	}
	built, problems := builder(m.Params, env)
	c.problems = append(c.problems, problems...)
	return built, built.Wrap != nil
}

func (c *compiler) lookup(name string) (address string, tls, ok bool) {
	for _, ep := range c.options.EntryPoints {
		if ep.Name == name {
			return ep.Address, ep.TLS, true
		}
	}
	return "", false, false
}

// checkMiddleware builds a declared middleware once, used or not, so that its
// problems are told once.
func (c *compiler) checkMiddleware(name string) *check {
	m := c.routing.Middlewares[name]
	before := len(c.problems)
	c.reads = false
	_, ok := c.build("", name, m)
	view := MiddlewareView{Name: name, Origin: m.Origin, Kind: m.Kind, Params: redact(m.Params)}
	for _, p := range c.problems[before:] {
		view.Problems = append(view.Problems, p.String())
	}
	return &check{name: name, declared: m, bad: !ok, fixed: !c.reads && len(c.problems) == before, view: view}
}

// router completes a router whose rule was parsed; false: it is left out.
func (c *compiler) router(r *router, err error) bool {
	before := len(c.problems)
	name, d := r.name, &r.declared
	if err != nil {
		var at *route.Error
		errors.As(err, &at)
		c.wrong(name, false, at.Allowed, "rule %q, column %d: %s; the router is left out", abbreviate(d.Rule), at.Column, at.Message)
		return false
	}
	r.priority = d.Priority
	if r.priority <= 0 {
		r.priority = len(d.Rule)
	}
	points := c.pointsOf(name, d)
	if len(points) == 0 {
		return false
	}
	r.at = make([]placed, 0, len(points))
	last := c.service(r)
	around := c.chain(r)
	c.checkTLS(r)
	refusal, why := r.refusal, r.why // of the router itself
	for _, i := range points {
		p := c.points[i]
		handler := wrap(wrap(last, around), p.around)
		plain := stage(c.plain(r), slices.Concat(p.around, around))
		switch {
		case refusal == BadMiddleware, refusal == BadTLS:
			handler, plain = refuse(refusal), nil
		case p.bad != "":
			handler, plain = refuse(BadMiddleware), nil
			r.refusal, r.why = BadMiddleware, cmp.Or(why, p.bad)
		}
		r.at = append(r.at, placed{i, &served{router: name, handler: handler, plain: plain}})
	}
	r.fixed = r.refusal == "" && !r.reads && len(c.problems) == before && r.tlsOptions() == ""
	return true
}

// abbreviate keeps messages readable.
func abbreviate(rule string) string {
	if len(rule) > 200 {
		return strings.ToValidUTF8(rule[:200], "") + "..."
	}
	return rule
}

// pointsOf gives the numbers of the entry points a router is served at.
func (c *compiler) pointsOf(name string, d *config.Router) []int {
	wanted := d.EntryPoints
	if len(wanted) == 0 {
		wanted = c.options.DefaultEntryPoints
	}
	var room [4]int
	points := room[:0]
	for i, p := range c.points {
		if len(wanted) > 0 && !slices.Contains(wanted, p.Name) {
			continue
		}
		if d.TLS == nil || p.TLS {
			points = append(points, i)
		} else if len(d.EntryPoints) > 0 {
			c.wrong(name, true, "", "entry point %s has no TLS, which the router asks for; it is not served there", p.Name)
		}
	}
	for _, w := range d.EntryPoints {
		if !slices.ContainsFunc(c.points, func(p *building) bool { return p.Name == w }) {
			c.wrong(name, true, c.pointNames(), "there is no entry point %s", w)
		}
	}
	if len(points) == 0 {
		c.wrong(name, false, c.pointNames(), "no entry point serves it; the router is left out")
	}
	return slices.Clone(points)
}

func (c *compiler) pointNames() string {
	names := make([]string, len(c.points))
	for i, p := range c.points {
		names[i] = p.Name
	}
	return strings.Join(names, ", ")
}

// service gives the innermost handler of a router: its service, or the answer
// where that is not there.
func (c *compiler) service(r *router) http.Handler {
	if r.declared.Closed {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { upstream.Refuse(w, http.StatusNotFound, NoRoute) })
	}
	service, ok := c.snapshot.services.Service(r.declared.Service)
	if ok {
		r.service = service
		return service.Handler(r.declared.PassHostHeader)
	}
	r.refusal = NoService
	if _, declared := c.routing.Services[r.declared.Service]; declared {
		r.why = "service " + r.declared.Service + " was left out"
		c.wrong(r.name, false, "", "service %s was left out; the router answers 503", r.declared.Service)
	} else {
		r.why = "no such service: " + r.declared.Service
		c.wrong(r.name, false, "", "no such service: %s; the router answers 503", r.declared.Service)
	}
	return refuse(NoService)
}

// plain gives the plain path to a router's service, nil where it has none.
func (c *compiler) plain(r *router) upstream.Plain {
	if r.service == nil {
		return nil
	}
	return r.service.Plain(r.declared.PassHostHeader)
}

// chain builds the router's own middlewares, outermost first. They are built
// for this router alone: two routers that share a service, or a middleware,
// share none of its state.
func (c *compiler) chain(r *router) []middleware.Middleware {
	if len(r.declared.Middlewares) == 0 {
		return nil
	}
	var chain []middleware.Middleware
	c.reads = false
	defer func() { r.reads = c.reads }()
	for i, name := range r.declared.Middlewares {
		m, declared := c.routing.Middlewares[name]
		switch {
		case !declared:
			r.refusal, r.why = BadMiddleware, "no such middleware: "+name
			c.wrong(r.name, false, "", "no such middleware: %s; the router answers 503", name)
			continue
		case c.byName[name].bad:
			r.refusal, r.why = BadMiddleware, "middleware "+name+" cannot work"
			c.wrong(r.name, false, "", "middleware %s cannot work; the router answers 503", name)
			continue
		}
		before := len(c.problems)
		// A middleware that is named twice counts twice, each for itself.
		again := 0
		for _, before := range r.declared.Middlewares[:i] {
			if before == name {
				again++
			}
		}
		r.checks = append(r.checks, c.byName[name])
		r.counts = append(r.counts, fmt.Sprintf("router %s %d", r.name, again))
		built, ok := c.build(r.counts[len(r.counts)-1], name, m)
		c.problems = c.problems[:before] // told by checkMiddleware
		if !ok {                         // what it reads has changed since
			r.refusal, r.why = BadMiddleware, "middleware "+name+" cannot work"
			c.wrong(r.name, false, "", "middleware %s cannot work; the router answers 503", name)
			continue
		}
		chain = append(chain, built)
	}
	return chain
}

func wrap(h http.Handler, around []middleware.Middleware) http.Handler {
	for _, m := range slices.Backward(around) {
		h = m.Wrap(h)
	}
	return h
}

// refuse answers 503 for a route that cannot work.
func refuse(why upstream.Reason) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		upstream.Refuse(w, http.StatusServiceUnavailable, why)
	})
}
