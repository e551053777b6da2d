package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatehouse/internal/acme"
	"gatehouse/internal/api"
	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/controller"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/handover"
	"gatehouse/internal/middleware"
	"gatehouse/internal/pressure"
	"gatehouse/internal/provider"
	filep "gatehouse/internal/provider/file"
	"gatehouse/internal/provider/kubernetes"
	"gatehouse/internal/provider/kv"
	"gatehouse/internal/proxy"
	"gatehouse/internal/store"
	"gatehouse/internal/upstream"
)

// gateway is one running replica: all parts, wired.
type gateway struct {
	static *config.Static
	gatewayOptions

	shared     *sharedStore
	proxy      *proxy.Proxy
	registry   *upstream.Registry
	compiler   *proxy.Compiler
	controller *controller.Controller
	certs      *certificates
	responder  *acme.Responder
	status     *kubernetes.Status // nil: no [kubernetes]
	barrier    *acme.Barrier
	tickets    *cert.Tickets
	hostTLS    *hostTLS
	strangers  *entrypoint.Strangers // nil: every name is served
	replicas   *replicas
	api        http.Handler
	health     http.Handler
	metrics    http.Handler
	stats      *api.Stats
	accessLog  *middleware.AccessLog
	servers    []*entrypoint.Server
	draining   atomic.Bool
	budget     *entrypoint.Budget
	pressure   *pressure.Watch     // nil: nothing bounds the memory
	begun      atomic.Bool         // the first routing is served, or was waited for
	stop       context.CancelFunc  // ends run; set by it
	successor  *handover.Successor // set before stop is called
}

// replicaName is [cluster] node, else the host's name and a random part: two
// replicas on one host must differ.
func replicaName(s *config.Static) string {
	if s.Cluster != nil && s.Cluster.Node != "" {
		return s.Cluster.Node
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "replica"
	}
	return strings.ToLower(host + "-" + rand.Text()[:6])
}

// gatewayOptions is what a replica is wired with, beside its settings.
type gatewayOptions struct {
	name    string
	routing store.Store // what [etcd] names; nil: none
	file    string      // the static configuration's file; "": none
	// configMap is where that file comes from; nil: it is one.
	configMap *configMap
	log       *slog.Logger
	logTo     *logFile

	inherited *handover.Inherited // nil: nothing
	program   string              // path, for a successor
}

// newGateway wires a replica and binds its entry points.
func newGateway(ctx context.Context, s *config.Static, o gatewayOptions) (*gateway, error) {
	g := &gateway{static: s, gatewayOptions: o}
	log := o.log
	var err error
	if g.shared, err = openShared(ctx, s, o.name, log); err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	g.responder = acme.NewResponder(g.shared, log)
	g.barrier = acme.NewBarrier(g.shared, o.name, g.responder, log)
	if g.certs, err = newCertificates(s, g.shared, o.name, g.barrier, log); err != nil {
		return nil, err
	}
	g.tickets = cert.NewTickets(g.shared, log)
	g.hostTLS = newHostTLS(g.tickets, g.certs.files)
	g.strangers = g.certs.strangers()
	g.replicas = newReplicas(g.shared, o.name, version(), log)
	g.registry = upstream.NewRegistry(upstreamOptions(s, log))
	g.proxy = proxy.New(log)
	options := compileOptions(s, log)
	options.Memory = new(middleware.Memory)
	g.compiler = proxy.NewCompiler(g.registry, options)
	g.controller = controller.New(controller.Options{Providers: g.providers(), Apply: g.apply, Logger: log})
	if s.AccessLog != nil {
		g.accessLog, err = middleware.OpenAccessLog(middleware.AccessLogOptions{
			FilePath: s.AccessLog.FilePath, Format: strings.ToLower(s.AccessLog.Format), Logger: log,
		})
		if err != nil {
			return nil, err
		}
	}
	g.makeAPI()
	g.limit()
	return g, g.listen()
}

func (g *gateway) providers() []provider.Provider {
	var list []provider.Provider
	if f := g.static.File; f != nil {
		list = append(list, filep.New(fileOptions(f, g.file, g.log)))
	}
	if g.routing != nil {
		list = append(list, kv.New(kv.Options{
			Store: g.routing, Prefix: g.static.Etcd.Prefix, Watch: g.static.Etcd.Watch, Read: g.readElsewhere, Logger: g.log,
		}))
	}
	if p := g.ingresses(); p != nil {
		list = append(list, p)
	}
	return list
}

// fileOptions follows [file]: with neither file nor folder named, the routing
// is in the static configuration's own file.
func fileOptions(f *config.File, static string, log *slog.Logger) filep.Options {
	o := filep.Options{Filename: f.Filename, Directory: f.Directory, Watch: f.Watch, Logger: log}
	if o.Filename == "" && o.Directory == "" {
		o.Filename, o.Static = static, true
	}
	return o
}

// readElsewhere reads another part of the store that [etcd] names, once.
func (g *gateway) readElsewhere(ctx context.Context, prefix string) ([]store.Entry, error) {
	static := *g.static
	etcd := *g.static.Etcd
	etcd.Prefix = prefix
	static.Etcd = &etcd
	s, err := openRouting(ctx, &static, g.name, g.log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	return store.List(ctx, s, "")
}

// apply compiles and serves what the controller merged.
func (g *gateway) apply(r config.Routing, known []config.Problem) []config.Problem {
	r, stale := g.certs.named(withDefaults(r, g.static))
	snap, problems := g.compiler.Compile(r, known)
	problems = slices.Concat(problems, stale, g.hostTLS.prepare(r, snap))
	g.proxy.Swap(snap)
	g.hostTLS.settle()
	return append(problems, g.certs.routing(r, snap)...)
}

func compileOptions(s *config.Static, log *slog.Logger) proxy.Options {
	o := proxy.Options{
		EntryPoints: proxyEntryPoints(s), DefaultEntryPoints: s.DefaultEntryPoints,
		Builders: middleware.Builders(), Logger: log,
	}
	if s.Retry != nil {
		o.Retry = cmp.Or(s.Retry.Attempts, 1)
	}
	return o
}

// withDefaults fills what services leave open from the global settings. Those
// that leave nothing open stay as they are.
func withDefaults(r config.Routing, s *config.Static) config.Routing {
	declared, copied := r.Services, false
	for name, service := range declared {
		lb := service.LoadBalancer
		if lb == nil {
			continue
		}
		insecure := s.InsecureSkipVerify && !lb.ServersTransport.InsecureSkipVerify
		roots := len(s.RootCAs) > 0 && len(lb.ServersTransport.RootCAs) == 0
		interval := lb.HealthCheck != nil && lb.HealthCheck.Interval == 0 && s.HealthCheck != nil
		if !insecure && !roots && !interval {
			continue
		}
		changed := *lb
		if insecure {
			changed.ServersTransport.InsecureSkipVerify = true
		}
		if roots {
			changed.ServersTransport.RootCAs = s.RootCAs
		}
		if interval {
			check := *lb.HealthCheck
			check.Interval = s.HealthCheck.Interval.Std()
			changed.HealthCheck = &check
		}
		service.LoadBalancer = &changed
		if !copied {
			r.Services, copied = maps.Clone(declared), true
		}
		r.Services[name] = service
	}
	return r
}

func upstreamOptions(s *config.Static, log *slog.Logger) upstream.Options {
	o := upstream.Options{Logger: log, MaxIdle: s.MaxIdleConnsPerHost}
	if f := s.ForwardingTimeouts; f != nil {
		o.DialTimeout, o.AnswerTimeout = f.DialTimeout.Std(), f.ResponseHeaderTimeout.Std()
	}
	return o
}

func (g *gateway) makeAPI() {
	o := api.Options{
		Version: version(), Replica: g.name, Logger: g.log,
		Sources: func() map[string]config.Routing { return g.controller.State().Sources },
		Problems: func() []config.Problem {
			return slices.Concat(g.configMap.problems(), g.controller.State().Problems, g.certs.undelivered(), g.certs.misread())
		},
		Ready:        g.ready,
		Snapshot:     g.proxy.Snapshot,
		Certificates: g.certs.keeper.Status,
		Replicas:     g.replicas.list,
		Counts:       g.certs.keeper.Counts,
		Limits:       g.certs.keeper.Limits,
		Stale:        g.stale,
		Connections:  g.connectionCounts,
	}
	if a := g.static.API; a != nil {
		recent := 0
		if a.Statistics != nil {
			recent = a.Statistics.RecentErrors
		}
		g.stats = api.NewStats(recent)
		o.Stats, o.Dashboard, o.Debug, o.ReadOnly = g.stats, a.Dashboard, a.Debug || g.static.Debug, a.ReadOnly
	}
	if g.static.API != nil && !g.openAPI() {
		o.Unguarded = g.static.EntryPoints[g.static.API.EntryPoint].Auth == nil
		o.Renew = func(ctx context.Context, issuer, id string) error {
			_, err := cert.RequestNow(ctx, g.shared, issuer, id)
			return err
		}
		o.Revoke = func(ctx context.Context, issuer, id string, reason cert.Reason, stop bool) error {
			_, err := cert.Revoke(ctx, g.shared, issuer, id, reason, stop)
			return err
		}
	}
	g.api, g.health = api.Handlers(o)
	g.metrics = api.Metrics(o)
	g.warnOpenAPI()
}

// openAPI: anybody who reaches the address may read it, so nothing can be asked
// for there.
func (g *gateway) openAPI() bool {
	e := g.static.EntryPoints[g.static.API.EntryPoint]
	host, _, _ := net.SplitHostPort(e.Address)
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback()) && e.Auth == nil
}

// warnOpenAPI tells of an API that anybody may read.
func (g *gateway) warnOpenAPI() {
	if g.static.API == nil || !g.openAPI() {
		return
	}
	g.log.Warn("the API and dashboard are open to whoever reaches their address; set a password",
		"address", g.static.EntryPoints[g.static.API.EntryPoint].Address, "key", "entryPoints."+g.static.API.EntryPoint+".auth.basic.users")
}

// ready: heard of every provider and serving it, and not about to stop.
func (g *gateway) ready() (bool, string) {
	state := g.controller.State()
	switch {
	case g.draining.Load():
		return false, "this replica is stopping"
	case !state.Ready():
		return false, fmt.Sprintf("waiting for the first configuration of: %s", strings.Join(state.Waiting, ", "))
	}
	var notes []string
	for _, note := range []string{g.staleness(), g.configMap.state()} {
		if note != "" {
			notes = append(notes, note)
		}
	}
	return true, strings.Join(notes, "; ")
}

// run serves until ctx ends, or an entry point breaks off, and everything is
// drained.
func (g *gateway) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.stop = stop
	var wg sync.WaitGroup
	if g.configMap != nil {
		wg.Go(func() { g.duty(ctx, "ConfigMap", g.configMap.run) })
	}
	for name, duty := range map[string]func(context.Context) error{
		"status":       g.writeStatus,
		"controller":   g.controller.Run,
		"certificates": g.certs.keeper.Run,
		"limits":       g.certs.followLimits,
		"challenges":   g.responder.Run,
		"barrier":      g.barrier.Run,
		"tickets":      g.tickets.Run,
		"replicas":     g.replicas.Run,
		"sealing":      g.shared.run,
		"on demand":    g.certs.letIn,
		"deliveries":   g.certs.deliver,
		"local CA":     g.certs.writeCA,
		"PEM files":    g.followFiles,
		"signals":      g.reopenOnSignal,
		"upgrade":      g.upgradeOnSignal,
		"memory":       g.watchMemory,
		"readiness":    g.announceReady,
	} {
		wg.Go(func() { g.duty(ctx, name, duty) })
	}
	err := g.serve(ctx)
	stop()
	wg.Wait()
	g.registry.Close()
	if g.accessLog != nil {
		flush, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = g.accessLog.Close(flush)
	}
	return errors.Join(err, g.shared.Close())
}

// duty keeps a loop running until ctx ends: one that breaks off is a bug, but
// no reason to stop serving.
func (g *gateway) duty(ctx context.Context, name string, run func(context.Context) error) {
	const next = 5 * time.Second
	for ctx.Err() == nil {
		err := protectedRun(ctx, run)
		if ctx.Err() != nil {
			return
		}
		g.log.Error("duty broke off; it is started again", "duty", name, "err", err, "next", next)
		select {
		case <-ctx.Done():
		case <-time.After(next):
		}
	}
}

func protectedRun(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return run(ctx)
}

// reopenOnSignal opens log files anew on SIGUSR1, after they were moved away.
func (g *gateway) reopenOnSignal(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	defer signal.Ignore(syscall.SIGUSR1)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
			if err := g.logTo.Reopen(); err != nil {
				g.log.Error("log is not opened anew", "err", err)
			}
			if g.accessLog != nil {
				if err := g.accessLog.Reopen(); err != nil {
					g.log.Error("access log is not opened anew", "err", err)
				}
			}
		}
	}
}
