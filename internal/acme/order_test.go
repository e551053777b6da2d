package acme

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// stuck is a CA whose order stays in one status, for what only time does: no
// real CA can be made to take an hour in no time.
type stuck struct {
	certificationAuthority
	began  time.Time
	looks  []time.Duration
	status string
	wait   time.Duration
	err    error
}

func (s *stuck) About(context.Context) (about, error) { return about{}, nil }

func (s *stuck) Now() (time.Time, bool) { return time.Time{}, false }

func (s *stuck) Register(_ context.Context, a acmez.Account, _ *EAB) (acmez.Account, error) {
	a.Location = "https://ca.example/acct/1"
	return a, nil
}

func (s *stuck) NewOrder(context.Context, acmez.Account, acmez.Order) (acmez.Order, error) {
	s.began = time.Now()
	return acmez.Order{Location: "https://ca.example/order/1", Status: s.status}, s.err
}

func (s *stuck) Order(context.Context, acmez.Account, string) (acmez.Order, time.Duration, error) {
	s.looks = append(s.looks, time.Since(s.began))
	s.began = time.Now()
	return acmez.Order{Status: s.status}, s.wait, s.err
}

// attempt is one Obtain of an issuer with the timing of production.
func attempt(t *testing.T, ca *stuck) error {
	t.Helper()
	st := store.NewMem(0).Replica("one")
	o := Options{ID: "stuck", Directory: "https://ca.example/dir", Challenge: http01, Store: st}
	real, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = real.opts.Logger
	i := assemble(o, ca, func() {})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lease, err := st.Acquire(ctx, "orders/stuck/x")
	if err != nil {
		t.Fatal(err)
	}
	_, err = i.Obtain(ctx, cert.Request{ID: "x", Names: []string{"a.example.com"}, Lease: lease})
	cancel()
	synctest.Wait()
	return err
}

func TestLooksGetRarer(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		0:                "[1s 2s 4s 8s 10s 10s]",
		3 * time.Second:  "[1s 3s 4s 8s 10s 10s]",
		20 * time.Second: "[1s 20s 20s 20s 20s 20s]",
		time.Hour:        "[1s 1m0s 1m0s 1m0s 1m0s 1m0s]",
	} {
		synctest.Test(t, func(t *testing.T) {
			ca := &stuck{status: "processing", wait: wait}
			began := time.Now()
			err := attempt(t, ca)
			if err == nil || !strings.Contains(err.Error(), "it is kept and looked at again") {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took < 15*time.Minute || took > 16*time.Minute {
				t.Errorf("it took %s", took)
			}
			if got := fmt.Sprint(ca.looks[:6]); got != want {
				t.Errorf("asked to wait %s it looked after %s, want %s", wait, got, want)
			}
		})
	}
}

func TestCallsThatMayWorkSoon(t *testing.T) {
	for name, c := range map[string]struct {
		err              *callError
		took             time.Duration
		retry, unreached bool
	}{
		"no answer":        {&callError{Op: "newOrder", Err: errors.New("reset")}, 15 * time.Second, true, true},
		"no directory":     {&callError{Op: "directory", Status: 200, Err: errors.New("garbage")}, 15 * time.Second, true, true},
		"503":              {&callError{Op: "newOrder", Status: 503}, 15 * time.Second, false, false},
		"refused":          {&callError{Op: "newOrder", Status: 403, Problem: &acmez.Problem{Type: acmez.ProblemTypeCAA}}, 0, false, false},
		"429 for an hour":  {&callError{Op: "newOrder", Status: 429, After: time.Now().Add(1000 * time.Hour)}, 0, true, false},
		"refused, no time": {&callError{Op: "newOrder", Status: 400}, 0, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			if !c.err.After.IsZero() {
				c.err.After = time.Now().Add(time.Hour)
			}
			began := time.Now()
			err := attempt(t, &stuck{err: c.err})
			if !errors.Is(err, error(c.err)) {
				t.Errorf("%s: got %v", name, err)
			}
			if took := time.Since(began); took != c.took {
				t.Errorf("%s: took %s, want %s", name, took, c.took)
			}
			var retry *cert.RetryError
			if errors.As(err, &retry) != c.retry || c.retry && retry.Unreached != c.unreached {
				t.Errorf("%s: %T %+v", name, err, retry)
			}
		})
	}
}
