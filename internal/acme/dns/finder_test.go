package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"
)

const challenge = "_acme-challenge.www.office.example.org"

var good = world{zones: []string{"example.org", "office.example.org", "alias.test"}, records: []string{
	"www.office.example.org. A 192.0.2.1",
	"office.example.org. NS ns.example.net.",
}}

// parentOnly is a resolver with a stale view: it never heard of the child.
var parentOnly = world{zones: []string{"example.org"}}

type reply = func(string, *mdns.Msg) *mdns.Msg

// each answers questions for the names given by their own rule.
func each(special map[string]reply, rest reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if f := special[canonical(r.Question[0].Name)]; f != nil {
			return f(proto, r)
		}
		return rest(proto, r)
	}
}

// bare is an answer without its authority section.
func bare(inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		m := inner(proto, r)
		m.Ns = nil
		return m
	}
}

// onlyTCP gives by UDP what it is told and by TCP the truth.
func onlyTCP(udp, tcp reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if proto == "tcp" {
			return tcp(proto, r)
		}
		return udp(proto, r)
	}
}

func truncated(_ string, r *mdns.Msg) *mdns.Msg {
	m := new(mdns.Msg).SetReply(r)
	m.Truncated = true
	return m
}

func referral(zone string) reply {
	return func(_ string, r *mdns.Msg) *mdns.Msg {
		m := new(mdns.Msg).SetReply(r)
		rr, _ := mdns.NewRR(mdns.Fqdn(zone) + " NS ns.example.net.")
		m.Ns = append(m.Ns, rr)
		return m
	}
}

// once loses the first question it sees by UDP for the child's apex.
func losesFirst(inner reply) reply {
	var lost atomic.Bool
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if proto == "udp" && lost.CompareAndSwap(false, true) {
			return nil
		}
		return inner(proto, r)
	}
}

func slow(d time.Duration, inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		time.Sleep(d)
		return inner(proto, r)
	}
}

// losesFirstOfEach loses the first packet of every question.
func losesFirstOfEach(inner reply) reply {
	var seen sync.Map
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if _, again := seen.LoadOrStore(r.Question[0], true); !again {
			return nil
		}
		return inner(proto, r)
	}
}

// noEDNS chokes on EDNS with a code, or silently.
func noEDNS(code int, inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		switch {
		case r.IsEdns0() == nil:
			return inner(proto, r)
		case code < 0:
			return nil
		}
		m := new(mdns.Msg).SetRcode(r, code)
		if code > 15 {
			m.SetEdns0(1232, false)
		}
		return m
	}
}

// upper writes all names in capitals, the question too.
func upper(inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		m := inner(proto, r)
		m.Question[0].Name = strings.ToUpper(m.Question[0].Name)
		for _, rr := range append(slices.Clone(m.Answer), m.Ns...) {
			rr.Header().Name = strings.ToUpper(rr.Header().Name)
		}
		return m
	}
}

// portal gives its own address for names that do not exist, or for all.
func portal(onlyMissing bool, inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if m := inner(proto, r); onlyMissing && m.Rcode != mdns.RcodeNameError && len(m.Answer) > 0 {
			return m
		}
		m := new(mdns.Msg).SetReply(r)
		rr, _ := mdns.NewRR(r.Question[0].Name + " 1 A 192.0.2.80")
		m.Answer = append(m.Answer, rr)
		return m
	}
}

// madeUp calls each name that does not exist a zone.
func madeUp(inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		m := inner(proto, r)
		if m.Rcode == mdns.RcodeNameError {
			m = new(mdns.Msg).SetReply(r)
			if r.Question[0].Qtype == mdns.TypeSOA {
				m.Answer = append(m.Answer, soaOf(r.Question[0].Name))
			}
		}
		return m
	}
}

// searching looks up the name within a search domain, and says so nowhere but
// in the SOA.
func searching(reply) reply {
	return func(_ string, r *mdns.Msg) *mdns.Msg {
		m := new(mdns.Msg).SetRcode(r, mdns.RcodeNameError)
		m.Ns = append(m.Ns, soaOf("cluster.local"))
		return m
	}
}

// parentsSOA answers with the SOA of the zone, where it belongs into the
// authority section.
func parentsSOA(inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		m := inner(proto, r)
		m.Answer, m.Ns, m.Rcode = append(m.Answer, m.Ns...), nil, mdns.RcodeSuccess
		return m
	}
}

// wildcard and dname lead the name into another zone.
func wildcard(_ string, r *mdns.Msg) *mdns.Msg {
	m := new(mdns.Msg).SetReply(r)
	rr, _ := mdns.NewRR(r.Question[0].Name + " CNAME x.alias.test.")
	m.Answer, m.Ns = []mdns.RR{rr}, []mdns.RR{soaOf("alias.test")}
	return m
}

func dname(_ string, r *mdns.Msg) *mdns.Msg {
	m := new(mdns.Msg).SetReply(r)
	rr, _ := mdns.NewRR("office.example.org. DNAME moved.example.org.")
	m.Answer, m.Ns = []mdns.RR{rr}, []mdns.RR{soaOf("example.org")}
	return m
}

// noNS answers questions for name servers by another rule.
func noNS(ns, inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if r.Question[0].Qtype == mdns.TypeNS {
			return ns(proto, r)
		}
		return inner(proto, r)
	}
}

func noRA(inner reply) reply {
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		m := inner(proto, r)
		m.RecursionAvailable = false
		return m
	}
}

// alternating gives every second answer only.
func alternating(inner reply) reply {
	var n atomic.Int64
	return func(proto string, r *mdns.Msg) *mdns.Msg {
		if n.Add(1)%2 == 0 {
			return new(mdns.Msg).SetRcode(r, mdns.RcodeServerFailure)
		}
		return inner(proto, r)
	}
}

// TestFindMatrix is the matrix of resolver faults: what each of the servers
// does, and the zone found or the error.
func TestFindMatrix(t *testing.T) {
	const child = "office.example.org"
	dead := "dead"
	for _, c := range []struct {
		name    string
		servers []any  // reply, or dead
		zone    string // empty: an error
		unknown bool   // the error is "nobody could say", not "there is none"
		says    string // part of the error; $1, $2 are the servers
	}{
		{name: "healthy", servers: []any{good.resolve}, zone: child},
		{name: "SERVFAIL", servers: []any{rcode(mdns.RcodeServerFailure)}, unknown: true, says: "$1 said SERVFAIL"},
		{name: "REFUSED", servers: []any{rcode(mdns.RcodeRefused)}, unknown: true, says: "$1 said REFUSED"},
		{name: "REFUSED and silence", servers: []any{rcode(mdns.RcodeRefused), reply(silent)}, unknown: true,
			says: "no zone for " + challenge + ": $1 said REFUSED, $2 timed out"},
		{name: "dead port", servers: []any{dead}, unknown: true, says: "$1 refused the connection"},
		{name: "silence", servers: []any{reply(silent)}, unknown: true, says: "$1 timed out"},
		{name: "good then SERVFAIL", servers: []any{good.resolve, rcode(mdns.RcodeServerFailure)}, zone: child},
		{name: "SERVFAIL then good", servers: []any{rcode(mdns.RcodeServerFailure), good.resolve}, zone: child},
		{name: "good then REFUSED", servers: []any{good.resolve, rcode(mdns.RcodeRefused)}, zone: child},
		{name: "REFUSED then good", servers: []any{rcode(mdns.RcodeRefused), good.resolve}, zone: child},
		{name: "good then dead port", servers: []any{good.resolve, dead}, zone: child},
		{name: "dead port then good", servers: []any{dead, good.resolve}, zone: child},
		{name: "good then silence", servers: []any{good.resolve, reply(silent)}, zone: child},
		{name: "silence then good", servers: []any{reply(silent), good.resolve}, zone: child},
		{name: "parent only then good", servers: []any{parentOnly.resolve, good.resolve}, zone: child},
		{name: "good then parent only", servers: []any{good.resolve, parentOnly.resolve}, zone: child},
		{name: "answers without authority section", servers: []any{bare(good.resolve)}, zone: child},
		{name: "challenge name lost, apex answered", servers: []any{each(map[string]reply{challenge: silent}, good.resolve)},
			unknown: true, says: "$1 timed out"},
		{name: "child's apex lost, challenge name answered", servers: []any{each(map[string]reply{child: silent}, good.resolve)}, zone: child},
		{name: "all below the parent lost", servers: []any{each(map[string]reply{
			challenge: silent, "www." + child: silent, child: silent}, good.resolve)}, unknown: true, says: "$1 timed out"},
		{name: "child's apex SERVFAIL, bare answers", servers: []any{each(map[string]reply{child: rcode(mdns.RcodeServerFailure)}, bare(good.resolve))},
			unknown: true, says: "$1 said SERVFAIL"},
		{name: "first packet lost", servers: []any{losesFirst(good.resolve)}, zone: child},
		{name: "UDP lost, TCP good", servers: []any{onlyTCP(silent, good.resolve)}, zone: child},
		{name: "truncated, TCP good", servers: []any{onlyTCP(truncated, good.resolve)}, zone: child},
		{name: "truncated, TCP dumb", servers: []any{onlyTCP(truncated, silent)}, unknown: true, says: "gave truncated answer (udp), timed out (tcp)"},
		{name: "FORMERR to EDNS, TCP good", servers: []any{onlyTCP(rcode(mdns.RcodeFormatError), good.resolve)}, zone: child},
		{name: "NXDOMAIN of the top-level domain", servers: []any{world{}.resolve}, says: "$1 said NXDOMAIN (it is in org.)"},
		{name: "NXDOMAIN without SOA", servers: []any{rcode(mdns.RcodeNameError)}, says: "$1 said NXDOMAIN (not the top of a zone)"},
		{name: "NODATA without SOA", servers: []any{rcode(mdns.RcodeSuccess)}, says: "$1 said NOERROR"},
		{name: "NXDOMAIN without SOA then good", servers: []any{rcode(mdns.RcodeNameError), good.resolve}, zone: child},
		{name: "refers instead of recursing", servers: []any{referral(child)}, unknown: true, says: "refers to office.example.org."},
		{name: "refers, then good", servers: []any{referral(child), good.resolve}, zone: child},
		{name: "refers to the root", servers: []any{referral(".")}, unknown: true},
		{name: "alias at the name", servers: []any{world{zones: good.zones, records: append(good.records,
			challenge+". CNAME x.alias.test.")}.resolve}, zone: child},
		{name: "alias into the parent", servers: []any{world{zones: good.zones, records: append(good.records,
			challenge+". CNAME x.acme.example.org.")}.resolve}, zone: child},
		{name: "the name is a zone itself", servers: []any{world{zones: append(good.zones, challenge),
			records: append(good.records, challenge+". NS ns.example.net.")}.resolve}, zone: challenge},
		{name: "SOA of a stranger", servers: []any{func(_ string, r *mdns.Msg) *mdns.Msg {
			m := new(mdns.Msg).SetReply(r)
			m.Answer = []mdns.RR{soaOf("evil.test")}
			return m
		}}, unknown: true, says: "$1 said NOERROR (not about this name)"},
		{name: "five bad and one good", servers: []any{dead, rcode(mdns.RcodeRefused), rcode(mdns.RcodeServerFailure), reply(silent),
			rcode(mdns.RcodeNotImplemented), good.resolve}, zone: child},

		{name: "lame delegation: all below the parent SERVFAIL", servers: []any{each(map[string]reply{challenge: rcode(mdns.RcodeServerFailure),
			"www." + child: rcode(mdns.RcodeServerFailure), child: rcode(mdns.RcodeServerFailure)}, good.resolve)}, unknown: true, says: "$1 said SERVFAIL"},
		{name: "authoritative for the child only", servers: []any{each(map[string]reply{"example.org": rcode(mdns.RcodeRefused)}, good.resolve)}, zone: child},
		{name: "not authoritative", servers: []any{rcode(mdns.RcodeNotAuth)}, unknown: true, says: "$1 said NOTAUTH"},
		{name: "SOA not implemented", servers: []any{rcode(mdns.RcodeNotImplemented)}, unknown: true, says: "$1 said NOTIMP"},
		{name: "slow, but in time", servers: []any{slow(300*time.Millisecond, good.resolve)}, zone: child},
		{name: "too slow, then good", servers: []any{slow(2*time.Second, good.resolve), good.resolve}, zone: child},
		{name: "every first packet lost", servers: []any{losesFirstOfEach(good.resolve)}, zone: child},
		{name: "UDP truncated, TCP dead", servers: []any{onlyTCP(truncated, silent), good.resolve}, zone: child},
		{name: "EDNS refused, no TCP", servers: []any{onlyTCP(noEDNS(mdns.RcodeFormatError, good.resolve), silent)}, zone: child},
		{name: "EDNS version refused, no TCP", servers: []any{onlyTCP(noEDNS(mdns.RcodeBadVers, good.resolve), silent)}, zone: child},
		{name: "EDNS dropped, no TCP", servers: []any{onlyTCP(noEDNS(-1, good.resolve), silent)}, zone: child},
		{name: "other case", servers: []any{upper(good.resolve)}, zone: child},
		{name: "NXDOMAIN turned into an address", servers: []any{portal(true, good.resolve)}, unknown: true, says: "$1 said NOERROR (not about this name)"},
		{name: "NXDOMAIN turned into an address, then good", servers: []any{portal(true, good.resolve), good.resolve}, zone: child},
		{name: "a portal answers everything", servers: []any{portal(false, good.resolve)}, unknown: true, says: "$1 said NOERROR (not about this name)"},
		{name: "a SOA is made up for names that do not exist", servers: []any{madeUp(good.resolve)}, zone: child},
		{name: "good, then made up", servers: []any{good.resolve, madeUp(good.resolve)}, zone: child},
		{name: "search domain added", servers: []any{searching(good.resolve)}, unknown: true, says: "$1 said NXDOMAIN (not about this name)"},
		{name: "search domain added, then good", servers: []any{searching(good.resolve), good.resolve}, zone: child},
		{name: "the parent's SOA as an answer", servers: []any{parentsSOA(good.resolve)}, zone: child},
		{name: "an empty non-terminal denied", servers: []any{each(map[string]reply{"www." + child: rcode(mdns.RcodeNameError)}, good.resolve)}, zone: child},
		{name: "wildcard alias", servers: []any{each(map[string]reply{challenge: wildcard, "www." + child: wildcard}, good.resolve)}, zone: child},
		{name: "wildcard alias only for the challenge, bare answers", servers: []any{bare(each(map[string]reply{challenge: wildcard}, good.resolve))}, zone: child},
		{name: "DNAME above the name", servers: []any{each(map[string]reply{challenge: dname, "www." + child: dname}, good.resolve)}, zone: child},
		{name: "alias loop, which resolvers call SERVFAIL", servers: []any{each(map[string]reply{challenge: rcode(mdns.RcodeServerFailure)}, bare(good.resolve))},
			unknown: true, says: "$1 said SERVFAIL"},
		{name: "split horizon: inside knows the parent only", servers: []any{world{zones: []string{"example.org"}, records: []string{
			"example.org. NS ns.example.net."}}.resolve, good.resolve}, zone: child},
		{name: "split horizon: inside knows nothing", servers: []any{world{}.resolve, good.resolve}, zone: child},
		{name: "split horizon: inside refuses the world", servers: []any{each(map[string]reply{"example.org": rcode(mdns.RcodeRefused), child: rcode(mdns.RcodeRefused),
			"www." + child: rcode(mdns.RcodeRefused), challenge: rcode(mdns.RcodeRefused)}, good.resolve), good.resolve}, zone: child},
		{name: "private zone without name servers", servers: []any{world{zones: append(good.zones, "www."+child), records: good.records}.resolve, good.resolve}, zone: child},
		{name: "private world without name servers", servers: []any{world{zones: good.zones}.resolve}, zone: child},
		{name: "name servers cannot be asked for", servers: []any{noNS(rcode(mdns.RcodeServerFailure), good.resolve)}, zone: child},
		{name: "one dead of two, nothing cached", servers: []any{dead, slow(300*time.Millisecond, good.resolve)}, zone: child},
		{name: "answers without recursion offered", servers: []any{noRA(good.resolve)}, zone: child},
		{name: "alternating SERVFAIL", servers: []any{alternating(good.resolve), alternating(good.resolve), good.resolve}, zone: child},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var addrs []string
			for _, s := range c.servers {
				switch s := s.(type) {
				case string:
					addrs = append(addrs, deadPort(t))
				case reply:
					addrs = append(addrs, startFake(t, s).addr)
				}
			}
			checkFind(t, quickFinder("", nil, addrs...), c.zone, c.unknown, c.says, addrs)
		})
	}
}

func checkFind(t *testing.T, f *Finder, want string, unknown bool, says string, addrs []string) {
	t.Helper()
	start := time.Now()
	zone, rep, err := f.Find(testContext(t), challenge)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if zone != want || (err == nil) != (want != "") {
		t.Fatalf("zone %q, error %v; want %q\n%s", zone, err, want, rep)
	}
	asked := 0
	for _, q := range rep.Queries {
		if q.Type == "SOA" {
			asked++
		}
	}
	if asked != 4*len(addrs) {
		t.Errorf("report has %d queries, want every ancestor at every server:\n%s", asked, rep)
	}
	if err == nil {
		return
	}
	if errors.Is(err, ErrNoZone) == unknown {
		t.Errorf("ErrNoZone is %v, want %v: %v", !unknown, unknown, err)
	}
	for i, a := range addrs {
		says = strings.ReplaceAll(says, fmt.Sprintf("$%d", i+1), a)
	}
	if !strings.Contains(err.Error(), says) || !strings.HasPrefix(err.Error(), "no zone for "+challenge+": ") {
		t.Errorf("error %q does not say %q", err, says)
	}
}

// TestFindGarbage covers answers no DNS library would write.
func TestFindGarbage(t *testing.T) {
	for name, raw := range map[string]func(w mdns.ResponseWriter, r *mdns.Msg) bool{
		"garbage": func(w mdns.ResponseWriter, _ *mdns.Msg) bool {
			_, _ = w.Write([]byte("no message at all"))
			return true
		},
		"two byte": func(w mdns.ResponseWriter, _ *mdns.Msg) bool { _, _ = w.Write([]byte{1, 2}); return true },
		"wrong ID": func(w mdns.ResponseWriter, r *mdns.Msg) bool {
			m := world{zones: []string{"example.org"}}.resolve("udp", r)
			m.Id++
			_ = w.WriteMsg(m)
			return true
		},
		"other question": func(w mdns.ResponseWriter, r *mdns.Msg) bool {
			m := world{zones: []string{"example.org"}}.resolve("udp", r)
			m.Question[0].Name = "other.example.org."
			_ = w.WriteMsg(m)
			return true
		},
		"the question itself": func(w mdns.ResponseWriter, r *mdns.Msg) bool { _ = w.WriteMsg(r); return true },
	} {
		for _, tcp := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, TCP good %v", name, tcp), func(t *testing.T) {
				t.Parallel()
				s := (&fake{answer: good.resolve, raw: func(w mdns.ResponseWriter, proto string, r *mdns.Msg) bool {
					return (proto == "udp" || !tcp) && raw(w, r)
				}}).start(t)
				want := ""
				if tcp {
					want = "office.example.org"
				}
				checkFind(t, quickFinder("", nil, s.addr), want, true, s.addr, []string{s.addr})
			})
		}
	}
}

// TestTellOfAlias: what follows an alias is about the target, also if the
// target happens to be in a zone above the name.
func TestTellOfAlias(t *testing.T) {
	for _, target := range []string{"x.acme.example.org", "x.nowhere"} {
		q := new(mdns.Msg)
		q.SetQuestion(challenge+".", mdns.TypeSOA)
		m := world{zones: good.zones, records: []string{challenge + ". CNAME " + target + "."}}.resolve("udp", q)
		if got := tell(challenge, answer{msg: m}); got != (telling{definite: true}) {
			t.Errorf("alias of %s: told %v", target, got)
		}
	}
}

type lister struct {
	zone string
	err  error
}

func (l lister) FindZone(context.Context, string) (string, error) { return l.zone, l.err }

func TestFindOrder(t *testing.T) {
	s := startFake(t, good.resolve)
	trouble := errors.New("route53 ListHostedZonesByName: AccessDenied")
	for _, c := range []struct {
		name, setting string
		lister        ZoneLister
		server        string
		zone, how     string
		says          string
		asks          bool
	}{
		{name: "setting", setting: "Example.ORG.", lister: lister{zone: "office.example.org"}, zone: "example.org", how: "setting"},
		{name: "setting elsewhere", setting: "example.com", lister: lister{zone: "office.example.org"}, zone: "office.example.org", how: "provider"},
		{name: "provider", lister: lister{zone: "example.org"}, zone: "example.org", how: "provider"},
		{name: "provider holds none", lister: lister{err: fmt.Errorf("asked: %w", ErrNoZone)}, says: "asked: no zone holds the name"},
		{name: "provider in trouble", lister: lister{err: trouble}, zone: "office.example.org", how: "SOA", asks: true},
		{name: "both in trouble", lister: lister{err: trouble}, server: deadPort(t), says: "AccessDenied; 127.0.0.1:", asks: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := c.server
			if server == "" {
				server = s.addr
			}
			zone, rep, err := quickFinder(c.setting, c.lister, server).Find(testContext(t), challenge)
			if zone != c.zone || rep.Zone != c.zone || rep.How != c.how {
				t.Errorf("zone %q by %q, error %v", zone, rep.How, err)
			}
			if (len(rep.Queries) > 0) != c.asks {
				t.Errorf("the DNS was asked: %v", rep)
			}
			if c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("error %v, want %q", err, c.says)
			}
		})
	}
}

// TestFindRereadsResolvConf: a change of the system's resolvers is seen by the
// next search.
func TestFindRereadsResolvConf(t *testing.T) {
	f := NewFinder("", nil, nil)
	f.resolver.conf = filepath.Join(t.TempDir(), "resolv.conf")
	if _, _, err := f.Find(testContext(t), challenge); err == nil || errors.Is(err, ErrNoZone) || !strings.Contains(err.Error(), "resolv.conf") {
		t.Errorf("without a file: %v", err)
	}
	for _, ip := range []string{"192.0.2.7", "2001:db8::7"} {
		if err := os.WriteFile(f.resolver.conf, []byte("nameserver "+ip+"\nnameserver "+ip+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := f.resolver.servers()
		if want := []string{withPort(ip)}; err != nil || !cmp.Equal(got, want) {
			t.Errorf("servers %v, %v; want %v", got, err, want)
		}
	}
}

func TestWithPort(t *testing.T) {
	for in, want := range map[string]string{
		"1.1.1.1": "1.1.1.1:53", "1.1.1.1:5353": "1.1.1.1:5353", "::1": "[::1]:53", "[::1]": "[::1]:53", "[::1]:54": "[::1]:54", "dns.example": "dns.example:53",
	} {
		if got := withPort(in); got != want {
			t.Errorf("withPort(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestDeadResolverCostsTwoSeconds keeps the promise of at most 3 s with the
// timeouts of production.
func TestDeadResolverCostsTwoSeconds(t *testing.T) {
	t.Parallel()
	f := NewFinder("", nil, []string{startFake(t, silent).addr, startFake(t, good.resolve).addr})
	start := time.Now()
	zone, _, err := f.Find(testContext(t), challenge)
	if took := time.Since(start); zone != "office.example.org" || took > 3*time.Second {
		t.Errorf("zone %q, error %v after %v", zone, err, took)
	}
}

func FuzzTell(f *testing.F) {
	for _, w := range []world{good, parentOnly, {}} {
		m := new(mdns.Msg)
		m.SetQuestion(challenge+".", mdns.TypeSOA)
		packed, _ := w.resolve("udp", m).Pack()
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		m := new(mdns.Msg)
		if m.Unpack(packet) != nil {
			return
		}
		q := question{challenge, mdns.TypeSOA}
		if usable(m, way{"udp", true}, q) != nil {
			return
		}
		a := answer{msg: m}
		told := tell(challenge, a)
		if z := told.zone; z != "" && (!within(challenge, z) || labels(z) < 2 || !told.definite) {
			t.Errorf("took %q for the zone of %s: %v", z, challenge, m)
		}
		aliasIn(challenge, a)
		texts(m, challenge)
		addresses([]answer{a})
	})
}
