package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// trackedBody is a request's body that knows whether any of it was asked for,
// and whether reading it failed. One attempt uses it; closing it leaves the
// client's body open for the next.
type trackedBody struct {
	from   io.ReadCloser
	state  atomic.Int32
	failed atomic.Pointer[error]
}

const (
	bodyFresh int32 = iota
	bodyRead
	bodyClosed
)

// trackBody wraps the request's body for one attempt; nil where it has none.
func trackBody(req *http.Request) *trackedBody {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	b := &trackedBody{from: req.Body}
	req.Body = b
	return b
}

func (b *trackedBody) Read(p []byte) (int, error) {
	b.state.CompareAndSwap(bodyFresh, bodyRead)
	if b.state.Load() == bodyClosed {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.from.Read(p)
	if err != nil && err != io.EOF {
		b.failed.Store(&err)
	}
	return n, err
}

// Close ends this attempt's use of the body.
func (b *trackedBody) Close() error {
	b.state.CompareAndSwap(bodyFresh, bodyClosed)
	return nil
}

// touched reports whether an attempt asked for some of the body; from then on
// a fresh one gets nothing.
func (b *trackedBody) touched() bool {
	b.state.CompareAndSwap(bodyFresh, bodyClosed)
	return b.state.Load() == bodyRead
}

// failure is the error of reading the client's body, nil for none.
func (b *trackedBody) failure() error {
	if b == nil {
		return nil
	}
	if err := b.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// retryable reports whether a request that failed so may be sent to another
// server: the client still waits, the body can be given once more, and either
// nothing was sent or the method may be repeated.
func retryable(req *http.Request, body *trackedBody, err error) bool {
	if req.Context().Err() != nil || req.Header.Get("Upgrade") != "" && !isDial(err) {
		return false
	}
	if body != nil && body.touched() && (req.GetBody == nil || !isIdempotent(req.Method)) {
		return false
	}
	if isDial(err) {
		return true
	}
	return isIdempotent(req.Method) && isConnection(err)
}

func isDial(err error) bool {
	var d dialError
	return errors.As(err, &d)
}

// isConnection tells a connection that broke from a server that was slow or
// answered nonsense.
func isConnection(err error) bool {
	if isTimeout(err) {
		return false
	}
	var op *net.OpError
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}

// isIdempotent is RFC 9110, section 9.2.2, less TRACE, which is not passed.
func isIdempotent(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}

// again gives the request for another attempt, nil where there must be none.
// It is a copy, since the last attempt's goroutines may still look at theirs.
func again(req *http.Request, body *trackedBody, err error) *http.Request {
	if !retryable(req, body, err) {
		return nil
	}
	next, u := *req, *req.URL
	next.URL = &u
	switch {
	case body == nil:
	case body.touched():
		if next.Body, err = req.GetBody(); err != nil {
			return nil
		}
	default:
		next.Body = body.from
	}
	return &next
}
