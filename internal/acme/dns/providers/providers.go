// Package providers lists the DNS providers of the default build by name. It
// owns the list and nothing else; each provider is a package of its own, whose
// page in docs/dns/ tells its settings.
package providers

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/dnsupdate"
	"gatehouse/internal/acme/dns/route53"
)

// Options are what providers may need besides their name.
type Options struct {
	Getenv    func(string) string // os.Getenv
	Resolvers []string            // [acme.dnsChallenge] resolvers
	Logger    *slog.Logger        // nil: silent
}

var byName = map[string]func(Options) (dns.Provider, error){
	"route53":   newRoute53,
	"dnsupdate": newDNSUpdate,
	"rfc2136":   newDNSUpdate,
}

func newRoute53(o Options) (dns.Provider, error) {
	return route53.New(route53.Options{Getenv: o.Getenv, Reader: dns.NewReader(o.Resolvers), Logger: o.Logger})
}

func newDNSUpdate(o Options) (dns.Provider, error) { return dnsupdate.New(o.Getenv) }

// Names lists what Build takes, sorted.
func Names() []string { return slices.Sorted(maps.Keys(byName)) }

// Build makes the provider of that name (dnsProvider, dnsChallenge.provider).
// An error is the operator's mistake: a name or a setting that can never work.
func Build(name string, opts Options) (dns.Provider, error) {
	build, ok := byName[strings.ToLower(name)]
	if !ok {
		return nil, fmt.Errorf("unknown DNS provider %q (known: %s)", name, strings.Join(Names(), ", "))
	}
	p, err := build(opts)
	if err != nil {
		return nil, fmt.Errorf("DNS provider %s: %w", name, err)
	}
	return p, nil
}
