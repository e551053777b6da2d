// Package proxy turns declared routing into what is served: Compile makes an
// immutable Snapshot, Proxy serves the newest and lets older ones drain. It
// owns the join of rules, middlewares and services, and what a request gets
// where there is no such join; it knows no provider and no store.
package proxy

import (
	"log/slog"
	"net/http"
	"slices"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/route"
	"gatehouse/internal/upstream"
)

// EntryPoint is what compiling needs to know of an entry point.
type EntryPoint struct {
	Name    string
	Address string
	TLS     bool
	// Middlewares stand around every route of the entry point, outermost
	// first. A request that matches no route does not reach them.
	Middlewares []config.Middleware
}

// Options of Compile.
type Options struct {
	EntryPoints        []EntryPoint
	DefaultEntryPoints []string // of routers that name none; empty: all
	Builders           map[string]middleware.Builder
	Retry              int          // further servers tried where one cannot be reached
	Logger             *slog.Logger // for middlewares; nil: none
	// Known are problems found before, by providers and config.Merge: the
	// snapshot shows them too, and none of them is reported again.
	Known []config.Problem
	// Memory carries what middlewares count over to the next snapshot; nil: it
	// starts anew.
	Memory *middleware.Memory
}

// Reasons for answers of ours, beside those of package upstream.
const (
	NoRoute       upstream.Reason = "no-route"       // 404
	NoService     upstream.Reason = "no-service"     // 503: the router's service is not there
	BadMiddleware upstream.Reason = "bad-middleware" // 503: the router must not serve without it
	BadTLS        upstream.Reason = "bad-tls"        // 503: the router must not serve without its TLS options
	NotReady      upstream.Reason = "not-ready"      // 503: no configuration yet
	OurFault      upstream.Reason = "internal"       // 500: a panic, logged
)

// Snapshot is compiled routing: immutable, safe for any goroutine. It must be
// given to Proxy.Swap, or to Discard.
type Snapshot struct {
	points      []*point // in the order of Options.EntryPoints
	routers     []*router
	middlewares []MiddlewareView
	services    *upstream.Set
	problems    []config.Problem
	wants       []Want
	drain       *drain
}

// point is an entry point with its routes.
type point struct {
	EntryPoint
	table  *route.Table
	routes []*served // by the table's index
	hosts  func() []string
}

// served is a route: a router at one entry point. It refers to nothing but
// what its requests need, so that a long request keeps no snapshot alive.
type served struct {
	router  string
	handler http.Handler
	plain   upstream.Plain // nil: all requests need the view of http.Handler
}

// router is a router that is served somewhere.
type router struct {
	name     string
	declared config.Router
	rule     route.Rule
	priority int
	at       []placed
	service  *upstream.Service // nil: none
	refusal  upstream.Reason   // "": it is served
	why      string            // the refusal in words

	// What the next compile asks.
	fixed  bool     // it may be reused: nothing is wrong with it
	reads  bool     // a middleware of it read a file
	checks []*check // of its middlewares
	counts []string // routes under which they count
}

// placed is a router at an entry point.
type placed struct {
	point int // number in Snapshot.points
	*served
}

// match gives the route of a request at an entry point; nil for none.
func (s *Snapshot) match(entryPoint string, r *http.Request) *served {
	head := route.Head{
		Method: r.Method, Host: r.Host, Path: r.URL.Path, RawQuery: r.URL.RawQuery,
		Header: r.Header, RemoteAddr: r.RemoteAddr,
	}
	return s.matchHead(entryPoint, &head)
}

func (s *Snapshot) matchHead(entryPoint string, head *route.Head) *served {
	for _, p := range s.points {
		if p.Name != entryPoint {
			continue
		}
		if i := p.table.Match(head); i >= 0 {
			return p.routes[i]
		}
	}
	return nil
}

// Hosts gives the names that Host matchers of the entry point's routes ask
// for, sorted: what a certificate on demand of routes may be wanted for. It is
// not the caller's to change; the same routes give the same slice again.
func (s *Snapshot) Hosts(entryPoint string) []string {
	for _, p := range s.points {
		if p.Name == entryPoint {
			return p.hosts()
		}
	}
	return nil
}

// Want is a router's wish for certificates.
type Want struct {
	Router   string
	Origin   config.Origin
	Resolver string // "": whoever issues by default
	Domains  []config.Domain
}

// Wants gives the wishes of all routers with TLS domains or a resolver, by
// name. A router that names a resolver and no domains wants one certificate
// for the hosts of its rule. It is not the caller's to change; the same wishes
// give the same slice again.
func (s *Snapshot) Wants() []Want { return s.wants }

func wantsOf(routers []*router) []Want {
	var wants []Want
	for _, r := range routers {
		tls := r.declared.TLS
		if tls == nil {
			continue
		}
		domains := tls.Domains
		if len(domains) == 0 && tls.CertResolver != "" {
			if hosts := r.rule.Hosts(); len(hosts) > 0 {
				domains = []config.Domain{{Main: hosts[0], SANs: hosts[1:]}}
			}
		}
		if len(domains) > 0 {
			wants = append(wants, Want{r.name, r.declared.Origin, tls.CertResolver, domains})
		}
	}
	return wants
}

// Problems gives what is known to be wrong, Options.Known included.
func (s *Snapshot) Problems() []config.Problem { return slices.Clone(s.problems) }

// Discard gives back what a snapshot holds that is not going to be served.
func (s *Snapshot) Discard() { s.drain.force() }
