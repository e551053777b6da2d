package acme

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answers is a base that gives one answer after the other.
type answers struct {
	list []func(*http.Request) (*http.Response, error)
	sent int
}

func (a *answers) RoundTrip(req *http.Request) (*http.Response, error) {
	a.sent++
	next := a.list[0]
	a.list = a.list[1:]
	return next(req)
}

func says(status int, kind, body string, header ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) {
		h := http.Header{"Content-Type": {kind}}
		for i := 0; i+1 < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func breaks(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }

// send passes one request after the other through one call.
func send(t *testing.T, method, url string, list ...func(*http.Request) (*http.Response, error)) (sent int, failure *callError, last error) {
	t.Helper()
	base := &answers{list: list}
	tr := &transport{base: base}
	ctx, r := newRecord(context.Background(), time.Minute)
	defer r.cancel()
	for range list {
		req, err := http.NewRequestWithContext(ctx, method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		last = err
		if err == nil {
			_ = resp.Body.Close()
		}
	}
	if !errors.As(r.failure(context.Background(), "op", errors.New("library's")), &failure) {
		t.Fatal("no callError")
	}
	return base.sent, failure, last
}

func TestNothingIsSentTwiceAfterALostAnswer(t *testing.T) {
	const problem = "application/problem+json"
	ok := says(200, "application/json", "{}")
	for name, c := range map[string]struct {
		method string
		list   []func(*http.Request) (*http.Response, error)
		sent   int
		want   string
	}{
		"POST broken":         {"POST", []func(*http.Request) (*http.Response, error){breaks, ok}, 1, "op: ca.example gave no answer: unexpected EOF"},
		"POST 503 page":       {"POST", []func(*http.Request) (*http.Response, error){says(503, "text/html", "<h1>"), ok}, 1, "op: ca.example said 503 Service Unavailable"},
		"POST 500 problem":    {"POST", []func(*http.Request) (*http.Response, error){says(500, problem, `{"type":"urn:ietf:params:acme:error:serverInternal","detail":"oops"}`), ok}, 1, "op: ca.example said 500 serverInternal: oops"},
		"POST too large":      {"POST", []func(*http.Request) (*http.Response, error){says(200, "application/json", strings.Repeat("x", maxAnswer+1)), ok}, 1, "op: ca.example gave no answer: the answer is over 64 KiB"},
		"POST bad nonce":      {"POST", []func(*http.Request) (*http.Response, error){says(400, problem, `{"type":"urn:ietf:params:acme:error:badNonce"}`), ok}, 2, "op: ca.example: cannot use its answer: library's"},
		"HEAD broken":         {"HEAD", []func(*http.Request) (*http.Response, error){breaks, ok}, 2, "op: ca.example: cannot use its answer: library's"},
		"POST 404, text":      {"POST", []func(*http.Request) (*http.Response, error){says(404, "text/plain", "not\nhere")}, 1, "op: ca.example said 404 Not Found: not here"},
		"certificate of 200K": {"POST", []func(*http.Request) (*http.Response, error){says(200, "application/pem-certificate-chain", strings.Repeat("x", 200<<10)), ok}, 2, "op: ca.example: cannot use its answer: library's"},
	} {
		t.Run(name, func(t *testing.T) {
			sent, failure, _ := send(t, c.method, "https://ca.example/x", c.list...)
			if sent != c.sent || failure.Error() != c.want {
				t.Errorf("sent %d, %q; want %d, %q", sent, failure, c.sent, c.want)
			}
		})
	}
}

func TestOnlyHTTPS(t *testing.T) {
	base := &answers{list: []func(*http.Request) (*http.Response, error){says(200, "", "")}}
	ctx, r := newRecord(t.Context(), time.Minute)
	defer r.cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://ca.example/dir", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&transport{base: base}).RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if base.sent != 0 || err == nil || r.answered() {
		t.Errorf("sent %d, %v", base.sent, err)
	}
	if err := r.failure(t.Context(), "op", err); err.Error() != `op: the CA's URL "http://ca.example/dir": only https is spoken with a CA` {
		t.Errorf("failure: %v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	date := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		value, date string
		want        time.Duration
	}{
		"none":                 {"", "", 0},
		"seconds":              {" 120 ", "", 2 * time.Minute},
		"date":                 {date(time.Hour), "", time.Hour},
		"date, our clock late": {date(time.Hour), date(30 * time.Minute), 30 * time.Minute},
		"date in the past":     {date(-time.Hour), "", 0},
		"negative":             {"-5", "", 0},
		"nonsense":             {"soon", "", 0},
		"too long":             {"99999999999", "", maxRetryAfter},
		"date too long":        {date(1000 * time.Hour), "", maxRetryAfter},
	} {
		h := http.Header{"Retry-After": {c.value}, "Date": {c.date}}
		if got := retryAfter(h, now); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
