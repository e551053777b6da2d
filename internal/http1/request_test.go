package http1

import (
	"strings"
	"testing"
)

// parse parses a whole head in one go.
func parse(t testing.TB, head string) (*Request, int, Reason) {
	t.Helper()
	req, rules := new(Request), DefaultRules()
	req.Reset()
	n, why := req.Parse([]byte(head), &rules)
	return req, n, why
}

func get(target, rest string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: a.com\r\n" + rest + "\r\n"
}

func TestRefusedHeads(t *testing.T) {
	post := func(rest string) string { return "POST / HTTP/1.1\r\nHost: a.com\r\n" + rest + "\r\n" }
	for _, c := range []struct {
		name, head string
		want       Reason
	}{
		{"HTTP/0.9", "GET /\r\n", BadTarget},
		{"bare LF lines", "GET / HTTP/1.1\nHost: a.com\n\n", BareLF},
		{"length and coding", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), LengthAndCoding},
		{"long target", get("/"+strings.Repeat("x", 9<<10), ""), TargetTooLong},
	} {
		if _, n, why := parse(t, c.head); why != c.want || n != 0 {
			t.Errorf("%s: %d, %v, want %v", c.name, n, why, c.want)
		}
	}
}
