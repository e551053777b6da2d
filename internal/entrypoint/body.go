package entrypoint

import (
	"fmt"
	"io"
	"net/http"
	"os"
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

	waited time.Duration // in this window, for the client alone
	bytes  int64         // in this window
}

func newPacedBody(body io.ReadCloser, w http.ResponseWriter, timeout time.Duration) *pacedBody {
	return &pacedBody{ReadCloser: body, control: http.NewResponseController(w), timeout: timeout}
}

// Read reads on within the deadline.
func (b *pacedBody) Read(p []byte) (int, error) {
	start := time.Now()
	b.control.SetReadDeadline(start.Add(b.timeout))
	n, err := b.ReadCloser.Read(p)
	// The deadline must not outlast the read: net/http watches the connection
	// in the background once the body has ended.
	b.control.SetReadDeadline(time.Time{})
	if err != nil {
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
