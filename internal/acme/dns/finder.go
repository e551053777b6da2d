package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	mdns "github.com/miekg/dns"
)

// Finder finds the zone a name belongs to. It asks, in this order: the
// operator's own setting, the provider's list of zones (ZoneLister), the DNS.
// It keeps nothing between calls, so nothing wrong can stick. Safe for
// concurrent use.
type Finder struct {
	zone     string
	lister   ZoneLister
	resolver *resolver
}

// NewFinder makes a finder. zone is the operator's setting, used for the names
// in it; lister may be nil; no resolvers: those of /etc/resolv.conf, read anew
// each time.
func NewFinder(zone string, lister ZoneLister, resolvers []string) *Finder {
	return &Finder{zone: canonical(zone), lister: lister, resolver: newResolver(resolvers)}
}

// Find names the zone that holds name. The report lists every query made, also
// when there is an error, which is then a *ZoneError.
//
// A name is looked for in the DNS as follows: every ancestor of it with two
// labels or more is asked for its SOA, all of them at once and at all servers.
// An SOA names its zone whether it stands in the answer or in the authority
// section (RFC 2308, section 2). The longest zone named wins, provided that
// every longer name got at least one definite answer; timeouts, SERVFAIL and
// REFUSED are no answers, so the parent is never taken for want of one. A zone
// has name servers; one that definitely has none, unlike another that was
// named, was made up by a server that has an answer to everything.
func (f *Finder) Find(ctx context.Context, name string) (string, Report, error) {
	name = canonical(name)
	rep := Report{Name: name}
	if f.zone != "" && within(name, f.zone) {
		rep.Zone, rep.How = f.zone, "setting"
		return f.zone, rep, nil
	}
	if f.lister != nil {
		zone, err := f.lister.FindZone(ctx, name)
		if err == nil {
			rep.Zone, rep.How = canonical(zone), "provider"
			return rep.Zone, rep, nil
		}
		rep.Lister = err
		if errors.Is(err, ErrNoZone) {
			return "", rep, &ZoneError{Name: name, Report: rep, summary: err.Error()}
		}
		if ctx.Err() != nil {
			return "", rep, &ZoneError{Name: name, Report: rep, Unknown: true, summary: err.Error()}
		}
	}
	return f.bySOA(ctx, name, rep)
}

func (f *Finder) bySOA(ctx context.Context, name string, rep Report) (string, Report, error) {
	fail := func(unknown bool, summary string) (string, Report, error) {
		if rep.Lister != nil {
			summary = rep.Lister.Error() + "; " + summary
		}
		return "", rep, &ZoneError{Name: name, Report: rep, Unknown: unknown, summary: summary}
	}
	levels := ancestors(name)
	if len(levels) == 0 {
		return fail(false, "a single label is not in any zone of ours")
	}
	servers, err := f.resolver.servers()
	if err != nil {
		return fail(true, err.Error())
	}
	answers := make([][]answer, len(levels))
	var wg sync.WaitGroup
	for i, level := range levels {
		wg.Go(func() { answers[i] = f.resolver.all(ctx, servers, question{level, mdns.TypeSOA}, 0) })
	}
	wg.Wait()

	told := make([][]telling, len(levels))
	for i, level := range levels {
		for _, a := range answers[i] {
			t := tell(level, a)
			told[i] = append(told[i], t)
			rep.Queries = append(rep.Queries, queryOf(question{level, mdns.TypeSOA}, a, t.String()))
		}
	}
	rep.NoNS = f.disprove(ctx, servers, told, &rep)
	zone, decisive := judge(levels, told, rep.NoNS)
	if zone != "" {
		rep.Zone, rep.How = zone, "SOA"
		return zone, rep, nil
	}
	unknown := decisive >= 0
	if !unknown {
		decisive = 0
	}
	return fail(unknown, summarize(answers[decisive], told[decisive]))
}

// disprove asks for the name servers of the zones that were named, longest
// first, and lists those that have none, until one has some. If none has, that
// proves nothing: so it is in some private worlds.
func (f *Finder) disprove(ctx context.Context, servers []string, told [][]telling, rep *Report) []string {
	var named, bare []string
	for _, level := range told {
		for _, t := range level {
			if t.zone != "" && !slices.Contains(named, t.zone) {
				named = append(named, t.zone)
			}
		}
	}
	slices.SortFunc(named, func(a, b string) int { return len(b) - len(a) })
	for _, zone := range named {
		q := question{zone, mdns.TypeNS}
		answers := f.resolver.all(ctx, servers, q, nsGrace)
		has, denied := false, false
		for _, a := range answers {
			n := len(nsIn(zone, a))
			says := fmt.Sprintf("%d name servers", n)
			if !definite(a) {
				says = "nothing"
			}
			has, denied = has || n > 0, denied || definite(a)
			rep.Queries = append(rep.Queries, queryOf(q, a, says))
		}
		if has || !denied {
			return bare
		}
		bare = append(bare, zone)
	}
	return nil
}

// telling is what one answer to a SOA question says about the name's zone.
type telling struct {
	definite bool   // the answer is a statement about the name
	zone     string // the zone it names; empty: "not the top of a zone"
	outside  string // it says the name is in this top-level domain, or the root
	refers   string // a server that does not recurse refers to this zone
	strange  bool   // it is not about the name
}

func (t telling) String() string {
	switch {
	case t.zone != "":
		return "zone " + t.zone
	case t.outside != "":
		return "it is in " + t.outside
	case t.refers != "":
		return "refers to " + t.refers
	case t.strange:
		return "not about this name"
	case t.definite:
		return "not the top of a zone"
	}
	return "nothing"
}

// tell reads an answer to the question for name's SOA.
func tell(name string, a answer) telling {
	if !definite(a) {
		return telling{}
	}
	if aliasIn(name, a) != "" {
		// The rest of the answer is about the target. An alias is never the
		// top of a zone (RFC 1034, section 3.6.2).
		return telling{definite: true}
	}
	strange := len(a.msg.Answer) > 0 // until it turns out to be a SOA of ours
	for _, section := range [][]mdns.RR{a.msg.Answer, a.msg.Ns} {
		for _, rr := range section {
			if _, ok := rr.(*mdns.SOA); !ok {
				continue
			}
			owner := canonical(rr.Header().Name)
			if labels(owner) < 2 || owner == "" {
				return telling{definite: true, outside: owner + "."}
			}
			if within(name, owner) {
				return telling{definite: true, zone: owner}
			}
			strange = true
		}
	}
	if strange {
		// Somebody else's SOA, or records that were not asked for: a search
		// domain was added, or a portal answers whatever it is asked.
		return telling{strange: true}
	}
	for _, rr := range a.msg.Ns {
		if ns, ok := rr.(*mdns.NS); ok && len(a.msg.Answer) == 0 && a.msg.Rcode == mdns.RcodeSuccess {
			// Who refers elsewhere does not know where the next cut is.
			return telling{refers: canonical(ns.Hdr.Name) + "."}
		}
	}
	return telling{definite: true}
}

// judge decides which zone holds levels[0]. told[i] is what the servers said of
// levels[i]. Without a zone, unsure is the first level nobody could say
// anything about, or -1 if every answer was a definite no. Zones without name
// servers do not count.
func judge(levels []string, told [][]telling, bare []string) (zone string, unsure int) {
	for _, level := range told {
		for _, t := range level {
			if len(t.zone) > len(zone) && !slices.Contains(bare, t.zone) {
				zone = t.zone
			}
		}
	}
	for i, name := range levels {
		if zone != "" && len(name) <= len(zone) {
			break
		}
		known := false
		for _, t := range told[i] {
			known = known || t.definite
		}
		if !known {
			return "", i
		}
	}
	return zone, -1
}

// summarize says in one line what each server had to say.
func summarize(answers []answer, told []telling) string {
	var parts []string
	for i, a := range answers {
		text := says(a)
		if a.err == nil && told[i].String() != "nothing" {
			text = fmt.Sprintf("%s (%s)", text, told[i])
		}
		parts = append(parts, a.server+" "+text)
	}
	return strings.Join(parts, ", ")
}
