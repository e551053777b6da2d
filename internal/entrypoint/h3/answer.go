package h3

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// writePiece bounds what one write deadline is for.
const writePiece = 64 << 10

// answer is the ResponseWriter handlers see. It leaves out what HTTP/3 has no
// place for, adds nothing a handler has not said, and gives each write a
// deadline.
type answer struct {
	http.ResponseWriter
	control *http.ResponseController
	stall   time.Duration
	isHead  bool

	mu      sync.Mutex // a body may be read, and asked for, beside the answer
	status  int        // 0: not begun
	written int64
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// EnableFullDuplex has nothing to do: HTTP/3 is.
func (a *answer) EnableFullDuplex() error { return nil }

// WriteHeader begins the answer, or sends an interim one.
func (a *answer) WriteHeader(status int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(status)
}

func (a *answer) begin(status int) {
	if a.status != 0 || status == http.StatusSwitchingProtocols { // there is no such thing here
		return
	}
	h := a.Header()
	for _, name := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
		delete(h, name)
	}
	if status < http.StatusOK {
		a.extend()
	} else {
		a.status = status
		if _, said := h["Content-Type"]; !said {
			h["Content-Type"] = nil // it is not to be guessed
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// goOn asks for the body, unless the answer has begun already.
func (a *answer) goOn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.status != 0 {
		return
	}
	// The interim answer has no headers: those that are set are the answer's.
	h := a.Header()
	kept := h.Clone()
	clear(h)
	a.extend()
	a.ResponseWriter.WriteHeader(http.StatusContinue)
	for name, values := range kept {
		h[name] = values
	}
}

// Write sends a part of the body.
func (a *answer) Write(p []byte) (n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(http.StatusOK)
	for first := true; first || len(p) > 0; first = false {
		piece := p[:min(len(p), writePiece)]
		p = p[len(piece):]
		a.extend()
		m, err := a.ResponseWriter.Write(piece)
		n += m
		a.written += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// FlushError sends what is there.
func (a *answer) FlushError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(http.StatusOK)
	a.extend()
	return a.control.Flush()
}

// Flush is FlushError for callers of the older interface.
func (a *answer) Flush() { a.FlushError() } //nolint:errcheck // there is nobody to tell

func (a *answer) extend() {
	if a.stall > 0 {
		a.control.SetWriteDeadline(time.Now().Add(a.stall)) //nolint:errcheck // it knows deadlines
	}
}

// finish ends the answer. One shorter than it said is cut off, so that nobody
// takes it for whole.
func (a *answer) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.begin(http.StatusOK)
	a.extend()
	length := a.Header()["Content-Length"]
	if len(length) == 0 {
		if a.isHead { // else quic-go says a length of 0
			a.control.Flush() //nolint:errcheck // the client has gone
		}
		return
	}
	if a.isHead || a.status == http.StatusNotModified || a.status == http.StatusNoContent {
		return
	}
	if n, err := strconv.ParseInt(length[0], 10, 64); err != nil || n != a.written {
		panic(http.ErrAbortHandler)
	}
}
