// Package providers lists the DNS providers by name: those of the default
// build, and lego's where they were built in. It owns the list and nothing
// else; each provider is a package of its own, whose page in docs/dns/ tells
// its settings.
package providers

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/acmedns"
	"gatehouse/internal/acme/dns/azuredns"
	"gatehouse/internal/acme/dns/cloudflare"
	"gatehouse/internal/acme/dns/digitalocean"
	"gatehouse/internal/acme/dns/dnsupdate"
	"gatehouse/internal/acme/dns/exec"
	"gatehouse/internal/acme/dns/gcloud"
	"gatehouse/internal/acme/dns/httpreq"
	"gatehouse/internal/acme/dns/lego"
	"gatehouse/internal/acme/dns/route53"
	"gatehouse/internal/acme/dns/setting"
)

// Options are what providers may need besides their name.
type Options struct {
	Settings  map[string]string   // [acme.dnsChallenge.settings], by the names the environment has; they win
	Getenv    func(string) string // os.Getenv
	Environ   []string            // os.Environ(), to find misspelt names; may be nil
	Resolvers []string            // [acme.dnsChallenge] resolvers
	Logger    *slog.Logger        // nil: silent
}

func (o Options) source() setting.Source {
	return setting.Source{Given: o.Settings, Getenv: o.Getenv, Environ: o.Environ, Logger: o.Logger}
}

// byName lists the providers, and the names Traefik knew them by.
var byName = map[string]func(Options) (dns.Provider, error){
	"acme-dns":     of(acmedns.New),
	"acmedns":      of(acmedns.New),
	"azure":        of(azuredns.New),
	"azuredns":     of(azuredns.New),
	"cloudflare":   of(cloudflare.New),
	"digitalocean": of(digitalocean.New),
	"dnsupdate":    of(dnsupdate.New),
	"exec":         of(exec.New),
	"gcloud":       of(gcloud.New),
	"httpreq":      of(httpreq.New),
	"rfc2136":      of(dnsupdate.New),
	"route53":      newRoute53,
}

// of makes a provider that needs settings only.
func of[P dns.Provider](make func(setting.Source) (P, error)) func(Options) (dns.Provider, error) {
	return func(o Options) (dns.Provider, error) {
		p, err := make(o.source())
		if err != nil {
			return nil, err
		}
		return p, nil
	}
}

// newRoute53 hands on what is given as if it stood in the environment: most
// of it is for the SDK.
func newRoute53(o Options) (dns.Provider, error) {
	s := setting.Read(o.source())
	values := map[string]string{}
	for _, n := range route53.Settings() {
		values[n] = s.Text(n)
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return route53.New(route53.Options{Getenv: func(n string) string { return values[n] }, Reader: dns.NewReader(o.Resolvers), Logger: o.Logger})
}

// Names lists what Build takes, sorted.
func Names() []string {
	names := append(slices.Collect(maps.Keys(byName)), lego.Names()...)
	slices.Sort(names)
	return names
}

// Build makes the provider of that name (dnsProvider, dnsChallenge.provider).
// An error is the operator's mistake: a name or a setting that can never work.
func Build(name string, opts Options) (dns.Provider, error) {
	name = strings.ToLower(name)
	if build, ok := byName[name]; ok {
		p, err := build(opts)
		if err != nil {
			return nil, fmt.Errorf("DNS provider %s: %w", name, err)
		}
		return p, nil
	}
	p, known, err := lego.Build(name, lego.Options{Resolvers: opts.Resolvers, Logger: opts.Logger})
	switch {
	case known && len(opts.Settings) > 0:
		return nil, fmt.Errorf("DNS provider %s: lego's providers read the environment only; unset acme.dnsChallenge.settings", name)
	case known && err != nil:
		return nil, fmt.Errorf("DNS provider %s: %w", name, err)
	case known:
		return p, nil
	case len(lego.Names()) == 0:
		return nil, fmt.Errorf("unknown DNS provider %q (known: %s; a program made by `make lego` has lego's too)", name, strings.Join(Names(), ", "))
	}
	return nil, fmt.Errorf("unknown DNS provider %q (known: %s)", name, strings.Join(Names(), ", "))
}
