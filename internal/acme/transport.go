package acme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/internal/cert"
)

// Bounds on what a CA may answer, and on the time it may ask us to wait.
const (
	maxAnswer      = 64 << 10
	maxCertificate = 256 << 10
	maxRetryAfter  = 7 * 24 * time.Hour
	limitedFor     = 10 * time.Minute // without Retry-After
	pausedFor      = 24 * time.Hour   // what only a person can end
)

var errSpent = errors.New("not sent again: the first answer is lost or bad")

// transport is what stands between the ACME library and the network. The
// library sends a POST again when the connection broke or the CA answered
// with 5xx, and forgets Retry-After; both would be wrong here: what may have
// been done must be read, not repeated. So each call carries a record (in its
// context) that lets no second POST pass after such an end, and keeps what
// the library throws away.
type transport struct {
	base  http.RoundTripper
	clock atomic.Pointer[answered]
}

// answered is when the CA answered, by its clock and by ours.
type answered struct{ theirs, ours time.Time }

// now is the CA's time.
func (t *transport) now() (time.Time, bool) {
	a := t.clock.Load()
	if a == nil {
		return time.Time{}, false
	}
	return a.theirs.Add(time.Since(a.ours)), true // monotonic
}

// record is what one call of the CA saw. A call is one goroutine.
type record struct {
	cancel context.CancelFunc
	// directory, if set, answers every GET: the library reads the directory
	// under a lock over all directories of the process, which must never be
	// held for a slow network.
	directory []byte

	host       string
	status     int
	kind       string // content type
	header     http.Header
	body       []byte // of the last answer
	retryAfter time.Duration
	lost       error
	unsent     error  // a request that we would not send
	nonce      bool   // the last request was for a nonce
	made       string // where what the last request made is (Location), known even if the rest of the answer cannot be used
	spent      bool
}

type recordKey struct{}

// newRecord starts a call: at most d long.
func newRecord(ctx context.Context, d time.Duration) (context.Context, *record) {
	ctx, cancel := context.WithTimeout(ctx, d)
	r := &record{cancel: cancel}
	return context.WithValue(ctx, recordKey{}, r), r
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	r, _ := req.Context().Value(recordKey{}).(*record)
	if r == nil {
		return nil, errors.New("a request outside any call")
	}
	if req.URL.Scheme != "https" {
		r.unsent = fmt.Errorf("the CA's URL %q: only https is spoken with a CA", req.URL.Redacted())
		r.cancel()
		return nil, r.unsent
	}
	if r.directory != nil && req.Method == http.MethodGet {
		return answerWith(req, r.directory), nil
	}
	if r.spent {
		return nil, errSpent
	}
	post := req.Method == http.MethodPost
	if post {
		if err := mayPost(req.Context()); err != nil {
			r.fail(req, err, post)
			return nil, err
		}
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		r.fail(req, err, post)
		return nil, err
	}
	body, err := readBounded(resp)
	if err != nil {
		r.fail(req, err, post)
		r.made = madeAt(resp)
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.clock.Store(&answered{date, time.Now()})
	}
	r.note(req, resp, body, post)
	return resp, nil
}

type askKey struct{}

// askedBefore has ask called before each POST of the calls made with the
// context: again before one that is sent once more as its nonce was refused.
func askedBefore(ctx context.Context, ask func() error) context.Context {
	return context.WithValue(ctx, askKey{}, ask)
}

// mayPost looks once more: between a step's beginning and this moment the
// process may have been stopped for longer than its lease, or asked to end.
func mayPost(ctx context.Context) error {
	if err := held(ctx); err != nil {
		return err
	}
	if ask, ok := ctx.Value(askKey{}).(func() error); ok {
		return ask()
	}
	return nil
}

func (r *record) fail(req *http.Request, err error, post bool) {
	r.host, r.status, r.lost, r.body = req.URL.Host, 0, err, nil
	if post {
		r.spent = true
		r.cancel()
	}
	r.nonce, r.made = req.Method == http.MethodHead, ""
}

func madeAt(resp *http.Response) string {
	if resp.StatusCode != http.StatusCreated {
		return ""
	}
	return resp.Header.Get("Location")
}

func (r *record) note(req *http.Request, resp *http.Response, body []byte, post bool) {
	r.host, r.status, r.lost, r.nonce = req.URL.Host, resp.StatusCode, nil, req.Method == http.MethodHead
	r.header, r.body = resp.Header, body
	r.kind, r.made = resp.Header.Get("Content-Type"), madeAt(resp)
	r.retryAfter = retryAfter(resp.Header, time.Now())
	if post && resp.StatusCode >= 500 {
		r.spent = true
		r.cancel()
	}
}

// failure turns the library's error into ours. ctx is the caller's.
func (r *record) failure(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	if errors.Is(r.lost, cert.ErrEnding) {
		return fmt.Errorf("%s: %w", op, r.lost)
	}
	e := &callError{Op: op, Host: r.host, Status: r.status, Err: err}
	if r.lost != nil {
		e.Err = r.lost
	}
	if r.nonce && (r.lost != nil || r.status >= 400) {
		e.Op = nonceOp // what it was for was not asked
	}
	// What was not sent says nothing about whether the CA is there.
	switch {
	case r.unsent != nil:
		return fmt.Errorf("%s: %w", op, r.unsent)
	case r.lost == nil && r.status == 0:
		return fmt.Errorf("%s: %w", op, err)
	case r.status < 400:
		return e
	}
	e.Problem = parseProblem(r.kind, r.body)
	if e.Problem == nil && !strings.Contains(r.kind, "html") {
		e.Text = oneLine(string(r.body[:min(len(r.body), 300)]))
	}
	switch {
	case e.unpause() != "":
		e.After = time.Now().Add(max(r.retryAfter, pausedFor))
	case r.retryAfter > 0:
		e.After = time.Now().Add(r.retryAfter)
	case e.Status == http.StatusTooManyRequests:
		e.After = time.Now().Add(limitedFor) // it does not say; at once would be wrong
	}
	return e
}

// wait is the Retry-After of the last answer.
func (r *record) wait() time.Duration {
	return r.retryAfter
}

// answered reports whether the last request got a 2xx.
func (r *record) answered() bool {
	return r.unsent == nil && r.lost == nil && r.status >= 200 && r.status < 300
}

func readBounded(resp *http.Response) ([]byte, error) {
	most := int64(maxAnswer)
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/pem-certificate-chain") {
		most = maxCertificate
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("the answer is over %d KiB", most>>10)
	}
	return body, nil
}

// retryAfter reads the header in both its forms. A date is taken relative to
// the answer's own Date: our clock may be wrong, the CA's is one clock.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if n, err := strconv.ParseInt(v, 10, 64); err == nil {
		if n < 0 {
			return 0
		}
		return time.Duration(min(n, int64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

func answerWith(req *http.Request, body []byte) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		Body:          io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}
}
