package route53

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clocked answers at once and notes when it was asked.
type clocked struct {
	start  time.Time
	at     []string
	status func(n int) (int, string)
}

func (c *clocked) Do(*http.Request) (*http.Response, error) {
	n := len(c.at)
	c.at = append(c.at, time.Since(c.start).String())
	status, body := c.status(n)
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body))}, nil
}

// TestDistances is the pace to the millisecond: four a second, slower after
// each Throttling, and back.
func TestDistances(t *testing.T) {
	const throttling = "<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>"
	for _, c := range []struct {
		name   string
		status func(int) (int, string)
		want   []string
	}{
		{"good", func(int) (int, string) { return 200, "" }, []string{"0s", "250ms", "500ms", "750ms", "1s", "1.25s"}},
		{"refused for other reasons", func(int) (int, string) { return 400, "<Code>InvalidInput</Code>" }, []string{"0s", "250ms", "500ms", "750ms", "1s", "1.25s"}},
		{"throttled twice", func(n int) (int, string) {
			if n == 1 || n == 2 {
				return 400, throttling
			}
			return 200, "good"
		}, []string{"0s", "250ms", "750ms", "1.75s", "2.75s", "3.5625s"}},
		{"throttled for ever", func(int) (int, string) { return 400, throttling }, []string{"0s", "500ms", "1.5s", "3.5s", "7.5s", "11.5s"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := &clocked{start: time.Now(), status: c.status}
				client := &pacedClient{inner: inner, spacing: 250 * time.Millisecond}
				for n := range c.want {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://api.test", nil)
					if err != nil {
						t.Fatal(err)
					}
					res, err := client.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					_, want := c.status(n)
					if got, _ := io.ReadAll(res.Body); string(got) != want {
						t.Errorf("body %q, want %q", got, want)
					}
				}
				if diff := cmp.Diff(c.want, slices.Clone(inner.at)); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}
