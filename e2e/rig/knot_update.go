package rig

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Set replaces the record set of a name by a signed update; no values: it is
// removed.
func (k *Knot) Set(ctx context.Context, zone, name, kind string, values ...string) error {
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(zone))
	m.RemoveRRset([]dns.RR{&dns.ANY{Hdr: dns.RR_Header{Name: dns.Fqdn(name), Rrtype: dns.StringToType[kind]}}})
	for _, v := range values {
		rr, err := dns.NewRR(fmt.Sprintf("%s 5 IN %s %s", dns.Fqdn(name), kind, v))
		if err != nil {
			return fmt.Errorf("set %s %s: %w", name, kind, err)
		}
		m.Insert([]dns.RR{rr})
	}
	m.SetTsig(k.KeyName+".", dns.HmacSHA256, 300, time.Now().Unix())
	c := &dns.Client{Net: "tcp", Timeout: 5 * time.Second, TsigSecret: map[string]string{k.KeyName + ".": k.Secret}}
	in, _, err := c.ExchangeContext(ctx, m, k.Addr())
	if err != nil {
		return fmt.Errorf("set %s %s at %s: %w", name, kind, k.Addr(), err)
	}
	if in.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("set %s %s: %s says %s", name, kind, k.Addr(), dns.RcodeToString[in.Rcode])
	}
	return nil
}

// TXT gives the TXT values of a name as the server answers now.
func (k *Knot) TXT(ctx context.Context, name string) ([]string, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), dns.TypeTXT)
	in, _, err := (&dns.Client{Net: "tcp", Timeout: 5 * time.Second}).ExchangeContext(ctx, q, k.Addr())
	if err != nil {
		return nil, err
	}
	var values []string
	for _, rr := range in.Answer {
		if t, ok := rr.(*dns.TXT); ok {
			values = append(values, t.Txt...)
		}
	}
	return values, nil
}
