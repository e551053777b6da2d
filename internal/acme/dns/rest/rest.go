// Package rest is what DNS providers with an HTTP API share: requests that are
// tried again when that is safe, errors that say what was asked and what came
// back, and a memory of the service's list of zones. What is asked is the
// business of each provider.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/acme/dns"
)

// Client asks one API. Its fields are set before first use; then it is safe
// for concurrent use. Once the API says 429, no request goes out before the
// time it names.
type Client struct {
	Name      string // of the provider; begins each error
	Base      string // URL without a slash at its end; a path given as a whole URL ignores it
	HTTP      *http.Client
	Authorize func(context.Context, *http.Request) error // adds credentials; nil: none
	Forget    func()                                     // drops credentials that were refused (401), so that the request is tried with new ones; nil: they are fixed
	Explain   func(body []byte) string                   // what the body of an error says; nil or "": the body's beginning
	Backoff   time.Duration                              // before the second try, doubling; zero: 500 ms

	mu    sync.Mutex
	quiet time.Time // no request before
}

// NewHTTP makes a client with its own connections and a bound on each request.
// It follows no redirects: they would turn a POST into a GET, and take
// credentials elsewhere.
func NewHTTP() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.IdleConnTimeout = 30 * time.Second
	return &http.Client{Transport: t, Timeout: 30 * time.Second, CheckRedirect: noRedirect}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// NewNear makes a client for a service on the machine itself, which no proxy
// can reach and which answers soon or is not there.
func NewNear() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second, CheckRedirect: noRedirect}
}

// Request is one request.
type Request struct {
	Method string
	Path   string
	Header map[string]string
	Body   any // nil: none; url.Values: a form; anything else: as JSON
	Into   any // decoded from the JSON answer; a *string takes it as it is; nil: not looked at
}

const (
	tries    = 5
	maxBody  = 8 << 20
	longWait = 2 * time.Minute // who asks to wait longer gets his way by the next attempt of the order
	mostWait = time.Hour       // nobody is left alone for longer, whatever he asks for
)

// Do sends r and decodes the answer. Requests that can be repeated without
// harm (GET, PUT, DELETE) are when the network or the server fails; 429 means
// that nothing was done, so all are. Any other answer than 2xx is an *Error.
func (c *Client) Do(ctx context.Context, r Request) error {
	target := r.Path
	if !strings.Contains(target, "://") {
		target = c.Base + r.Path
	}
	wait := c.Backoff
	if wait == 0 {
		wait = 500 * time.Millisecond
	}
	forgot := false
	for try := 1; ; try++ {
		e := c.once(ctx, r, target)
		if e == nil {
			return nil
		}
		e.Tries = try
		if e.Status == http.StatusUnauthorized && c.Forget != nil && !forgot {
			c.Forget()
			forgot = true
			continue
		}
		if ctx.Err() != nil || try == tries || !e.repeatable() {
			return e
		}
		pause := wait/2 + rand.N(wait)
		if e.wait > 0 {
			pause = e.wait
		}
		if deadline, ok := ctx.Deadline(); pause > longWait || ok && time.Until(deadline) < pause {
			return e
		}
		if Sleep(ctx, pause) != nil {
			return e
		}
		wait *= 2
	}
}

func (c *Client) once(ctx context.Context, r Request, target string) *Error {
	e := &Error{Provider: c.Name, Method: r.Method, URL: redacted(target)}
	fail := func(err error) *Error { e.err = err; return e }
	left := c.left()
	if left > longWait {
		e.final, e.wait = true, left
		return fail(errors.New("not sent: the service had enough of earlier requests"))
	}
	if err := Sleep(ctx, left); err != nil {
		return fail(fmt.Errorf("wait as the service asked: %w", err))
	}
	if err := dns.Held(ctx); err != nil {
		return fail(err)
	}
	body, kind, err := encode(r.Body)
	if err != nil {
		return fail(err)
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return fail(errors.New("not a URL"))
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "gatehouse")
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for name, v := range r.Header {
		req.Header.Set(name, v)
	}
	if c.Authorize != nil {
		if err := c.Authorize(ctx, req); err != nil {
			e.final = true // it has been tried again already
			return fail(err)
		}
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL is said already
		}
		return fail(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	switch {
	case err != nil:
		return fail(fmt.Errorf("read the answer: %w", err))
	case len(raw) > maxBody:
		e.final = true
		return fail(fmt.Errorf("the answer is longer than %d MiB", maxBody>>20))
	}
	if res.StatusCode/100 != 2 {
		e.Status, e.Body = res.StatusCode, raw
		e.Said = c.explain(raw)
		if to := res.Header.Get("Location"); to != "" {
			e.Said = strings.TrimSpace("it points to " + redacted(to) + ", which is not followed; " + e.Said)
		}
		e.wait = retryAfter(res.Header.Get("Retry-After"), time.Now())
		if e.Status == http.StatusTooManyRequests {
			c.beQuiet(e.wait)
		}
		return e
	}
	if r.Into == nil {
		return nil
	}
	if text, ok := r.Into.(*string); ok {
		*text = strings.TrimSpace(string(raw))
		return nil
	}
	if err := json.Unmarshal(raw, r.Into); err != nil {
		e.final = true
		return fail(fmt.Errorf("%s, but the body is not the JSON expected: %w: %s", res.Status, err, excerpt(raw)))
	}
	return nil
}

func encode(body any) (io.Reader, string, error) {
	switch b := body.(type) {
	case nil:
		return nil, "", nil
	case url.Values:
		return strings.NewReader(b.Encode()), "application/x-www-form-urlencoded", nil
	}
	raw, err := json.Marshal(body)
	return bytes.NewReader(raw), "application/json", err
}

func (c *Client) explain(body []byte) string {
	if c.Explain != nil {
		if said := c.Explain(body); said != "" {
			return said
		}
	}
	return excerpt(body)
}

func (c *Client) beQuiet(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := time.Now().Add(min(d, mostWait)); until.After(c.quiet) {
		c.quiet = until
	}
}

func (c *Client) left() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Until(c.quiet)
}

// retryAfter reads the field of that name (RFC 9110, section 10.2.3).
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.Atoi(v); err == nil && n > 0 && n < 1<<30 {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// Error is what a service, or the way to it, had against a request.
type Error struct {
	Provider string
	Method   string
	URL      string // without credentials
	Status   int    // zero: no answer
	Said     string // what the body says, on one line
	Body     []byte
	Tries    int

	wait  time.Duration // asked for
	final bool          // trying again would not help
	err   error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s %s: ", e.Provider, e.Method, e.URL)
	if e.err != nil {
		b.WriteString(e.err.Error())
	} else {
		fmt.Fprintf(&b, "%d %s", e.Status, http.StatusText(e.Status))
		if e.Said != "" {
			b.WriteString(": " + e.Said)
		}
	}
	if e.wait > 0 {
		fmt.Fprintf(&b, " (it asks to wait %v)", e.wait.Round(time.Second))
	}
	if e.Tries > 1 {
		fmt.Fprintf(&b, " (%d tries)", e.Tries)
	}
	return b.String()
}

// Unwrap gives the error of the way, if there was no answer.
func (e *Error) Unwrap() error { return e.err }

func (e *Error) repeatable() bool {
	safe := e.Method == http.MethodGet || e.Method == http.MethodPut || e.Method == http.MethodDelete
	switch {
	case e.final:
		return false
	case e.Status == http.StatusTooManyRequests:
		return true
	case e.Status == 0:
		return safe
	}
	return safe && (e.Status == http.StatusRequestTimeout || e.Status >= 500 && e.Status != http.StatusNotImplemented)
}

// Status gives the status an error is about; zero if there was no answer.
func Status(err error) int {
	var e *Error
	if errors.As(err, &e) {
		return e.Status
	}
	return 0
}

// excerpt is the beginning of a body as one line.
func excerpt(body []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " ")
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "..."
	}
	return text
}

func redacted(target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return "(not a URL)"
	}
	return u.Redacted()
}

// Sleep waits for d, or for the end of ctx and then says why it ended.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
