// Package dnsupdate writes challenge records by DNS UPDATE (RFC 2136) signed
// with TSIG (RFC 8945), to any server that speaks it: BIND, Knot, PowerDNS.
// Single values are inserted and removed; what others wrote at the same name
// is not touched.
package dnsupdate

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	mdns "github.com/miekg/dns"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/setting"
)

// Provider is a dns.Provider and a dns.ZoneLister: the server that takes the
// updates is the one to know its zones. Safe for concurrent use.
type Provider struct {
	server    string
	zone      string
	key       string // TSIG key name, fully qualified; empty: unsigned
	secret    string // base64
	algorithm string
	timeout   time.Duration
}

var algorithms = []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"}

// New makes a provider; nothing is sent yet.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	p := &Provider{
		server:    s.Need("the server that takes updates, host or host:port", "DNSUPDATE_SERVER", "DNSUPDATE_NAMESERVER", "RFC2136_NAMESERVER"),
		key:       s.Text("DNSUPDATE_TSIG_KEY", "RFC2136_TSIG_KEY"),
		secret:    s.Text("DNSUPDATE_TSIG_SECRET", "RFC2136_TSIG_SECRET"),
		algorithm: strings.ToLower(strings.TrimSuffix(s.Text("DNSUPDATE_TSIG_ALGORITHM", "RFC2136_TSIG_ALGORITHM"), ".")),
		zone:      strings.ToLower(strings.TrimSuffix(s.Text("DNSUPDATE_ZONE", "RFC2136_ZONE"), ".")),
		timeout:   5 * time.Second,
	}
	s.Tuning("DNSUPDATE_", "RFC2136_")
	s.Ignored("DNSUPDATE_DNS_TIMEOUT", "RFC2136_DNS_TIMEOUT")
	s.Refuse("give the key itself, name and secret", "DNSUPDATE_TSIG_FILE", "RFC2136_TSIG_FILE", "DNSUPDATE_TSIG_GSS_REALM", "RFC2136_TSIG_GSS_REALM")
	if err := s.Err(); err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(p.server); err != nil {
		p.server = net.JoinHostPort(strings.Trim(p.server, "[]"), "53")
	}
	if p.algorithm == "" {
		p.algorithm = "hmac-sha256"
	}
	if !slices.Contains(algorithms, p.algorithm) {
		return nil, fmt.Errorf("DNSUPDATE_TSIG_ALGORITHM=%s: must be one of %s", p.algorithm, strings.Join(algorithms, ", "))
	}
	if (p.key == "") != (p.secret == "") {
		return nil, errors.New("DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET: set both or none")
	}
	if _, err := base64.StdEncoding.DecodeString(p.secret); err != nil {
		return nil, errors.New("DNSUPDATE_TSIG_SECRET is not base64")
	}
	if p.key != "" {
		p.key = mdns.CanonicalName(p.key)
	}
	return p, nil
}

// String names the server and the key; never the secret.
func (p *Provider) String() string {
	return fmt.Sprintf("dnsupdate at %s with key %q", p.server, p.key)
}

// Present inserts the value.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	return p.update(ctx, rec, "insert", (*mdns.Msg).Insert)
}

// CleanUp removes the value.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	return p.update(ctx, rec, "remove", (*mdns.Msg).Remove)
}

func (p *Provider) update(ctx context.Context, rec dns.Record, verb string, edit func(*mdns.Msg, []mdns.RR)) error {
	m := new(mdns.Msg)
	m.SetUpdate(mdns.Fqdn(rec.Zone))
	edit(m, []mdns.RR{&mdns.TXT{
		Hdr: mdns.RR_Header{Name: mdns.Fqdn(rec.Name), Rrtype: mdns.TypeTXT, Class: mdns.ClassINET, Ttl: uint32(rec.TTL / time.Second)},
		Txt: []string{rec.Value},
	}})
	in, err := p.exchange(ctx, m)
	if err != nil {
		return fmt.Errorf("dnsupdate %s at %s: %w", verb, p.server, err)
	}
	if in.Rcode != mdns.RcodeSuccess {
		return fmt.Errorf("dnsupdate %s at %s in zone %s: said %s%s", verb, p.server, rec.Zone, mdns.RcodeToString[in.Rcode], p.hint(in, rec.Zone))
	}
	return nil
}

// hint says what a refusal usually means.
func (p *Provider) hint(in *mdns.Msg, zone string) string {
	if t := in.IsTsig(); t != nil && t.Error != 0 {
		switch int(t.Error) {
		case mdns.RcodeBadKey:
			return fmt.Sprintf(" (BADKEY: it knows no key %s with %s)", p.key, p.algorithm)
		case mdns.RcodeBadSig:
			return " (BADSIG: the TSIG secret differs)"
		case mdns.RcodeBadTime:
			return " (BADTIME: the clocks differ by more than 5 minutes)"
		}
	}
	switch in.Rcode {
	case mdns.RcodeNotAuth:
		return " (it is not the primary of " + zone + ", or refuses the key)"
	case mdns.RcodeNotZone:
		return " (the name is not in that zone)"
	case mdns.RcodeRefused:
		return " (its update policy does not allow this key to change TXT records here)"
	}
	return ""
}

// FindZone asks the server which zone of its own the name is in.
func (p *Provider) FindZone(ctx context.Context, name string) (string, error) {
	if p.zone != "" {
		if name == p.zone || strings.HasSuffix(name, "."+p.zone) {
			return p.zone, nil
		}
		return "", fmt.Errorf("%s is not in DNSUPDATE_ZONE %s: %w", name, p.zone, dns.ErrNoZone)
	}
	q := new(mdns.Msg)
	q.SetQuestion(mdns.Fqdn(name), mdns.TypeSOA)
	q.RecursionDesired = false
	in, err := p.exchange(ctx, q)
	if err != nil {
		return "", fmt.Errorf("ask %s for the zone of %s: %w", p.server, name, err)
	}
	if zone := ownZone(in, name); zone != "" {
		return zone, nil
	}
	return "", fmt.Errorf("ask %s for the zone of %s: said %s and named no zone of its own", p.server, name, mdns.RcodeToString[in.Rcode])
}

// ownZone is the zone the server is authoritative for, if its answer to a SOA
// question names one that holds the name.
func ownZone(in *mdns.Msg, name string) string {
	if !in.Authoritative {
		return "" // a referral, or somebody else's data from a cache
	}
	for _, rr := range append(slices.Clone(in.Answer), in.Ns...) {
		if _, ok := rr.(*mdns.SOA); !ok {
			continue
		}
		owner := strings.ToLower(strings.TrimSuffix(rr.Header().Name, "."))
		if name == owner || strings.HasSuffix(name, "."+owner) && owner != "" {
			return owner
		}
	}
	return ""
}

// exchange sends by UDP and, if that gave no usable answer, by TCP. Both kinds
// of message can be sent twice: inserting and removing are idempotent.
func (p *Provider) exchange(ctx context.Context, m *mdns.Msg) (*mdns.Msg, error) {
	var errs []error
	for _, proto := range []string{"udp", "tcp"} {
		in, err := p.send(ctx, m.Copy(), proto)
		if err == nil && !in.Truncated {
			return in, nil
		}
		if err == nil {
			err = errors.New("truncated answer")
		}
		errs = append(errs, fmt.Errorf("%s: %w", proto, err))
		if dns.Held(ctx) != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (p *Provider) send(ctx context.Context, m *mdns.Msg, proto string) (*mdns.Msg, error) {
	c := &mdns.Client{Net: proto, Timeout: p.timeout, UDPSize: 1232}
	if p.key != "" {
		m.SetTsig(p.key, p.algorithm+".", 300, time.Now().Unix())
		c.TsigSecret = map[string]string{p.key: p.secret}
	}
	conn, err := (&net.Dialer{Timeout: p.timeout}).DialContext(ctx, proto, p.server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	in, _, err := c.ExchangeWithConnContext(ctx, m, &mdns.Conn{Conn: conn, UDPSize: 1232})
	// A server that refuses the key cannot sign its refusal; what it says is
	// worth more than that.
	if err != nil && in != nil && in.Id == m.Id && in.Response && in.Rcode != mdns.RcodeSuccess {
		return in, nil
	}
	if err == nil && p.key != "" && in.IsTsig() == nil && in.Rcode == mdns.RcodeSuccess {
		return nil, errors.New("the answer is not signed")
	}
	return in, err
}
