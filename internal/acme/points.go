package acme

import (
	"context"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/killpoint"
)

// pointCA is a CA whose calls are points where a test may end the process.
type pointCA struct {
	certificationAuthority
	do killpoint.Doer
}

func (c pointCA) Register(ctx context.Context, a acmez.Account, eab *EAB) (out acmez.Account, err error) {
	err = c.do("CA newAccount", func() error {
		out, err = c.certificationAuthority.Register(ctx, a, eab)
		return err
	})
	return out, err
}

func (c pointCA) NewOrder(ctx context.Context, a acmez.Account, o acmez.Order) (out acmez.Order, err error) {
	err = c.do("CA newOrder", func() error {
		out, err = c.certificationAuthority.NewOrder(ctx, a, o)
		return err
	})
	return out, err
}

func (c pointCA) Order(ctx context.Context, a acmez.Account, url string) (out acmez.Order, wait time.Duration, err error) {
	err = c.do("CA order", func() error {
		out, wait, err = c.certificationAuthority.Order(ctx, a, url)
		return err
	})
	return out, wait, err
}

func (c pointCA) Authorization(ctx context.Context, a acmez.Account, url string) (out acmez.Authorization, wait time.Duration, err error) {
	err = c.do("CA authorization", func() error {
		out, wait, err = c.certificationAuthority.Authorization(ctx, a, url)
		return err
	})
	return out, wait, err
}

func (c pointCA) Tell(ctx context.Context, a acmez.Account, url string) error {
	return c.do("CA challenge", func() error { return c.certificationAuthority.Tell(ctx, a, url) })
}

func (c pointCA) Finalize(ctx context.Context, a acmez.Account, url string, csr []byte) error {
	return c.do("CA finalize", func() error { return c.certificationAuthority.Finalize(ctx, a, url, csr) })
}

func (c pointCA) Chains(ctx context.Context, a acmez.Account, url string) (out [][]byte, err error) {
	err = c.do("CA certificate", func() error {
		out, err = c.certificationAuthority.Chains(ctx, a, url)
		return err
	})
	return out, err
}

// pointDNS is the same of a DNS solver.
type pointDNS struct {
	DNSSolver
	do killpoint.Doer
}

func (d pointDNS) Plan(ctx context.Context, domain, value string) (rec dns.Record, err error) {
	err = d.do("DNS plan", func() error {
		rec, err = d.DNSSolver.Plan(ctx, domain, value)
		return err
	})
	return rec, err
}

func (d pointDNS) Present(ctx context.Context, rec dns.Record) error {
	return d.do("DNS present", func() error { return d.DNSSolver.Present(ctx, rec) })
}

func (d pointDNS) Wait(ctx context.Context, recs []dns.Record) error {
	return d.do("DNS wait", func() error { return d.DNSSolver.Wait(ctx, recs) })
}

func (d pointDNS) CleanUp(ctx context.Context, rec dns.Record) error {
	return d.do("DNS clean up", func() error { return d.DNSSolver.CleanUp(ctx, rec) })
}

func (d pointDNS) Sweep(ctx context.Context, recs []dns.Record) (swept []dns.Swept) {
	err := d.do("DNS sweep", func() error {
		swept = d.DNSSolver.Sweep(ctx, recs)
		return nil
	})
	if err != nil { // the process has ended
		swept = make([]dns.Swept, len(recs))
		for i, rec := range recs {
			swept[i] = dns.Swept{Record: rec, Err: err}
		}
	}
	return swept
}
