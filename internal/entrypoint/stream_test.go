package entrypoint

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/wire"
)

// TestHTTP2Plain: requests of HTTP/2 go the plain way as those of HTTP/1.1 do,
// with their bodies and trailers, and so do answers.
func TestHTTP2Plain(t *testing.T) {
	var mu sync.Mutex
	var seen []middleware.Entry
	s := start(t, Options{
		TLS: testTLS(t), HTTP3: true, Handler: echo(),
		Observe: func(e *middleware.Entry) {
			mu.Lock()
			defer mu.Unlock()
			kept := *e
			kept.URI, kept.Method = strings.Clone(e.URI), strings.Clone(e.Method)
			seen = append(seen, kept)
		},
		Plain: func(x *wire.Exchange) bool {
			if string(x.Req.Path()) == "/handler" {
				return false
			}
			x.Router, x.Service = "r", "s"
			var body []byte
			if x.Body != nil {
				body, _ = io.ReadAll(x.Body)
			}
			said := ""
			if tr := x.Trailers(); tr != nil {
				said = string(tr.Lookup("x-sum"))
			}
			forward := http1.AppendRequest(nil, x.Req, &http1.Onward{Client: x.Client, KeepOdd: x.KeepOdd})
			text := fmt.Sprintf("%s\nbody %q sum %q", forward, body, said)
			if string(x.Req.Path()) == "/cut" {
				text += strings.Repeat("x", 10)
				x.Broken = true
			}
			head := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Odd: \xe4\r\nConnection: x-hop\r\nX-Hop: 1\r\nCookie-Of-Ours: b\r\n\r\n"
			var res http1.Response
			res.Reset()
			if n, why := res.Parse([]byte(head), len(head), http1.Asked{}); n == 0 {
				t.Error(why)
			}
			x.Status = 200
			x.To.Begin(&res)
			io.WriteString(x.To, text)
			x.To.Flush()
			var tr http1.Trailers
			tr.Reset()
			tr.Parse([]byte("Grpc-Status: 0\r\nX-Unknown: y\r\n\r\n"))
			x.To.End(&tr)
			return true
		},
	})
	c := h2Client(t)
	body := io.MultiReader(strings.NewReader("content"))
	req, _ := http.NewRequest("POST", "https://"+s.Addr().String()+"/a/../b?c", body)
	req.Host = "a.com"
	req.Trailer = http.Header{"X-Sum": {"12"}}
	req.Header = http.Header{"Cookie": {"a=1; b=2"}, "X-Forwarded-For": {"6.6.6.6"}, "Te": {"trailers"}, "User-Agent": {"ua"}}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{"POST /b?c HTTP/1.1\r\nHost: a.com\r\n", "cookie: a=1; b=2\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-Proto: https\r\n",
		"Transfer-Encoding: chunked\r\n", "TE: trailers\r\n", `body "content" sum "12"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
	if resp.Trailer.Get("Grpc-Status") != "0" || resp.Trailer.Get("X-Unknown") != "y" {
		t.Errorf("trailers %v", resp.Trailer)
	}
	h := resp.Header
	if h.Get("X-Odd") != "\xe4" || h.Get("X-Hop") != "" || h.Get("Cookie-Of-Ours") != "b" || h.Get("Date") == "" || !strings.HasPrefix(h.Get("Alt-Svc"), "h3=") {
		t.Errorf("head %v", h)
	}
	f := dialFrames(t, s)
	f.ask(1, true, "GET", "/cut")
	if status, body, reset := f.answer(1, false); status != "200" || reset != http2.ErrCodeInternal || body == "" {
		t.Errorf("cut off: %s %q %v", status, body, reset)
	}
	f.ask(3, true, "GET", "/handler")
	if status, body, _ := f.answer(3, false); status != "200" || !strings.HasPrefix(body, "GET /handler a.com\n") {
		t.Errorf("by the handler: %s %q", status, body)
	}
	f.ask(5, true, "TRACE", "/refused")
	if status, body, _ := f.answer(5, false); status != "405" || body == "" {
		t.Errorf("refused: %s %q", status, body)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 4 {
		t.Fatalf("%d entries", len(seen))
	}
	for i, want := range []string{"POST /a/../b?c HTTP/2.0 200 r", "GET /cut HTTP/2.0 200 r", "GET /handler HTTP/2.0 200 ", "TRACE /refused HTTP/2.0 405 "} {
		e := seen[i]
		if got := fmt.Sprintf("%s %s %s %d %s", e.Method, e.URI, e.Proto, e.Status, e.Router); got != want || e.Size == 0 || !e.TLS || e.Took <= 0 {
			t.Errorf("entry %q %+v, want %q", got, e, want)
		}
	}
}
