package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/cert"
)

func TestMetrics(t *testing.T) {
	o := options(t)
	o.Certificates = func() []cert.Status {
		return []cert.Status{
			{ID: "a-1", Issuer: "ca", Names: []string{"a.test", "b.test"}, State: cert.StateValid, NotAfter: time.Unix(2000, 0), RenewAt: time.Unix(1000, 0)},
			{ID: "q-1", Issuer: "ca", Names: []string{"quo\"te\\.test"}, State: cert.StateFailed, Failures: 3, NextAttempt: time.Unix(3000, 0)},
		}
	}
	o.Counts = func() []cert.Count {
		return []cert.Count{{Issuer: "ca", Outcome: cert.Obtained, N: 2}, {Issuer: "ca", Transition: cert.Acquired, N: 5}}
	}
	o.Limits = func() []cert.Limit {
		return []cert.Limit{{Issuer: "ca", Kind: "account", Used: 7, Size: 299, Free: time.Unix(4000, 0)},
			{Issuer: "ca", Kind: "hold", Name: "domain a.test", Free: time.Unix(5000, 0)}, {Issuer: "ca", Kind: "down", Free: time.Unix(6000, 0)}}
	}
	o.Connections = func() []Connections {
		return []Connections{{EntryPoint: "web", Open: 7, NoRoom: 2, Crowded: 3, Strangers: 4}}
	}
	o.Stale = func() (time.Time, bool) { return time.Time{}, false }
	code, text := ask(t, Metrics(o), "GET", "/metrics")
	if code != 200 {
		t.Fatal(code)
	}
	for _, want := range []string{
		`gatehouse_info{version="1",replica="one"} 1`,
		"gatehouse_ready 0\n",
		"gatehouse_store_copy_age_seconds 0\n",
		`gatehouse_certificates{state="valid"} 1`,
		`gatehouse_entrypoint_connections{entrypoint="web"} 7`,
		`gatehouse_entrypoint_connections_refused_total{entrypoint="web",reason="room"} 2`,
		`gatehouse_entrypoint_connections_refused_total{entrypoint="web",reason="address"} 3`,
		`gatehouse_entrypoint_connections_refused_total{entrypoint="web",reason="name"} 4`,
		`gatehouse_certificates{state="ordering"} 0`,
		`gatehouse_certificate_not_after_timestamp_seconds{issuer="ca",id="a-1",name="a.test"} 2000`,
		`gatehouse_certificate_renewal_timestamp_seconds{issuer="ca",id="a-1",name="a.test"} 1000`,
		`gatehouse_certificate_next_attempt_timestamp_seconds{issuer="ca",id="q-1",name="quo\"te\\.test"} 3000`,
		`gatehouse_certificate_failures{issuer="ca",id="q-1",name="quo\"te\\.test"} 3`,
		`gatehouse_certificate_attempts_total{issuer="ca",outcome="obtained"} 2`,
		`gatehouse_issuer_limit_used{issuer="ca",kind="account",name=""} 7`,
		`gatehouse_issuer_limit_size{issuer="ca",kind="account",name=""} 299`,
		`gatehouse_issuer_limit_next_timestamp_seconds{issuer="ca",kind="account",name=""} 4000`,
		`gatehouse_issuer_hold_until_timestamp_seconds{issuer="ca",name="domain a.test"} 5000`,
		`gatehouse_issuer_down_next_probe_timestamp_seconds{issuer="ca"} 6000`,
		`gatehouse_certificate_lease_transitions_total{issuer="ca",transition="acquired"} 5`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("missing %s", want)
		}
	}
	// The form: every line a comment or a figure, no family twice.
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			if seen[name] {
				t.Errorf("twice: %s", name)
			}
			seen[name] = true
		} else if line[0] != '#' && len(strings.Fields(line)) < 2 {
			t.Errorf("no figure: %q", line)
		}
	}
}

func TestRenew(t *testing.T) {
	o := options(t)
	o.ReadOnly, o.Logger = false, slog.New(slog.DiscardHandler)
	o.Certificates = func() []cert.Status {
		return []cert.Status{{ID: "a.test-1", Issuer: "ca", Names: []string{"a.test"}, Sources: []string{"acme.domains"}},
			{ID: "old.test-1", Issuer: "ca", Names: []string{"old.test"}}}
	}
	var asked []string
	var trouble error
	o.Renew = func(_ context.Context, issuer, id string) error {
		asked = append(asked, issuer+"/"+id)
		return trouble
	}
	send := func(method, path string, header ...string) (int, string) {
		r := httptest.NewRequest(method, path, strings.NewReader("{}"))
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h, _ := Handlers(o)
		h.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	const path, kind = "/api/certificates/a.test/renew", "Content-Type"
	for name, c := range map[string]struct {
		path   string
		header []string
		want   int
	}{
		"a form":         {path, []string{kind, "application/x-www-form-urlencoded"}, 403},
		"no type":        {path, nil, 403},
		"another site":   {path, []string{kind, "application/json", "Sec-Fetch-Site", "cross-site"}, 403},
		"another origin": {path, []string{kind, "application/json", "Origin", "https://evil.example"}, 403},
		"not kept":       {"/api/certificates/c.test/renew", []string{kind, "application/json"}, 404},
		"not wanted":     {"/api/certificates/old.test/renew", []string{kind, "application/json"}, 404},
		"elsewhere":      {"/api/problems/renew", []string{kind, "application/json"}, 405},
	} {
		if code, text := send("POST", c.path, c.header...); code != c.want || len(asked) > 0 {
			t.Errorf("%s: %d %s, asked %v", name, code, text, asked)
		}
	}
	for _, header := range [][]string{{kind, "application/json; charset=utf-8"}, {kind, "application/json", "Origin", "http://example.com", "Sec-Fetch-Site", "same-origin"}} {
		asked = nil
		if code, text := send("POST", path, header...); code != 202 || len(asked) != 1 || asked[0] != "ca/a.test-1" {
			t.Errorf("%v: %d %s, asked %v", header, code, text, asked)
		}
	}
	trouble = errors.New("the store is away")
	if code, text := send("POST", path, kind, "application/json"); code != http.StatusServiceUnavailable || !strings.Contains(text, "away") {
		t.Errorf("%d %s", code, text)
	}
	trouble, o.Unguarded = nil, true
	for host, want := range map[string]int{"rebound.example": 403, "rebound.example:8080": 403, "localhost.evil.example": 403,
		"127.0.0.1:8080": 202, "[::1]:8080": 202, "localhost:8080": 202, "gatehouse.localhost": 202} {
		if code, text := send("POST", "http://"+host+path, kind, "application/json"); code != want {
			t.Errorf("host %s: %d %s, want %d", host, code, text, want)
		}
	}
	o.ReadOnly = true
	if code, _ := send("POST", path, kind, "application/json"); code != http.StatusForbidden {
		t.Errorf("read-only: %d", code)
	}
}

func TestRevoke(t *testing.T) {
	o := options(t)
	o.ReadOnly, o.Logger = false, slog.New(slog.DiscardHandler)
	o.Certificates = func() []cert.Status {
		return []cert.Status{{ID: "a.test-1", Issuer: "ca", Names: []string{"a.test"}, Serial: "1"}, {ID: "b.test-1", Issuer: "ca", Names: []string{"b.test"}}}
	}
	var asked []string
	o.Revoke = func(_ context.Context, issuer, id string, reason cert.Reason, stop bool) error {
		asked = append(asked, fmt.Sprint(issuer, " ", id, " ", reason, " ", stop))
		return nil
	}
	h, _ := Handlers(o)
	for _, c := range []struct {
		name, body, kind string
		want             int
		asked            string
	}{
		{"a.test", `{"reason": "keyCompromise", "stop": true}`, "application/json", 202, "ca a.test-1 keyCompromise true"},
		{"a.test-1", `{}`, "application/json", 202, "ca a.test-1 unspecified false"},
		{"a.test", `{"reason": "certificateHold"}`, "application/json", 400, ""},
		{"a.test", `{"reasons": 1}`, "application/json", 400, ""},
		{"a.test", `{}`, "text/plain", 403, ""},
		{"b.test", `{}`, "application/json", 404, ""}, // there is none yet
	} {
		asked = nil
		r := httptest.NewRequest("POST", "/api/certificates/"+c.name+"/revoke", strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.kind)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != c.want || strings.Join(asked, ";") != c.asked {
			t.Errorf("%s %s: %d %s, asked %v", c.name, c.body, w.Code, w.Body, asked)
		}
	}
}
