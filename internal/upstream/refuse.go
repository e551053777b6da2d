package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// ReasonHeader tells, in an answer of our own, why there is no other.
const ReasonHeader = "X-Gatehouse-Reason"

// Reason is a short code that tells an operator what is wrong and a stranger
// nothing about the inside.
type Reason string

// The reasons for answers of our own.
const (
	NoServer      Reason = "no-server"      // the service has none that is up
	TooMany       Reason = "too-many"       // the service's bound of requests is reached
	BadGateway    Reason = "server-failed"  // the server could not be reached or answered nonsense
	ServerTimeout Reason = "server-timeout" // the server did not answer in time
	BadRequest    Reason = "bad-request"    // the client's body could not be read
)

// retryAfter is what clients are told to wait where we cannot know better.
const retryAfter = 5 * time.Second

// Refuse answers a request with a short text. 429 and 503 tell the client to
// come back.
func Refuse(w http.ResponseWriter, status int, why Reason) {
	text := strconv.Itoa(status) + " " + http.StatusText(status) + "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(text)))
	if why != "" {
		h.Set(ReasonHeader, string(why))
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		h.Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	w.WriteHeader(status)
	w.Write([]byte(text)) //nolint:errcheck // the client may be gone
}

// statusClientGone is what the access log shows where the client left first.
const statusClientGone = 499

var errNoServer = errors.New("no server is up")

// askError is a server that could not be asked, after so many tries.
type askError struct {
	server *server
	tries  int
	client error // what the client's body said; not the server's fault
	err    error
}

func (e *askError) Error() string {
	return fmt.Sprintf("ask %s: %v", e.server.text, e.err)
}

func (e *askError) Unwrap() error { return e.err }

// fail answers for a server that did not. It is called by the engine.
func (p *pool) fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(r.Context().Err(), context.Canceled) {
		w.WriteHeader(statusClientGone)
		return
	}
	if errors.Is(err, errNoServer) {
		Refuse(w, http.StatusServiceUnavailable, NoServer)
		return
	}
	var ask *askError
	if errors.As(err, &ask) && ask.client != nil {
		Refuse(w, clientStatus(ask.client), BadRequest)
		return
	}
	status, why := http.StatusBadGateway, BadGateway
	if isTimeout(err) || errors.Is(r.Context().Err(), context.DeadlineExceeded) {
		status, why = http.StatusGatewayTimeout, ServerTimeout
	}
	if ask != nil {
		p.complain(ask, status)
	}
	Refuse(w, status, why)
}

// complain logs a server's failure, at most once a second for each server.
func (p *pool) complain(ask *askError, status int) {
	st, now := ask.server.state, time.Now().UnixNano()
	last := st.complain.Load()
	if now-last < int64(time.Second) || !st.complain.CompareAndSwap(last, now) {
		st.silent.Add(1)
		return
	}
	p.logger.Warn("server failed", "service", p.name, "server", ask.server.text, "status", status,
		"tries", ask.tries, "unlogged", st.silent.Swap(0), "error", ask.err)
}

// cutShort: the server ended an answer before its end.
func (p *pool) cutShort(s *server, err error) {
	p.logger.Warn("answer cut short", "service", p.name, "server", s.text, "error", err)
	p.settle(s, err, true)
}
