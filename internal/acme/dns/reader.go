package dns

import (
	"context"
	"fmt"
	"slices"
	"time"

	mdns "github.com/miekg/dns"
)

// Reader reads what the DNS shows. Providers whose service lets them write
// but not read use it to learn what is there. Safe for concurrent use.
type Reader struct {
	resolver *resolver
}

// NewReader makes a reader; no resolvers: those of /etc/resolv.conf.
func NewReader(resolvers []string) *Reader { return &Reader{newResolver(resolvers)} }

// ReadTXT gives the values of the TXT record set at name, sorted, as the
// authoritative servers of the zone show them, with its TTL. If none of those
// is within reach, the resolvers are asked; ttl is then zero, since theirs has
// been running down. No values and no error: a server said there are none.
func (r *Reader) ReadTXT(ctx context.Context, zone, name string) (values []string, ttl time.Duration, err error) {
	q := question{canonical(name), mdns.TypeTXT}
	servers, err := r.resolver.nameServers(ctx, canonical(zone))
	if err != nil {
		return nil, 0, err
	}
	var addrs []string
	for _, s := range servers {
		addrs = append(addrs, s.addr)
	}
	answers := r.resolver.all(ctx, addrs, q, nsGrace)
	if values, ttl, ok := fullest(answers, q.name); ok {
		return values, ttl, nil
	}
	addrs, err = r.resolver.servers()
	if err != nil {
		return nil, 0, err
	}
	more := r.resolver.all(ctx, addrs, q, nsGrace)
	if values, _, ok := fullest(more, q.name); ok {
		return values, 0, nil
	}
	answers = append(answers, more...)
	return nil, 0, fmt.Errorf("read TXT %s: %s", name, summarize(answers, make([]telling, len(answers))))
}

// fullest gives the largest set any server showed: servers differ only while a
// change is on its way, and challenge sets grow before they shrink.
func fullest(answers []answer, name string) (values []string, ttl time.Duration, ok bool) {
	for _, a := range answers {
		if !definite(a) {
			continue
		}
		ok = true
		if v, t := texts(a.msg, name); len(v) > len(values) {
			values, ttl = v, t
		}
	}
	slices.Sort(values)
	return values, ttl, ok
}
