package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"

	"gatehouse/internal/acme"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// acmeIssuers are the issuers that [acme] makes: the first, those to ask if it
// keeps failing, and for each one that gives the second kind of key.
type acmeIssuers struct {
	first    *acme.Issuer // nil: no [acme]
	fallback []*acme.Issuer
	second   map[string]*acme.Issuer // by ID of the one it goes with
}

// all are the issuers, the first before the others.
func (a acmeIssuers) all() []*acme.Issuer {
	if a.first == nil {
		return nil
	}
	var list []*acme.Issuer
	for _, i := range append([]*acme.Issuer{a.first}, a.fallback...) {
		list = append(list, i)
		if second := a.second[i.ID()]; second != nil {
			list = append(list, second)
		}
	}
	return list
}

// spread gives wants at the first issuer their fallbacks, and a second want for
// the second kind of key.
func (a acmeIssuers) spread(wants []cert.Want) []cert.Want {
	if a.first == nil || len(a.fallback) == 0 && len(a.second) == 0 {
		return wants
	}
	out := make([]cert.Want, 0, len(wants))
	for _, w := range wants {
		if w.Issuer != a.first.ID() {
			out = append(out, w)
			continue
		}
		for _, i := range a.fallback {
			w.Fallback = append(w.Fallback[:len(w.Fallback):len(w.Fallback)], i.ID())
		}
		out = append(out, w)
		if second := a.second[w.Issuer]; second != nil {
			other := w
			other.Issuer, other.Fallback = second.ID(), nil
			for _, id := range w.Fallback {
				other.Fallback = append(other.Fallback, a.second[id].ID())
			}
			out = append(out, other)
		}
	}
	return out
}

// newACME makes what [acme] says.
func newACME(a *config.ACME, shared store.Store, barrier *acme.Barrier, log *slog.Logger) (acmeIssuers, error) {
	issuers := acmeIssuers{second: map[string]*acme.Issuer{}}
	base := acme.Options{Store: shared, Logger: log, UserAgent: "gatehouse/" + version(), Barrier: barrier.Wait, KeyType: acme.KeyType(a.KeyType)}
	switch {
	case a.DNSChallenge != nil && a.DNSChallenge.Persist:
		finder := dns.NewFinder("", nil, a.DNSChallenge.Resolvers)
		base.Challenge, base.Texts = "dns-persist-01", func(ctx context.Context, name string) ([]string, error) {
			values, _, err := finder.Texts(ctx, name)
			return values, err
		}
	case a.DNSChallenge != nil:
		solver, err := newSolver(a.DNSChallenge, log)
		if err != nil {
			return issuers, err
		}
		base.Challenge, base.DNS = "dns-01", solver
	case a.HTTPChallenge != nil:
		base.Challenge = "http-01"
	default:
		base.Challenge = "tls-alpn-01"
	}
	places := append([]config.ACMEFallback{{
		CAServer: a.CAServer, CACertificates: a.CACertificates, Email: a.Email, PreferredChain: a.PreferredChain, Profile: a.Profile, EAB: a.EAB,
	}}, a.Fallbacks...)
	for n, place := range places {
		key := "acme"
		if n > 0 {
			key = fmt.Sprintf("acme.fallbacks.%d", n-1)
		}
		first, second, err := besideEachOther(base, place.CAServer, a.SecondKeyType)
		if err != nil {
			return issuers, fmt.Errorf("%s.caServer: %w", key, err)
		}
		one, err := newIssuer(first, place, a.Email)
		if err != nil {
			return issuers, fmt.Errorf("%s: %w", key, err)
		}
		if issuers.has(one.ID()) {
			return issuers, fmt.Errorf("%s.caServer: %s is there already", key, place.CAServer)
		}
		if n == 0 {
			issuers.first = one
		} else {
			issuers.fallback = append(issuers.fallback, one)
		}
		if a.SecondKeyType == "" {
			continue
		}
		if issuers.second[one.ID()], err = newIssuer(second, place, a.Email); err != nil {
			return issuers, fmt.Errorf("%s: %w", key, err)
		}
	}
	return issuers, nil
}

// besideEachOther are the options of an issuer and of the one for the second
// kind of key at the same place; "": there is none.
func besideEachOther(base acme.Options, caServer, secondKeyType string) (first, second acme.Options, err error) {
	if secondKeyType == "" {
		return base, base, nil
	}
	first, second = base, base
	if first.ID, err = acme.IssuerID(caServer); err != nil {
		return first, second, err
	}
	second.ID, second.Account = first.ID+"-"+strings.ToLower(secondKeyType), first.ID
	second.KeyType = acme.KeyType(secondKeyType)
	first.Beside, second.Beside = []string{second.ID}, []string{first.ID}
	return first, second, nil
}

func (a acmeIssuers) has(id string) bool {
	for _, i := range a.all() {
		if i.ID() == id {
			return true
		}
	}
	return false
}

// newIssuer completes options with what one place says.
func newIssuer(o acme.Options, place config.ACMEFallback, email string) (*acme.Issuer, error) {
	o.Directory, o.Email = place.CAServer, cmp.Or(place.Email, email)
	o.Profile, o.PreferredChain = place.Profile, place.PreferredChain
	if len(place.CACertificates) > 0 {
		pool, err := certPool(place.CACertificates)
		if err != nil {
			return nil, fmt.Errorf("caCertificates: %w", err)
		}
		o.Roots = pool
	}
	if place.EAB != nil {
		o.EAB = &acme.EAB{KeyID: place.EAB.KID, MACKey: place.EAB.HMACEncoded.Reveal()}
	}
	return acme.New(o)
}
