package entrypoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

func h3Client(t testing.TB) *http.Client {
	tr := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

// TestHTTP3 goes the way a browser goes: by TCP first, then where the answer
// points. The same gate is before both.
func TestHTTP3(t *testing.T) {
	s := start(t, Options{Handler: echo(), TLS: testTLS(t), HTTP3: true})
	resp, err := h2Client(t).Get("https://" + s.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, port, _ := net.SplitHostPort(s.Addr().String())
	if got, want := resp.Header.Get("Alt-Svc"), fmt.Sprintf(`h3=":%s"; ma=86400`, port); got != want {
		t.Errorf("announced as %q, want %q", got, want)
	}
	c := h3Client(t)
	req, _ := http.NewRequest("GET", "https://"+s.Addr().String()+"/a/../b//c?d", nil)
	req.Header.Set("X-Forwarded-For", "6.6.6.6")
	req.Header.Set("X_Real_Ip", "6.6.6.6")
	if resp, err = c.Do(req); err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	got := string(body)
	if !strings.HasPrefix(got, "GET /b/c?d "+s.Addr().String()+"\n") || !strings.Contains(got, "X-Forwarded-For: 127.0.0.1\r\n") ||
		!strings.Contains(got, "X-Forwarded-Proto: https\r\n") || strings.Contains(got, "6.6.6.6") {
		t.Errorf("the handler saw %q", got)
	}
	if resp.Proto != "HTTP/3.0" || resp.Header.Get("Alt-Svc") != "" {
		t.Errorf("%s, %v", resp.Proto, resp.Header)
	}
	for _, refused := range []struct{ method, path, status string }{
		{"TRACE", "/", "405"}, {"TRACK", "/", "405"}, {"CONNECT", "", "405"}, {"GET", "/%2f", "400"}, {"GET", "/" + strings.Repeat("x", 9<<10), "414"},
	} {
		req, _ := http.NewRequest(refused.method, "https://"+s.Addr().String()+refused.path, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Errorf("%s %.10s: %v", refused.method, refused.path, err)
			continue
		}
		resp.Body.Close()
		if !strings.HasPrefix(resp.Status, refused.status) {
			t.Errorf("%s %.10s: %s, want %s", refused.method, refused.path, resp.Status, refused.status)
		}
	}
}

// TestHTTP3PortTaken: the entry point serves without, says so, announces
// nothing, and serves HTTP/3 once the port is free.
func TestHTTP3PortTaken(t *testing.T) {
	t.Parallel()
	var s *Server
	var log bytes.Buffer
	var held net.PacketConn
	for range 20 { // until a port is free for TCP whose UDP port we have
		taken, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		held = taken
		s, err = Listen(Options{
			Name: "web", Address: taken.LocalAddr().String(), TLS: testTLS(t), HTTP3: true, Handler: echo(),
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err == nil {
			break
		}
	}
	if s == nil {
		t.Fatal("no port")
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	announced := func() string {
		resp, err := h2Client(t).Get("https://" + s.Addr().String() + "/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Alt-Svc")
	}
	if got := announced(); got != "" {
		t.Errorf("announced as %q", got)
	}
	held.Close()
	for deadline := time.Now().Add(10 * time.Second); announced() == ""; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the free port is not taken")
		}
	}
	resp, err := h3Client(t).Get("https://" + s.Addr().String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s.Shutdown(ctx)
	if err := <-served; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "HTTP/3 is not served yet") || !strings.Contains(log.String(), "address already in use") {
		t.Errorf("log: %s", log.String())
	}
}

// TestProxyProtocol: a listed peer's word is taken for the client's address,
// by plain and by TLS; another's is a bad request.
func TestProxyProtocol(t *testing.T) {
	const line = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"
	const get = "GET / HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n"
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s := start(t, Options{Handler: echo(), ProxyTrusted: loopback})
	if answer := exchange(t, s, line+get); !strings.Contains(answer, "X-Forwarded-For: 192.0.2.7\r\n") {
		t.Errorf("plain: %q", answer)
	}
	if answer := exchange(t, s, get); !strings.Contains(answer, "X-Forwarded-For: 127.0.0.1\r\n") {
		t.Errorf("plain, no header: %q", answer)
	}
	// Whether forwarded headers are believed depends on the client named.
	s = start(t, Options{Handler: echo(), ProxyInsecure: true, ForwardedTrusted: loopback})
	if answer := exchange(t, s, line+strings.Replace(get, "Conn", "X-Forwarded-For: 6.6.6.6\r\nConn", 1)); !strings.Contains(answer, "X-Forwarded-For: 192.0.2.7\r\n") {
		t.Errorf("forwarded: %q", answer)
	}
	s = start(t, Options{Handler: echo(), ProxyTrusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if answer := exchange(t, s, line+get); status(answer) != "400" {
		t.Errorf("not listed: %q", answer)
	}
	s = start(t, Options{Handler: echo(), ProxyTrusted: loopback, TLS: testTLS(t)})
	raw, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	io.WriteString(raw, line)
	c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
	io.WriteString(c, get)
	if answer, _ := io.ReadAll(c); !strings.Contains(string(answer), "X-Forwarded-For: 192.0.2.7\r\n") {
		t.Errorf("TLS: %q", answer)
	}
}
