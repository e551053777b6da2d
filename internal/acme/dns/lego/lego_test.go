package lego

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
	"go.uber.org/goleak"

	"gatehouse/internal/acme/dns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) } // some of lego's modules start their own

// theirs is a provider of lego's kind that remembers in memory what it wrote.
type theirs struct {
	mu      sync.Mutex
	calls   []string
	mine    map[string]bool
	now     map[string]int
	most    int // calls at one domain at once
	all     int
	mostAll int
	err     error
}

func (p *theirs) call(verb, domain, token, keyAuth string) {
	p.mu.Lock()
	p.calls = append(p.calls, strings.Join([]string{verb, domain, token, keyAuth}, " "))
	p.now[domain]++
	p.all++
	p.most, p.mostAll = max(p.most, p.now[domain]), max(p.mostAll, p.all)
	p.mu.Unlock()
	time.Sleep(time.Second)
	p.mu.Lock()
	p.now[domain]--
	p.all--
	p.mu.Unlock()
}

func (p *theirs) Present(_ context.Context, domain, token, keyAuth string) error {
	p.call("present", domain, token, keyAuth)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mine[token] = true
	return p.err
}

func (p *theirs) CleanUp(_ context.Context, domain, token, keyAuth string) error {
	p.call("cleanup", domain, token, keyAuth)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mine[token] {
		return fmt.Errorf("unknown record ID for '%s'", domain)
	}
	return p.err
}

type oneByOne struct{ *theirs }

func (oneByOne) Sequential() time.Duration { return time.Minute }

func newTheirs() *theirs { return &theirs{mine: map[string]bool{}, now: map[string]int{}} }

func rec(name, domain, token string) dns.Record {
	return dns.Record{Zone: "example.org", Name: name, Value: "v", Domain: domain, KeyAuth: token + ".thumb"}
}

func TestTerms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newTheirs()
		p := adapt("fake", l, nil)
		usual, alias := rec("_acme-challenge.a.example.org", "a.example.org", "t1"), rec("x.alias.test", "b.example.org", "t2")
		if err := errors.Join(p.Present(t.Context(), usual), p.Present(t.Context(), alias), p.CleanUp(t.Context(), alias), p.CleanUp(t.Context(), usual)); err != nil {
			t.Error(err)
		}
		want := []string{"present a.example.org t1 t1.thumb", "present b.example.org t2 t2.thumb", "cleanup b.example.org t2 t2.thumb", "cleanup a.example.org t1 t1.thumb"}
		if diff := cmp.Diff(want, l.calls); diff != "" {
			t.Error(diff)
		}
		if len(p.wrote) != 0 || len(p.busy) != 0 {
			t.Error("it remembers what is done", p.wrote, p.busy)
		}
	})
}

// TestOneAtATime: calls for one name never meet; those of other names do,
// unless lego's provider cannot bear that.
func TestOneAtATime(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(*theirs) challenger
		all  int
	}{
		{"by name", func(l *theirs) challenger { return l }, 3},
		{"sequential", func(l *theirs) challenger { return oneByOne{l} }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newTheirs()
				p := adapt("fake", c.wrap(l), nil)
				var wg sync.WaitGroup
				for i := range 12 {
					d := fmt.Sprintf("n%d.example.org", i%3)
					wg.Go(func() {
						if err := p.Present(t.Context(), rec("_acme-challenge."+d, d, fmt.Sprint("t", i))); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if len(l.calls) != 12 || l.most != 1 || l.mostAll != c.all {
					t.Errorf("%d calls, %d at one name, %d at once", len(l.calls), l.most, l.mostAll)
				}
			})
		})
	}
}

func TestErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newTheirs()
		l.err = errors.New("fake: 403")
		p := adapt("fake", l, slog.New(slog.NewTextHandler(&log, nil)))
		r := rec("_acme-challenge.a.example.org", "a.example.org", "t1")
		if err := p.Present(t.Context(), r); err == nil || err.Error() != "lego's fake: fake: 403" {
			t.Error(err)
		}
		if err := p.CleanUp(t.Context(), r); err == nil || err.Error() != "lego's fake: fake: 403" {
			t.Error(err)
		}
		if err := p.CleanUp(t.Context(), rec("_acme-challenge.b.example.org", "b.example.org", "t2")); err != nil || !strings.Contains(log.String(), "name=_acme-challenge.b.example.org value=v") {
			t.Error(err, log.String())
		}
		old := r
		old.KeyAuth = ""
		if err := errors.Join(p.Present(t.Context(), old)); err == nil || !strings.Contains(err.Error(), "older version") {
			t.Error(err)
		}
		if err := p.CleanUp(t.Context(), old); err == nil {
			t.Error("no key authorization, no error")
		}
		free, err := p.enter(t.Context(), r.Name)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Present(ctx, r); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait for another record") {
			t.Error(err)
		}
		free()
	})
}
