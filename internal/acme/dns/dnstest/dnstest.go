// Package dnstest is what every DNS provider is tested with: the promises of
// dns.Provider as a test, and a recorder of the requests a provider makes. It
// knows no provider.
package dnstest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"gatehouse/internal/acme/dns"
)

// Recorder is an HTTP server on loopback that notes each request.
type Recorder struct {
	URL string

	mu    sync.Mutex
	lines []string
}

// Record starts a recorder in front of api. Of the header fields those named
// are noted; calls to api come one at a time.
func Record(t testing.TB, api http.HandlerFunc, fields ...string) *Recorder {
	t.Helper()
	r := &Recorder{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		line := req.Method + " " + req.URL.RequestURI()
		for _, f := range fields {
			if v := req.Header.Get(f); v != "" {
				line += " | " + f + ": " + v
			}
		}
		if len(body) > 0 {
			line += " | " + strings.TrimSpace(string(body))
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lines = append(r.lines, line)
		api(w, req)
	}))
	r.URL = s.URL
	t.Cleanup(s.Close)
	return r
}

// Take gives what was recorded since the last call.
func (r *Recorder) Take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := r.lines
	r.lines = nil
	return lines
}

// Reading gives read, kept apart from the calls to the API.
func (r *Recorder) Reading(read func(name string) []string) func(name string) []string {
	return func(name string) []string {
		r.mu.Lock()
		defer r.mu.Unlock()
		return read(name)
	}
}

// Script is an API that gives one answer after the other: "200 {...}".
func Script(t testing.TB, answers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if len(answers) == 0 {
			t.Errorf("one request too many: %s %s", r.Method, r.URL)
			w.WriteHeader(http.StatusTeapot)
			return
		}
		var status int
		_, _ = fmt.Sscan(answers[0], &status)
		_, body, _ := strings.Cut(answers[0], " ")
		answers = answers[1:]
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Contract tests what dns.Provider promises. build makes a provider as a
// replica of its own; values reads the service.
func Contract(t *testing.T, zone string, build func() dns.Provider, values func(name string) []string) {
	t.Helper()
	name := "_acme-challenge." + zone
	rec := func(v string) dns.Record {
		return dns.Record{Zone: zone, Name: name, Value: v, TTL: dns.DefaultTTL}
	}
	a, b := build(), build()
	ctx := t.Context()
	check := func(err error, want ...string) {
		t.Helper()
		got := values(name)
		slices.Sort(got)
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("error %v, the service holds %q; want %q", err, got, want)
		}
	}
	check(a.CleanUp(ctx, rec("never there")))
	check(a.Present(ctx, rec("apex")), "apex")
	check(a.Present(ctx, rec("apex")), "apex") // again: a success
	check(b.Present(ctx, rec("wild")), "apex", "wild")
	check(a.CleanUp(ctx, rec("apex")), "wild")
	check(b.CleanUp(ctx, rec("apex")), "wild") // gone: a success
	check(b.CleanUp(ctx, rec("wild")))

	// Two replicas with two names each, all at one name of the DNS at once.
	var all []string
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range 4 {
		v := fmt.Sprint("value", i)
		all = append(all, v)
		wg.Go(func() { errs[i] = []dns.Provider{a, b}[i%2].Present(ctx, rec(v)) })
	}
	wg.Wait()
	check(errors.Join(errs...), all...)
	for i := range 4 {
		wg.Go(func() { errs[i] = []dns.Provider{b, a}[i%2].CleanUp(ctx, rec(all[i])) })
	}
	wg.Wait()
	check(errors.Join(errs...))
}
