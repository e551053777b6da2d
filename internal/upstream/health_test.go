package upstream

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/config"
)

type tripFunc func(*http.Request) (*http.Response, error)

func (f tripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestProbeLoop runs the loop on synthetic time, with answers by the clock.
func TestProbeLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		state := &serverState{service: &serviceState{name: "s"}}
		start := time.Now()
		var asked []time.Duration
		h := &probe{
			state: state, url: "http://a/ping", every: 10 * time.Second, within: 3 * time.Second, logger: slog.New(slog.DiscardHandler),
			via: tripFunc(func(r *http.Request) (*http.Response, error) {
				asked = append(asked, time.Since(start))
				code := 200
				switch len(asked) {
				case 2:
					code = 500
				case 3:
					return nil, errors.New("refused")
				case 4: // slower than allowed
					<-r.Context().Done()
					return nil, r.Context().Err()
				case 5:
					code = 399
				}
				return &http.Response{StatusCode: code, Body: io.NopCloser(strings.NewReader("x"))}, nil
			}),
		}
		done := make(chan bool)
		go func() { h.run(ctx); close(done) }()
		var up []bool
		for range 5 {
			time.Sleep(5 * time.Second)
			up = append(up, state.up())
			time.Sleep(5 * time.Second)
		}
		if !slices.Equal(up, []bool{true, false, false, false, true}) {
			t.Error(up)
		}
		if n := state.service.health.Load(); n != 2 {
			t.Error(n, "changes")
		}
		cancel()
		<-done
		if asked[0] != 0 || asked[1] != 10*time.Second || asked[4] != 40*time.Second {
			t.Error(asked)
		}
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

func TestHealthOverReload(t *testing.T) {
	var sick atomic.Bool
	var hosts atomic.Value
	serve := func(name string, sick *atomic.Bool) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/health" {
				hosts.Store(r.Host + r.Header.Get("X-Probe"))
				if sick != nil && sick.Load() {
					w.WriteHeader(500)
				}
				return
			}
			io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		return s
	}
	a, b := serve("a", &sick), serve("b", nil)
	r := NewRegistry(Options{})
	t.Cleanup(r.Close)
	lb := config.LoadBalancer{
		Servers: []config.Server{{Name: "a", URL: a.URL, Weight: 1}, {Name: "b", URL: b.URL, Weight: 1}},
		HealthCheck: &config.HealthCheck{Path: "/health?x", Hostname: "probe.example.com", Headers: map[string]string{"X-Probe": "!"},
			Interval: 5 * time.Millisecond, Timeout: time.Second},
	}
	ask := func(s *Set) string {
		service, _ := s.Service("s")
		var all string
		for range 4 {
			w := httptest.NewRecorder()
			service.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			all += w.Body.String()
		}
		return all
	}
	first, problems := r.Build(map[string]config.Service{"s": {LoadBalancer: &lb}}, 0)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if hosts.Load() != nil {
		t.Fatal("a set that is not active probes")
	}
	sick.Store(true)
	first.Activate()
	waitFor(t, "a down", func() bool { return !first.View()[0].Servers[0].Up })
	if got := ask(first); got != "bbbb" {
		t.Error(got)
	}
	if got := hosts.Load(); got != "probe.example.com!" {
		t.Error(got)
	}
	if v := first.View()[0].Servers[0]; v.Checked == nil || !strings.HasSuffix(v.Error, "answered 500, wanted 200 to 399") {
		t.Errorf("%+v", v)
	}
	running := r.probes[first.pools[0].servers[0].state]

	// The next snapshot knows at once, and the same probe goes on.
	second, _ := r.Build(map[string]config.Service{"s": {LoadBalancer: &lb}}, 0)
	if got := ask(second); got != "bbbb" {
		t.Error(got)
	}
	second.Activate()
	first.Release()
	if r.probes[second.pools[0].servers[0].state] != running {
		t.Error("the probe was started anew")
	}
	sick.Store(false)
	waitFor(t, "a up", func() bool { return second.View()[0].Servers[0].Up })
	if got := ask(second); strings.Count(got, "a") != 2 {
		t.Error(got)
	}

	// Without a health check nobody is held down by the last one.
	sick.Store(true)
	waitFor(t, "a down", func() bool { return !second.View()[0].Servers[0].Up })
	unchecked := lb
	unchecked.HealthCheck = nil
	third, _ := r.Build(map[string]config.Service{"s": {LoadBalancer: &unchecked}}, 0)
	third.Activate()
	second.Release()
	if got := ask(third); strings.Count(got, "a") != 2 || len(r.probes) != 0 {
		t.Error(got, len(r.probes))
	}
	third.Release()
	if len(r.services)+len(r.transports) != 0 {
		t.Error("state stayed:", r.services, r.transports)
	}
}

func TestAllDown(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }))
	t.Cleanup(s.Close)
	r := NewRegistry(Options{})
	t.Cleanup(r.Close)
	set, _ := r.Build(map[string]config.Service{
		"s": {LoadBalancer: &config.LoadBalancer{
			Servers:     []config.Server{{URL: s.URL, Weight: 1}},
			HealthCheck: &config.HealthCheck{Interval: time.Hour},
		}},
		"w": {Weighted: &config.Weighted{Services: []config.WeightedService{{Name: "s", Weight: 1}}}},
	}, 0)
	t.Cleanup(set.Release)
	set.Activate()
	waitFor(t, "down", func() bool { return !set.View()[0].Available })
	for _, name := range []string{"s", "w"} {
		service, _ := set.Service(name)
		w := httptest.NewRecorder()
		service.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 503 || w.Header().Get(ReasonHeader) != string(NoServer) || w.Header().Get("Retry-After") == "" {
			t.Error(name, w.Code, w.Header())
		}
	}
}
