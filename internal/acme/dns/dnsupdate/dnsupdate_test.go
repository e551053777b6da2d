package dnsupdate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"go.uber.org/goleak"

	"gatehouse/e2e/rig"
	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func build(t *testing.T, pairs ...string) *Provider {
	t.Helper()
	p, err := New(setting.Source{Getenv: env(pairs...)})
	if err != nil {
		t.Fatal(err)
	}
	p.timeout = time.Second
	return p
}

// values reads the TXT values at a name from the server itself.
func values(t *testing.T, addr, name string) []string {
	t.Helper()
	q := new(mdns.Msg)
	q.SetQuestion(name+".", mdns.TypeTXT)
	in, _, err := (&mdns.Client{Net: "tcp", Timeout: 2 * time.Second}).Exchange(q, addr)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, rr := range in.Answer {
		if txt, ok := rr.(*mdns.TXT); ok {
			out = append(out, strings.Join(txt.Txt, ""))
		}
	}
	slices.Sort(out)
	return out
}

// TestKnot drives the provider against a real server.
func TestKnot(t *testing.T) {
	k := rig.StartKnot(t, "example.org", "office.example.org")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p := build(t, "DNSUPDATE_SERVER", k.Addr(), "DNSUPDATE_TSIG_KEY", k.KeyName, "DNSUPDATE_TSIG_SECRET", k.Secret)
	other := build(t, "RFC2136_NAMESERVER", k.Addr(), "RFC2136_TSIG_KEY", k.KeyName, "RFC2136_TSIG_SECRET", k.Secret, "RFC2136_TSIG_ALGORITHM", "HMAC-SHA256.")
	rec := func(value string) dns.Record {
		return dns.Record{Zone: "office.example.org", Name: "_acme-challenge.office.example.org", Value: value, TTL: 10 * time.Second}
	}

	t.Run("zones", func(t *testing.T) {
		for name, want := range map[string]string{
			"_acme-challenge.office.example.org": "office.example.org", "_acme-challenge.a.b.example.org": "example.org", "office.example.org": "office.example.org",
		} {
			if zone, err := p.FindZone(ctx, name); zone != want || err != nil {
				t.Errorf("%s: zone %q, %v; want %q", name, zone, err, want)
			}
		}
		zone, err := p.FindZone(ctx, "_acme-challenge.example.com")
		if err == nil || errors.Is(err, dns.ErrNoZone) || !strings.Contains(err.Error(), "said REFUSED") {
			t.Errorf("a name it does not serve: %q, %v", zone, err)
		}
	})

	t.Run("single values", func(t *testing.T) {
		var wg sync.WaitGroup
		for i, who := range []*Provider{p, other, p, other} { // apex and wildcard, on two replicas
			wg.Go(func() {
				for range 2 {
					if err := who.Present(ctx, rec(fmt.Sprint("v", i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := values(t, k.Addr(), rec("").Name); !slices.Equal(got, []string{"v0", "v1", "v2", "v3"}) {
			t.Fatalf("after Present: %q", got)
		}
		for _, v := range []string{"v1", "v1", "never there"} {
			if err := p.CleanUp(ctx, rec(v)); err != nil {
				t.Error(err)
			}
		}
		if got := values(t, k.Addr(), rec("").Name); !slices.Equal(got, []string{"v0", "v2", "v3"}) {
			t.Errorf("after CleanUp: %q", got)
		}
	})

	t.Run("refusals", func(t *testing.T) {
		for name, c := range map[string]struct {
			p    *Provider
			rec  dns.Record
			says string
		}{
			"wrong secret": {build(t, "DNSUPDATE_SERVER", k.Addr(), "DNSUPDATE_TSIG_KEY", k.KeyName, "DNSUPDATE_TSIG_SECRET", "AAAA"), rec("x"), "BADSIG: the TSIG secret differs"},
			"wrong key":    {build(t, "DNSUPDATE_SERVER", k.Addr(), "DNSUPDATE_TSIG_KEY", "nobody", "DNSUPDATE_TSIG_SECRET", k.Secret), rec("x"), "BADKEY: it knows no key nobody."},
			"no key":       {build(t, "DNSUPDATE_SERVER", k.Addr()), rec("x"), "said NOTAUTH (it is not the primary of office.example.org, or refuses the key)"},
			"wrong zone":   {p, dns.Record{Zone: "example.com", Name: "_acme-challenge.example.com", Value: "x"}, "in zone example.com: said NOTAUTH"},
			"not in zone":  {p, dns.Record{Zone: "office.example.org", Name: "_acme-challenge.example.com", Value: "x"}, "said NOTZONE (the name is not in that zone)"},
		} {
			err := c.p.Present(ctx, c.rec)
			if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), k.Addr()) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
		}
	})

	t.Run("whole way", func(t *testing.T) {
		s := dns.NewSolver(dns.SolverOptions{Provider: p, Resolvers: []string{k.Addr()}})
		r, err := s.Plan(ctx, "*.www.example.org", "token")
		if err == nil {
			err = s.Present(ctx, r)
		}
		if err == nil {
			err = s.Wait(ctx, []dns.Record{r})
		}
		want := dns.Record{Zone: "example.org", Name: "_acme-challenge.www.example.org", Value: "token", TTL: dns.DefaultTTL, Domain: "www.example.org"}
		if err != nil || r != want {
			t.Fatalf("record %+v, error %v", r, err)
		}
		if err := s.CleanUp(ctx, r); err != nil {
			t.Error(err)
		}
		if got := values(t, k.Addr(), r.Name); len(got) != 0 {
			t.Errorf("left behind: %q", got)
		}
	})
}

// TestTCPRetry: a server whose UDP is blocked, and one that is silent.
func TestTCPRetry(t *testing.T) {
	addr := fmt.Sprintf("127.0.0.1:%d", rig.Port(t))
	pc, err := net.ListenPacket("udp", addr) // nobody reads it
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := build(t, "DNSUPDATE_SERVER", addr)
	p.timeout = 100 * time.Millisecond
	rec := dns.Record{Zone: "example.org", Name: "_acme-challenge.example.org", Value: "v"}
	if err := p.Present(t.Context(), rec); err == nil || !strings.Contains(err.Error(), "udp: ") || !strings.Contains(err.Error(), "tcp: ") {
		t.Errorf("nobody answers: %v", err)
	}
	lost := dns.Guard(t.Context(), func() error { return errors.New("the lease is lost") })
	if err := p.Present(lost, rec); err == nil || strings.Contains(err.Error(), "tcp: ") {
		t.Errorf("sent again though the lease was lost: %v", err)
	}
	var mu sync.Mutex // the request given up on above is still in the queue
	var got []mdns.RR
	s := &mdns.Server{Listener: ln, MsgAcceptFunc: func(mdns.Header) mdns.MsgAcceptAction { return mdns.MsgAccept },
		Handler: mdns.HandlerFunc(func(w mdns.ResponseWriter, r *mdns.Msg) {
			mu.Lock()
			got = r.Ns
			mu.Unlock()
			_ = w.WriteMsg(new(mdns.Msg).SetReply(r))
		})}
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ActivateAndServe() }()
	<-started
	err = p.Present(t.Context(), rec)
	_ = s.Shutdown()
	<-done
	if err != nil || len(got) != 1 || !strings.HasSuffix(got[0].String(), "TXT\t\"v\"") {
		t.Errorf("TCP answers: %v, update %v", err, got)
	}
}

func TestSettings(t *testing.T) {
	for _, c := range []struct {
		env  []string
		says string
	}{
		{nil, "DNSUPDATE_SERVER (or DNSUPDATE_NAMESERVER, RFC2136_NAMESERVER) is not set"},
		{[]string{"DNSUPDATE_SERVER", "a", "RFC2136_NAMESERVER", "b"}, "DNSUPDATE_SERVER and RFC2136_NAMESERVER are both set and differ"},
		{[]string{"DNSUPDATE_SERVER", "a", "DNSUPDATE_TSIG_KEY", "k"}, "set both or none"},
		{[]string{"DNSUPDATE_SERVER", "a", "DNSUPDATE_TSIG_KEY", "k", "DNSUPDATE_TSIG_SECRET", "not base64!"}, "DNSUPDATE_TSIG_SECRET is not base64"},
		{[]string{"DNSUPDATE_SERVER", "a", "DNSUPDATE_TSIG_ALGORITHM", "hmac-md5"}, "must be one of hmac-sha1"},
	} {
		_, err := New(setting.Source{Getenv: env(c.env...)})
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "not base64!") {
			t.Errorf("%v: %v, want %q", c.env, err, c.says)
		}
	}
	p := build(t, "DNSUPDATE_SERVER", "ns.example.org", "DNSUPDATE_TSIG_KEY", "Key", "DNSUPDATE_TSIG_SECRET", "c2VjcmV0", "DNSUPDATE_ZONE", "Example.org.")
	if p.server != "ns.example.org:53" || p.key != "key." || p.algorithm != "hmac-sha256" || strings.Contains(p.String(), "c2VjcmV0") {
		t.Errorf("%+v", p)
	}
	if zone, err := p.FindZone(t.Context(), "_acme-challenge.example.org"); zone != "example.org" || err != nil {
		t.Errorf("set zone: %q, %v", zone, err)
	}
	if _, err := p.FindZone(t.Context(), "example.com"); !errors.Is(err, dns.ErrNoZone) {
		t.Errorf("name outside the set zone: %v", err)
	}
}
