package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"
)

// memory is a provider that keeps what it is told.
type memory struct {
	zone     string
	confirms bool
	err      error
	records  []string
}

func (m *memory) Present(_ context.Context, r Record) error {
	m.records = append(m.records, "+"+r.Zone+" "+r.Name+" "+r.Value)
	return m.err
}

func (m *memory) CleanUp(_ context.Context, r Record) error {
	m.records = append(m.records, "-"+r.Zone+" "+r.Name+" "+r.Value)
	return m.err
}

func (m *memory) Confirms() bool { return m.confirms }

func (m *memory) FindZone(_ context.Context, name string) (string, error) {
	if within(name, m.zone) {
		return m.zone, nil
	}
	return "", fmt.Errorf("%s: %w", name, ErrNoZone)
}

func TestPlan(t *testing.T) {
	delegated := startFake(t, world{zones: []string{"example.org", "alias.test"}, records: []string{
		"_acme-challenge.example.org. CNAME to.alias.test."}}.resolve).addr
	loop := startFake(t, world{zones: []string{"example.org"}, records: []string{
		"_acme-challenge.example.org. CNAME _acme-challenge.example.org."}}.resolve).addr
	broken := startFake(t, rcode(mdns.RcodeServerFailure)).addr
	rec := func(zone, name string) Record {
		return Record{Zone: zone, Name: name, Value: "v", TTL: DefaultTTL, Domain: "example.org"}
	}
	for _, c := range []struct {
		name, domain, server, lists string
		ignore                      bool
		want                        Record
		says, warns                 string
	}{
		{name: "by SOA", domain: "example.org", server: startFake(t, good.resolve).addr, want: rec("example.org", "_acme-challenge.example.org")},
		{name: "wildcard shares the name", domain: "*.Example.org", server: startFake(t, good.resolve).addr, want: rec("example.org", "_acme-challenge.example.org")},
		{name: "alias followed", domain: "example.org", server: delegated, want: rec("alias.test", "to.alias.test")},
		{name: "alias ignored", domain: "example.org", server: delegated, ignore: true, want: rec("example.org", "_acme-challenge.example.org")},
		{name: "alias to where the provider holds nothing", domain: "example.org", server: delegated, lists: "example.org", says: "no zone holds the name"},
		{name: "loop", domain: "example.org", server: loop, says: "follow _acme-challenge.example.org: CNAMEs form a loop"},
		// The post's failure: the resolvers say SERVFAIL, the provider knows.
		{name: "resolvers broken, provider knows", domain: "example.org", server: broken, lists: "example.org",
			want: rec("example.org", "_acme-challenge.example.org"), warns: "could not see whether"},
		{name: "resolvers broken, nobody knows", domain: "example.org", server: broken, says: "no zone for _acme-challenge.example.org: 127.0.0.1:", warns: "could not see whether"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			opts := SolverOptions{Resolvers: []string{c.server}, IgnoreCNAME: c.ignore, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			opts.Provider = &struct{ Provider }{&memory{}} // hides the list
			if c.lists != "" {
				opts.Provider = &memory{zone: c.lists}
			}
			s := NewSolver(opts)
			got, err := s.Plan(testContext(t), c.domain, "v")
			if diff := cmp.Diff(c.want, got); diff != "" || (err == nil) != (c.says == "") {
				t.Errorf("error %v, record %s", err, diff)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
			if (log.Len() > 0) != (c.warns != "") || !strings.Contains(log.String(), c.warns) {
				t.Errorf("log %q, want %q", log.String(), c.warns)
			}
		})
	}
}

func TestSolverWrapsOnce(t *testing.T) {
	p := &memory{err: errors.New("AccessDenied")}
	s := NewSolver(SolverOptions{Provider: p})
	rec := Record{Zone: "example.org", Name: "_acme-challenge.example.org", Value: "v"}
	if err := s.Present(t.Context(), rec); fmt.Sprint(err) != "present TXT _acme-challenge.example.org in zone example.org: AccessDenied" {
		t.Error(err)
	}
	if err := s.CleanUp(t.Context(), rec); fmt.Sprint(err) != "clean up TXT _acme-challenge.example.org in zone example.org: AccessDenied" {
		t.Error(err)
	}
	if want := []string{"+example.org _acme-challenge.example.org v", "-example.org _acme-challenge.example.org v"}; !cmp.Equal(p.records, want) {
		t.Error(p.records)
	}
}

// network is an asker in synthetic time: a resolver that knows the servers of
// example.org, and those servers, each showing the record from a moment on.
type network struct {
	start    time.Time
	mu       sync.Mutex
	shows    map[string]time.Duration // by address; absent: never answers
	refuses  map[string]bool
	resolver time.Duration // when the resolver shows it; negative: never
	polls    int
}

func (n *network) ask(ctx context.Context, server string, q question) answer {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := new(mdns.Msg)
	r.SetQuestion(mdns.Fqdn(q.name), q.qtype)
	m := new(mdns.Msg).SetReply(r)
	a := answer{server: server, proto: "udp", msg: m}
	add := func(format string, args ...any) {
		rr, err := mdns.NewRR(fmt.Sprintf(format, args...))
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	at, known := n.shows[server]
	if server == "resolver:53" {
		at, known = n.resolver, true
	}
	switch {
	case q.qtype == mdns.TypeNS:
		for s := range n.shows {
			add("%s NS ns%s.", q.name, strings.TrimSuffix(s, ":53"))
		}
	case q.qtype == mdns.TypeA && strings.HasPrefix(q.name, "ns"):
		add("%s A %s", q.name, strings.TrimPrefix(q.name, "ns"))
	case q.qtype == mdns.TypeAAAA:
	case n.refuses[server]:
		m.Rcode = mdns.RcodeRefused
	case !known || at == never:
		n.mu.Unlock()
		t := time.NewTimer(defaultTimeout)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		n.mu.Lock()
		return answer{server: server, err: context.DeadlineExceeded}
	default:
		n.polls++
		m.Rcode = mdns.RcodeNameError
		if at >= 0 && time.Since(n.start) >= at {
			m.Rcode = mdns.RcodeSuccess
			add("%s 10 TXT other", q.name)
			add("%s 10 TXT v", q.name)
		}
	}
	return a
}

const (
	never = time.Duration(-1 << 62) // it does not answer at all
	empty = time.Duration(-1)       // it answers, and never shows the record
)

func TestWait(t *testing.T) {
	for _, c := range []struct {
		name     string
		shows    map[string]time.Duration
		refuses  string
		resolver time.Duration
		opts     SolverOptions
		confirms bool
		min, max time.Duration
		says     string // of the error
		warns    string
		polls    int // at most; 0: any
	}{
		{name: "at once", shows: map[string]time.Duration{"10.0.0.1:53": 0, "10.0.0.2:53": 0}, max: 0, polls: 2},
		{name: "the slowest decides", shows: map[string]time.Duration{"10.0.0.1:53": 0, "10.0.0.2:53": 20 * time.Second},
			min: 20 * time.Second, max: 22 * time.Second, polls: 20},
		{name: "a dead one is left out", shows: map[string]time.Duration{"10.0.0.1:53": 0, "10.0.0.2:53": never}, min: 2 * time.Second, max: 6 * time.Second},
		{name: "a lame one is left out", shows: map[string]time.Duration{"10.0.0.1:53": 0, "10.0.0.2:53": 0}, refuses: "10.0.0.2:53", max: time.Second},
		{name: "one never shows it", shows: map[string]time.Duration{"10.0.0.1:53": 0, "10.0.0.2:53": empty},
			min: time.Minute, max: time.Minute, says: "last ns10.0.0.2 (10.0.0.2:53) said NXDOMAIN for _acme-challenge.example.org"},
		{name: "one never shows it, but the provider confirmed", shows: map[string]time.Duration{"10.0.0.1:53": 0, "10.0.0.2:53": empty},
			confirms: true, min: 30 * time.Second, max: 30 * time.Second, warns: "could not see the records everywhere"},
		{name: "all out of reach, resolver shows it", shows: map[string]time.Duration{"10.0.0.1:53": never}, resolver: 8 * time.Second,
			min: 8 * time.Second, max: 11 * time.Second, warns: "no name server of the zone is within reach"},
		{name: "all out of reach, resolver remembers it was not there", shows: map[string]time.Duration{"10.0.0.1:53": never}, resolver: empty,
			min: 30 * time.Second, max: 40 * time.Second, warns: "going on, the CA decides"},
		{name: "nobody answers", shows: map[string]time.Duration{"10.0.0.1:53": never}, resolver: never, min: 30 * time.Second, max: 40 * time.Second,
			warns: "going on, the CA decides"},
		{name: "no servers known", resolver: 0, max: time.Second, warns: "no server could be asked"},
		{name: "delay first", shows: map[string]time.Duration{"10.0.0.1:53": 0}, opts: SolverOptions{DelayBeforeCheck: 7 * time.Second},
			min: 7 * time.Second, max: 7 * time.Second, polls: 1},
		{name: "delay only", shows: map[string]time.Duration{"10.0.0.1:53": empty}, opts: SolverOptions{DelayBeforeCheck: 7 * time.Second, DisablePropagationCheck: true},
			min: 7 * time.Second, max: 7 * time.Second},
		{name: "delay too long", opts: SolverOptions{DelayBeforeCheck: time.Hour}, min: time.Minute, max: time.Minute, says: "wait before the propagation check"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				c.opts.Provider = &memory{confirms: c.confirms}
				c.opts.Resolvers = []string{"resolver"}
				c.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
				s := NewSolver(c.opts)
				n := &network{start: time.Now(), shows: c.shows, resolver: c.resolver, refuses: map[string]bool{c.refuses: true}}
				s.finder.resolver.asker = n
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := s.Wait(ctx, []Record{{Zone: "example.org", Name: "_acme-challenge.example.org", Value: "v"}})
				if took := time.Since(n.start); took < c.min || took > c.max {
					t.Errorf("took %v, want %v to %v", took, c.min, c.max)
				}
				if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
					t.Errorf("error %v, want %q", err, c.says)
				}
				if (log.Len() > 0) != (c.warns != "") || !strings.Contains(log.String(), c.warns) {
					t.Errorf("log %q, want %q", log.String(), c.warns)
				}
				if c.polls > 0 && n.polls > c.polls {
					t.Errorf("%d polls, want at most %d", n.polls, c.polls)
				}
			})
		})
	}
}

// TestWaitEveryRecord: each record of each zone is waited for.
func TestWaitEveryRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSolver(SolverOptions{Provider: &memory{}, Resolvers: []string{"resolver"}})
		s.finder.resolver.asker = &network{start: time.Now(), shows: map[string]time.Duration{"10.0.0.1:53": 0}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		err := s.Wait(ctx, []Record{
			{Zone: "example.org", Name: "_acme-challenge.a.example.org", Value: "v"},
			{Zone: "example.org", Name: "_acme-challenge.b.example.org", Value: "unseen"},
			{Zone: "example.com", Name: "_acme-challenge.example.com", Value: "unseen"},
		})
		for _, want := range []string{"showed 2 other values for _acme-challenge.b.example.org", "zone example.com"} {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("error %v does not say %q", err, want)
			}
		}
		if strings.Contains(fmt.Sprint(err), "_acme-challenge.a.") {
			t.Errorf("error %v complains of a record that is shown", err)
		}
	})
}
