package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/acme"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/providers"
	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/localca"
	"gatehouse/internal/pemfile"
	"gatehouse/internal/proxy"
	"gatehouse/internal/store"
	"gatehouse/internal/store/kubestore"
)

// certificates joins the halves: names that routing wants go down to the
// keeper, certificates that files give go into the index.
type certificates struct {
	static *config.Static
	index  *cert.Index
	keeper *cert.Keeper
	acme   *acme.Issuer   // nil: no [acme]
	orders acmeIssuers    // all of [acme], acme first
	local  *localca.CA    // nil: no [localCA]
	demand *cert.OnDemand // nil: no [acme.onDemandPolicy]
	// deliverer is set before routing is first called; nil: no [kubernetes].
	deliverer *kubestore.Deliverer
	files     *pemfile.Files // that static settings and routing name
	log       *slog.Logger

	mu     sync.Mutex
	own    []tls.Certificate             // of the entry points
	wrong  []config.Problem              // with the files of those
	routed []tls.Certificate             // of the routing configuration
	texts  map[[2]string]tls.Certificate // what chain and key given as PEM text are
	listed []cert.Want                   // of static settings and routing
	hosts  [][]string                    // that rules of entry points with TLS name

	expected atomic.Pointer[knownNames] // nil: no routing was seen yet

	last given // by the routing; used by the goroutine that calls routing
}

// given is what a routing says of certificates, and what came of it.
type given struct {
	certificates []config.Certificate
	hosts        [][]string // of each entry point with TLS
	wants        []proxy.Want
	wishes       []config.Wish
	read         []config.Problem // of certificates
	wanted       []config.Problem
}

func newCertificates(s *config.Static, shared store.Store, replica string, barrier *acme.Barrier, log *slog.Logger) (*certificates, error) {
	c := &certificates{static: s, files: pemfile.New(pemfile.Options{Logger: log}), log: log}
	options, err := c.readOwn()
	if err != nil {
		return nil, err
	}
	if s.ACME != nil && s.ACME.OnDemandPolicy != nil {
		c.demand = newOnDemand(s.ACME.OnDemandPolicy, shared, replica, log, c.want)
		options.Unknown = c.demand.Note
	}
	if c.index, err = cert.NewIndex(options); err != nil {
		return nil, err
	}
	c.index.SetStatic(c.own)
	if s.ACME != nil {
		if c.orders, err = newACME(s.ACME, shared, barrier, log); err != nil {
			return nil, err
		}
		c.acme = c.orders.first
	}
	if s.LocalCA != nil {
		c.local = localca.New(localca.Options{Store: shared, Logger: log})
	}
	c.keeper = cert.New(cert.Options{Store: shared, Issuers: c.issuers(), Index: c.index, Replica: replica, Logger: log, Pack: c.packing()})
	return c, nil
}

// packing is how many names go into one certificate, by issuer. The others that
// are asked if the first keeps failing are asked for the same certificates.
func (c *certificates) packing() map[string]int {
	if c.acme == nil || c.static.ACME.Pack < 2 {
		return nil
	}
	size := map[string]int{c.acme.ID(): c.static.ACME.Pack}
	if second := c.orders.second[c.acme.ID()]; second != nil {
		size[second.ID()] = c.static.ACME.Pack
	}
	return size
}

// issuers are all that are configured.
func (c *certificates) issuers() []cert.Issuer {
	var list []cert.Issuer
	for _, i := range c.orders.all() {
		list = append(list, i)
	}
	if c.local != nil {
		list = append(list, c.local)
	}
	return list
}

func newSolver(d *config.DNSChallenge, log *slog.Logger) (*dns.Solver, error) {
	settings := map[string]string{}
	for name, value := range d.Settings {
		settings[name] = value.Reveal()
	}
	provider, err := providers.Build(d.Provider, providers.Options{
		Settings: settings, Getenv: os.Getenv, Environ: os.Environ(), Resolvers: d.Resolvers, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("acme.dnsChallenge.provider: %w", err)
	}
	return dns.NewSolver(dns.SolverOptions{
		Provider: provider, Resolvers: d.Resolvers, DelayBeforeCheck: d.DelayBeforeCheck.Std(),
		DisablePropagationCheck: d.DisablePropagationCheck, Logger: log,
	}), nil
}

// routing takes over what a new snapshot wants and brings. What is as it was is
// left alone: with thousands of hosts that is much work, and most changes are
// of other things.
func (c *certificates) routing(r config.Routing, snap *proxy.Snapshot) []config.Problem {
	now := given{certificates: r.Certificates, wants: snap.Wants(), wishes: r.Wishes}
	now.hosts = hostsOf(c.static, snap.Hosts)
	c.mu.Lock()
	again := c.texts != nil
	c.mu.Unlock()
	if now.read = c.last.read; !again || !sameTexts(now.certificates, c.last.certificates) {
		now.read = c.bring(r.Certificates)
	}
	if now.wanted = c.last.wanted; !again || !slices.EqualFunc(now.hosts, c.last.hosts, same) || !same(now.wants, c.last.wants) ||
		!slices.EqualFunc(now.wishes, c.last.wishes, sameWish) {
		now.wanted = c.list(r.Wishes, now.hosts, snap)
	}
	c.last = now
	return slices.Concat(now.read, now.wanted)
}

// same reports whether a and b are one slice.
func same[T any](a, b []T) bool { return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0]) }

// sameTexts reports whether certificates are those before, and texts: those that
// are paths still could not be read.
func sameTexts(a, b []config.Certificate) bool {
	return slices.EqualFunc(a, b, func(x, y config.Certificate) bool {
		return pemfile.IsText(x.CertFile) && pemfile.IsText(x.KeyFile) && x.CertFile == y.CertFile && x.KeyFile == y.KeyFile && x.Origin == y.Origin && slices.Equal(x.Hosts, y.Hosts)
	})
}

func sameWish(a, b config.Wish) bool {
	return a.Origin == b.Origin && a.Secret == b.Secret && a.Domain.Main == b.Domain.Main && slices.Equal(a.Domain.SANs, b.Domain.SANs)
}

// bring serves the certificates of the routing.
func (c *certificates) bring(declared []config.Certificate) []config.Problem {
	var problems []config.Problem
	var routed []tls.Certificate
	texts := make(map[[2]string]tls.Certificate)
	for _, declared := range declared {
		loaded, err := c.load(declared.CertFile, declared.KeyFile, texts)
		if err != nil {
			problems = append(problems, config.Problem{
				Origin: declared.Origin, Object: "tls certificate", Message: err.Error(), Allowed: "a path or PEM text for both",
			})
			continue
		}
		routed = append(routed, only(loaded, declared.Hosts))
	}
	c.mu.Lock()
	c.routed, c.texts = routed, texts
	c.index.SetStatic(slices.Concat(c.own, c.routed))
	c.mu.Unlock()
	return problems
}

// list tells the keeper what the routing wants.
func (c *certificates) list(wished []config.Wish, hosts [][]string, snap *proxy.Snapshot) []config.Problem {
	wants, problems := c.wants(snap)
	wishes, refused := c.wished(wished)
	c.mu.Lock()
	c.listed, c.hosts = append(wants, wishes...), hosts
	c.mu.Unlock()
	c.want()
	return append(problems, refused...)
}

// load reads a certificate and its key. What was given as text at the last
// change is not parsed again: thousands of Secrets come anew with each change
// of anything.
func (c *certificates) load(chain, key string, texts map[[2]string]tls.Certificate) (tls.Certificate, error) {
	if !pemfile.IsText(chain) || !pemfile.IsText(key) {
		return entrypoint.LoadCertificate(chain, key)
	}
	at := [2]string{chain, key}
	c.mu.Lock()
	known, ok := c.texts[at]
	c.mu.Unlock()
	if !ok {
		var err error
		if known, err = entrypoint.LoadCertificate(chain, key); err != nil {
			return known, err
		}
	}
	texts[at] = known
	return known, nil
}

// want tells the keeper of all that is wanted: what is listed, and what was let
// in on demand.
func (c *certificates) want() {
	c.mu.Lock()
	defer c.mu.Unlock()
	wants := slices.Clone(c.listed)
	if c.demand != nil {
		for _, name := range c.demand.Names() {
			wants = append(wants, cert.Want{Names: []string{name}, Issuer: c.acme.ID(), Source: "on demand", FromRule: true})
		}
	}
	c.expected.Store(newKnownNames(c.hosts, wants))
	c.keeper.Want(c.orders.spread(wants))
}

// letIn is the duty that lets names in on demand.
func (c *certificates) letIn(ctx context.Context) error {
	if c.demand == nil {
		<-ctx.Done()
		return nil
	}
	return c.demand.Run(ctx)
}

// followLimits is the duty that keeps what is shown of the CAs' limits.
func (c *certificates) followLimits(ctx context.Context) error {
	var running sync.WaitGroup
	for _, i := range c.orders.all() {
		running.Go(func() { _ = i.FollowLimits(ctx) })
	}
	running.Wait()
	<-ctx.Done()
	return nil
}

func newOnDemand(p *config.OnDemand, shared store.Store, replica string, log *slog.Logger, changed func()) *cert.OnDemand {
	return cert.NewOnDemand(cert.OnDemandOptions{
		Store: shared, Allow: p.Allow, Ask: p.Ask, PerMinute: p.PerMinute, Most: p.Most, Replica: replica, Logger: log, Changed: changed,
	})
}

// wants is everything that shall be kept: [[acme.domains]], names of host
// rules, and the names the local CA is for.
func (c *certificates) wants(snap *proxy.Snapshot) ([]cert.Want, []config.Problem) {
	var wants []cert.Want
	var problems []config.Problem
	s := c.static
	if c.acme != nil {
		for _, d := range s.ACME.Domains {
			wants = append(wants, cert.Want{Names: d.Names(), Issuer: c.acme.ID(), Source: "acme.domains"})
		}
	}
	if c.local != nil {
		for _, name := range s.LocalCA.Domains {
			if !strings.Contains(name, "*") {
				wants = append(wants, cert.Want{Names: []string{name}, Issuer: c.local.ID(), Source: "localCA.domains"})
			}
		}
	}
	for _, entry := range sortedKeys(s.EntryPoints) {
		if s.EntryPoints[entry].TLS == nil {
			continue
		}
		for _, name := range snap.Hosts(entry) {
			if w, p := c.forRule(entry, name); p != nil {
				problems = append(problems, *p)
			} else if w != nil {
				wants = append(wants, *w)
			}
		}
	}
	for _, w := range snap.Wants() {
		more, p := c.forRouter(w)
		wants = append(wants, more...)
		if p != nil {
			problems = append(problems, *p)
		}
	}
	return wants, problems
}

// forRouter is what a router's tls section wishes: a certificate per domain,
// from the resolver it names, "acme" or "local"; from ACME if it names none.
func (c *certificates) forRouter(w proxy.Want) ([]cert.Want, *config.Problem) {
	var issuer cert.Issuer
	switch {
	case (w.Resolver == "" || w.Resolver == "acme") && c.acme != nil:
		issuer = c.acme
	case w.Resolver == "local" && c.local != nil:
		issuer = c.local
	default:
		return nil, &config.Problem{
			Origin: w.Origin, Object: "router " + w.Router, Warning: true,
			Message: fmt.Sprintf("certificate resolver %q is not there; another certificate is served", w.Resolver),
			Allowed: "acme with [acme], local with [localCA]",
		}
	}
	var wants []cert.Want
	for _, d := range w.Domains {
		wants = append(wants, cert.Want{Names: d.Names(), Issuer: issuer.ID(), Source: "router " + w.Router})
	}
	return wants, nil
}

// forRule decides who, if anyone, issues for a name that a Host rule of the
// entry point mentions.
func (c *certificates) forRule(entry, name string) (*cert.Want, *config.Problem) {
	a := c.static.ACME
	switch {
	case c.local != nil && covers(c.static.LocalCA.Domains, name):
		return &cert.Want{Names: []string{name}, Issuer: c.local.ID(), Source: "host rule", FromRule: true}, nil
	case c.acme == nil || !a.OnHostRule || a.EntryPoint != entry:
		return nil, nil
	case !public(name):
		return nil, nil // no CA would; the default certificate answers
	case strings.HasPrefix(name, "*.") && a.DNSChallenge == nil:
		return nil, &config.Problem{
			Object: "certificate " + name, Message: "a wildcard needs the DNS-01 challenge; no certificate is ordered for it",
			Allowed: "set acme.dnsChallenge", Warning: true,
		}
	}
	return &cert.Want{Names: []string{name}, Issuer: c.acme.ID(), Source: "host rule", FromRule: true}, nil
}

// covers tells whether a pattern of the list is the name, or a wildcard over
// its parent.
func covers(patterns []string, name string) bool {
	_, parent, _ := strings.Cut(name, ".")
	return slices.Contains(patterns, name) || parent != "" && slices.Contains(patterns, "*."+parent)
}

// public tells whether an ACME CA might issue for the name at all.
func public(name string) bool {
	if net.ParseIP(name) != nil || !strings.Contains(name, ".") {
		return false
	}
	return !slices.ContainsFunc([]string{".localhost", ".local", ".internal"}, func(suffix string) bool {
		return strings.HasSuffix(name, suffix)
	})
}

// writeCA puts the local CA's certificate where people find it, once it is
// known; the store may take its time.
func (c *certificates) writeCA(ctx context.Context) error {
	if c.local == nil || c.static.Store.Kind != config.StoreFile {
		<-ctx.Done()
		return nil
	}
	path := filepath.Join(c.static.Store.Directory, "ca.pem")
	for {
		text, err := c.local.CA(ctx)
		if err == nil {
			err = os.WriteFile(path, text, 0o644)
		}
		if err == nil {
			c.log.Info("local CA: clients that trust this file trust its certificates", "file", path)
			<-ctx.Done()
			return nil
		}
		const next = 5 * time.Second
		c.log.Warn("local CA's certificate is not written yet", "file", path, "err", err, "next", next)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
	}
}
