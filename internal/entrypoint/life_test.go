package entrypoint

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/wire"
)

func TestBindErrorsSayWhatToDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "address already in use; stop the process",
		"nonsense":            "missing port in address; an address is host:port",
		"203.0.113.1:0":       "cannot assign requested address; no interface",
	} {
		_, err := Listen(Options{Name: "web", Address: address})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), fmt.Sprintf("bind entry point web to %q: ", address)) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
	if got := bindError("web", ":80", &net.OpError{Err: os.NewSyscallError("bind", os.ErrPermission)}).Error(); !strings.Contains(got, "setcap") {
		t.Errorf("privileged port: %s", got)
	}
}

// TestDeadlines: slow and silent clients are cut off, each in its own way.
func TestDeadlines(t *testing.T) {
	failed := make(chan error, 1)
	s := start(t, Options{
		ReadHeaderTimeout: 200 * time.Millisecond, IdleTimeout: 300 * time.Millisecond, BodyReadTimeout: 200 * time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "PUT" {
				w.WriteHeader(401) // without a look at the body
				return
			}
			_, err := io.Copy(io.Discard, r.Body)
			if r.Method == "POST" {
				failed <- err
			}
		}),
	})
	for name, c := range map[string]struct {
		request string
		least   time.Duration
	}{
		"silent":            {"", 150 * time.Millisecond},
		"half head":         {"GET / HTTP/1.1\r\nHost: a", 150 * time.Millisecond},
		"idle":              {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 250 * time.Millisecond},
		"body nobody reads": {"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", 150 * time.Millisecond},
		"half a body":       {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", 150 * time.Millisecond},
	} {
		begin := time.Now()
		exchange(t, s, c.request)
		if took := time.Since(begin); took < c.least || took > 2*time.Second {
			t.Errorf("%s: closed after %v, want at least %v", name, took, c.least)
		}
	}
	if err := <-failed; err == nil {
		t.Error("the handler of half a body saw no error")
	}
}

// TestBodyDeadlineEndsWithTheBody: a slow answer is not a slow client.
func TestBodyDeadlineEndsWithTheBody(t *testing.T) {
	for name, tlsOn := range map[string]bool{"http/1.1": false, "h2": true} {
		opts := Options{BodyReadTimeout: 100 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
			case <-time.After(300 * time.Millisecond):
				io.WriteString(w, "late")
			}
		})}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		scheme := "http://"
		if tlsOn {
			opts.TLS, client, scheme = testTLS(t), h2Client(t), "https://"
		}
		s := start(t, opts)
		res, err := client.Post(scheme+s.Addr().String(), "text/plain", strings.NewReader("body"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || string(text) != "late" {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
	}
}

func TestWriteStall(t *testing.T) {
	ended := make(chan error, 1)
	s := start(t, Options{WriteStallTimeout: 200 * time.Millisecond, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 64<<10)
		for {
			if _, err := w.Write(b); err != nil {
				ended <- err
				return
			}
		}
	})})
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("a client that reads nothing holds the handler")
	}
}

func TestConnectionLimit(t *testing.T) {
	s := start(t, Options{Handler: echo(), MaxConnections: 2})
	var held []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
	}
	if got := exchange(t, s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); status(got) != "503" {
		t.Errorf("a connection over the limit was served: %q", got)
	}
	for _, c := range held {
		c.Close()
	}
	for deadline := time.Now().Add(3 * time.Second); s.conns.open.Load() > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("closed connections still count")
		}
	}
	if got := exchange(t, s, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); status(got) != "200" {
		t.Errorf("after others left: %q", got)
	}
}

// TestWornConnections: after its share of requests a connection is asked to
// close, without an error.
func TestWornConnections(t *testing.T) {
	p := (trust{}).peer("127.0.0.1:1")
	for i := range maxConnRequests - 1 {
		if p.worn(wire.Now()) {
			t.Fatalf("worn after %d requests", i+1)
		}
	}
	if !p.worn(wire.Now()) {
		t.Errorf("not worn after %d requests", maxConnRequests)
	}
	old := (trust{}).peer("127.0.0.1:1")
	old.since -= int64(maxConnAge + time.Second)
	if !old.worn(wire.Now()) {
		t.Error("not worn after an hour")
	}
}

// TestShutdownLosesNothing: requests on kept connections, over HTTP/1.1 and
// HTTP/2, while the entry point drains. A client that is told to close obeys
// and, as behind a load balancer, does not come back.
func TestShutdownLosesNothing(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			shutdownUnderLoad(t)
		})
	}
}

func shutdownUnderLoad(t *testing.T) {
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "7") {
			time.Sleep(20 * time.Millisecond)
		}
		io.WriteString(w, "answer")
	})
	plain := start(t, Options{Handler: slow})
	secure := start(t, Options{Handler: slow, TLS: testTLS(t)})
	var lost, answered atomic.Int64
	var stopping atomic.Bool
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() { keepAsking(plain, &answered, &lost) })
	}
	client := h2Client(t)
	var draining atomic.Bool
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if draining.Load() {
			return nil, errNoNew
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for range 8 {
		clients.Go(func() {
			for i := 0; !stopping.Load(); i++ {
				askOnce(client, fmt.Sprintf("https://%s/%d", secure.Addr(), i), &answered, &lost, &stopping)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); answered.Load() < 100 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	draining.Store(true)
	var servers sync.WaitGroup
	for _, s := range []*Server{plain, secure} {
		servers.Go(func() {
			if err := s.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	stopping.Store(true)
	clients.Wait()
	servers.Wait()
	cancel()
	for _, s := range []*Server{plain, secure} {
		if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
			c.Close()
			t.Error("the socket is still open")
		}
	}
	if lost.Load() > 0 || answered.Load() < 100 {
		t.Errorf("%d lost, %d answered", lost.Load(), answered.Load())
	}
}

// keepAsking uses one HTTP/1.1 connection until it is told to close.
func keepAsking(s *Server, answered, lost *atomic.Int64) {
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		lost.Add(1)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(15 * time.Second))
	in := bufio.NewReader(c)
	for i := 0; ; i++ {
		fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			lost.Add(1)
			return
		}
		if text, err := io.ReadAll(res.Body); err != nil || string(text) != "answer" {
			lost.Add(1)
			return
		}
		answered.Add(1)
		if res.Close {
			return
		}
	}
}

// errNoNew stands for the load balancer, which has been told to send no new
// connections.
var errNoNew = errors.New("no new connections")

// askOnce counts an answer.
func askOnce(client *http.Client, url string, answered, lost *atomic.Int64, stopping *atomic.Bool) {
	res, err := client.Get(url)
	if err != nil {
		if !errors.Is(err, errNoNew) {
			lost.Add(1)
		}
		stopping.Store(true)
		return
	}
	text, err := io.ReadAll(res.Body)
	res.Body.Close()
	if err != nil || string(text) != "answer" {
		lost.Add(1)
		return
	}
	answered.Add(1)
}

// TestShutdownEndsUpgradedConnections: WebSockets are closed at the end, and
// what does not finish within the grace is cut off.
func TestShutdownEndsUpgradedConnections(t *testing.T) {
	upgraded := make(chan struct{})
	release := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			close(upgraded)
			<-release
			return
		}
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		buf.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		buf.Flush()
		io.Copy(conn, buf) // echo until closed
	})
	s := start(t, Options{Handler: handler})
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	begin := time.Now()
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > drainLinger/2 {
		t.Errorf("an upgraded connection held the shutdown for %v", took)
	}
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := in.ReadByte(); err == nil || os.IsTimeout(err) {
		t.Errorf("the upgraded connection is still open: %v", err)
	}

	s = start(t, Options{Handler: handler})
	hanging, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	io.WriteString(hanging, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
	<-upgraded
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err == nil || !strings.HasPrefix(err.Error(), "drain entry point web (127.0.0.1:") {
		t.Errorf("got %v, want the grace to end", err)
	}
	hanging.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := hanging.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("the hanging connection is still open: %v", err)
	}
	close(release)
}

func BenchmarkGate(b *testing.B) {
	g := newGate(Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}.withDefaults(), new(atomic.Bool))
	from := g.trust.peer("192.0.2.1:4711")
	b.ReportAllocs()
	head := http.Header{"User-Agent": {"curl"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "Cookie": {"a=b"}}
	base, err := http.NewRequest("GET", "http://example.com/some/path?q=1", nil)
	if err != nil {
		b.Fatal(err)
	}
	base.RequestURI = "/some/path?q=1"
	base = base.WithContext(context.WithValue(b.Context(), peerKey{}, from))
	w := discard{http.Header{}}
	r := *base
	r.Header = http.Header{}
	for b.Loop() {
		from.requests.Store(0)
		clear(r.Header)
		for k, v := range head {
			r.Header[k] = v
		}
		g.ServeHTTP(w, &r)
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
