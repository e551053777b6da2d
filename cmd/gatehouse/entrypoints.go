package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/wire"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// entryPointMiddlewares turns what an entry point says into the middlewares
// that stand before every route there, outermost first.
func entryPointMiddlewares(name string, e *config.EntryPoint) []config.Middleware {
	var list []config.Middleware
	add := func(kind string, fields ...config.Field) {
		origin := config.Origin{Provider: "static", Source: "static configuration", Key: "entryPoints." + name}
		list = append(list, config.Middleware{Origin: origin, Kind: kind, Params: &config.Node{Kind: config.Map, Fields: fields, Origin: origin}})
	}
	if w := e.WhiteList; w != nil {
		fields := []config.Field{listField("sourceRange", w.SourceRange)}
		if w.UseXForwardedFor {
			// The entry point has removed what untrusted peers claim.
			depth := config.Field{Name: "depth", Node: &config.Node{Kind: config.Scalar, Value: int64(1)}}
			fields = append(fields, config.Field{Name: "ipStrategy", Node: &config.Node{Kind: config.Map, Fields: []config.Field{depth}}})
		}
		add("ipAllowList", fields...)
	}
	if r := e.Redirect; r != nil {
		switch {
		case r.EntryPoint != "":
			add("redirectEntryPoint", textField("entryPoint", r.EntryPoint), boolField("permanent", r.Permanent))
		case r.Regex != "":
			add("redirectRegex", textField("regex", r.Regex), textField("replacement", r.Replacement), boolField("permanent", r.Permanent))
		}
	}
	if a := e.Auth; a != nil && a.Basic != nil {
		var users []string
		for _, u := range a.Basic.Users {
			users = append(users, u.Reveal())
		}
		fields := []config.Field{listField("users", users), boolField("removeHeader", a.Basic.RemoveHeader)}
		for key, text := range map[string]string{"usersFile": a.Basic.UsersFile, "realm": a.Basic.Realm, "headerField": a.HeaderField} {
			if text != "" {
				fields = append(fields, textField(key, text))
			}
		}
		add("basicAuth", fields...)
	} else if a != nil && (a.Digest != nil || a.Forward != nil) {
		// Not in force yet: the routes must not stand open meanwhile.
		add("auth not in force yet: digest and forward")
	}
	if e.Compress {
		add("compress")
	}
	return list
}

func textField(name, text string) config.Field {
	return config.Field{Name: name, Node: &config.Node{Kind: config.Scalar, Value: text}}
}

func boolField(name string, on bool) config.Field {
	return config.Field{Name: name, Node: &config.Node{Kind: config.Scalar, Value: on}}
}

func listField(name string, items []string) config.Field {
	n := &config.Node{Kind: config.List}
	for _, item := range items {
		n.Items = append(n.Items, &config.Node{Kind: config.Scalar, Value: item})
	}
	return config.Field{Name: name, Node: n}
}

// proxyEntryPoints is what Compile needs to know of the entry points.
func proxyEntryPoints(s *config.Static) []proxy.EntryPoint {
	var list []proxy.EntryPoint
	for _, name := range sortedKeys(s.EntryPoints) {
		e := s.EntryPoints[name]
		list = append(list, proxy.EntryPoint{
			Name: name, Address: e.Address, TLS: e.TLS != nil, Middlewares: entryPointMiddlewares(name, e),
		})
	}
	return list
}

// protect puts an entry point's own middlewares around an internal handler
// (the API): those that ask who comes, not those that redirect or compress.
// If one cannot be built nothing is served there.
func protect(name string, s *config.Static, next http.Handler, log *slog.Logger) (http.Handler, []config.Problem) {
	builders := middleware.Builders()
	env := middleware.Env{Name: "entry point " + name, Logger: log, EntryPoint: entryPointLookup(s)}
	list := entryPointMiddlewares(name, s.EntryPoints[name])
	for _, m := range slices.Backward(list) {
		if m.Kind != "basicAuth" && m.Kind != "ipAllowList" && builders[m.Kind] != nil {
			continue
		}
		env.Origin = m.Origin
		build := builders[m.Kind]
		if build == nil {
			return closed(m.Kind), []config.Problem{{Origin: m.Origin, Object: "entry point " + name, Message: m.Kind + "; the API answers 503"}}
		}
		built, problems := build(m.Params, env)
		if built.Wrap == nil {
			return closed(m.Kind), problems
		}
		next = built.Wrap(next)
	}
	return next, nil
}

func closed(why string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the protection of this page cannot be built: "+why, http.StatusServiceUnavailable)
	})
}

func entryPointLookup(s *config.Static) func(string) (string, bool, bool) {
	return func(name string) (string, bool, bool) {
		e, ok := s.EntryPoints[name]
		if !ok {
			return "", false, false
		}
		return e.Address, e.TLS != nil, true
	}
}

// handlerFor is what an entry point serves: challenges first, then health and
// API where they belong, then the routes.
func (g *gateway) handlerFor(name string) http.Handler {
	h := g.held(g.proxy.Handler(name))
	internal := map[string]http.Handler{}
	if g.static.API != nil && g.static.API.EntryPoint == name {
		protected, problems := protect(name, g.static, g.api, g.log)
		for _, p := range problems {
			g.log.Error("the API is not served", "problem", p.String())
		}
		for _, path := range []string{"/api", "/api/", "/health", "/debug/"} {
			internal[path] = protected
		}
		if g.static.API.Dashboard {
			internal["/dashboard/"], internal["/{$}"] = protected, protected
		}
	}
	if g.static.Ping != nil && g.static.Ping.EntryPoint == name {
		internal["/ping"], internal["/ready"] = g.health, g.health
	}
	if m := g.static.Metrics; m != nil && m.Prometheus != nil && m.Prometheus.EntryPoint == name {
		protected, problems := protect(name, g.static, g.metrics, g.log)
		for _, p := range problems {
			g.log.Error("metrics are not served", "problem", p.String())
		}
		internal["/metrics"] = protected
	}
	if len(internal) > 0 {
		mux := http.NewServeMux()
		mux.Handle("/", h)
		for path, handler := range internal {
			mux.Handle(path, handler)
		}
		h = mux
	}
	// With TLS too: a CA follows redirects, ours or those of a proxy before us.
	return g.responder.Handler(h)
}

// plainFor is handlerFor on the plain path, for what is a matter of the routes
// alone.
func (g *gateway) plainFor(name string) func(*wire.Exchange) bool {
	routes := g.proxy.Plain(name)
	ours := []string{"/.well-known/acme-challenge/"}
	if g.static.API != nil && g.static.API.EntryPoint == name {
		ours = append(ours, "/api", "/health", "/debug", "/dashboard")
	}
	root := g.static.API != nil && g.static.API.EntryPoint == name && g.static.API.Dashboard
	if g.static.Ping != nil && g.static.Ping.EntryPoint == name {
		ours = append(ours, "/ping", "/ready")
	}
	if m := g.static.Metrics; m != nil && m.Prometheus != nil && m.Prometheus.EntryPoint == name {
		ours = append(ours, "/metrics")
	}
	return func(x *wire.Exchange) bool {
		path := x.Req.Path()
		if !g.begun.Load() {
			return false
		}
		if root && len(path) == 1 {
			return false
		}
		for _, prefix := range ours {
			if len(path) >= len(prefix) && string(path[:len(prefix)]) == prefix {
				return false
			}
		}
		return routes(x)
	}
}

// watched has an entry point's requests logged and counted, where that is
// asked for.
func (g *gateway) watched(name string, o *entrypoint.Options) {
	var outer []func(http.Handler) http.Handler
	var told []func(*middleware.Entry)
	if g.stats != nil {
		outer = append(outer, g.stats.Wrap)
		told = append(told, func(e *middleware.Entry) { g.stats.Note(e.Status, e.Took, e.Method, e.Host, e.URI) })
	}
	if g.accessLog != nil {
		outer = append(outer, func(next http.Handler) http.Handler { return g.accessLog.Handler(name, next) })
		told = append(told, g.accessLog.Note)
	}
	if len(told) == 0 {
		return
	}
	o.Outer = func(next http.Handler) http.Handler {
		for _, wrap := range outer {
			next = wrap(next)
		}
		return next
	}
	o.Observe = func(e *middleware.Entry) {
		for _, tell := range told {
			tell(e)
		}
	}
}

// listen binds every entry point; the first that cannot be bound ends it.
func (g *gateway) listen() error {
	for _, name := range sortedKeys(g.static.EntryPoints) {
		o, err := g.entryPointOptions(name, g.static.EntryPoints[name])
		if err != nil {
			return err
		}
		for _, o.Address = range append([]string{o.Address}, g.static.EntryPoints[name].Addresses...) {
			if err := g.inherit(&o); err != nil {
				return err
			}
			server, err := entrypoint.Listen(o)
			if err != nil {
				return err
			}
			g.servers = append(g.servers, server)
			g.log.Info("entry point bound", "entrypoint", name, "address", server.Addr().String(), "tls", o.TLS != nil)
		}
	}
	g.unclaimed()
	return nil
}

func (g *gateway) entryPointOptions(name string, e *config.EntryPoint) (entrypoint.Options, error) {
	o := entrypoint.Options{Name: name, Address: e.Address, Handler: g.handlerFor(name), Logger: g.log}
	o.Plain, o.Budget, o.Pressure = g.plainFor(name), g.budget, g.pressure
	g.watched(name, &o)
	var err error
	if f := e.ForwardedHeaders; f != nil {
		if o.ForwardedTrusted, err = parsePrefixes(f.TrustedIPs); err != nil {
			return o, fmt.Errorf("entryPoints.%s.forwardedHeaders.trustedIPs: %w", name, err)
		}
		o.ForwardedInsecure = f.Insecure
	}
	if p := e.ProxyProtocol; p != nil {
		if o.ProxyTrusted, err = parsePrefixes(p.TrustedIPs); err != nil {
			return o, fmt.Errorf("entryPoints.%s.proxyProtocol.trustedIPs: %w", name, err)
		}
		o.ProxyInsecure = p.Insecure
	}
	o.PerAddress = entrypoint.NewAddresses(e.MaxPerAddress, append(slices.Clone(o.ForwardedTrusted), o.ProxyTrusted...)...)
	if t := g.static.RespondingTimeouts; t != nil {
		o.ReadTimeout, o.WriteTimeout, o.IdleTimeout = t.ReadTimeout.Std(), t.WriteTimeout.Std(), t.IdleTimeout.Std()
	}
	if e.TLS == nil {
		o.H2C = e.H2C
		return o, nil
	}
	o.HTTP3 = e.ProxyProtocol == nil
	if e.HTTP3 != nil {
		o.HTTP3 = *e.HTTP3
	}
	if e.HTTP3Port != nil {
		o.HTTP3Port = *e.HTTP3Port
	}
	how := entrypoint.TLSOptions{
		ClientOptional: e.TLS.ClientCA.Optional, Profile: e.TLS.Profile,
		Object: "entry point " + name, MinVersion: e.TLS.MinVersion, CipherSuites: e.TLS.CipherSuites,
		GetCertificate: g.certs.index.GetCertificate, ChallengeCertificate: g.responder.Certificate,
		Strangers: g.strangers,
	}
	config, hosts, problems, err := g.hostTLS.add(name, how, e.TLS.ClientCA.Files)
	if err != nil {
		return o, fmt.Errorf("entryPoints.%s.tls.clientCA.files: %w", name, err)
	}
	o.HostTLS, o.Strangers = hosts, g.strangers
	var wrong []error
	for _, p := range problems {
		if p.Warning {
			g.log.Warn("problem in the configuration", "problem", p.String())
		} else {
			wrong = append(wrong, p)
		}
	}
	o.TLS = config
	return o, errors.Join(wrong...)
}

func parsePrefixes(items []string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, item := range items {
		p, err := parsePrefix(item)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func parsePrefix(item string) (netip.Prefix, error) {
	if !strings.Contains(item, "/") {
		addr, err := netip.ParseAddr(item)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(item)
}

// serve accepts requests until ctx ends, then drains: first /ready fails while
// everything is still served, then no more is accepted and what is under way
// finishes.
func (g *gateway) serve(ctx context.Context) error {
	failed := make(chan error, len(g.servers))
	for _, s := range g.servers {
		go func() {
			if !g.own(s.Name()) {
				g.firstRouting(ctx)
			}
			failed <- s.Serve()
		}()
	}
	var first error
	select {
	case <-ctx.Done():
	case first = <-failed:
	}
	g.draining.Store(true)
	accept, grace := time.Duration(0), 10*time.Second
	if l := g.static.LifeCycle; l != nil {
		accept, grace = l.RequestAcceptGraceTimeout.Std(), l.GraceTimeOut.Std()
	}
	g.log.Info("stopping", "accept", accept, "grace", grace)
	end := (*entrypoint.Server).Shutdown
	if g.successor != nil {
		end = (*entrypoint.Server).Retire
		defer g.successor.Drained()
	} else if g.tellStopping(); first == nil {
		time.Sleep(accept)
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range g.servers {
		wg.Go(func() {
			if err := end(s, stop); err != nil {
				g.log.Warn("requests were cut off", "address", s.Addr().String(), "err", err)
			}
		})
	}
	wg.Wait()
	return first
}
