package suites

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// clients are one for each way to the router.
func clients(t *testing.T, r *router) map[string]struct {
	*http.Client
	url string
} {
	three := &http3.Transport{TLSClientConfig: r.tls(), DisableCompression: true}
	t.Cleanup(func() { three.Close() })
	return map[string]struct {
		*http.Client
		url string
	}{
		"HTTP/1.1":          {r.client(t, true, false), "http://" + r.http},
		"HTTP/1.1 over TLS": {r.client(t, true, false), "https://" + r.https},
		"HTTP/2":            {r.client(t, false, true), "https://" + r.https},
		"HTTP/3":            {&http.Client{Transport: three, Timeout: 20 * time.Second}, "https://" + r.https},
	}
}

// streamOrigin has a way to see each direction arrive piece by piece.
func streamOrigin(t *testing.T) *httptest.Server {
	next := make(chan struct{})
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		switch r.URL.Path {
		case "/next": // the client has seen an event
			next <- struct{}{}
		case "/events":
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 5 {
				fmt.Fprintf(w, "data: %d\n\n", i)
				rc.Flush()
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
		case "/duplex":
			rc.EnableFullDuplex()
			w.WriteHeader(http.StatusOK)
			rc.Flush()
			for lines := bufio.NewScanner(r.Body); lines.Scan(); {
				fmt.Fprintf(w, "%s\n", strings.ToUpper(lines.Text()))
				rc.Flush()
			}
		case "/sum":
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			w.Header().Set("Trailer", "X-Sum")
			fmt.Fprintf(w, "%d %v", n, err)
			w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
		case "/large":
			io.Copy(w, io.LimitReader(zeros{}, 8<<20))
		case "/cut":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "half")
			rc.Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	origin.Config.Protocols = p
	origin.Start()
	t.Cleanup(origin.Close)
	return origin
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestStreams: nothing is held back in either direction, by any protocol on
// either side.
func TestStreams(t *testing.T) {
	for _, to := range []struct{ name, scheme, chain string }{{"http", "http", ""}, {"http by handlers", "http", chain}, {"h2c", "h2c", ""}} {
		origin := streamOrigin(t)
		r := startChained(t, "", to.chain, map[string]string{"/": to.scheme + strings.TrimPrefix(origin.URL, "http")})
		for name, c := range clients(t, r) {
			t.Run(name+" to "+to.name, func(t *testing.T) {
				t.Run("events", func(t *testing.T) { events(t, c.Client, c.url) })
				t.Run("upload", func(t *testing.T) { upload(t, c.Client, c.url) })
				t.Run("expect", func(t *testing.T) { expect(t, c.Client, c.url) })
				t.Run("download", func(t *testing.T) { download(t, c.Client, c.url) })
				t.Run("duplex", func(t *testing.T) { duplex(t, c.Client, c.url) })
				t.Run("cut", func(t *testing.T) { cut(t, c.Client, c.url) })
			})
		}
	}
}

// events: the origin sends each only when the one before has been seen here.
func events(t *testing.T, c *http.Client, url string) {
	resp, err := c.Get(url + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("type %q", got)
	}
	for i := range 5 {
		want := fmt.Sprintf("data: %d\n\n", i)
		if got := readN(t, resp.Body, len(want)); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		seen, err := c.Get(url + "/next")
		if err != nil {
			t.Fatal(err)
		}
		seen.Body.Close()
	}
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last: %q, %v", rest, err)
	}
}

// upload is of a length nobody knows before; the trailer comes through.
func upload(t *testing.T, c *http.Client, url string) {
	data := make([]byte, 5<<20)
	rand.Read(data)
	resp, err := c.Post(url+"/sum", "application/octet-stream", struct{ io.Reader }{bytes.NewReader(data)})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	want := fmt.Sprintf("%x", sha256.Sum256(data))
	if err != nil || string(body) != fmt.Sprintf("%d <nil>", len(data)) || resp.Trailer.Get("X-Sum") != want {
		t.Errorf("%q, %v, trailer %v, want %s", body, err, resp.Trailer, want)
	}
}

// expect: a client that waits for the word to go on gets it.
func expect(t *testing.T, c *http.Client, url string) {
	req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/sum", strings.NewReader("content"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Expect", "100-continue")
	begin := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "7 <nil>" || time.Since(begin) > 5*time.Second {
		t.Errorf("%q, %v after %v", body, err, time.Since(begin))
	}
}

func download(t *testing.T, c *http.Client, url string) {
	resp, err := c.Get(url + "/large")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != 8<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// duplex: each line is answered before the next is sent.
func duplex(t *testing.T, c *http.Client, url string) {
	up, feed := io.Pipe()
	defer feed.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "POST", url+"/duplex", up)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 20 {
		line := fmt.Sprintf("line %d\n", i)
		io.WriteString(feed, line)
		if got := readN(t, resp.Body, len(line)); got != strings.ToUpper(line) {
			t.Fatalf("%q, want %q", got, strings.ToUpper(line))
		}
	}
	feed.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last: %q, %v", rest, err)
	}
}

// cut: half an answer never looks whole.
func cut(t *testing.T, c *http.Client, url string) {
	resp, err := c.Get(url + "/cut")
	if err != nil {
		return // as good
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil && resp.StatusCode == http.StatusOK {
		t.Errorf("a whole answer: %d %q", resp.StatusCode, body)
	}
}

// TestHTTP3Announced: browsers find HTTP/3 by Alt-Svc, and it can be switched
// off.
func TestHTTP3Announced(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Forwarded-Proto"))
	}))
	defer origin.Close()
	for extra, on := range map[string]bool{"": true, "http3 = false": false} {
		r := start(t, extra, map[string]string{"/": origin.URL})
		_, port, _ := net.SplitHostPort(r.https)
		want := ""
		if on {
			want = fmt.Sprintf(`h3=":%s"; ma=86400`, port)
		}
		for _, h2 := range []bool{false, true} {
			resp, err := r.client(t, !h2, h2).Get("https://" + r.https)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Alt-Svc"); got != want {
				t.Errorf("http3 %t, %s: announced as %q, want %q", on, resp.Proto, got, want)
			}
		}
		resp, err := r.client(t, true, false).Get("http://" + r.http)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Alt-Svc"); got != "" {
			t.Errorf("announced by plain HTTP: %q", got)
		}
	}
}

// TestProxyProtocol: the origin learns the client's address from a balancer in
// front.
func TestProxyProtocol(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	defer origin.Close()
	r := start(t, "proxyProtocol = { trustedIPs = [\"127.0.0.1\"] }", map[string]string{"/": origin.URL})
	tr := r.client(t, true, false).Transport.(*http.Transport)
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			_, err = io.WriteString(c, "PROXY TCP6 2001:db8::7 ::1 56324 443\r\n")
		}
		return c, err
	}
	resp, err := (&http.Client{Transport: tr}).Get("https://" + r.https)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "2001:db8::7" || resp.Header.Get("Alt-Svc") != "" {
		t.Errorf("the origin was told %q, %v; Alt-Svc %q", body, err, resp.Header.Get("Alt-Svc"))
	}
}

// TestAddresses: an entry point serves the same at all its addresses, by all
// protocols.
func TestAddresses(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	defer origin.Close()
	r := start(t, `addresses = ["127.0.0.2:0", "[::1]:0"]`, map[string]string{"/": origin.URL})
	if len(r.bound) != 3 || !strings.HasPrefix(r.bound[1], "127.0.0.2:") || !strings.HasPrefix(r.bound[2], "[::1]:") {
		t.Fatalf("bound to %q", r.bound)
	}
	for _, r.https = range r.bound {
		for name, c := range clients(t, r) {
			resp, err := c.Get(c.url)
			if err != nil {
				t.Errorf("%s at %s: %v", name, r.https, err)
				continue
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "ok" {
				t.Errorf("%s at %s: %q, %v", name, r.https, body, err)
			}
			resp.Body.Close()
		}
	}
}
