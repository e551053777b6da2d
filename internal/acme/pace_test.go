package acme

import (
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
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
	} {
		if got := bucketOf(e, names); got != want {
			t.Errorf("%s: got %s, want %s", e, got, want)
		}
	}
	if got := bucketOf(limited("newOrder", "slow down"), names); got != "account" {
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
		"domain-example.org": {now.Add(time.Hour), "50 a week"},
		"account":            {now.Add(-time.Hour), "past"},
		everything:           {now.Add(1000 * 24 * time.Hour), "by a wrong clock"},
	}}
	if w := h.waits(now, []string{"www.example.org"}); w == nil || !w.until.Equal(now.Add(time.Hour)) || w.down {
		t.Errorf("held: %+v", w)
	}
	if w := h.waits(now, []string{"www.example.net"}); w != nil {
		t.Errorf("free: %v", w)
	}
	h.Down = &outage{Since: now, Probe: now.Add(probeEvery), Why: "503"}
	if w := h.waits(now, []string{"www.example.net"}); w == nil || !w.down {
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
