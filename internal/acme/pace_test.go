package acme

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/store"
)

func TestWhichBucketARefusalIsAbout(t *testing.T) {
	names := []string{"www.example.org", "example.org"}
	limited := func(op, detail string) *callError {
		return &callError{Op: op, Status: 429, Problem: &acmez.Problem{Type: acmez.ProblemTypeRateLimited, Detail: detail}}
	}
	for want, e := range map[string]*callError{
		"account":              limited("newOrder", "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-11-23 12:00:00 UTC"),
		"domain-example.org":   limited("newOrder", `too many certificates (50) already issued for "example.org" in the last 168h0m0s, retry after`),
		setBucket(names):       limited("newOrder", "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s"),
		"name-www.example.org": limited("newOrder", `too many failed authorizations (5) for "www.example.org" in the last 1h0m0s`),
		registration:           limited("newAccount", "too many new registrations (10) from this IP address in the last 3h0m0s"),
		everything:             {Op: "newOrder", Status: 503},
		"name-example.org": limited("newOrder", "Your account is temporarily prevented from requesting certificates for example.org, "+
			"other.org and possibly others. Please visit: https://portal.test/sfe/v1/unpause?jwt=x."),
	} {
		if got := strings.Join(bucketsOf(e, names), " "); got != want {
			t.Errorf("%s: got %s, want %s", e, got, want)
		}
	}
	if got := bucketsOf(limited("newOrder", "slow down"), names); !slices.Equal(got, []string{"account"}) {
		t.Errorf("an unknown text: %s", got)
	}
}

func TestRulesOfLetsEncrypt(t *testing.T) {
	m := modelOf("https://acme-v02.api.letsencrypt.org/directory")
	names := []string{"*.a.example.co.uk", "b.example.co.uk"}
	if got := len(m.rules(names, false, false)); got != 3 { // set, account, one domain
		t.Errorf("%d rules for a new order: %v", got, m.rules(names, false, false))
	}
	if got := len(m.rules(names, true, false)); got != 1 {
		t.Errorf("%d rules for a renewal", got)
	}
	if got := len(m.rules(names, true, true)); got != 0 {
		t.Errorf("%d rules for a renewal in the window", got)
	}
	if d := registered(names); len(d) != 1 || d[0] != "example.co.uk" {
		t.Errorf("registered: %v", d)
	}
}

func TestTokenBucket(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := rule{burst: 3, interval: time.Minute}
	var full time.Time
	var waits []time.Duration
	for range 5 {
		var at time.Time
		at, full = r.slot(full, now)
		waits = append(waits, at.Sub(now))
	}
	want := []time.Duration{0, 0, 0, time.Minute, 2 * time.Minute}
	for i := range want {
		if waits[i] != want[i] {
			t.Fatalf("waits %v, want %v", waits, want)
		}
	}
}

func TestHeldOrdersWaitOnEveryReplica(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	h := holds{Buckets: map[string]hold{
		"domain-example.org": {Until: now.Add(time.Hour), Why: "50 a week"},
		"account":            {Until: now.Add(-time.Hour), Why: "past"},
		everything:           {Until: now.Add(1000 * 24 * time.Hour), Why: "by a wrong clock"},
	}}
	if w := h.waits(now, []string{"www.example.org"}, time.Time{}); w == nil || !w.until.Equal(now.Add(time.Hour)) || w.down {
		t.Errorf("held: %+v", w)
	}
	if w := h.waits(now, []string{"www.example.net"}, time.Time{}); w != nil {
		t.Errorf("free: %v", w)
	}
	h.Down = &outage{Since: now, Probe: now.Add(probeEvery), Why: "503"}
	if w := h.waits(now, []string{"www.example.net"}, time.Time{}); w == nil || !w.down {
		t.Errorf("down: %v", w)
	}
}

func TestAClockThatStepped(t *testing.T) {
	due := time.Unix(1_800_000_000, 0)
	for name, c := range map[string]struct {
		ours, theirs time.Duration // from due
		want         bool
	}{
		"both past":             {time.Hour, time.Hour, false},
		"ours ten years ahead":  {10 * 365 * 24 * time.Hour, -time.Hour, true},
		"ours an hour ahead":    {time.Minute, -59 * time.Minute, true},
		"some minutes ahead":    {time.Minute, -5 * time.Minute, false},
		"a person wants it now": {-time.Hour, -time.Hour, false},
		"ours behind":           {-time.Hour, time.Hour, false},
	} {
		if got := early(due, due.Add(c.ours), due.Add(c.theirs)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestTimeWithinAWindow(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	w := window{Start: start, End: start.Add(192 * time.Minute)}
	for _, random := range []float64{0, 0.5, 0.999} {
		at := within(w, random)
		if at.Before(start.Add(9*time.Minute)) || at.After(w.End.Add(-38*time.Minute)) {
			t.Errorf("%s is too near the edge of %s to %s", at, w.Start, w.End)
		}
	}
	if _, err := decodeWindow([]byte(`{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"}}`)); err == nil {
		t.Error("a window that ends before it begins was taken")
	}
}

func TestLimitsAsTheyAreShown(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	s := seenLimits{
		buckets: map[string]seenBucket{
			"domain-a.org":   {bucketRecord: bucketRecord{Full: now.Add(week)}},
			"domain-old.org": {bucketRecord: bucketRecord{Full: now.Add(-time.Hour)}},
			"failed-www.org": {bucketRecord: bucketRecord{Full: now.Add(time.Hour)}},
			"pace":           {bucketRecord: bucketRecord{Full: now.Add(time.Hour)}},
		},
		holds: holds{Down: &outage{Probe: now.Add(time.Second)}, Buckets: map[string]hold{
			"name-b.org": {Until: now.Add(time.Minute), Why: "paused", Link: "https://portal.test"}, "account": {Until: now.Add(-time.Minute)}}},
	}
	var got []string
	for _, l := range s.limits(now, "ca", modelOf("https://acme-v02.api.letsencrypt.org/directory")) {
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %d/%d in %s %s", l.Kind, l.Name, l.Used, l.Size, l.Free.Sub(now), l.Link)))
	}
	want := []string{"account  0/299 in 0s", "domain a.org 50/49 in 6h43m12s", "down  0/0 in 1s", "failures www.org 5/4 in 24m0s",
		"hold name b.org 0/0 in 1m0s https://portal.test"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestFullBucketsLeaveTheStore(t *testing.T) {
	mem := store.NewMem(0).Replica("one")
	p := &pace{issuer: "ca", store: mem, model: limitModel{failures: 5}, log: slog.New(slog.DiscardHandler)}
	for range 2 {
		p.failed(t.Context(), "a.org", "https://ca.test/authz/1") // told twice, counted once
	}
	p.failed(t.Context(), "a.org", "https://ca.test/authz/2")
	see := func() []store.Entry {
		entries, err := store.List(t.Context(), mem, "limits/ca")
		if err != nil {
			t.Fatal(err)
		}
		p.see(entries)
		return entries
	}
	entries := see()
	if full := p.seen.Load().buckets["failed-a.org"].Full; len(entries) != 1 || time.Until(full) > 24*time.Minute || time.Until(full) < 23*time.Minute {
		t.Errorf("%d buckets, full in %s, want two failures' 24 min", len(entries), time.Until(full))
	}
	p.prune(t.Context(), time.Now().Add(time.Hour))
	if len(see()) != 1 {
		t.Error("a bucket that is not full for an hour was taken away")
	}
	p.prune(t.Context(), time.Now().Add(2*time.Hour))
	if len(see()) != 0 {
		t.Error("a full bucket stays")
	}
}

func TestWhoseRefusalItIs(t *testing.T) {
	names := []string{"a.org", "*.b.org", "b.org", "c.org"}
	refusal := func(kind, detail string, subs ...string) error {
		p := &acmez.Problem{Type: acmez.ProblemTypeNamespace + kind, Detail: detail}
		for _, s := range subs {
			p.Subproblems = append(p.Subproblems, acmez.Subproblem{Identifier: acmez.Identifier{Type: "dns", Value: s}})
		}
		return fmt.Errorf("attempt: %w", &callError{Op: "newOrder", Status: 400, Problem: p})
	}
	for _, c := range []struct {
		err  error
		want []string
	}{
		{refusal("compound", "two are refused", "A.org", "b.org"), []string{"a.org", "*.b.org", "b.org"}},
		{refusal("rejectedIdentifier", `Cannot issue for "c.org": the CA forbids it`), []string{"c.org"}},
		{refusal("rateLimited", `too many certificates (50) already issued for "c.org"`), nil},
		{refusal("rateLimited", "Your account is temporarily prevented from requesting certificates for a.org and possibly others. Please visit: https://x.test/unpause"), []string{"a.org"}},
		{refusal("malformed", "no"), nil},
		{errors.New("no answer"), nil},
	} {
		if got := namedIn(c.err, names); !slices.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

// TestLateOrdersGoApart: orders whose turns have all passed, since their replicas
// were busy, do not come to a CA that has just come back together.
func TestLateOrdersGoApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pace{issuer: "ca", store: store.NewMem(0).Replica("r"), log: slog.New(slog.DiscardHandler)}
		sent := func() (times []time.Time) {
			var mu sync.Mutex
			var running sync.WaitGroup
			for range 40 {
				running.Go(func() {
					if err := p.apart(t.Context()); err != nil {
						t.Error(err)
					}
					mu.Lock()
					times = append(times, time.Now())
					mu.Unlock()
				})
			}
			running.Wait()
			slices.SortFunc(times, time.Time.Compare)
			return times
		}
		if times := sent(); !times[0].Equal(times[39]) {
			t.Errorf("no CA was away: from %s to %s", times[0], times[39])
		}
		if _, err := p.store.Put(t.Context(), p.key("holds"), []byte(`{"down":{"since":"2000-01-01T00:00:00Z","why":"503"}}`), ""); err != nil {
			t.Fatal(err)
		}
		if err := p.back(t.Context()); err != nil {
			t.Fatal(err)
		}
		times := sent()
		for i := range times[:30] {
			if d := times[i+10].Sub(times[i]); d <= time.Second {
				t.Fatalf("eleven within %s", d)
			}
		}
		time.Sleep(carefulFor)
		if times := sent(); !times[0].Equal(times[39]) {
			t.Errorf("the CA has been back for long: from %s to %s", times[0], times[39])
		}
	})
}
