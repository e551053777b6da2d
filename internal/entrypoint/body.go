package entrypoint

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

// A body slower than this for a whole window is cut off.
const (
	minBodyRate   = 240 // bytes per second
	minRateWindow = 60 * time.Second
)

// pacedBody gives each read of a request body a deadline, and the body as a
// whole a least speed, so that a client cannot hold a server's connection for
// ever by sending nothing, or a byte now and then.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	timeout time.Duration

	// A transport may still read when the handler has gone: it must no longer
	// touch the connection's deadline, which is then another request's.
	mu   sync.Mutex
	over bool // the body, or the handler

	waited time.Duration // in this window, for the client alone
	bytes  int64         // in this window
}

func newPacedBody(body io.ReadCloser, w http.ResponseWriter, timeout time.Duration) *pacedBody {
	return &pacedBody{ReadCloser: body, control: http.NewResponseController(w), timeout: timeout}
}

// Read reads on within the deadline.
func (b *pacedBody) Read(p []byte) (int, error) {
	start := time.Now()
	b.deadline(start.Add(b.timeout))
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		// The deadline stays: net/http reads on, to keep the connection.
		return n, err
	}
	// Otherwise it must not outlast the read: net/http watches the connection
	// in the background once the body has ended.
	b.deadline(time.Time{})
	if err != nil {
		b.mu.Lock()
		b.over = true
		b.mu.Unlock()
		return n, err
	}
	b.bytes += int64(n)
	b.waited += time.Since(start)
	if b.waited < minRateWindow {
		return n, nil
	}
	if b.bytes < minBodyRate*int64(b.waited/time.Second) {
		return n, fmt.Errorf("read request body: under %d bytes a second for %v: %w",
			minBodyRate, b.waited.Round(time.Second), os.ErrDeadlineExceeded)
	}
	b.waited, b.bytes = 0, 0
	return n, nil
}

// deadline sets the connection's, as long as it is ours to set.
func (b *pacedBody) deadline(at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.over {
		b.control.SetReadDeadline(at)
	}
}

// leave is called when the handler is done: net/http now reads what is left of
// a short body, and must not wait for ever either.
func (b *pacedBody) leave() {
	b.deadline(time.Now().Add(b.timeout))
	b.mu.Lock()
	defer b.mu.Unlock()
	b.over = true
}
