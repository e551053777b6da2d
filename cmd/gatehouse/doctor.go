package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/acme"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/config"
)

const doctorHelp = `gatehouse doctor DOMAIN [flags]

Says what would happen if a certificate for DOMAIN were ordered, step by step, without an order: what the store holds, whether the CA
answers and the clocks agree, where the domain's addresses lead, whether CAA records let the CA issue, and whether the challenge can be
done: for dns-01 the zone and every query that found it, for http-01 whether a probe is answered from outside, for tls-alpn-01 whether
a TLS connection comes about. Exit status 1 if something would fail. Nothing is changed but for the probe, which is taken away again.

  --resolver=HOST:PORT      ask this resolver (default: acme.dnsChallenge.resolvers, else the system's)
  --http-address=HOST:PORT  ask for the probe there (default: the domain, port 80): behind a NAT the domain may not be reached from inside
  --tls-address=HOST:PORT   the same for tls-alpn-01 (default: the domain, port 443)

`

func doctor(ctx context.Context, args []string, out, errOut io.Writer) error {
	loaded, problems, err := load(doctorHelp, args, errOut,
		config.OwnFlag{Name: "resolver", TakesValue: true}, config.OwnFlag{Name: "http-address", TakesValue: true}, config.OwnFlag{Name: "tls-address", TakesValue: true})
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(errOut, "warning:", p)
	}
	if len(loaded.Flags.Args) != 1 {
		return usageError(errors.New("doctor of which domain? name one"))
	}
	names, err := cert.CleanNames(loaded.Flags.Args)
	if err != nil {
		return usageError(err)
	}
	t, err := openTool(ctx, loaded, errOut)
	if err != nil {
		return err
	}
	defer t.Close()
	d := &checkUp{tool: t, name: names[0], out: out, resolver: net.DefaultResolver}
	var resolvers []string
	if asked := t.flags.Own["resolver"]; asked != "" {
		resolvers = []string{asked}
	} else if a := t.static.ACME; a != nil && a.DNSChallenge != nil {
		resolvers = a.DNSChallenge.Resolvers
	}
	d.finder = dns.NewFinder("", nil, resolvers)
	if len(resolvers) > 0 {
		d.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, resolvers[0])
		}}
	}
	d.run(ctx)
	if d.failed > 0 {
		return fmt.Errorf("%s: checks that failed: %d", d.name, d.failed)
	}
	return nil
}

// checkUp is one run of doctor.
type checkUp struct {
	*tool
	name       string
	out        io.Writer
	finder     *dns.Finder
	resolver   *net.Resolver
	identities []string // of the CA, in CAA records
	failed     int
}

// base is the name without "*.".
func (d *checkUp) base() string { return strings.TrimPrefix(d.name, "*.") }

func (d *checkUp) isIP() bool { return net.ParseIP(d.name) != nil }

func (d *checkUp) ok(format string, args ...any) { fmt.Fprintf(d.out, "  ok    "+format+"\n", args...) }
func (d *checkUp) note(format string, args ...any) {
	fmt.Fprintf(d.out, "  note  "+format+"\n", args...)
}
func (d *checkUp) fail(format string, args ...any) {
	d.failed++
	fmt.Fprintf(d.out, "  FAIL  "+format+"\n", args...)
}

// more is detail below a finding.
func (d *checkUp) more(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(d.out, "        %s\n", strings.TrimRight(line, "\n"))
	}
}

func (d *checkUp) run(ctx context.Context) {
	for _, part := range []struct {
		title string
		check func(context.Context)
	}{
		{"store", d.stored}, {"certificate authority", d.authority}, {"addresses", d.addresses}, {"CAA", d.caa}, {"challenge", d.challenge},
	} {
		fmt.Fprintf(d.out, "%s\n", part.title)
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		part.check(bounded)
		cancel()
	}
}

// stored tells what there is for the name.
func (d *checkUp) stored(ctx context.Context) {
	all, err := d.inspect(ctx)
	if err != nil {
		d.fail("the store does not answer: %v", err)
		return
	}
	_, parent, _ := strings.Cut(d.name, ".")
	found := false
	for _, s := range all {
		if !slices.Contains(s.Names, d.name) && !slices.Contains(s.Names, "*."+parent) {
			continue
		}
		found = true
		switch {
		case s.NotAfter.After(time.Now()):
			d.ok("%s from %s is valid until %s, renewal %s", shownNames(s, 3), s.Issuer, s.NotAfter.UTC().Format(time.RFC3339), spell(s.RenewAt, time.Now()))
		case s.Error == "":
			d.note("%s from %s: %s", shownNames(s, 3), s.Issuer, s.State)
		}
		if s.Error != "" {
			d.note("%s from %s: %s; failures in a row: %d, next attempt %s (\"gatehouse certs renew\" makes it now)",
				shownNames(s, 3), s.Issuer, s.State, s.Failures, spell(s.NextAttempt, time.Now()))
			d.more(s.Error)
		}
		if s.Journal != "" {
			d.more("order: " + s.Journal)
		}
		if s.Problem != "" {
			d.fail("the stored value is refused: %s", s.Problem)
		}
	}
	if !found {
		d.note("nothing is kept for %s yet", d.name)
	}
}

// addresses tells where clients, and the CA, come to.
func (d *checkUp) addresses(ctx context.Context) {
	if d.isIP() {
		d.ok("%s is an address itself", d.name)
		return
	}
	ips, err := d.resolver.LookupNetIP(ctx, "ip", d.base())
	switch {
	case err != nil && strings.HasPrefix(d.challengeType(), "dns-"):
		d.note("no address: %v (%s needs none)", err, d.challengeType())
	case err != nil:
		d.fail("no address: %v", err)
	default:
		var list []string
		for _, ip := range ips {
			list = append(list, ip.Unmap().String())
		}
		slices.Sort(list)
		d.ok("%s", strings.Join(list, ", "))
	}
}

func (d *checkUp) caa(ctx context.Context) {
	if d.isIP() || d.certs.acme == nil {
		d.note("does not apply")
		return
	}
	records, queries, err := d.finder.CAA(ctx, d.name)
	switch permits, why := records.Permits(d.identities, strings.HasPrefix(d.name, "*.")); {
	case err != nil:
		d.fail("%v: a CA that is answered so does not issue", err)
	case records.Name == "":
		d.ok("no records: every CA may issue")
	case len(d.identities) == 0:
		d.note("records at %s; the CA does not say which name in them is its own", records.Name)
	case permits:
		d.ok("records at %s let %s issue: %s", records.Name, strings.Join(d.identities, ", "), why)
	default:
		d.fail("records at %s do not let %s issue: %s", records.Name, strings.Join(d.identities, ", "), why)
	}
	for _, r := range records.Records {
		d.more(r.String())
	}
	for _, q := range queries {
		d.more(q.String())
	}
}

func (d *checkUp) challengeType() string {
	switch a := d.static.ACME; {
	case a == nil:
		return ""
	case a.DNSChallenge != nil && a.DNSChallenge.Persist:
		return "dns-persist-01"
	case a.DNSChallenge != nil:
		return "dns-01"
	case a.HTTPChallenge != nil:
		return "http-01"
	}
	return "tls-alpn-01"
}

func (d *checkUp) challenge(ctx context.Context) {
	kind := d.challengeType()
	if kind == "" {
		d.note("no [acme]: nothing is ordered")
		return
	}
	if err := acme.CheckNames([]string{d.name}, kind); err != nil {
		d.fail("%v", err)
		return
	}
	switch kind {
	case "dns-01":
		d.dns(ctx)
	case "dns-persist-01":
		d.persist(ctx)
	case "http-01":
		d.http(ctx)
	default:
		d.alpn(ctx)
	}
}
