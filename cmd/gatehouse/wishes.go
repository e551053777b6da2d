package main

import (
	"crypto/tls"
	"slices"
	"strings"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
)

// wished turns wishes into what the keeper shall keep, where somebody issues:
// the local CA its own names, else ACME. Names no CA would issue for are left
// out; the default certificate answers for them.
func (c *certificates) wished(wishes []config.Wish) ([]cert.Want, []config.Problem) {
	var wants []cert.Want
	var problems []config.Problem
	for _, w := range wishes {
		names := w.Domain.Names()
		source := w.Origin.String()
		if c.local != nil && !slices.ContainsFunc(names, func(n string) bool { return !covers(c.static.LocalCA.Domains, n) }) {
			wants = append(wants, cert.Want{Names: names, Issuer: c.local.ID(), Source: source})
			continue
		}
		if c.acme == nil {
			continue
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !public(n) })
		if c.static.ACME.DNSChallenge == nil && slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "*.") }) {
			problems = append(problems, config.Problem{Origin: w.Origin, Object: "certificate " + names[0], Warning: true,
				Message: "a wildcard needs the DNS-01 challenge; no certificate is ordered for it", Allowed: "set acme.dnsChallenge"})
			names = slices.DeleteFunc(names, func(n string) bool { return strings.HasPrefix(n, "*.") })
		}
		if len(names) > 0 {
			wants = append(wants, cert.Want{Names: names, Issuer: c.acme.ID(), Source: source})
		}
	}
	return wants, problems
}

// only limits a certificate to some of its names, as far as choosing it for a
// handshake goes: who brings a certificate may not have all names in it.
func only(pair tls.Certificate, hosts []string) tls.Certificate {
	if len(hosts) == 0 || pair.Leaf == nil {
		return pair
	}
	leaf := *pair.Leaf
	leaf.DNSNames, leaf.IPAddresses = hosts, nil
	pair.Leaf = &leaf
	return pair
}
