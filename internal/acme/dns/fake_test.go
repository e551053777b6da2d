package dns

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a DNS server on loopback, UDP and TCP on one port. answer gives the
// reply to a question or nil for silence; raw, if set, gets the first say and
// may write what it likes.
type fake struct {
	addr   string
	answer func(proto string, r *mdns.Msg) *mdns.Msg
	raw    func(w mdns.ResponseWriter, proto string, r *mdns.Msg) bool
}

func startFake(t *testing.T, answer func(proto string, r *mdns.Msg) *mdns.Msg) *fake {
	t.Helper()
	return (&fake{answer: answer}).start(t)
}

func (f *fake) start(t *testing.T) *fake {
	t.Helper()
	var pc net.PacketConn
	var ln net.Listener
	for range 20 { // the same port for both
		var err error
		if pc, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if ln, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		pc.Close()
	}
	if ln == nil {
		t.Fatal("no port free for UDP and TCP")
	}
	f.addr = pc.LocalAddr().String()
	for _, s := range []*mdns.Server{{PacketConn: pc, Handler: f.handler("udp")}, {Listener: ln, Handler: f.handler("tcp")}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		done := make(chan struct{})
		go func() { defer close(done); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-done })
	}
	return f
}

func (f *fake) handler(proto string) mdns.HandlerFunc {
	return func(w mdns.ResponseWriter, r *mdns.Msg) {
		if f.raw != nil && f.raw(w, proto, r) {
			return
		}
		if m := f.answer(proto, r); m != nil {
			_ = w.WriteMsg(m)
		}
	}
}

// world is what a healthy recursive resolver knows: zones by apex, and records.
type world struct {
	zones   []string
	records []string // in zone file form
}

// resolve answers as a resolver that sees the whole world would.
func (wd world) resolve(_ string, r *mdns.Msg) *mdns.Msg {
	m := new(mdns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	name, qtype := canonical(r.Question[0].Name), r.Question[0].Qtype
	exists := false
	for range maxAliases + 2 {
		alias := ""
		for _, rr := range wd.rrs() {
			owner := canonical(rr.Header().Name)
			exists = exists || within(owner, name)
			if owner != name {
				continue
			}
			if c, ok := rr.(*mdns.CNAME); ok {
				m.Answer = append(m.Answer, rr)
				if qtype != mdns.TypeCNAME {
					alias = canonical(c.Target)
				}
			} else if rr.Header().Rrtype == qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if alias == "" {
			break
		}
		name, exists = alias, false
	}
	zone := wd.zoneOf(name)
	soa := soaOf(zone)
	switch {
	case qtype == mdns.TypeSOA && zone == name:
		m.Answer = append(m.Answer, soa)
	case len(m.Answer) == 0 || m.Answer[len(m.Answer)-1].Header().Rrtype != qtype:
		m.Ns = append(m.Ns, soa)
		if !exists && zone != name {
			m.Rcode = mdns.RcodeNameError
		}
	}
	return m
}

func (wd world) rrs() (out []mdns.RR) {
	for _, s := range wd.records {
		rr, err := mdns.NewRR(s)
		if err != nil {
			panic(err)
		}
		out = append(out, rr)
	}
	return out
}

func (wd world) zoneOf(name string) string {
	best := name[strings.LastIndex(name, ".")+1:] // the top-level domain
	for _, z := range wd.zones {
		if within(name, z) && len(z) > len(best) {
			best = z
		}
	}
	return best
}

func soaOf(zone string) mdns.RR {
	return &mdns.SOA{Hdr: mdns.RR_Header{Name: mdns.Fqdn(zone), Rrtype: mdns.TypeSOA, Class: mdns.ClassINET, Ttl: 900},
		Ns: "ns.example.net.", Mbox: "admin.example.net.", Serial: 1, Refresh: 7200, Retry: 900, Expire: 1209600, Minttl: 86400}
}

// rcode answers every question with a code and nothing else.
func rcode(code int) func(string, *mdns.Msg) *mdns.Msg {
	return func(_ string, r *mdns.Msg) *mdns.Msg { return new(mdns.Msg).SetRcode(r, code) }
}

func silent(string, *mdns.Msg) *mdns.Msg { return nil }

// deadPort is an address nobody listens at.
func deadPort(t *testing.T) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().String()
}

// quickFinder asks the servers given with a timeout fit for tests.
func quickFinder(zone string, lister ZoneLister, servers ...string) *Finder {
	f := NewFinder(zone, lister, servers)
	f.resolver.asker = exchanger{timeout: 800 * time.Millisecond}
	return f
}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}
