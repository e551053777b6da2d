package route53

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gatehouse/e2e/rig"
	double "gatehouse/e2e/rig/route53"
	"gatehouse/internal/acme/dns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick is a pace for tests; the API's own rules are not softened.
var quick = Timing{Gather: 20 * time.Millisecond, Poll: 10 * time.Millisecond, Patience: 500 * time.Millisecond, Spacing: time.Millisecond, Backoff: 50 * time.Millisecond}

func start(t *testing.T, o double.Options) *double.Double {
	t.Helper()
	if o.Zones == nil {
		o.Zones = []double.Zone{{ID: "ZOFFICE", Name: "office.example.org"}}
	}
	d, err := double.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(d.Err(), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

// shown reads what the double's zone has, as a DNS without delay would.
type shown struct {
	d  *double.Double
	id string
}

func (s shown) ReadTXT(_ context.Context, _, name string) ([]string, time.Duration, error) {
	return s.d.Values(s.id, name), 10 * time.Second, nil
}

// blind cannot read the DNS.
type blind struct{}

func (blind) ReadTXT(context.Context, string, string) ([]string, time.Duration, error) {
	return nil, 0, errors.New("port 53 is blocked")
}

// replica is one process's provider.
func replica(t *testing.T, d *double.Double, reader Reader, env ...string) (*Provider, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	vars := d.Env()
	for i := 0; i < len(env); i += 2 {
		vars[env[i]] = env[i+1]
	}
	p, err := New(Options{Getenv: func(n string) string { return vars[n] }, Reader: reader, Timing: quick, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.closeIdle)
	return p, &log
}

// closeIdle ends the HTTP client's idle connections, for the leak check.
func (p *Provider) closeIdle() {
	if c, ok := p.api.client.Options().HTTPClient.(*pacedClient); ok {
		if b, ok := c.inner.(interface{ CloseIdleConnections() }); ok {
			b.CloseIdleConnections()
		}
	}
}

const apex = "_acme-challenge.office.example.org"

func rec(value string) dns.Record {
	return dns.Record{Zone: "office.example.org", Name: apex, Value: value, TTL: 10 * time.Second}
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// together runs all at once and gives the errors.
func together(fs ...func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func want(t *testing.T, d *double.Double, name string, values ...string) {
	t.Helper()
	if got := d.Values("ZOFFICE", name); !slices.Equal(got, values) {
		t.Errorf("at %s: %q, want %q", name, got, values)
	}
}

// actions counts the calls by action and, if it failed, code.
func actions(d *double.Double) map[string]int {
	n := map[string]int{}
	for _, c := range d.Calls() {
		n[strings.TrimSuffix(c.Action+" "+c.Code, " ")]++
	}
	return n
}

// TestPostPolicy is the whole way under the post's IAM policy: three names and
// a wildcard, apex and wildcard at one name, with the real SDK.
func TestPostPolicy(t *testing.T) {
	d := start(t, double.Options{SyncDelay: 50 * time.Millisecond, Zones: []double.Zone{
		{ID: "ZOFFICE", Name: "office.example.org"}, {ID: "ZTWIN", Name: "office.example.org", Private: true}, {ID: "ZPARENT", Name: "example.org"}}})
	p, log := replica(t, d, blind{})
	ctx := ctxOf(t)
	var recs []dns.Record
	for i, domain := range []string{"office.example.org", "*.office.example.org", "nodejs-app.office.example.org", "encompass.office.example.org"} {
		r := dns.Record{Name: dns.ChallengeName(domain), Value: fmt.Sprint("value", i), TTL: dns.DefaultTTL}
		var err error
		if r.Zone, err = p.FindZone(ctx, r.Name); err != nil || r.Zone != "office.example.org" {
			t.Fatalf("zone of %s: %q, %v", r.Name, r.Zone, err)
		}
		recs = append(recs, r)
	}
	var present, clean []func() error
	for _, r := range recs {
		present = append(present, func() error { return p.Present(ctx, r) })
		clean = append(clean, func() error { return p.CleanUp(ctx, r) })
	}
	began := time.Now()
	if err := together(present...); err != nil {
		t.Fatal(err)
	}
	if time.Since(began) < 50*time.Millisecond {
		t.Error("Present did not wait for INSYNC")
	}
	want(t, d, apex, "value0", "value1")
	want(t, d, recs[2].Name, "value2")
	if err := together(clean...); err != nil {
		t.Fatal(err)
	}
	want(t, d, apex)
	n := actions(d)
	delete(n, "GetChange")
	if diff := cmp.Diff(map[string]int{"ListHostedZonesByName": 1, "ChangeResourceRecordSets": 2}, n); diff != "" {
		t.Errorf("calls %s", diff)
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
}

// TestValuesOfOthersSurvive: two replicas that know nothing of each other work
// at one name, and every step keeps what the other one needs.
func TestValuesOfOthersSurvive(t *testing.T) {
	for _, c := range []struct {
		name    string
		mayList bool
		reader  func(*double.Double) Reader
	}{
		{"seen by the DNS", false, func(d *double.Double) Reader { return shown{d, "ZOFFICE"} }},
		{"read by the API", true, func(*double.Double) Reader { return blind{} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := start(t, double.Options{MayList: c.mayList})
			a, logA := replica(t, d, c.reader(d))
			b, logB := replica(t, d, c.reader(d))
			ctx := ctxOf(t)
			step := func(err error, values ...string) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				want(t, d, apex, values...)
			}
			step(a.Present(ctx, rec("a1")), "a1")
			step(b.Present(ctx, rec("b1")), "a1", "b1")
			step(a.Present(ctx, rec("a2")), "a1", "a2", "b1")
			step(b.CleanUp(ctx, rec("b1")), "a1", "a2")
			step(b.CleanUp(ctx, rec("b1")), "a1", "a2") // gone is a success
			step(b.Present(ctx, rec("b2")), "a1", "a2", "b2")
			step(together(func() error { return a.CleanUp(ctx, rec("a1")) }, func() error { return a.CleanUp(ctx, rec("a2")) }), "b2")
			step(together(func() error { return a.Present(ctx, rec("a3")) }, func() error { return b.CleanUp(ctx, rec("b2")) }), "a3")
			step(a.CleanUp(ctx, rec("a3")))
			for _, log := range []*bytes.Buffer{logA, logB} {
				if strings.Contains(log.String(), "overwriting") {
					t.Errorf("something was overwritten: %s", log)
				}
			}
		})
	}
}

// TestStorm: five replicas at one name at once; no value is ever lost.
func TestStorm(t *testing.T) {
	d := start(t, double.Options{})
	ctx := ctxOf(t)
	var steps []func() error
	for i := range 5 {
		p, _ := replica(t, d, shown{d, "ZOFFICE"})
		p.timing.Patience = 5 * time.Second
		for j := range 2 {
			r := rec(fmt.Sprintf("replica%d-%d", i, j))
			steps = append(steps, func() error {
				if err := p.Present(ctx, r); err != nil {
					return err
				}
				if !slices.Contains(d.Values("ZOFFICE", apex), r.Value) {
					return fmt.Errorf("%s is not there after Present", r.Value)
				}
				time.Sleep(30 * time.Millisecond)
				if !slices.Contains(d.Values("ZOFFICE", apex), r.Value) {
					return fmt.Errorf("%s was lost", r.Value)
				}
				return p.CleanUp(ctx, r)
			})
		}
	}
	if err := together(steps...); err != nil {
		t.Error(err)
	}
	want(t, d, apex)
}

// TestTakeover: the process that wrote the records is gone; another one has
// the journal only.
func TestTakeover(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("presents again %v", gone), func(t *testing.T) {
			d := start(t, double.Options{})
			dead, _ := replica(t, d, blind{})
			heir, log := replica(t, d, blind{})
			ctx := ctxOf(t)
			both := func(f func(context.Context, dns.Record) error) error {
				return together(func() error { return f(ctx, rec("v1")) }, func() error { return f(ctx, rec("v2")) })
			}
			if err := both(dead.Present); err != nil {
				t.Fatal(err)
			}
			if gone {
				if err := both(heir.Present); err != nil {
					t.Fatal(err)
				}
				want(t, d, apex, "v1", "v2")
			}
			if err := both(heir.CleanUp); err != nil {
				t.Fatal(err)
			}
			want(t, d, apex)
			if log.Len() > 0 {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// behind is a DNS that shows an old state for the first reads.
type behind struct {
	shown
	old  []string
	left atomic.Int64
}

func (b *behind) ReadTXT(ctx context.Context, zone, name string) ([]string, time.Duration, error) {
	if b.left.Add(-1) >= 0 {
		return b.old, 10 * time.Second, nil
	}
	return b.shown.ReadTXT(ctx, zone, name)
}

// TestHeirsOfOneName: two clean-ups at one name, each finding out what is
// there while the other one does, do not undo what the other found.
func TestHeirsOfOneName(t *testing.T) {
	d := start(t, double.Options{})
	dead, _ := replica(t, d, blind{})
	dns := &behind{shown: shown{d, "ZOFFICE"}, old: []string{"gone", "v0", "v1"}}
	dns.left.Store(5)
	heir, _ := replica(t, d, dns)
	heir.timing.Patience = 2 * time.Second
	ctx := ctxOf(t)
	if err := together(func() error { return dead.Present(ctx, rec("v0")) }, func() error { return dead.Present(ctx, rec("v1")) }); err != nil {
		t.Fatal(err)
	}
	if err := together(func() error { return heir.CleanUp(ctx, rec("v0")) }, func() error {
		time.Sleep(2 * quick.Gather)
		return heir.CleanUp(ctx, rec("v1"))
	}); err != nil {
		t.Error(err)
	}
	want(t, d, apex)
}

// TestForgottenSet: a set nobody can read and nobody cleans up does not stand
// in the way for ever; it is overwritten with a warning. What is not ours
// alone is not deleted blindly.
func TestForgottenSet(t *testing.T) {
	d := start(t, double.Options{})
	dead, _ := replica(t, d, blind{})
	p, log := replica(t, d, blind{})
	ctx := ctxOf(t)
	if err := dead.Present(ctx, rec("orphan")); err != nil {
		t.Fatal(err)
	}
	err := p.CleanUp(ctx, rec("mine"))
	if err == nil || !strings.Contains(err.Error(), "could not be read, so it was left alone") || !strings.Contains(err.Error(), "do not match") {
		t.Errorf("CleanUp of a value in an unreadable set: %v", err)
	}
	want(t, d, apex, "orphan")
	if err := p.Present(ctx, rec("mine")); err != nil {
		t.Fatal(err)
	}
	want(t, d, apex, "mine")
	if !strings.Contains(log.String(), "overwriting it") {
		t.Errorf("log: %s", log)
	}
	if n := actions(d)["ListResourceRecordSets AccessDenied"]; n != 1 {
		t.Errorf("tried a refused right %d times, want once", n)
	}
}

// TestBatchIsNotSpoiled: one name's conflict does not fail the others.
func TestBatchIsNotSpoiled(t *testing.T) {
	d := start(t, double.Options{})
	other, _ := replica(t, d, blind{})
	p, _ := replica(t, d, shown{d, "ZOFFICE"})
	ctx := ctxOf(t)
	if err := other.Present(ctx, rec("other")); err != nil {
		t.Fatal(err)
	}
	var steps []func() error
	for i := range 20 {
		r := dns.Record{Zone: "office.example.org", Name: fmt.Sprintf("_acme-challenge.n%d.office.example.org", i), Value: "v", TTL: 10 * time.Second}
		steps = append(steps, func() error { return p.Present(ctx, r) })
	}
	foreign := dns.Record{Zone: "office.example.org", Name: "_acme-challenge.example.com", Value: "v"}
	var bad error
	steps = append(steps, func() error { return p.Present(ctx, rec("mine")) }, func() error { bad = p.Present(ctx, foreign); return nil })
	if err := together(steps...); err != nil {
		t.Fatal(err)
	}
	want(t, d, apex, "mine", "other")
	want(t, d, "_acme-challenge.n7.office.example.org", "v")
	if bad == nil || !strings.Contains(bad.Error(), "is not permitted in zone office.example.org") {
		t.Errorf("name outside the zone: %v", bad)
	}
	if n := actions(d); n["ChangeResourceRecordSets"]+n["ChangeResourceRecordSets InvalidChangeBatch"] > 15 {
		t.Errorf("calls %v", n)
	}
}

// TestThousandNames costs few requests: two zone lists at most, changes within
// Route 53's limits, one poll for all.
func TestThousandNames(t *testing.T) {
	d := start(t, double.Options{})
	p, _ := replica(t, d, blind{})
	ctx := ctxOf(t)
	var present, clean []func() error
	for i := range 1000 {
		present = append(present, func() error {
			name := fmt.Sprintf("_acme-challenge.n%d.office.example.org", i)
			zone, err := p.FindZone(ctx, name)
			if err != nil {
				return err
			}
			return p.Present(ctx, dns.Record{Zone: zone, Name: name, Value: strings.Repeat("v", 43), TTL: 10 * time.Second})
		})
		clean = append(clean, func() error {
			return p.CleanUp(ctx, dns.Record{Zone: "office.example.org", Name: fmt.Sprintf("_acme-challenge.n%d.office.example.org", i), Value: strings.Repeat("v", 43), TTL: 10 * time.Second})
		})
	}
	if err := errors.Join(together(present...), together(clean...)); err != nil {
		t.Fatal(err)
	}
	want(t, d, "_acme-challenge.n7.office.example.org")
	if n := len(d.Calls()); n > 30 {
		t.Errorf("%d calls: %v", n, actions(d))
	}
}

// TestThousandOrders is the same at the pace of production, against an API that
// throttles: names come over some seconds, as orders do, and so do clean-ups.
func TestThousandOrders(t *testing.T) {
	t.Parallel()
	d := start(t, double.Options{SyncDelay: 8 * time.Second, RateLimit: 5})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const names, over = 1000, 3 * time.Second
	a, log := replica(t, d, blind{})
	a.timing = Timing{Poll: 250 * time.Millisecond}.withDefaults() // as 32 s are to the second of production
	a.api.client.Options().HTTPClient.(*pacedClient).spacing = a.timing.Spacing
	began := time.Now()
	var steps []func() error
	for i := range names {
		steps = append(steps, func() error {
			name := fmt.Sprintf("_acme-challenge.n%d.office.example.org", i)
			_ = sleep(ctx, over*time.Duration(i)/names)
			zone, err := a.FindZone(ctx, name)
			if err != nil {
				return err
			}
			r := dns.Record{Zone: zone, Name: name, Value: strings.Repeat("v", 43), TTL: 10 * time.Second}
			if err := a.Present(ctx, r); err != nil {
				return err
			}
			_ = sleep(ctx, over*time.Duration(i)/names)
			return a.CleanUp(ctx, r)
		})
	}
	if err := together(steps...); err != nil {
		t.Fatal(err)
	}
	calls := d.Calls()
	t.Logf("%d names, %d calls in %v: %v", names, len(calls), time.Since(began).Round(time.Millisecond), actions(d))
	if len(calls) > 30 {
		t.Errorf("%d calls: %v", len(calls), actions(d))
	}
	for i := 4; i < len(calls); i++ {
		if gap := calls[i].At.Sub(calls[i-4].At); gap < 700*time.Millisecond {
			t.Errorf("calls %d to %d within %v: more than 4 a second", i-4, i, gap)
		}
	}
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
	want(t, d, "_acme-challenge.n7.office.example.org")
}

// TestThrottled: three replicas, each at its own pace, are more than the
// account may ask; every one gets its turn.
func TestThrottled(t *testing.T) {
	t.Parallel()
	d := start(t, double.Options{SyncDelay: 100 * time.Millisecond, RateLimit: 5})
	var steps []func() error
	for i := range 3 {
		p, _ := replica(t, d, blind{})
		p.timing.Poll, p.timing.Backoff = 200*time.Millisecond, 2*time.Second
		p.api.client.Options().HTTPClient.(*pacedClient).spacing = 100 * time.Millisecond
		for n := range 4 {
			steps = append(steps, func() error {
				time.Sleep(time.Duration(n) * 300 * time.Millisecond)
				return p.Present(ctxOf(t), dns.Record{Zone: "office.example.org", Name: fmt.Sprintf("_acme-challenge.r%dn%d.office.example.org", i, n), Value: "v"})
			})
		}
	}
	if err := together(steps...); err != nil {
		t.Error(err)
	}
	n := actions(d)
	t.Log(n)
	throttled := 0
	for what, times := range n {
		if strings.HasSuffix(what, "Throttling") {
			throttled += times
		}
	}
	if throttled == 0 {
		t.Error("nothing was throttled: this test shows nothing")
	}
}

// TestFaults: what the API and the network do to requests.
func TestFaults(t *testing.T) {
	d := start(t, double.Options{})
	p, log := replica(t, d, blind{}, "AWS_MAX_ATTEMPTS", "3")
	ctx := ctxOf(t)

	d.Fail("ChangeResourceRecordSets", 1, 400, "Throttling")
	d.Fail("ChangeResourceRecordSets", 1, 503, "ServiceUnavailable")
	if err := p.Present(ctx, rec("v1")); err != nil {
		t.Error("throttled twice:", err)
	}
	d.LoseReply("ChangeResourceRecordSets", 1)
	if err := p.Present(ctx, rec("v2")); err != nil {
		t.Error("reply lost after the change was made:", err)
	}
	want(t, d, apex, "v1", "v2")
	d.LoseReply("ChangeResourceRecordSets", 3)
	if err := p.Present(ctx, rec("v3")); err == nil {
		t.Error("no reply ever, and no error")
	}
	if err := p.Present(ctx, rec("v3")); err != nil {
		t.Error("it was made, unseen:", err)
	}
	want(t, d, apex, "v1", "v2", "v3")
	d.LoseReply("ChangeResourceRecordSets", 3)
	if err := p.CleanUp(ctx, rec("v1")); err == nil {
		t.Error("no reply ever, and no error")
	}
	if err := p.CleanUp(ctx, rec("v1")); err != nil {
		t.Error("it was removed, unseen:", err)
	}
	want(t, d, apex, "v2", "v3")
	if err := together(func() error { return p.CleanUp(ctx, rec("v2")) }, func() error { return p.CleanUp(ctx, rec("v3")) }); err != nil {
		t.Error(err)
	}
	want(t, d, apex)
	if log.Len() > 0 {
		t.Errorf("log: %s", log)
	}
	log.Reset()
	d.Fail("GetChange", 1, 403, "AccessDenied")
	if err := p.Present(ctx, rec("v3")); err != nil || !strings.Contains(log.String(), "must allow route53:GetChange on *") {
		t.Errorf("GetChange denied: %v, log %s", err, log)
	}
	want(t, d, apex, "v3")
}

// TestErrorsSayWhatToDo checks the messages for what an operator needs.
func TestErrorsSayWhatToDo(t *testing.T) {
	d := start(t, double.Options{Writable: []string{"ZELSE"}, Zones: []double.Zone{
		{ID: "ZOFFICE", Name: "office.example.org"}, {ID: "ZA", Name: "twice.test"}, {ID: "ZB", Name: "twice.test"}, {ID: "ZP", Name: "inside.test", Private: true}}})
	ctx := ctxOf(t)
	p, _ := replica(t, d, blind{})
	stranger, _ := replica(t, d, blind{}, "AWS_ACCESS_KEY_ID", "AKIANOBODY")
	gone, _ := replica(t, d, blind{}, "AWS_HOSTED_ZONE_ID", "ZGONE")
	pinned, _ := replica(t, d, blind{}, "AWS_HOSTED_ZONE_ID", "/hostedzone/ZB")
	zone := func(p *Provider, name string) error { _, err := p.FindZone(ctx, name); return err }
	for _, c := range []struct {
		name   string
		err    error
		noZone bool
		says   []string
	}{
		{"change denied", p.Present(ctx, rec("v")), false, []string{"route53 ChangeResourceRecordSets for zone ZOFFICE: AccessDenied: User: ", "(request 00000000-",
			"the IAM policy must allow route53:ChangeResourceRecordSets on arn:aws:route53:::hostedzone/ZOFFICE"}},
		{"unknown key", zone(stranger, apex), false, []string{"ListHostedZonesByName for name example.org: InvalidClientTokenId", "check AWS_ACCESS_KEY_ID"}},
		{"no zone", zone(p, "_acme-challenge.nobody.test"), true, []string{"route53 holds no zone for _acme-challenge.nobody.test"}},
		{"private only", zone(p, "_acme-challenge.inside.test"), true, []string{"only private zones"}},
		{"two of one name", zone(p, "_acme-challenge.twice.test"), true, []string{"2 public zones named twice.test (ZA, ZB)", "set AWS_HOSTED_ZONE_ID"}},
		{"one of two chosen", zone(pinned, "_acme-challenge.twice.test"), false, nil},
		{"chosen zone is another", zone(gone, apex), true, []string{"route53 zone ZGONE (AWS_HOSTED_ZONE_ID) does not hold " + apex}},
	} {
		if (c.err == nil) != (c.says == nil) || errors.Is(c.err, dns.ErrNoZone) != c.noZone {
			t.Errorf("%s: %v", c.name, c.err)
		}
		for _, s := range c.says {
			if !strings.Contains(fmt.Sprint(c.err), s) {
				t.Errorf("%s: error %v does not say %q", c.name, c.err, s)
			}
		}
		if strings.Contains(fmt.Sprint(c.err), double.SecretKey) {
			t.Errorf("%s: the error tells the secret", c.name)
		}
	}
	for _, c := range []struct{ env, says string }{
		{"AWS_ACCESS_KEY_ID=x", "AWS_SECRET_ACCESS_KEY is not"}, {"AWS_MAX_ATTEMPTS=many", "must be a number"}, {"AWS_PROFILE=no-such-profile", "no-such-profile"},
	} {
		name, value, _ := strings.Cut(c.env, "=")
		_, err := New(Options{Getenv: func(n string) string { return map[string]string{name: value}[n] }})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.env, err, c.says)
		}
	}
}

// TestLeaving: a caller that gives up is told where its change stood, and
// does not take the others with it.
func TestLeaving(t *testing.T) {
	d := start(t, double.Options{SyncDelay: 300 * time.Millisecond})
	p, _ := replica(t, d, blind{})
	hasty, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	ctx := ctxOf(t)
	var left error
	err := together(func() error { left = p.Present(hasty, rec("v1")); return nil }, func() error { return p.Present(ctx, rec("v2")) })
	if err != nil {
		t.Error("who stayed:", err)
	}
	if !errors.Is(left, context.DeadlineExceeded) || !strings.Contains(left.Error(), "is PENDING") {
		t.Error("who left:", left)
	}
	want(t, d, apex, "v1", "v2")
}

// TestLeaseEndsWhileGathering: what is asked for under a lease that has ended when
// its turn comes is not written, though no timer has told of that end yet.
func TestLeaseEndsWhileGathering(t *testing.T) {
	d := start(t, double.Options{})
	p, _ := replica(t, d, blind{})
	lost := errors.New("the lease is lost")
	asked := 0
	ctx := dns.Guard(ctxOf(t), func() error { asked++; return lost })
	if err := p.Present(ctx, rec("v1")); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	want(t, d, apex)
	if n := actions(d)["ChangeResourceRecordSets"]; n > 0 || asked == 0 {
		t.Errorf("%d changes, asked %d times", n, asked)
	}
}

// TestPace: requests keep their distance, retries included, and stay below
// Route 53's five a second.
func TestPace(t *testing.T) {
	t.Parallel()
	d := start(t, double.Options{RateLimit: 5})
	p, _ := replica(t, d, blind{})
	p.api.client.Options().HTTPClient.(*pacedClient).spacing = 250 * time.Millisecond
	var steps []func() error
	for i := range 7 {
		steps = append(steps, func() error { _, err := p.api.zonesFrom(t.Context(), fmt.Sprintf("n%d.test", i)); return err })
	}
	if err := together(steps...); err != nil {
		t.Error(err)
	}
	calls := d.Calls()
	for i := 4; i < len(calls); i++ {
		if gap := calls[i].At.Sub(calls[i-4].At); gap < 700*time.Millisecond {
			t.Errorf("calls %d to %d within %v", i-4, i, gap)
		}
	}
	if n := actions(d)["ListHostedZonesByName Throttling"]; n > 0 || len(calls) != 7 {
		t.Errorf("%d calls, %d throttled", len(calls), n)
	}
}

// TestRealDNS: the double writes into a real Knot; the solver's way by plan,
// present, wait, clean up, and a second replica that reads the first one's
// value from that DNS.
func TestRealDNS(t *testing.T) {
	k := rig.StartKnot(t, "office.example.org")
	d := start(t, double.Options{SyncDelay: 100 * time.Millisecond, DNS: &double.DNS{Addr: k.Addr(), KeyName: k.KeyName, Secret: k.Secret}})
	reader := dns.NewReader([]string{k.Addr()})
	a, _ := replica(t, d, reader)
	b, logB := replica(t, d, reader)
	a.timing.Patience, b.timing.Patience = 10*time.Second, 10*time.Second
	ctx := ctxOf(t)
	s := dns.NewSolver(dns.SolverOptions{Provider: a, Resolvers: []string{k.Addr()}})
	var recs []dns.Record
	for _, domain := range []string{"office.example.org", "*.office.example.org"} {
		r, err := s.Plan(ctx, domain, "token of "+domain[:1])
		if err != nil || r.Zone != "office.example.org" || r.Name != apex {
			t.Fatalf("plan %+v, %v", r, err)
		}
		recs = append(recs, r)
	}
	if err := together(func() error { return s.Present(ctx, recs[0]) }, func() error { return s.Present(ctx, recs[1]) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx, recs); err != nil {
		t.Fatal(err)
	}
	if err := b.Present(ctx, rec("of another")); err != nil {
		t.Fatal(err)
	}
	values, _, err := reader.ReadTXT(ctx, "office.example.org", apex)
	if want := []string{"of another", "token of *", "token of o"}; err != nil || !slices.Equal(values, want) {
		t.Errorf("the DNS shows %q, %v; want %q", values, err, want)
	}
	if err := together(func() error { return s.CleanUp(ctx, recs[0]) }, func() error { return s.CleanUp(ctx, recs[1]) }, func() error { return b.CleanUp(ctx, rec("of another")) }); err != nil {
		t.Error(err)
	}
	want(t, d, apex)
	if strings.Contains(logB.String(), "overwriting") {
		t.Errorf("log: %s", logB)
	}
}
