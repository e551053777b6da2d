package proxy

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"gatehouse/internal/config"
	"gatehouse/internal/route"
	"gatehouse/internal/spread"
	"gatehouse/internal/upstream"
)

// Compiler makes one snapshot after the other. What is declared as it was for
// the snapshot before is not made anew: services, rules, routers with their
// middlewares, and the tables of routes; the result is that of a compile from
// scratch. One goroutine may compile at a time.
type Compiler struct {
	registry *upstream.Registry
	options  Options
	last     *parts
}

// parts are what the next compile may reuse.
type parts struct {
	points  []*building
	checks  []*check  // by name
	routers []*router // by name
}

// check is a declared middleware that was built to see whether it can be.
type check struct {
	name     string
	declared config.Middleware
	bad      bool // it cannot be built
	fixed    bool // it would be built so again
	view     MiddlewareView
}

// NewCompiler makes a Compiler; o.Known is not used.
func NewCompiler(reg *upstream.Registry, o Options) *Compiler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Compiler{registry: reg, options: o}
}

// Compile is Compile, quicker. known are problems found before: see
// Options.Known.
func (k *Compiler) Compile(r config.Routing, known []config.Problem) (*Snapshot, []config.Problem) {
	o := k.options
	if o.Memory != nil {
		o.Memory.Begin()
		defer o.Memory.End()
	}
	set, problems := k.registry.Build(r.Services, o.Retry)
	c := &compiler{
		options: o, routing: r, last: k.last, problems: problems,
		snapshot: &Snapshot{services: set, drain: newDrain(set)},
	}
	if c.last == nil {
		c.last = new(parts)
	}
	c.entryPoints()
	c.middlewares()
	c.routers()
	c.tlsConflicts()
	k.last = &parts{points: c.points, checks: c.checks, routers: c.snapshot.routers}
	news := unknown(c.problems, known)
	c.snapshot.problems = slices.Concat(known, news)
	slices.SortStableFunc(c.snapshot.problems, func(a, b config.Problem) int {
		if c := cmp.Compare(a.Object, b.Object); c != 0 {
			return c
		}
		return cmp.Compare(a.String(), b.String())
	})
	return c.snapshot, news
}

// entryPoints takes over what stands around the routes of each, or builds it.
func (c *compiler) entryPoints() {
	for i, ep := range c.options.EntryPoints {
		if i < len(c.last.points) && c.last.points[i].fixed {
			old := c.last.points[i]
			c.points = append(c.points, &building{point: point{EntryPoint: ep}, around: old.around, bad: old.bad, fixed: true})
			c.keep("entry point " + ep.Name)
			continue
		}
		c.anew = true
		c.entryPoint(ep)
	}
	for _, p := range c.points {
		c.snapshot.points = append(c.snapshot.points, &p.point)
	}
}

// keep keeps what the middlewares of a route count, which is not built anew.
func (c *compiler) keep(route string) {
	if c.options.Memory != nil {
		c.options.Memory.Keep(route)
	}
}

func (c *compiler) middlewares() {
	names := inOrder(c.last.checks, func(k *check) string { return k.name }, c.routing.Middlewares)
	c.byName = make(map[string]*check, len(names))
	olds := c.last.checks
	for _, name := range names {
		var now *check
		if olds = from(olds, func(k *check) string { return k.name }, name); len(olds) > 0 && olds[0].name == name {
			if old := olds[0]; old.fixed && sameMiddleware(old.declared, c.routing.Middlewares[name]) {
				now = old
			}
		}
		if now == nil {
			now = c.checkMiddleware(name)
		}
		c.checks, c.byName[name] = append(c.checks, now), now
		c.snapshot.middlewares = append(c.snapshot.middlewares, now.view)
	}
}

// draft is a router that must be made.
type draft struct {
	at     int // among all routers
	router *router
	parsed bool
}

func (c *compiler) routers() {
	names := inOrder(c.last.routers, routerName, c.routing.Routers)
	all := make([]*router, len(names))
	drafts := make([]draft, 0, max(0, len(names)-len(c.last.routers)))
	olds := c.last.routers
	for i, name := range names {
		declared := c.routing.Routers[name]
		olds = from(olds, routerName, name)
		var old *router
		if len(olds) > 0 && olds[0].name == name {
			old = olds[0]
			if c.holds(old, &declared) {
				all[i] = c.takeOver(old, &declared)
				continue
			}
		}
		d := draft{at: i, router: &router{name: name, declared: declared}}
		if old != nil && old.declared.Rule == declared.Rule {
			d.router.rule, d.parsed = old.rule, true
		}
		drafts = append(drafts, d)
	}
	c.make(drafts, all)
	all = slices.DeleteFunc(all, func(r *router) bool { return r == nil })
	c.snapshot.routers = all
	c.tables(len(all) > 0 && slices.EqualFunc(all, c.last.routers, sameRoute))
}

// make makes routers on all cores, each of which has its own part of them.
func (c *compiler) make(drafts []draft, all []*router) {
	problems := spread.Over(drafts, func(part []draft) []config.Problem {
		own := *c
		own.problems = nil
		for _, d := range part {
			var err error
			if !d.parsed {
				d.router.rule, err = route.Parse(d.router.declared.Rule)
			}
			if own.router(d.router, err) {
				all[d.at] = d.router
			}
		}
		return own.problems
	})
	c.problems = append(c.problems, slices.Concat(problems...)...)
}

func routerName(r *router) string { return r.name }

// holds reports whether a router would be made again as it is.
func (c *compiler) holds(old *router, d *config.Router) bool {
	if c.anew || !old.fixed || !sameRouter(&old.declared, d) {
		return false
	}
	if !d.Closed {
		service, _ := c.snapshot.services.Service(d.Service)
		if !service.Same(old.service) {
			return false
		}
	}
	for _, k := range old.checks {
		if c.byName[k.name] != k {
			return false
		}
	}
	return true
}

// takeOver keeps a router, which may be written elsewhere now.
func (c *compiler) takeOver(old *router, d *config.Router) *router {
	for _, route := range old.counts {
		c.keep(route)
	}
	if old.declared.Origin == d.Origin {
		return old
	}
	moved := *old
	moved.declared = *d
	return &moved
}

// sameRoute reports whether a request goes to a as it went to b.
func sameRoute(a, b *router) bool {
	return a == b || a.name == b.name && a.rule == b.rule && a.priority == b.priority &&
		slices.EqualFunc(a.at, b.at, func(x, y placed) bool { return x.point == y.point })
}

// tables enters the routers at their entry points; same: as they were before.
func (c *compiler) tables(same bool) {
	for i, p := range c.points {
		if same {
			old := c.last.points[i]
			p.table, p.hosts, p.routes = old.table, old.hosts, make([]*served, 0, len(old.routes))
		}
	}
	entries := make([][]route.Entry, len(c.points))
	for _, r := range c.snapshot.routers {
		for _, at := range r.at {
			p := c.points[at.point]
			p.routes = append(p.routes, at.served)
			if !same {
				entries[at.point] = append(entries[at.point], route.Entry{Name: r.name, Rule: r.rule, Priority: r.priority})
			}
		}
	}
	if same {
		return
	}
	for i, p := range c.points {
		p.table = route.NewTable(entries[i])
		p.hosts = sync.OnceValue(p.table.Hosts)
	}
}

// inOrder gives the keys of m, sorted. Most of them are the names of last,
// which are sorted.
func inOrder[T, V any](last []T, nameOf func(T) string, m map[string]V) []string {
	names := make([]string, 0, len(m))
	for _, old := range last {
		if name := nameOf(old); len(m) > 0 {
			if _, ok := m[name]; ok {
				names = append(names, name)
			}
		}
	}
	if len(names) == len(m) {
		return names
	}
	known := make(map[string]bool, len(names))
	for _, name := range names {
		known[name] = true
	}
	for name := range maps.Keys(m) {
		if !known[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// from gives the part of a sorted list that begins with a name or what would
// come after it.
func from[T any](list []T, nameOf func(T) string, name string) []T {
	for len(list) > 0 && nameOf(list[0]) < name {
		list = list[1:]
	}
	return list
}
