package cert

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// certAt gives a certificate whose life begins and ends relative to noon.
func certAt(from, to time.Duration, names ...string) *Certificate {
	return &Certificate{Issuer: "ca", ID: ID(names), Names: names, Obtained: noon.Add(from),
		NotBefore: noon.Add(from), NotAfter: noon.Add(to), TLS: &tls.Certificate{}, serial: "7"}
}

func TestRenewTime(t *testing.T) {
	const h = time.Hour
	said := func(d time.Duration) renewal { return renewal{serial: "7", at: noon.Add(d)} }
	byDefault := renewal{serial: "7"}
	tests := []struct {
		name string
		life time.Duration
		r    renewal
		want time.Duration // after NotBefore
	}{
		{"90 days: two thirds", 90 * day, byDefault, 60 * day},
		{"45 days: two thirds", 45 * day, byDefault, 30 * day},
		{"160 hours: half", 160 * h, byDefault, 80 * h},
		{"60 seconds: half", time.Minute, byDefault, 30 * time.Second},
		{"issuer says earlier", 90 * day, said(10 * day), 10 * day},
		{"issuer says later", 90 * day, said(70 * day), 70 * day},
		{"issuer says after the end", 90 * day, said(900 * day), 81 * day},
		{"issuer says the past", 90 * day, said(-day), h},
		{"issuer says the past, short life", time.Minute, said(-day), 15 * time.Second},
		{"not asked yet", 90 * day, renewal{}, 60*day + 90*day/24},
		{"asked about the one before", 90 * day, renewal{serial: "6", at: noon}, 60*day + 90*day/24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := renewTime(certAt(0, tt.life, "a.example.com"), tt.r).Sub(noon)
			if got != tt.want {
				t.Errorf("renewed after %s, want %s", got, tt.want)
			}
		})
	}
}

// line writes an action for a table: what, when relative to noon, why not.
func line(a action) string {
	s := []string{a.key.id, [...]string{"rest", "discard", "sweep", "obtain", "finish", "revoke"}[a.do]}
	if a.do == rest && !a.at.IsZero() {
		s = append(s, a.at.Sub(noon).String())
	}
	if a.coveredBy != "" {
		s = append(s, "covered by", a.coveredBy)
	}
	if a.key.issuer != "ca" && a.want != nil && len(a.want.before) > 0 {
		s = append(s, "at", a.key.issuer)
	}
	return strings.Join(s, " ")
}

func TestPlan(t *testing.T) {
	one := func(name string) []want { return wantsFor(Want{Names: []string{name}, Issuer: "ca"}) }
	rule := func(name string) Want { return Want{Names: []string{name}, Issuer: "ca", FromRule: true} }
	listed := func(names ...string) Want { return Want{Names: names, Issuer: "ca"} }
	present := func(cs ...*Certificate) map[key]*Certificate {
		m := map[key]*Certificate{}
		for _, c := range cs {
			m[key{c.Issuer, c.ID}] = c
		}
		return m
	}
	failed := func(name string, n int, last, next time.Duration) map[key]attempt {
		return map[key]attempt{{"ca", ID([]string{name})}: {Failures: n, Last: noon.Add(last), Next: noon.Add(next)}}
	}
	k := func(name string) key { return key{"ca", ID([]string{name})} }
	inOrder := Want{Names: []string{"a.example.com"}, Issuer: "ca", Fallback: []string{"other"}}
	second := func(from, to time.Duration) *Certificate {
		c := certAt(from, to, "a.example.com")
		c.Issuer = "other"
		return c
	}
	a, wild := ID([]string{"a.example.com"}), ID([]string{"*.example.com"})
	both := ID([]string{"a.example.com", "b.example.com"})
	tests := []struct {
		name string
		v    view
		want []string
	}{
		{"nothing wanted", view{present: present(certAt(-day, day, "a.example.com"))}, nil},
		{"new", view{wants: one("a.example.com")}, []string{a + " obtain"}},
		{"valid", view{wants: one("a.example.com"), present: present(certAt(-10*day, 80*day, "a.example.com")),
			renewals: map[key]renewal{k("a.example.com"): {serial: "7"}}}, []string{a + " rest 1200h0m0s"}},
		{"due", view{wants: one("a.example.com"), present: present(certAt(-70*day, 20*day, "a.example.com"))}, []string{a + " obtain"}},
		{"ended", view{wants: one("a.example.com"), present: present(certAt(-90*day, -day, "a.example.com"))}, []string{a + " obtain"}},
		{"failed, must wait", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, -time.Minute, time.Hour)},
			[]string{a + " rest 1h0m0s"}},
		{"failed, may try", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, -time.Hour, -time.Second)},
			[]string{a + " obtain"}},
		{"failed to renew, must wait", view{wants: one("a.example.com"), present: present(certAt(-70*day, 20*day, "a.example.com")),
			attempts: failed("a.example.com", 3, -time.Minute, time.Hour)}, []string{a + " rest 1h0m0s"}},
		{"a person asks, must wait", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, -time.Minute, time.Hour),
			requests: map[key]time.Time{k("a.example.com"): noon.Add(-time.Second)}}, []string{a + " obtain"}},
		{"a person asked before the last failure", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, -time.Minute, time.Hour),
			requests: map[key]time.Time{k("a.example.com"): noon.Add(-time.Hour)}}, []string{a + " rest 1h0m0s"}},
		{"a person asks for one that is valid", view{wants: one("a.example.com"), present: present(certAt(-10*day, 80*day, "a.example.com")),
			requests: map[key]time.Time{k("a.example.com"): noon}}, []string{a + " obtain"}},
		{"a person asked before it was obtained", view{wants: one("a.example.com"), present: present(certAt(-10*day, 80*day, "a.example.com")),
			renewals: map[key]renewal{k("a.example.com"): {serial: "7"}},
			requests: map[key]time.Time{k("a.example.com"): noon.Add(-10 * day)}}, []string{a + " rest 1200h0m0s"}},
		{"a person asks whose clock is ahead", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, -time.Minute, time.Hour),
			requests: map[key]time.Time{k("a.example.com"): noon.Add(time.Minute)}}, []string{a + " rest 1m0s"}},
		{"a person asks whose clock is far ahead", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, -time.Minute, time.Hour),
			requests: map[key]time.Time{k("a.example.com"): noon.Add(2 * day)}}, []string{a + " rest 1h0m0s"}},
		{"failed before the last success", view{wants: one("a.example.com"), present: present(certAt(-70*day, 20*day, "a.example.com")),
			attempts: failed("a.example.com", 3, -71*day, time.Hour)}, []string{a + " obtain"}},
		{"attempt from a clock far ahead", view{wants: one("a.example.com"), attempts: failed("a.example.com", 3, 400*day, 401*day)},
			[]string{a + " obtain"}},
		{"paused here", view{wants: one("a.example.com"), pauses: map[key]time.Time{k("a.example.com"): noon.Add(time.Second)}},
			[]string{a + " rest 1s"}},
		{"journal left behind", view{wants: one("a.example.com"), present: present(certAt(-day, 89*day, "a.example.com")),
			journals: map[key]string{k("a.example.com"): ""}, issuers: map[string]Issuer{"ca": &constIssuer{}}},
			[]string{a + " finish", a + " rest 1506h0m0s"}},
		{"journal of a fresh certificate", view{present: present(certAt(-10*time.Second, 89*day, "a.example.com")),
			journals: map[key]string{k("a.example.com"): ""}, issuers: map[string]Issuer{"ca": &constIssuer{}}},
			[]string{a + " rest 20s"}},
		{"journal of a renewal in work", view{wants: one("a.example.com"), present: present(certAt(-70*day, 20*day, "a.example.com")),
			journals: map[key]string{k("a.example.com"): ""}, issuers: map[string]Issuer{"ca": &constIssuer{}}}, []string{a + " obtain"}},
		{"journal of an issuer nobody has", view{present: present(certAt(-day, 89*day, "a.example.com")),
			journals: map[key]string{k("a.example.com"): ""}}, nil},
		{"journal nobody wants", orphanView(orphan{}, ""), []string{a + " rest 30s"}},
		{"journal nobody wants, for a minute", orphanView(orphan{since: noon.Add(-time.Minute)}, ""), []string{a + " sweep"}},
		{"journal nobody wants, in work", orphanView(orphan{since: noon.Add(-time.Minute)}, "r2"), nil},
		{"journal nobody wants, swept in vain", orphanView(orphan{since: noon.Add(-time.Hour), swept: noon.Add(-time.Minute)}, ""), []string{a + " rest 4m0s"}},
		{"journal nobody wants, certificate due", with(orphanView(orphan{since: noon.Add(-time.Minute)}, ""), func(v *view) {
			v.present = present(certAt(-80*day, 10*day, "a.example.com"))
		}), []string{a + " sweep"}},
		{"journal nobody wants, nothing to sweep for a day", with(orphanView(orphan{since: noon.Add(-time.Minute)}, ""), func(v *view) {
			v.sweeps = map[key]time.Time{k("a.example.com"): noon.Add(day)}
		}), []string{a + " rest 24h0m0s"}},
		{"journal nobody wants, nothing to sweep", with(orphanView(orphan{since: noon.Add(-time.Minute)}, ""), func(v *view) { v.sweeps = nil }), nil},
		{"journal of a name a wildcard serves now", with(orphanView(orphan{since: noon.Add(-time.Minute)}, ""), func(v *view) {
			v.wants, v.present = wantsFor(rule("a.example.com"), listed("*.example.com")), present(certAt(-day, 89*day, "*.example.com"))
		}), []string{a + " sweep", a + " rest 2136h0m0s covered by " + wild, wild + " rest 1506h0m0s"}},
		{"journal of a wanted name, to be tried later", with(orphanView(orphan{since: noon.Add(-time.Minute)}, ""), func(v *view) {
			v.wants, v.attempts = one("a.example.com"), failed("a.example.com", 3, -time.Minute, time.Hour)
		}), []string{a + " rest 1h0m0s"}},

		{"second issuer, first is new", view{wants: wantsFor(inOrder)}, []string{a + " obtain", a + " rest at other"}},
		{"second issuer, first failed twice", view{wants: wantsFor(inOrder), attempts: failed("a.example.com", 2, -time.Minute, time.Hour)},
			[]string{a + " rest 1h0m0s", a + " rest at other"}},
		{"second issuer, first keeps failing", view{wants: wantsFor(inOrder), attempts: failed("a.example.com", 3, -time.Minute, time.Hour)},
			[]string{a + " rest 1h0m0s", a + " obtain at other"}},
		{"second issuer, first is away", view{wants: wantsFor(inOrder), attempts: unreached(failed("a.example.com", 10, -time.Minute, time.Hour))},
			[]string{a + " rest 1h0m0s", a + " rest at other"}},
		{"second issuer, first is away for long", view{wants: wantsFor(inOrder), attempts: unreached(failed("a.example.com", 20, -time.Minute, time.Hour))},
			[]string{a + " rest 1h0m0s", a + " obtain at other"}},
		{"second issuer, first fails to renew", view{wants: wantsFor(inOrder), present: present(certAt(-65*day, 25*day, "a.example.com")),
			attempts: failed("a.example.com", 5, -time.Minute, time.Hour)}, []string{a + " rest 1h0m0s", a + " rest 168h0m0s at other"}},
		{"second issuer, first fails to renew for long", view{wants: wantsFor(inOrder), present: present(certAt(-75*day, 15*day, "a.example.com")),
			attempts: failed("a.example.com", 5, -time.Minute, time.Hour)}, []string{a + " rest 1h0m0s", a + " obtain at other"}},
		{"second issuer has it, first works again", view{wants: wantsFor(inOrder), present: present(certAt(-day, 89*day, "a.example.com"), second(-61*day, 29*day))},
			[]string{a + " rest 1506h0m0s", a + " rest 66h0m0s at other"}},

		{"rule under a wanted wildcard", view{wants: wantsFor(rule("a.example.com"), listed("*.example.com"))},
			[]string{wild + " obtain", a + " rest covered by " + wild}},
		{"listed under a wanted wildcard", view{wants: wantsFor(listed("a.example.com"), listed("*.example.com"))},
			[]string{a + " obtain", wild + " obtain"}},
		{"rule in a wanted set", view{wants: wantsFor(rule("a.example.com"), listed("a.example.com", "b.example.com"))},
			[]string{both + " obtain", a + " rest covered by " + both}},
		{"rule too deep for the wildcard", view{wants: wantsFor(rule("x.a.example.com"), listed("*.example.com"))},
			[]string{wild + " obtain", ID([]string{"x.a.example.com"}) + " obtain"}},
		{"rule with another issuer", view{wants: wantsFor(Want{Names: []string{"a.example.com"}, Issuer: "other", FromRule: true}, listed("*.example.com"))},
			[]string{wild + " obtain", a + " obtain"}},
		{"the wildcard keeps failing", view{wants: wantsFor(rule("a.example.com"), listed("*.example.com")),
			attempts: failed("*.example.com", 3, -time.Minute, time.Hour)},
			[]string{a + " obtain", wild + " rest 1h0m0s"}},
		{"the wildcard's issuer is away", view{wants: wantsFor(rule("a.example.com"), listed("*.example.com")),
			attempts: unreached(failed("*.example.com", 3, -time.Minute, time.Hour))},
			[]string{a + " rest covered by " + wild, wild + " rest 1h0m0s"}},
		{"the wildcard keeps failing to renew", view{wants: wantsFor(rule("a.example.com"), listed("*.example.com")),
			present:  present(certAt(-80*day, 10*day, "*.example.com")),
			attempts: failed("*.example.com", 3, -time.Minute, time.Hour)},
			[]string{a + " rest 240h0m0s covered by " + wild, wild + " rest 1h0m0s"}},
		{"two rules that cover each other", view{wants: wantsFor(
			Want{Names: []string{"*.example.com"}, Issuer: "ca", FromRule: true},
			Want{Names: []string{"*.example.com", "a.example.com"}, Issuer: "ca", FromRule: true})},
			[]string{ID([]string{"*.example.com", "a.example.com"}) + " rest covered by " + wild, wild + " obtain"}},
		{"rule under an imported certificate", view{wants: wantsFor(rule("a.example.com")),
			present: present(certAt(-10*day, 80*day, "a.example.com", "b.example.com"))},
			[]string{a + " rest 1290h0m0s covered by " + both}},
		{"rule under an imported certificate that is due", view{wants: wantsFor(rule("a.example.com")),
			present: present(certAt(-80*day, 10*day, "a.example.com", "b.example.com"))}, []string{a + " obtain"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, a := range plan(noon, tt.v, "r1") {
				got = append(got, line(a))
			}
			sortAll := cmp.Transformer("sort", func(s []string) map[string]int {
				m := map[string]int{}
				for _, l := range s {
					m[l]++
				}
				return m
			})
			if d := cmp.Diff(tt.want, got, sortAll); d != "" {
				t.Errorf("plan (-want +got):\n%s", d)
			}
		})
	}
}

// orphanView has a journal of a.example.com that leaves something behind.
func orphanView(o orphan, holder string) view {
	k := key{"ca", ID([]string{"a.example.com"})}
	v := view{issuers: map[string]Issuer{"ca": &constIssuer{}}, journals: map[key]string{k: ""}, sweeps: map[key]time.Time{k: {}}}
	v.orphans, v.holders = map[key]orphan{k: o}, map[key]string{}
	if holder != "" {
		v.holders[k] = holder
	}
	return v
}

func with(v view, change func(*view)) view {
	change(&v)
	return v
}

func wantsFor(list ...Want) []want {
	wants, rejected := cleanWants(list, map[string]Issuer{"ca": &constIssuer{}, "other": &constIssuer{}})
	if len(rejected) > 0 {
		panic(fmt.Sprint(rejected))
	}
	return wants
}

// TestObtainedByAClockAhead: a person's word and the pause after a failure count
// all the same.
func TestObtainedByAClockAhead(t *testing.T) {
	c := certAt(-10*day, 80*day, "a.example.com")
	c.Obtained = noon.Add(20 * day)
	asked := noon.Add(-time.Minute)
	if do, _ := decide(noon, c, attempt{}, renewal{serial: "7"}, asked); do != obtain {
		t.Error("what a person asked for is not done")
	}
	failed := attempt{Failures: 3, Last: noon.Add(-time.Second), Next: noon.Add(2 * time.Minute)}
	if do, at := decide(noon, c, failed, renewal{serial: "7"}, asked); do != rest || !at.Equal(failed.Next) {
		t.Errorf("after a failure: %v at %s, want a rest until %s", do, at, failed.Next)
	}
	c.Obtained = noon.Add(time.Minute) // an ordinary difference
	if do, _ := decide(noon, c, attempt{}, renewal{serial: "7"}, asked); do != rest {
		t.Error("it is done again")
	}
}

func TestPlanBeginsWithTheMostUrgent(t *testing.T) {
	v := view{
		wants: wantsFor(Want{Names: []string{"late"}, Issuer: "ca"}, Want{Names: []string{"later"}, Issuer: "ca"}, Want{Names: []string{"new"}, Issuer: "ca"}),
		present: map[key]*Certificate{
			{"ca", ID([]string{"late"})}:  certAt(-80*day, 10*day, "late"),
			{"ca", ID([]string{"later"})}: certAt(-85*day, 5*day, "later"),
		},
	}
	var got []string
	for _, a := range plan(noon, v, "r1") {
		got = append(got, a.want.names[0])
	}
	if d := cmp.Diff([]string{"new", "later", "late"}, got); d != "" {
		t.Error(d)
	}
}

func TestNextAttempt(t *testing.T) {
	plain := errors.New("no")
	for i, want := range []time.Duration{20 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
		30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 6 * time.Hour, 6 * time.Hour} {
		low, high := nextAttempt(noon, attempt{Failures: i + 1}, plain, 0).Sub(noon), nextAttempt(noon, attempt{Failures: i + 1}, plain, 0.999).Sub(noon)
		if low != want*3/4 || high <= low || high > want {
			t.Errorf("after %d failures: %s to %s, want within %s", i+1, low, high, want)
		}
	}
	after := fmt.Errorf("newOrder: %w", &RetryError{Err: plain, After: noon.Add(34 * time.Hour)})
	if got := nextAttempt(noon, attempt{Failures: 1}, after, 0).Sub(noon); got != 34*time.Hour {
		t.Errorf("the issuer asks for 34h, next in %s", got)
	}
	soon := &RetryError{Err: plain, After: noon.Add(time.Second)}
	if got := nextAttempt(noon, attempt{Failures: 5}, soon, 0).Sub(noon); got != 450*time.Second {
		t.Errorf("the issuer allows 1s, next in %s", got)
	}
	never := &RetryError{Err: plain, After: noon.AddDate(50, 0, 0)}
	if got := nextAttempt(noon, attempt{Failures: 1}, never, 0).Sub(noon); got != maxDelay {
		t.Errorf("the issuer asks for 50 years, next in %s", got)
	}
}

func unreached(attempts map[key]attempt) map[key]attempt {
	for k, a := range attempts {
		a.Unreached = a.Failures
		attempts[k] = a
	}
	return attempts
}

// TestNextAttemptUnreached: an issuer that does not answer is asked again
// within half a minute for a quarter of an hour, and its absence is not held
// against the order once it is back.
func TestNextAttemptUnreached(t *testing.T) {
	away := fmt.Errorf("order: %w", &RetryError{Err: errors.New("no answer"), Unreached: true})
	a := attempt{}
	for i := range 100 {
		a = a.after(away)
		d := nextAttempt(noon, a, away, 0.999).Sub(noon)
		if most := map[bool]time.Duration{true: 30 * time.Second, false: 5 * time.Minute}[i < 20]; d > most || d < 15*time.Second {
			t.Errorf("out of reach for the %d. time: next in %s, want at most %s", i+1, d, most)
		}
	}
	refused := errors.New("no")
	a = a.after(refused)
	if d := nextAttempt(noon, a, refused, 0.999).Sub(noon); d > 20*time.Second {
		t.Errorf("the first refusal after an outage: next in %s", d)
	}
}

func BenchmarkPlan10k(b *testing.B) {
	v := view{present: map[key]*Certificate{}, renewals: map[key]renewal{}}
	var list []Want
	for i := range 10000 {
		n := fmt.Sprintf("n%d.example.com", i)
		list = append(list, Want{Names: []string{n}, Issuer: "ca", FromRule: i%2 == 0})
		if i%10 > 0 {
			v.present[key{"ca", ID([]string{n})}] = certAt(-day, 80*day, n)
		}
	}
	v.wants = wantsFor(list...)
	b.ReportAllocs()
	for b.Loop() {
		plan(noon, v, "r1")
	}
}
