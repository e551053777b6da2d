package h3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// echo tells what it saw in headers, and gives the body back.
func echo(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Saw", fmt.Sprintf("%s %s %s length=%d nobody=%t expect=%q", r.Method, r.Proto, r.Host, r.ContentLength, r.Body == http.NoBody, r.Header["Expect"]))
	http.NewResponseController(w).EnableFullDuplex()
	io.Copy(w, r.Body)
}

func TestRequests(t *testing.T) {
	s := start(t, Options{Handler: http.HandlerFunc(echo)})
	c := client(t)
	large := make([]byte, 3<<20)
	rand.Read(large)
	for name, test := range map[string]struct {
		method string
		body   []byte
		stream bool // without a length
		expect bool
		saw    string
	}{
		"get":               {method: "GET", saw: "length=0 nobody=true expect=[]"},
		"head":              {method: "HEAD", saw: "length=0 nobody=true expect=[]"},
		"delete":            {method: "DELETE", saw: "length=0 nobody=true expect=[]"},
		"post":              {method: "POST", body: []byte("hello"), saw: "length=5 nobody=false expect=[]"},
		"post without body": {method: "POST", saw: "length=0 nobody=true expect=[]"},
		"large":             {method: "POST", body: large, saw: "length=3145728 nobody=false expect=[]"},
		"large stream":      {method: "PUT", body: large, stream: true, saw: "length=-1 nobody=false expect=[]"},
		"get with body":     {method: "GET", body: []byte("odd"), stream: true, saw: "length=-1 nobody=false expect=[]"},
		"awaited":           {method: "POST", body: []byte("hello"), expect: true, saw: "length=5 nobody=false expect=[]"},
	} {
		t.Run(name, func(t *testing.T) {
			var body io.Reader = http.NoBody
			if test.body != nil {
				body = bytes.NewReader(test.body)
			}
			if test.stream {
				body = struct{ io.Reader }{body}
			}
			req, err := http.NewRequest(test.method, url(s, "/x?y"), body)
			if err != nil {
				t.Fatal(err)
			}
			if test.expect {
				req.Header.Set("Expect", "100-continue")
			}
			resp, err := c.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, test.body) && test.method != "HEAD" {
				t.Errorf("%d bytes came back, %v, want %d", len(got), err, len(test.body))
			}
			if want := test.method + " HTTP/3.0 " + s.Addr().String() + " " + test.saw; resp.Header.Get("Saw") != want {
				t.Errorf("the handler saw %q, want %q", resp.Header.Get("Saw"), want)
			}
			if resp.Header.Get("Content-Type") != "" {
				t.Errorf("a type was guessed: %q", resp.Header.Get("Content-Type"))
			}
		})
	}
}

// TestAnswers: what handlers say arrives, without what HTTP/3 has no place for,
// and nothing broken looks whole.
func TestAnswers(t *testing.T) {
	s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		switch r.URL.Path {
		case "/hops":
			for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"} {
				h.Set(name, "close")
			}
			w.WriteHeader(418)
		case "/trailers":
			h.Set("Trailer", "X-Declared")
			io.WriteString(w, "body")
			h.Set("X-Declared", "a")
			h.Set(http.TrailerPrefix+"Grpc-Status", "0")
		case "/early":
			h.Set("Link", "</style.css>")
			w.WriteHeader(103)
			h.Del("Link")
			io.WriteString(w, "late")
		case "/short":
			h.Set("Content-Length", "10")
			io.WriteString(w, "short")
		case "/abort":
			io.WriteString(w, "beg")
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/none":
			w.WriteHeader(204)
		case "/unchanged":
			w.WriteHeader(304)
		case "/head":
		}
	})})
	c := client(t)
	for _, test := range []struct{ method, path, want string }{
		{"GET", "/hops", `418 length=0 trailer=map[] body="" <nil>`},
		{"GET", "/trailers", `200 length=4 trailer=map[Grpc-Status:[0] X-Declared:[a]] body="body" <nil>`},
		{"GET", "/early", `200 length=4 trailer=map[] body="late" <nil>`},
		{"GET", "/short", `broken`},
		{"GET", "/abort", `broken`},
		{"GET", "/none", `204 length=0 trailer=map[] body="" <nil>`},
		{"GET", "/unchanged", `304 length=0 trailer=map[] body="" <nil>`},
		{"GET", "/nothing", `200 length=0 trailer=map[] body="" <nil>`},
		{"HEAD", "/head", `200 length=-1 trailer=map[] body="" <nil>`},
	} {
		req, err := http.NewRequest(test.method, url(s, test.path), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		got := "broken"
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				got = fmt.Sprintf("%d length=%d trailer=%v body=%q %v", resp.StatusCode, max(resp.ContentLength, -1), resp.Trailer, body, err)
			}
			if test.want != "broken" && (resp.StatusCode == 204 || resp.StatusCode == 304) {
				got = strings.Replace(got, "length=-1", "length=0", 1)
			}
		}
		if got != test.want {
			t.Errorf("%s %s: %s, want %s", test.method, test.path, got, test.want)
		}
	}
}

// TestStreaming: each side sees what the other sent before the next is sent.
func TestStreaming(t *testing.T) {
	s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			if n > 0 {
				w.Write(b[:n])
				rc.Flush()
			}
			if err != nil {
				return
			}
		}
	})})
	up, feed := io.Pipe()
	req, _ := http.NewRequest("POST", url(s, "/"), up)
	resp, err := client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i := range 20 {
		line := fmt.Sprintf("line %d", i)
		io.WriteString(feed, line)
		got := make([]byte, len(line))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != line {
			t.Fatalf("%q, %v, want %q", got, err, line)
		}
	}
	feed.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

// TestLimits: a head over the limit is refused, one below it is served; 0-RTT
// and old TLS are not offered; the key exchange withstands quantum computers.
func TestLimits(t *testing.T) {
	var calls atomic.Int64
	s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.Header().Set("Tls", fmt.Sprint(r.TLS.Version == tls.VersionTLS13, r.TLS.CurveID, r.TLS.NegotiatedProtocol))
	})})
	c := client(t)
	for size, want := range map[int]int{30 << 10: 200, 40 << 10: 431, 100 << 10: 431} {
		req, _ := http.NewRequest("GET", url(s, "/"), nil)
		req.Header.Set("X", strings.Repeat("X", size)) // eight bits, compressed or not
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("head of %d bytes: %d, want %d", size, resp.StatusCode, want)
		}
		if want == 200 && resp.Header.Get("Tls") != "true X25519MLKEM768h3" {
			t.Errorf("TLS: %s", resp.Header.Get("Tls"))
		}
	}
	if calls.Load() != 1 {
		t.Errorf("the handler was called %d times", calls.Load())
	}
}

func TestNoEarlyData(t *testing.T) {
	s := start(t, Options{Handler: http.HandlerFunc(echo)})
	cache := tls.NewLRUClientSessionCache(8)
	for i := range 2 {
		tr := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "localhost"}}
		defer tr.Close()
		req, _ := http.NewRequest(http3.MethodGet0RTT, url(s, "/"), nil)
		resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.TLS.DidResume != (i == 1) {
			t.Errorf("connection %d: resumed %t", i, resp.TLS.DidResume)
		}
		time.Sleep(20 * time.Millisecond) // the session ticket comes after
	}
	conn, err := quic.DialAddrEarly(t.Context(), s.Addr().String(),
		&tls.Config{InsecureSkipVerify: true, ClientSessionCache: cache, ServerName: "localhost", NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	<-conn.HandshakeComplete()
	if conn.ConnectionState().Used0RTT {
		t.Error("early data was taken")
	}
}

// TestServerName: the certificate follows the name, as by TCP; a name that has
// none ends the handshake.
func TestServerName(t *testing.T) {
	a, b := certificate(t, "a.test"), certificate(t, "b.test")
	config := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		switch h.ServerName {
		case "a.test":
			return a, nil
		case "b.test":
			return b, nil
		}
		return nil, fmt.Errorf("no certificate for %q", h.ServerName)
	}}
	s := start(t, Options{Handler: http.HandlerFunc(echo), TLS: config})
	for name, ok := range map[string]bool{"a.test": true, "b.test": true, "c.test": false, "": false} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		conn, err := quic.DialAddr(ctx, s.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"h3"}}, nil)
		cancel()
		if (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if err != nil {
			continue
		}
		if got := conn.ConnectionState().TLS.PeerCertificates[0].DNSNames[0]; got != name {
			t.Errorf("%q was shown the certificate of %q", name, got)
		}
		conn.CloseWithError(0, "")
	}
	if _, err := quic.DialAddr(t.Context(), s.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: "a.test", NextProtos: []string{"acme-tls/1"}}, nil); err == nil {
		t.Error("another protocol than h3 was agreed on")
	}
}

// TestShutdown: a request under way ends well, later ones are refused, idle
// connections do not hold the server up.
func TestShutdown(t *testing.T) {
	begun := make(chan struct{})
	finish := make(chan struct{})
	s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(begun)
			<-finish
		}
		io.WriteString(w, "done")
	})})
	busy, idle := client(t), client(t)
	if resp, err := idle.Get(url(s, "/")); err != nil {
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, err := busy.Get(url(s, "/slow"))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "done" {
			t.Errorf("%q, %v", body, err)
		}
	})
	<-begun
	start := time.Now()
	time.AfterFunc(1500*time.Millisecond, func() { close(finish) })
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took < 1500*time.Millisecond || took > 4*time.Second {
		t.Errorf("it took %v", took)
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", url(s, "/"), nil)
	if resp, err := client(t).Do(req); err == nil {
		resp.Body.Close()
		t.Error("served after the end")
	}
}

// TestIdle: a connection without a request ends, also one that keeps a head
// unfinished.
func TestIdle(t *testing.T) {
	s := start(t, Options{Handler: http.HandlerFunc(echo), IdleTimeout: 300 * time.Millisecond})
	for _, begin := range []string{"", "\x01"} {
		conn, err := quic.DialAddr(t.Context(), s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, &quic.Config{KeepAlivePeriod: 50 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if begin != "" {
			str, err := conn.OpenStream()
			if err != nil {
				t.Fatal(err)
			}
			io.WriteString(str, begin)
		}
		select {
		case <-conn.Context().Done():
		case <-time.After(20 * time.Second):
			t.Errorf("begun with %q: the connection lives on", begin)
			conn.CloseWithError(0, "")
		}
	}
}

// TestFirstRequest: a connection that never asked for anything does not live as
// long as one that did.
func TestFirstRequest(t *testing.T) {
	s := start(t, Options{Handler: http.HandlerFunc(echo), HeadTimeout: time.Second, IdleTimeout: time.Minute})
	served := client(t)
	ask(t, served, s)
	silent := dialQUIC(t, s)
	select {
	case <-silent.Context().Done():
	case <-time.After(20 * time.Second):
		t.Error("a connection without a request lives on")
	}
	await(t, "it to be forgotten", func() bool { return len(s.conns.list()) == 1 })
}

// TestCloseIdle: connections without a request make room, no others.
func TestCloseIdle(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := start(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(entered)
			<-release
		}
	})})
	slow := make(chan error, 1)
	go func() {
		resp, err := client(t).Get(url(s, "/slow"))
		if err == nil {
			resp.Body.Close()
		}
		slow <- err
	}()
	<-entered
	var idle []*quic.Conn
	for range 2 {
		idle = append(idle, dialQUIC(t, s))
	}
	await(t, "two idle connections", func() bool {
		n := 0
		for _, c := range s.conns.list() {
			if c.idleFor(time.Now()) > settled {
				n++
			}
		}
		return n == 2
	})
	if n := s.CloseIdle(1); n != 1 {
		t.Errorf("%d closed, want 1", n)
	}
	await(t, "one of them to go", func() bool { return len(s.conns.list()) == 2 })
	s.CloseIdle(0)
	await(t, "the other to go", func() bool { return len(s.conns.list()) == 1 })
	for _, c := range idle {
		<-c.Context().Done()
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the request under way: %v", err)
	}
}

func ask(t *testing.T, c *http.Client, s *Server) {
	t.Helper()
	resp, err := c.Get(url(s, "/"))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
}

func dialQUIC(t *testing.T, s *Server) *quic.Conn {
	t.Helper()
	c, err := quic.DialAddr(t.Context(), s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, &quic.Config{KeepAlivePeriod: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.CloseWithError(0, "") })
	return c
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestConnectionLimit: over it new connections are refused, and taken again
// when others have gone.
func TestConnectionLimit(t *testing.T) {
	var open atomic.Int64
	s := start(t, Options{Handler: http.HandlerFunc(echo), Admit: func(net.Addr) (func(), bool) {
		if open.Add(1) > 2 {
			open.Add(-1)
			return nil, false
		}
		return func() { open.Add(-1) }, true
	}})
	dial := func() (*quic.Conn, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return quic.DialAddr(ctx, s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
	}
	one, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	two, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer two.CloseWithError(0, "")
	if three, err := dial(); err == nil {
		three.CloseWithError(0, "")
		t.Error("a third connection was taken")
	}
	one.CloseWithError(0, "")
	for deadline := time.Now().Add(20 * time.Second); ; {
		again, err := dial()
		if err == nil {
			again.CloseWithError(0, "")
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("room was not found again: %v", err)
		}
	}
}

// TestRapidReset: a client that takes its requests back as fast as it makes
// them is cut off. The test's client is no fast one, least of all on a busy
// machine: a fiftieth of what is allowed has to do.
func TestRapidReset(t *testing.T) {
	var calls atomic.Int64
	s := start(t, Options{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		<-r.Context().Done()
	})}, func(s *Server) { s.conns.resets = maxResets / 50 })
	c := client(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var sent atomic.Int64
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithCancel(context.Background())
				time.AfterFunc(time.Millisecond, cancel)
				req, _ := http.NewRequestWithContext(ctx, "GET", url(s, "/"), nil)
				sent.Add(1)
				resp, err := c.Do(req)
				cancel()
				if err == nil {
					resp.Body.Close()
				} else if strings.Contains(err.Error(), "taken back") || strings.Contains(err.Error(), "H3_EXCESSIVE_LOAD") {
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		close(stop)
		<-done
		t.Errorf("not cut off: %d requests sent, %d seen", sent.Load(), calls.Load())
	}
}

// TestConnContext: what is added for a connection reaches its requests.
func TestConnContext(t *testing.T) {
	type key struct{}
	s := start(t, Options{
		ConnContext: func(ctx context.Context, client net.Addr) context.Context {
			return context.WithValue(ctx, key{}, client.String())
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Value(key{}) != r.RemoteAddr || r.RemoteAddr == "" {
				t.Errorf("connection's context says %v, the request %v", r.Context().Value(key{}), r.RemoteAddr)
			}
		}),
	})
	resp, err := client(t).Get(url(s, "/"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if want := fmt.Sprintf(`h3=":%d"; ma=86400`, s.Addr().(*net.UDPAddr).Port); s.AltSvc(0) != want || s.AltSvc(443) != `h3=":443"; ma=86400` {
		t.Errorf("announced as %s and %s", s.AltSvc(0), s.AltSvc(443))
	}
}
