package proxy

import (
	"cmp"
	"log/slog"
	"reflect"
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
	points   []*building
	checks   []*check // by name
	declared map[string]config.Router
	names    []string  // of declared, sorted
	drafts   []*router // by names; nil: left out
	routers  []*router // those that are not
	wants    []Want
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
	c.tlsWildcards()
	c.next.points, c.next.checks = c.points, c.checks
	k.last = c.next
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
			continue
		}
		c.anew = true
		c.entryPoint(ep)
	}
	for _, p := range c.points {
		c.snapshot.points = append(c.snapshot.points, &p.point)
	}
}

func (c *compiler) middlewares() {
	had := make([]string, len(c.last.checks))
	for i, k := range c.last.checks {
		had[i] = k.name
	}
	names := inOrder(had, c.routing.Middlewares)
	c.byName = make(map[string]*check, len(names))
	at := 0
	for _, name := range names {
		var now *check
		if at = reach(had, at, name); at < len(had) && had[at] == name {
			if old := c.last.checks[at]; old.fixed && sameMiddleware(old.declared, c.routing.Middlewares[name]) {
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
	last, next := c.last, &parts{declared: c.routing.Routers}
	same := len(last.declared) > 0 && reflect.ValueOf(last.declared).Pointer() == reflect.ValueOf(next.declared).Pointer()
	if next.names = last.names; !same {
		next.names = inOrder(last.names, next.declared)
	}
	next.drafts = make([]*router, len(next.names))
	drafts := make([]draft, 0, max(0, len(next.names)-len(last.names)))
	at := 0
	for i, name := range next.names {
		var old *router
		if at = reach(last.names, at, name); at < len(last.names) && last.names[at] == name {
			old = last.drafts[at]
		}
		if same && old != nil && c.holds(old, &old.declared) {
			next.drafts[i] = c.takeOver(old, &old.declared)
			continue
		}
		declared := next.declared[name]
		if old != nil && c.holds(old, &declared) {
			next.drafts[i] = c.takeOver(old, &declared)
			continue
		}
		d := draft{at: i, router: &router{name: name, declared: declared}}
		if old != nil && old.declared.Rule == declared.Rule {
			d.router.rule, d.parsed = old.rule, true
		}
		drafts = append(drafts, d)
	}
	c.make(drafts, next.drafts)
	if next.routers = next.drafts; slices.Contains(next.drafts, nil) {
		next.routers = slices.DeleteFunc(slices.Clone(next.drafts), func(r *router) bool { return r == nil })
	}
	c.next, c.snapshot.routers = next, next.routers
	c.tables(len(next.routers) > 0 && slices.EqualFunc(next.routers, last.routers, sameRoute))
	next.wants = last.wants
	if len(last.names) == 0 || !slices.EqualFunc(next.routers, last.routers, sameWant) {
		next.wants = wantsOf(next.routers)
	}
	c.snapshot.wants = next.wants
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
	if c.options.Memory != nil {
		for _, route := range old.counts {
			c.options.Memory.Keep(route)
		}
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

// sameWant reports whether a wishes for what b did.
func sameWant(a, b *router) bool {
	return a == b || a.name == b.name && a.rule == b.rule && a.declared.Origin == b.declared.Origin && sameTLS(a.declared.TLS, b.declared.TLS)
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

// inOrder gives the keys of m, sorted. Most of them are among names, which are
// sorted.
func inOrder[V any](names []string, m map[string]V) []string {
	kept := make([]string, 0, len(m))
	for _, name := range names {
		if _, ok := m[name]; ok {
			kept = append(kept, name)
		}
	}
	if len(kept) == len(m) {
		return kept
	}
	known := make(map[string]bool, len(kept))
	for _, name := range kept {
		known[name] = true
	}
	for name := range m {
		if !known[name] {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	return kept
}

// reach gives the place from at on of the first of sorted names that is not
// before name.
func reach(names []string, at int, name string) int {
	for at < len(names) && names[at] < name {
		at++
	}
	return at
}
