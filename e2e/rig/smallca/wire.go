package smallca

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"
)

// Fault is what happens to one request on its way.
type Fault struct {
	Delay  time.Duration // on the way there, and again on the way back
	Undone bool          // it is lost on its way there
	Lost   bool          // the answer is lost
}

// Wire brings requests to the CA without a network; fault says what happens to
// each (nil: nothing).
type Wire struct {
	CA    *CA
	Fault func(step string) Fault
}

var errWire = errors.New("connection reset by the wire")

// RoundTrip is http.RoundTripper's. A request that has left reaches the CA even
// if nobody waits for its answer any more.
func (w Wire) RoundTrip(req *http.Request) (*http.Response, error) {
	var f Fault
	if w.Fault != nil {
		step, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
		f = w.Fault(step)
	}
	sent := req.Clone(req.Context())
	if req.Body != nil {
		defer func() { _ = req.Body.Close() }()
	} else {
		sent.Body = http.NoBody
	}
	answer := make(chan *http.Response, 1)
	go func() {
		time.Sleep(f.Delay)
		if f.Undone {
			answer <- nil
			return
		}
		rec := httptest.NewRecorder()
		w.CA.ServeHTTP(rec, sent)
		time.Sleep(f.Delay)
		if f.Lost {
			answer <- nil
			return
		}
		answer <- rec.Result()
	}()
	select {
	case resp := <-answer:
		if resp == nil {
			return nil, errWire
		}
		resp.Request = req
		if req.Method == http.MethodHead {
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		return resp, nil
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}
