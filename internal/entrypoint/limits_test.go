package entrypoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/pressure"
)

// pressed is a level that a test sets, in percent of the memory.
func pressed(t *testing.T) (w *pressure.Watch, set func(percent int64, want pressure.Level)) {
	t.Helper()
	var used atomic.Int64
	w = pressure.New(pressure.Options{Limit: 100, Used: used.Load, Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w, func(percent int64, want pressure.Level) {
		used.Store(percent)
		for deadline := time.Now().Add(5 * time.Second); w.Level() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d %%: still %v", percent, w.Level())
			}
		}
	}
}

// kept is a connection with one answer behind it.
func kept(t *testing.T, s *Server) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	in := bufio.NewReader(c)
	if res := once(t, c, in); res.StatusCode != 200 || res.Close {
		t.Fatal(res.Status, res.Close)
	}
	return c, in
}

func once(t *testing.T, c net.Conn, in *bufio.Reader) *http.Response {
	t.Helper()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	return res
}

// TestMemoryPressure: first no connection is kept, then nothing new is taken
// on, and all is well again when there is room.
func TestMemoryPressure(t *testing.T) {
	watch, set := pressed(t)
	s := start(t, Options{Handler: echo(), Pressure: watch})
	secure := start(t, Options{Handler: echo(), Pressure: watch, TLS: testTLS(t)})
	client := h2Client(t)
	ask := func() string {
		res, err := client.Get("https://" + secure.Addr().String() + "/")
		if err != nil {
			return err.Error()
		}
		res.Body.Close()
		return res.Status
	}
	early, in := kept(t, s)
	if got := ask(); got != "200 OK" {
		t.Error(got)
	}
	idle, idleIn := kept(t, s)

	set(88, pressure.Tight)
	s.CloseIdle(0)
	idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idleIn.ReadByte(); err != io.EOF {
		t.Errorf("an idle connection was not closed: %v", err)
	}
	if got := exchange(t, s, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); status(got) != "200" {
		t.Errorf("not kept, but served: %q", got)
	}
	if got := ask(); got != "200 OK" {
		t.Errorf("HTTP/2 with little memory: %s", got)
	}
	early.Close()
	_ = in

	set(10, pressure.Calm)
	c, in := kept(t, s)
	if got := ask(); got != "200 OK" { // a connection to be kept
		t.Error(got)
	}
	set(96, pressure.Full)
	if res := once(t, c, in); res.StatusCode != 503 || !res.Close || res.Header.Get("Retry-After") == "" {
		t.Errorf("a request without memory: %s", res.Status)
	}
	if got := ask(); got != "503 Service Unavailable" {
		t.Errorf("HTTP/2 without memory: %s", got)
	}
	if got := exchange(t, s, ""); status(got) != "503" {
		t.Errorf("a connection without memory: %q", got)
	}
	set(90, pressure.Full) // not yet
	set(10, pressure.Calm)
	kept(t, s)
}

// await waits for a condition that comes about by itself.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// waiting is how many connections wait for a further request: that is a little
// later than the client has its answer.
func waiting(s *Server) (n int) {
	s.conns.each(func(*conn) { n++ }, connIdle)
	return n
}

// TestBudget: entry points share it, and the idle connections of each make room
// for the clients of the others.
func TestBudget(t *testing.T) {
	budget := NewBudget(3)
	a, b := start(t, Options{Handler: echo(), Budget: budget}), start(t, Options{Handler: echo(), Budget: budget})
	kept(t, a)
	kept(t, a)
	kept(t, b)
	await(t, "idle connections", func() bool { return waiting(a) == 2 && waiting(b) == 1 })
	if got := exchange(t, b, ""); status(got) != "503" {
		t.Errorf("a fourth connection: %q", got)
	}
	await(t, "room", func() bool { return budget.open.Load() == 0 })
	if got := exchange(t, b, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); status(got) != "200" {
		t.Errorf("after idle ones have made room: %q", got)
	}
	if n := NewBudget(0).Most(); n <= 0 || n >= Descriptors() {
		t.Errorf("%d connections of %d descriptors", n, Descriptors())
	}
}

// TestBudgetOfAllProtocols: connections of HTTP/2 and 3 count, and make room too.
func TestBudgetOfAllProtocols(t *testing.T) {
	budget := NewBudget(1)
	secure := start(t, Options{Handler: echo(), Budget: budget, TLS: testTLS(t), HTTP3: true})
	plain := start(t, Options{Handler: echo(), Budget: budget})
	for name, client := range map[string]*http.Client{"HTTP/2": h2Client(t), "HTTP/3": h3Client(t)} {
		res, err := client.Get("https://" + secure.Addr().String() + "/")
		if err != nil {
			t.Fatal(name, err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if n := budget.open.Load(); n != 1 {
			t.Fatalf("%s: %d connections count, want 1", name, n)
		}
		// That it is idle is known a moment later, and must have lasted one.
		await(t, "room made by "+name, func() bool {
			got := exchange(t, plain, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			return status(got) == "200"
		})
		await(t, "no connection", func() bool { return budget.open.Load() == 0 })
	}
}

// TestToldWhileAsking: a connection that is told to end in the moment its
// request comes serves it, whole and with nothing left behind of the telling,
// and says that it was the last.
func TestToldWhileAsking(t *testing.T) {
	s := start(t, Options{Handler: echo()})
	late := 0
	for i := range 300 {
		c, in := kept(t, s)
		await(t, "idle connections", func() bool { return waiting(s) == 1 })
		go s.CloseIdle(0)
		if i%2 == 0 {
			runtime.Gosched()
		}
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
		io.WriteString(c, "body")
		res, err := http.ReadResponse(in, nil)
		switch {
		case err == nil && (res.StatusCode != 200):
			t.Fatalf("round %d: %s", i, res.Status)
		case err == nil && !res.Close: // it came before: the connection is idle again, or told now
			io.Copy(io.Discard, res.Body)
		case err == nil:
			late++
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatalf("round %d: %v", i, err)
		}
		c.Close()
		await(t, "no connection", func() bool { return s.conns.open.Load() == 0 })
	}
	t.Logf("%d requests came at the last moment", late)
}

// halved sends what is written in two parts, and calls between.
type halved struct {
	net.Conn
	between func()
}

func (h *halved) Write(p []byte) (int, error) {
	if h.between == nil {
		return h.Conn.Write(p)
	}
	n, err := h.Conn.Write(p[:len(p)/2])
	if err == nil {
		h.between()
		h.between = nil
		_, err = h.Conn.Write(p[n:])
	}
	return len(p), err
}

// TestToldInARecord: half a record of TLS is the beginning of a request too.
func TestToldInARecord(t *testing.T) {
	s := start(t, Options{Handler: echo(), TLS: testTLS(t)})
	raw, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	half := &halved{Conn: raw}
	c := tls.Client(half, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	defer c.Close()
	in := bufio.NewReader(c)
	if res := once(t, c, in); res.Close {
		t.Fatal("not kept")
	}
	await(t, "an idle connection", func() bool { return waiting(s) == 1 })
	half.between = func() {
		time.Sleep(20 * time.Millisecond) // it is read; if not, so much the easier
		s.CloseIdle(0)
		await(t, "it to be told", func() bool { return waiting(s) == 0 })
		time.Sleep(50 * time.Millisecond) // and to look once more
	}
	if res := once(t, c, in); res.StatusCode != 200 || !res.Close {
		t.Errorf("%s, closed: %t", res.Status, res.Close)
	}
}

// TestTrickle: a head has its deadline from its first byte, a body a least
// speed.
func TestTrickle(t *testing.T) {
	s := start(t, Options{Handler: echo(), ReadHeaderTimeout: 300 * time.Millisecond})
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	go func() {
		for _, b := range []byte("GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 1000)) {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	answer, _ := io.ReadAll(c)
	if took := time.Since(began); status(string(answer)) != "408" || took < 250*time.Millisecond || took > 3*time.Second {
		t.Errorf("%q after %v", answer, took)
	}

	in := incoming{pause: time.Second}
	for i := range 59 {
		if err := in.pace(100, int64(time.Second)); err != nil {
			t.Fatalf("cut off after %d s", i)
		}
	}
	if in.pace(100, int64(time.Second)) == nil {
		t.Error("100 bytes a second for a minute are not cut off")
	}
	in = incoming{pause: time.Second}
	for range 200 {
		if err := in.pace(300, int64(time.Second)); err != nil {
			t.Fatal("300 bytes a second are cut off")
		}
	}
}

// TestSilentTLS: a client that says nothing, or half of a hello, is cut off.
func TestSilentTLS(t *testing.T) {
	s := start(t, Options{Handler: echo(), TLS: testTLS(t), ReadHeaderTimeout: 200 * time.Millisecond})
	for _, hello := range []string{"", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"} {
		began := time.Now()
		exchange(t, s, hello)
		if took := time.Since(began); took < 150*time.Millisecond || took > 2*time.Second {
			t.Errorf("%q: closed after %v", hello, took)
		}
	}
}

// firstFlight lets the first bytes of a connection out, its ClientHello, as it
// says; nothing after that.
type firstFlight struct {
	net.Conn
	send func(net.Conn, []byte)
	sent bool
}

func (c *firstFlight) Write(p []byte) (int, error) {
	if !c.sent {
		c.sent = true
		c.send(c.Conn, p)
	}
	return len(p), nil
}

// TestUnfinishedChallenge: a CA's handshake (TLS-ALPN-01) that is not gone on
// with, or comes in drops, is cut off when any other is.
func TestUnfinishedChallenge(t *testing.T) {
	pair, _, _ := selfSigned(t, "ecdsa")
	var asked atomic.Int64
	site := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	proof := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { asked.Add(1); return &pair, nil }
	c, _ := TLSConfig(TLSOptions{GetCertificate: site, ChallengeCertificate: proof})
	s := start(t, Options{Handler: echo(), TLS: c, ReadHeaderTimeout: 300 * time.Millisecond})
	whole := func(c net.Conn, hello []byte) { _, _ = c.Write(hello) }
	drops := func(c net.Conn, hello []byte) {
		for _, b := range hello {
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for _, proto := range []string{"acme-tls/1", "http/1.1"} {
		for _, c := range []struct {
			name    string
			version uint16
			send    func(net.Conn, []byte)
			answers int64 // challenges answered if proto is a CA's
		}{
			{"TLS 1.2, silent after its hello", tls.VersionTLS12, whole, 1},
			{"TLS 1.3, silent after its hello", tls.VersionTLS13, whole, 1},
			{"its hello comes in drops", tls.VersionTLS13, drops, 0},
		} {
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			asked.Store(0)
			_ = conn.SetReadDeadline(began.Add(5 * time.Second))
			client := tls.Client(&firstFlight{Conn: conn, send: c.send}, &tls.Config{
				ServerName: "proof.example.com", NextProtos: []string{proto}, MaxVersion: c.version, InsecureSkipVerify: true,
			})
			_, err = client.Read(make([]byte, 1))
			if took := time.Since(began); err == nil || errors.Is(err, os.ErrDeadlineExceeded) || took < 250*time.Millisecond || took > 3*time.Second {
				t.Errorf("%s, %s: ended after %v: %v", proto, c.name, took, err)
			}
			if proto == "http/1.1" {
				c.answers = 0
			}
			if n := asked.Load(); n != c.answers {
				t.Errorf("%s, %s: %d challenges answered, want %d", proto, c.name, n, c.answers)
			}
			conn.Close()
		}
	}
}
