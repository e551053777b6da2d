package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/dnstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server answers with one script line after the other: a status, and perhaps a
// Retry-After and a body.
func server(t *testing.T, script ...string) (*Client, func() []string) {
	t.Helper()
	r := dnstest.Record(t, func(w http.ResponseWriter, _ *http.Request) {
		if len(script) == 0 {
			t.Error("asked once too often")
			return
		}
		line := script[0]
		script = script[1:]
		if line == "cut" {
			panic(http.ErrAbortHandler)
		}
		head, text, _ := strings.Cut(line, "|")
		var status int
		var wait string
		_, _ = fmt.Sscan(head, &status, &wait)
		if wait != "" {
			w.Header().Set("Retry-After", wait)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}, "Content-Type")
	h := NewHTTP()
	t.Cleanup(h.CloseIdleConnections)
	return &Client{Name: "svc", Base: r.URL, HTTP: h, Backoff: time.Millisecond}, r.Take
}

func TestDo(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		script []string
		tries  int
		says   string // $ is the server's URL
		waits  time.Duration
	}{
		{name: "good", method: "GET", script: []string{`200 |{"a":"b"}`}, tries: 1},
		{name: "5xx, then good", method: "PUT", script: []string{"503 |", "500 |", `200 |{"a":"b"}`}, tries: 3},
		{name: "cut, then good", method: "DELETE", script: []string{"cut", `200 |{"a":"b"}`}, tries: 2},
		{name: "POST is not repeated after 5xx", method: "POST", script: []string{"502 |<html> bad\n gateway"}, tries: 1, says: "svc: POST $/p: 502 Bad Gateway: <html> bad gateway"},
		{name: "POST is not repeated after a cut", method: "POST", script: []string{"cut"}, tries: 1, says: "svc: POST $/p: EOF"},
		{name: "POST is repeated after 429", method: "POST", script: []string{"429 1 |", `200 |{"a":"b"}`}, tries: 2, waits: time.Second},
		{name: "never good", method: "GET", script: []string{"500 |", "500 |", "500 |", "500 |", "500 |"}, tries: 5, says: "500 Internal Server Error (5 tries)"},
		{name: "4xx", method: "GET", script: []string{"403 |no"}, tries: 1, says: "svc: GET $/p: 403 Forbidden: no"},
		{name: "asks to wait for long", method: "GET", script: []string{"429 3600 |slow"}, tries: 1, says: "429 Too Many Requests: slow (it asks to wait 1h0m0s)"},
		{name: "no JSON", method: "GET", script: []string{"200 |<html>"}, tries: 1, says: "svc: GET $/p: 200 OK, but the body is not the JSON expected: invalid character '<'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, asked := server(t, c.script...)
			var into struct{ A string }
			start := time.Now()
			err := client.Do(t.Context(), Request{Method: c.method, Path: "/p", Body: map[string]int{"n": 1}, Into: &into})
			lines := asked()
			if len(lines) != c.tries {
				t.Errorf("%d tries, want %d", len(lines), c.tries)
			}
			if says := strings.ReplaceAll(c.says, "$", client.Base); (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("error %v, want %q", err, says)
			}
			if err == nil && into.A != "b" {
				t.Errorf("decoded %+v", into)
			}
			if time.Since(start) < c.waits {
				t.Errorf("took %v, must wait %v", time.Since(start), c.waits)
			}
			if want := c.method + ` /p | Content-Type: application/json | {"n":1}`; lines[0] != want {
				t.Errorf("asked %q, want %q", lines[0], want)
			}
		})
	}
}

// TestQuiet: after a 429 others wait as well, and are told what for; who asks for
// more than an attempt should take is not waited for, nor left alone for years.
func TestQuiet(t *testing.T) {
	for script, want := range map[string]string{
		"429 100 |":        "/other: wait as the service asked: context deadline exceeded",
		"429 600 |":        "/other: not sent: the service had enough of earlier requests (it asks to wait 10m0s)",
		"429 1000000000 |": "/other: not sent: the service had enough of earlier requests (it asks to wait 1h0m0s)",
	} {
		client, asked := server(t, script)
		first, stop := context.WithTimeout(t.Context(), 20*time.Second)
		_ = client.Do(first, Request{Method: "GET", Path: "/p"})
		stop()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := client.Do(ctx, Request{Method: "GET", Path: "/other"})
		cancel()
		if lines := asked(); len(lines) != 1 {
			t.Errorf("asked %q", lines)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", script, err, want)
		}
	}
}

func TestCredentials(t *testing.T) {
	client, asked := server(t, "200 |")
	client.Base = strings.Replace(client.Base, "//", "//me:secret@", 1)
	client.Authorize = func(context.Context, *http.Request) error { return errors.New("token: no") }
	err := client.Do(t.Context(), Request{Method: "GET", Path: "/p"})
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.HasSuffix(err.Error(), "/p: token: no") || len(asked()) != 0 {
		t.Error(err)
	}
	client.Authorize = nil
	if err := client.Do(t.Context(), Request{Method: "POST", Path: "/t", Body: url.Values{"a": {"b c"}}}); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"POST /t | Content-Type: application/x-www-form-urlencoded | a=b+c"}, asked()); diff != "" {
		t.Error(diff)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999999": 0, "Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:03:05 GMT": 0,
	} {
		if got := retryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestZones(t *testing.T) {
	reads := 0
	list := []Zone{{"1", "example.org"}, {"2", "office.example.org"}, {"3", "twice.test"}, {"4", "twice.test"}, {"5", "child.twice.test"}}
	var trouble error
	z := NewZones("svc", func(context.Context) ([]Zone, error) { reads++; return list, trouble })
	for _, c := range []struct {
		name, id, says string
		reads          int
	}{
		{name: "_acme-challenge.office.example.org", id: "2", reads: 1},
		{name: "office.example.org", id: "2", reads: 1},
		{name: "_acme-challenge.xoffice.example.org", id: "1", reads: 1},
		{name: "x.child.twice.test", id: "5", reads: 1},
		{name: "x.twice.test", says: "svc holds two zones named twice.test", reads: 2},
		{name: "example.com", says: "svc shows these credentials 5 zones, and no zone for example.com: no zone holds the name", reads: 3},
	} {
		got, err := z.Find(t.Context(), c.name)
		if got.ID != c.id || (err == nil) != (c.says == "") || err != nil && !strings.HasPrefix(err.Error(), c.says) || reads != c.reads {
			t.Errorf("%s: %v, %v after %d readings", c.name, got, err, reads)
		}
	}
	if _, err := z.Find(t.Context(), "example.com"); !errors.Is(err, dns.ErrNoZone) {
		t.Errorf("no zone: %v", err)
	}
	if got, err := z.Named(t.Context(), "example.org"); got.ID != "1" || err != nil {
		t.Errorf("named: %v, %v", got, err)
	}
	trouble = errors.New("403")
	if _, err := z.Named(t.Context(), "www.example.org"); err == nil || errors.Is(err, dns.ErrNoZone) || err.Error() != "list zones: 403" {
		t.Errorf("trouble: %v", err)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, v := range []string{"", "7", "-1", "99999999999999999999", "Fri, 02 Jan 2026 03:05:05 GMT"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		if d := retryAfter(v, time.Unix(1e9, 0)); d < 0 {
			t.Errorf("%q: wait %v", v, d)
		}
	})
}

// TestToken: one token for all, a new one when it ends or is refused.
func TestToken(t *testing.T) {
	client, asked := server(t, "200 |", "200 |", "401 |", "200 |", "401 |", "401 |no")
	fetched := 0
	token := NewToken(func(context.Context) (string, time.Duration, error) {
		fetched++
		return fmt.Sprint("t", fetched), time.Hour, nil
	})
	client.Authorize, client.Forget = token.Authorize, token.Forget
	var errs []error
	for range 4 {
		errs = append(errs, client.Do(t.Context(), Request{Method: "POST", Path: "/p"}))
	}
	if errs[0] != nil || errs[1] != nil || errs[2] != nil || Status(errs[3]) != http.StatusUnauthorized || fetched != 3 || len(asked()) != 6 {
		t.Errorf("%v, %d tokens", errs, fetched)
	}
	token.until = time.Now()
	if err := token.Authorize(t.Context(), &http.Request{Header: http.Header{}}); err != nil || fetched != 4 {
		t.Errorf("%v, %d tokens", err, fetched)
	}
}

// TestRedirect: credentials go to nobody else.
func TestRedirect(t *testing.T) {
	r := dnstest.Record(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://me:pw@evil.test/", http.StatusTemporaryRedirect)
	})
	h := NewHTTP()
	t.Cleanup(h.CloseIdleConnections)
	err := (&Client{Name: "svc", Base: r.URL, HTTP: h}).Do(t.Context(), Request{Method: "POST", Path: "/p"})
	if Status(err) != http.StatusTemporaryRedirect || !strings.Contains(err.Error(), "it points to http://me:xxxxx@evil.test/, which is not followed") {
		t.Error(err)
	}
}
