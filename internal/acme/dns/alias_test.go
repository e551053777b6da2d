package dns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

func TestFollow(t *testing.T) {
	zones := []string{"example.org", "alias.test"}
	to := func(target string) reply {
		return world{zones: zones, records: []string{challenge + ". CNAME " + target + "."}}.resolve
	}
	var long []string
	for i := range 12 {
		long = append(long, fmt.Sprintf("n%d.alias.test. CNAME n%d.alias.test.", i, i+1))
	}
	for _, c := range []struct {
		name    string
		servers []reply
		target  string
		unsure  bool
		says    string
	}{
		{name: "no alias", servers: []reply{good.resolve}, target: challenge},
		{name: "one", servers: []reply{to("x.alias.test")}, target: "x.alias.test"},
		{name: "upper case", servers: []reply{to("X.Alias.TEST")}, target: "x.alias.test"},
		{name: "three", servers: []reply{world{zones: zones, records: []string{
			challenge + ". CNAME a.alias.test.", "a.alias.test. CNAME b.alias.test.", "b.alias.test. CNAME c.alias.test."}}.resolve}, target: "c.alias.test"},
		{name: "DNAME with its CNAME", servers: []reply{world{zones: zones, records: []string{
			"office.example.org. DNAME moved.test.", challenge + ". CNAME _acme-challenge.www.moved.test."}}.resolve}, target: "_acme-challenge.www.moved.test"},
		{name: "DNAME alone", servers: []reply{each(map[string]reply{challenge: dname}, good.resolve)}, target: "_acme-challenge.www.moved.example.org"},
		{name: "wildcard", servers: []reply{each(map[string]reply{challenge: wildcard}, good.resolve)}, target: "x.alias.test"},
		{name: "loop", servers: []reply{world{zones: zones, records: []string{
			challenge + ". CNAME a.alias.test.", "a.alias.test. CNAME " + challenge + "."}}.resolve},
			says: challenge + " -> a.alias.test -> " + challenge},
		{name: "to itself", servers: []reply{to(challenge)}, says: "loop"},
		{name: "too long", servers: []reply{world{zones: zones, records: append(long, challenge+". CNAME n0.alias.test.")}.resolve}, says: "more than 8 CNAMEs"},
		{name: "one server sees it", servers: []reply{good.resolve, to("x.alias.test")}, target: "x.alias.test"},
		{name: "bad and good", servers: []reply{rcode(mdns.RcodeRefused), to("x.alias.test"), silent}, target: "x.alias.test"},
		{name: "most win", servers: []reply{to("a.alias.test"), to("b.alias.test"), to("b.alias.test")}, target: "b.alias.test"},
		{name: "draw goes by name", servers: []reply{to("b.alias.test"), to("a.alias.test")}, target: "a.alias.test"},
		{name: "nobody says", servers: []reply{rcode(mdns.RcodeServerFailure), silent}, target: challenge, unsure: true, says: "said SERVFAIL"},
		{name: "nobody says of the target", servers: []reply{each(map[string]reply{"x.alias.test": rcode(mdns.RcodeRefused)}, to("x.alias.test"))},
			target: "x.alias.test", unsure: true, says: "look for a CNAME at x.alias.test"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var addrs []string
			for _, s := range c.servers {
				addrs = append(addrs, startFake(t, s).addr)
			}
			target, queries, err := quickFinder("", nil, addrs...).Follow(testContext(t), challenge)
			if target != c.target || (err == nil) != (c.says == "") || errors.Is(err, errUnsure) != c.unsure {
				t.Fatalf("target %q, error %v\n%v", target, err, queries)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if len(queries) == 0 || len(queries)%len(addrs) != 0 {
				t.Errorf("%d queries for %d servers", len(queries), len(addrs))
			}
		})
	}
}

// TestReadTXT: authoritative servers first, the resolvers when those are out
// of reach, and no TTL then.
func TestReadTXT(t *testing.T) {
	t.Parallel()
	wd := world{zones: []string{"example.org"}, records: []string{
		"example.org. NS ns.example.org.", "ns.example.org. A 127.0.0.1",
		"_acme-challenge.example.org. 10 TXT b", `_acme-challenge.example.org. 10 TXT "a" "a"`}}
	s := startFake(t, wd.resolve)
	r := NewReader([]string{s.addr})
	r.resolver.asker = exchanger{timeout: defaultTimeout / 4}

	_, r.resolver.port, _ = strings.Cut(s.addr, ":")
	values, ttl, err := r.ReadTXT(testContext(t), "example.org", "_acme-challenge.example.org")
	if err != nil || !slices.Equal(values, []string{"aa", "b"}) || ttl != DefaultTTL {
		t.Errorf("by the zone's servers: %q, %v, %v", values, ttl, err)
	}
	_, r.resolver.port, _ = strings.Cut(deadPort(t), ":")
	values, ttl, err = r.ReadTXT(testContext(t), "example.org", "_acme-challenge.example.org")
	if err != nil || !slices.Equal(values, []string{"aa", "b"}) || ttl != 0 {
		t.Errorf("by the resolvers: %q, %v, %v", values, ttl, err)
	}
	values, _, err = r.ReadTXT(testContext(t), "example.org", "_acme-challenge.no.example.org")
	if err != nil || len(values) != 0 {
		t.Errorf("nothing there: %q, %v", values, err)
	}
	r.resolver.fixed = []string{deadPort(t)}
	if _, _, err = r.ReadTXT(testContext(t), "example.org", "_acme-challenge.example.org"); err == nil {
		t.Error("a dead resolver read nothing without an error")
	}
}
