package route53

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// mostSpacing times the usual distance is the longest one between requests.
const mostSpacing = 16

// pacedClient keeps a distance between requests, retries included. The limit
// is the account's, and others may use it too: each time the API says that it
// is exceeded the distance doubles, and shrinks again with every answer that
// says nothing of the kind.
type pacedClient struct {
	inner   aws.HTTPClient
	spacing time.Duration

	mu    sync.Mutex
	extra time.Duration // on top of spacing
	next  time.Time
}

func (c *pacedClient) Do(r *http.Request) (*http.Response, error) {
	c.mu.Lock()
	now := time.Now()
	at := c.next
	if at.Before(now) {
		at = now
	}
	c.next = at.Add(c.spacing + c.extra)
	c.mu.Unlock()
	if err := sleep(r.Context(), at.Sub(now)); err != nil {
		return nil, err
	}
	res, err := c.inner.Do(r)
	if err == nil {
		c.heed(throttled(res))
	}
	return res, err
}

func (c *pacedClient) heed(throttled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !throttled {
		c.extra = c.extra * 3 / 4
		return
	}
	c.extra = min(2*c.extra+c.spacing, (mostSpacing-1)*c.spacing)
	if at := time.Now().Add(c.spacing + c.extra); at.After(c.next) {
		c.next = at
	}
}

// throttled looks into an error of the API and leaves it to be read again.
func throttled(res *http.Response) bool {
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return true
	case http.StatusBadRequest:
	default:
		return false
	}
	const most = 64 << 10
	raw, err := io.ReadAll(io.LimitReader(res.Body, most))
	if err != nil {
		return false
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(raw), res.Body), res.Body}
	return bytes.Contains(raw, []byte("<Code>Throttling")) || bytes.Contains(raw, []byte("<Code>PriorRequestNotComplete"))
}
