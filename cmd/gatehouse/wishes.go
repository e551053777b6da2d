package main

import (
	"context"
	"crypto/tls"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/store/kubestore"
)

// wished turns wishes into what the keeper shall keep, where somebody issues:
// the local CA its own names, else ACME. Names no CA would issue for are left
// out; the default certificate answers for them. A wish may name who of the two
// issues; the local CA issues its own names alone. What shall stand in a Secret
// that somebody named is delivered there.
func (c *certificates) wished(wishes []config.Wish) ([]cert.Want, []config.Problem) {
	var wants []cert.Want
	var problems []config.Problem
	all := deliveries{}
	want := func(w config.Wish, names []string, issuer string) {
		wants = append(wants, cert.Want{Names: names, Issuer: issuer, Source: w.Origin.String()})
		if p := all.add(w, names); p != nil {
			problems = append(problems, *p)
		}
	}
	for _, w := range wishes {
		names := w.Domain.Names()
		own := c.local != nil && !slices.ContainsFunc(names, func(n string) bool { return !covers(c.static.LocalCA.Domains, n) })
		if own && (w.Resolver != "acme" || c.acme == nil) {
			want(w, names, c.local.ID())
			continue
		}
		if w.Resolver == "local" && c.local != nil {
			problems = append(problems, config.Problem{Origin: w.Origin, Object: "certificate " + names[0], Warning: true,
				Message: "the local CA issues only names it is configured for; another issues this one if it can", Allowed: strings.Join(c.static.LocalCA.Domains, ", ")})
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
			want(w, names, c.acme.ID())
		}
	}
	if c.deliverer != nil {
		c.deliverer.Want(slices.Collect(maps.Values(all)))
	}
	return wants, problems
}

// resolvers are the names of those who issue.
func (c *certificates) resolvers() []string {
	var names []string
	if c.acme != nil {
		names = append(names, "acme")
	}
	if c.local != nil {
		names = append(names, "local")
	}
	return names
}

// deliveries are one for each Secret.
type deliveries map[config.SecretName]kubestore.Delivery

// add takes a wish in, unless another already fills its Secret.
func (d deliveries) add(w config.Wish, names []string) *config.Problem {
	names, err := cert.CleanNames(names)
	if err != nil || w.Secret.Name == "" {
		return nil // such names are the keeper's to tell of
	}
	slices.Sort(names)
	if other, ok := d[w.Secret]; ok && slices.Equal(other.Names, names) {
		return nil
	} else if ok {
		return &config.Problem{Origin: w.Origin, Object: "secret " + other.Namespace + "/" + other.Name, Warning: true,
			Message: "it gets the certificate of " + strings.Join(other.Names, ", ") + "; the one of " + strings.Join(names, ", ") + " is served, but stands in no Secret",
			Allowed: "the same hosts, or another secretName"}
	}
	d[w.Secret] = kubestore.Delivery{Namespace: w.Secret.Namespace, Name: w.Secret.Name, Names: names}
	return nil
}

// deliver is the duty that brings certificates into Secrets others named.
func (c *certificates) deliver(ctx context.Context) error {
	if c.deliverer == nil {
		<-ctx.Done()
		return nil
	}
	return c.deliverer.Run(ctx)
}

// undelivered are the Secrets others named that certificates cannot be brought
// into.
func (c *certificates) undelivered() []config.Problem {
	if c.deliverer == nil {
		return nil
	}
	var list []config.Problem
	troubles := c.deliverer.Troubles()
	for _, name := range sortedKeys(troubles) {
		list = append(list, config.Problem{Object: "secret " + name, Message: troubles[name].Error() + "; it is served all the same", Warning: true})
	}
	return list
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
