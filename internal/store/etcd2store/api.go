package etcd2store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/internal/store"
)

const (
	callTimeout = 3 * time.Second // of one endpoint for one request
	dialTimeout = time.Second
	maxAnswer   = 64 << 20 // bytes of one answer: all that is under a prefix
)

// Error codes of the v2 API.
const (
	codeKeyNotFound  = 100
	codeTestFailed   = 101
	codeNotFile      = 102
	codeNotDir       = 104
	codeNodeExist    = 105
	codeDirNotEmpty  = 108
	codeIndexCleared = 401
)

// node is a key or a folder, as the API shows it.
type node struct {
	Key           string  `json:"key"`
	Value         string  `json:"value"`
	Dir           bool    `json:"dir"`
	Nodes         []*node `json:"nodes"`
	TTL           int64   `json:"ttl"`
	ModifiedIndex uint64  `json:"modifiedIndex"`
	CreatedIndex  uint64  `json:"createdIndex"`
}

// answer is what a request brought. Index is that of the store as a whole.
type answer struct {
	Node  node `json:"node"`
	Index uint64
}

// apiError is a refusal.
type apiError struct {
	Endpoint string `json:"-"`
	Status   int    `json:"-"`
	Code     int    `json:"errorCode"`
	Message  string `json:"message"`
	Cause    string `json:"cause"`
}

func (e *apiError) Error() string {
	text := fmt.Sprintf("%s said %d %s", e.Endpoint, e.Status, http.StatusText(e.Status))
	if e.Code != 0 {
		text += fmt.Sprintf(": error %d", e.Code)
	}
	for _, part := range []string{e.Message, e.Cause} {
		if part != "" {
			text += ": " + part
		}
	}
	return text
}

func isCode(err error, code int) bool {
	var e *apiError
	return errors.As(err, &e) && e.Code == code
}

// api speaks to the endpoints.
type api struct {
	endpoints []string
	user      *url.Userinfo
	http      *http.Client
	prefer    atomic.Int64 // the endpoint to ask first
}

func newAPI(o Options) *api {
	a := &api{http: &http.Client{
		Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 10 * time.Second}).DialContext,
			TLSClientConfig:       o.TLS,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: callTimeout,
			IdleConnTimeout:       time.Minute,
			MaxIdleConnsPerHost:   8,
		},
		// A redirect would take the password elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	if o.Username != "" {
		a.user = url.UserPassword(o.Username, o.Password)
	}
	return a
}

// names are the endpoints for messages.
func (a *api) names() string { return strings.Join(a.endpoints, ",") }

// do asks one endpoint after the other, each within callTimeout.
func (a *api) do(ctx context.Context, method, path string, query, form url.Values) (*answer, error) {
	return a.ask(ctx, callTimeout, method, path, query, form)
}

// ask asks one endpoint after the other until one answers. A write is asked of
// another one only if it cannot have reached the last.
func (a *api) ask(ctx context.Context, bound time.Duration, method, path string, query, form url.Values) (*answer, error) {
	var errs []error
	for range a.endpoints {
		if ctx.Err() != nil {
			break
		}
		at := a.prefer.Load()
		r, err := a.once(ctx, bound, a.endpoints[int(at)%len(a.endpoints)], method, path, query, form)
		var refused *apiError
		if err == nil || errors.As(err, &refused) && refused.Status < 500 {
			return r, err
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
		a.prefer.CompareAndSwap(at, (at+1)%int64(len(a.endpoints)))
		if method != http.MethodGet && !notSent(err) {
			break
		}
	}
	if ctx.Err() != nil {
		errs = append([]error{context.Cause(ctx)}, errs...)
	}
	return nil, errors.Join(errs...)
}

// notSent says whether a request cannot have arrived.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// once asks one endpoint.
func (a *api) once(ctx context.Context, bound time.Duration, endpoint, method, path string, query, form url.Values) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, method, endpoint+"/v2/keys"+escape(path), body)
	if err != nil {
		return nil, err
	}
	req.URL.RawQuery = query.Encode()
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if a.user != nil {
		password, _ := a.user.Password()
		req.SetBasicAuth(a.user.Username(), password)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", endpoint, err)
	}
	return parse(endpoint, resp, text)
}

func parse(endpoint string, resp *http.Response, text []byte) (*answer, error) {
	r := &answer{}
	r.Index, _ = strconv.ParseUint(resp.Header.Get("X-Etcd-Index"), 10, 64) // 0 if it says none
	if resp.StatusCode/100 != 2 {
		e := &apiError{}
		if err := json.Unmarshal(text, e); err != nil {
			e.Message = fmt.Sprintf("%.200q", text)
		}
		e.Endpoint, e.Status = endpoint, resp.StatusCode
		if e.Status == http.StatusNotFound && e.Code == 0 {
			e.Cause = "is its v2 API enabled (--enable-v2)?"
		}
		if e.Status == http.StatusRequestEntityTooLarge {
			return r, fmt.Errorf("%w: %w", store.ErrTooLarge, e)
		}
		return r, e
	}
	if len(text) == 0 { // a watch whose time is over
		return r, nil
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w: %.200q", endpoint, err, text)
	}
	return r, nil
}

// escape writes a path for a URL.
func escape(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return strings.Join(segments, "/")
}

// wait returns the store's index once something at path, or with recursive
// below it, has changed since index; or the index it has seen so far when
// bound is over.
func (a *api) wait(ctx context.Context, bound time.Duration, path string, index uint64, recursive bool) (changed bool, err error) {
	query := url.Values{"wait": {"true"}, "waitIndex": {strconv.FormatUint(index, 10)}}
	if recursive {
		query.Set("recursive", "true")
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	_, err = a.ask(bounded, bound, http.MethodGet, path, query, nil)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case isCode(err, codeIndexCleared):
		return true, nil // so much has changed that it is forgotten
	case bounded.Err() != nil:
		return false, nil
	}
	return false, err
}
