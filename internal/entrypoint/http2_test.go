package entrypoint

import (
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// frames speaks HTTP/2 frame by frame.
type frames struct {
	*http2.Framer
	t   testing.TB
	nc  net.Conn
	hb  bytes.Buffer
	enc *hpack.Encoder
}

// dialFrames connects, by TLS where the server has it, and greets.
func dialFrames(t testing.TB, s *Server) *frames {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if s.opts.TLS != nil {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	c := &frames{Framer: http2.NewFramer(nc, nc), t: t, nc: nc}
	c.AllowIllegalWrites = true
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.hb)
	io.WriteString(nc, http2.ClientPreface)
	c.WriteSettings()
	return c
}

// block encodes lines of the form "name: value".
func (c *frames) block(lines ...string) []byte {
	c.hb.Reset()
	for _, line := range lines {
		i := strings.Index(line[1:], ": ") + 1
		c.enc.WriteField(hpack.HeaderField{Name: line[:i], Value: line[i+2:]})
	}
	return bytes.Clone(c.hb.Bytes())
}

func (c *frames) ask(id uint32, end bool, method, path string, more ...string) {
	lines := append([]string{":method: " + method, ":scheme: https", ":authority: a.com", ":path: " + path}, more...)
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block(lines...), EndStream: end, EndHeaders: true})
}

// answer reads until a stream ends, or where data is asked for has some.
func (c *frames) answer(id uint32, untilData bool) (status, body string, reset http2.ErrCode) {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			c.t.Fatalf("stream %d: %v, after %s %q", id, err, status, body)
		}
		if f.Header().StreamID != id {
			continue
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if s := f.PseudoValue("status"); s != "" {
				status = s
			}
		case *http2.DataFrame:
			body += string(f.Data())
		case *http2.RSTStreamFrame:
			return status, body, f.ErrCode
		}
		if f.Header().Flags.Has(http2.FlagDataEndStream) || untilData && body != "" {
			return status, body, 0
		}
	}
}

// goAway reads until GOAWAY with an error, or the connection ends.
func (c *frames) goAway() (code http2.ErrCode, said bool) {
	for {
		f, err := c.ReadFrame()
		if err != nil {
			return code, said
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code, said = g.ErrCode, true
			if code != http2.ErrCodeNo {
				return code, said
			}
		}
	}
}

// both runs a test over TLS and by prior knowledge.
func both(t *testing.T, opts Options, test func(t *testing.T, s *Server)) {
	t.Run("tls", func(t *testing.T) {
		t.Parallel()
		o := opts
		o.TLS = testTLS(t)
		test(t, start(t, o))
	})
	t.Run("h2c", func(t *testing.T) {
		t.Parallel()
		o := opts
		o.H2C = true
		test(t, start(t, o))
	})
}

// TestHTTP2Gate: what comes by HTTP/2 passes the same gate.
func TestHTTP2Gate(t *testing.T) {
	both(t, Options{Handler: echo()}, func(t *testing.T, s *Server) {
		c := dialFrames(t, s)
		c.ask(1, true, "GET", "/a/../b//c?d", "x-forwarded-for: 6.6.6.6", "x_real_ip: 6.6.6.6", "te: trailers", "proxy-authorization: x")
		status, body, _ := c.answer(1, false)
		proto := "http"
		if s.opts.TLS != nil {
			proto = "https"
		}
		if status != "200" || !strings.HasPrefix(body, "GET /b/c?d a.com\n") || !strings.Contains(body, "X-Forwarded-For: 127.0.0.1\r\n") ||
			!strings.Contains(body, "X-Forwarded-Proto: "+proto+"\r\n") || strings.Contains(body, "6.6.6.6") || strings.Contains(body, "Proxy-") {
			t.Errorf("%s, the handler saw %q", status, body)
		}
		c = dialFrames(t, s)
		for _, refused := range []struct{ method, path, status string }{
			{"TRACE", "/", "405"}, {"TRACK", "/", "405"}, {"GET", "/%2f", "400"}, {"GET", "/a%00b", "400"},
			{"GET", "/" + strings.Repeat("x", 9<<10), "414"}, {"GET", "/#x", "400"},
		} {
			c.ask(1, true, refused.method, refused.path)
			if status, _, _ := c.answer(1, false); status != refused.status {
				t.Errorf("%s %.10s: %s, want %s", refused.method, refused.path, status, refused.status)
			}
			c = dialFrames(t, s) // a refusal ends the connection
		}
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block(":method: CONNECT", ":authority: a.com:443"), EndHeaders: true})
		if status, _, _ := c.answer(1, false); status != "405" {
			t.Errorf("CONNECT: %s", status)
		}
	})
}

// TestPriorKnowledge: HTTP/1.1 stays, and HTTP/2 without TLS is nothing unless
// switched on.
func TestPriorKnowledge(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n"
	s := start(t, Options{Handler: echo(), H2C: true})
	for _, method := range []string{"GET", "PUT", "PRI", "P"} {
		if answer := exchange(t, s, strings.Replace(get, "GET", method, 1)); status(answer) != "200" {
			t.Errorf("%s: %q", method, answer)
		}
	}
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(10 * time.Second))
	for _, b := range []byte(http2.ClientPreface) { // byte by byte
		nc.Write([]byte{b})
		time.Sleep(time.Millisecond)
	}
	fr := http2.NewFramer(nc, nc)
	fr.WriteSettings()
	if f, err := fr.ReadFrame(); err != nil || f.Header().Type != http2.FrameSettings {
		t.Errorf("%v %v", f, err)
	}
	s = start(t, Options{Handler: echo()})
	if answer := exchange(t, s, http2.ClientPreface); !strings.HasPrefix(answer, "HTTP/1.1 ") || status(answer) == "200" {
		t.Errorf("not switched on: %q", answer)
	}
}

// TestWebSocketOverHTTP2 (RFC 8441): to handlers it is the upgrade of HTTP/1.1.
func TestWebSocketOverHTTP2(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" ||
			r.Header.Get("X-Forwarded-Proto") != "wss" && r.TLS != nil {
			t.Errorf("the handler saw %s %v", r.Method, r.Header)
		}
		nc, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			base64.StdEncoding.EncodeToString(sum[:]))
		buf.Flush()
		io.Copy(nc, buf)
	})
	both(t, Options{Handler: handler}, func(t *testing.T, s *Server) {
		c := dialFrames(t, s)
		c.ask(1, false, "CONNECT", "/chat", ":protocol: websocket", "sec-websocket-version: 13")
		c.WriteData(1, false, []byte("hello"))
		if status, body, _ := c.answer(1, true); status != "200" || body != "hello" {
			t.Errorf("%s %q", status, body)
		}
		c.WriteData(1, true, nil)
		if _, body, reset := c.answer(1, false); body != "" || reset != 0 {
			t.Errorf("%q, reset %v", body, reset)
		}
	})
}

// TestHTTP2Drain: requests under way finish, others are told to go elsewhere.
func TestHTTP2Drain(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		io.WriteString(w, "done")
	})
	s := start(t, Options{Handler: handler, TLS: testTLS(t)})
	busy, idle := dialFrames(t, s), dialFrames(t, s)
	busy.ask(1, true, "GET", "/")
	<-entered
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(t.Context()) }()
	if code, said := idle.goAway(); code != http2.ErrCodeNo || !said {
		t.Errorf("idle connection: GOAWAY %v %v", code, said)
	}
	select {
	case err := <-done:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(release)
	if status, body, _ := busy.answer(1, false); status != "200" || body != "done" {
		t.Errorf("%s %q", status, body)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code, _ := busy.goAway(); code != http2.ErrCodeNo {
		t.Errorf("busy connection: GOAWAY %v", code)
	}
}

// TestHTTP2Deadlines: who says nothing after the handshake, or is idle for too
// long, is sent away.
func TestHTTP2Deadlines(t *testing.T) {
	t.Parallel()
	both(t, Options{Handler: echo(), ReadHeaderTimeout: 200 * time.Millisecond, IdleTimeout: 300 * time.Millisecond}, func(t *testing.T, s *Server) {
		c := dialFrames(t, s)
		c.ask(1, true, "GET", "/")
		if status, _, _ := c.answer(1, false); status != "200" {
			t.Error(status)
		}
		begin := time.Now()
		if code, said := c.goAway(); code != http2.ErrCodeNo || !said || time.Since(begin) > 4*time.Second {
			t.Errorf("idle: GOAWAY %v %v after %v", code, said, time.Since(begin))
		}
		silent, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		var nc net.Conn = silent
		if s.opts.TLS != nil {
			c := tls.Client(silent, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			nc = c
		}
		io.WriteString(nc, http2.ClientPreface[:10])
		nc.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.Copy(io.Discard, nc); isTimeout(err) {
			t.Errorf("half a preface: %v", err)
		}
	})
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// TestHTTP2Abuse: each way of making work costs the abuser the connection, and
// us little.
func TestHTTP2Abuse(t *testing.T) {
	s := start(t, Options{Handler: echo(), TLS: testTLS(t)})
	get := func(c *frames) []byte {
		return c.block(":method: GET", ":scheme: https", ":authority: a.com", ":path: /")
	}
	tests := map[string]func(c *frames, i int) error{
		"resets": func(c *frames, i int) error {
			id := uint32(2*i + 1)
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: get(c), EndHeaders: true})
			return c.WriteRSTStream(id, http2.ErrCodeCancel)
		},
		"resets of ours": func(c *frames, i int) error {
			id := uint32(2*i + 1)
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: get(c), EndHeaders: true})
			return c.WriteWindowUpdate(id, 0)
		},
		"CONTINUATION without end": func(c *frames, i int) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(c)})
			}
			return c.WriteContinuation(1, false, c.block("x-"+strconv.Itoa(i)+": "+strings.Repeat("y", 1000)))
		},
		"empty CONTINUATION": func(c *frames, i int) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(c)})
			}
			return c.WriteContinuation(1, false, nil)
		},
		"HPACK bomb": func(c *frames, i int) error {
			long := "x-bomb: " + strings.Repeat("y", 3900)
			lines := []string{":method: GET", ":scheme: https", ":authority: a.com", ":path: /"}
			for range 100 {
				lines = append(lines, long)
			}
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: c.block(lines...), EndStream: true, EndHeaders: true})
		},
		"PING": func(c *frames, i int) error { return c.WritePing(false, [8]byte{}) },
		"SETTINGS": func(c *frames, i int) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)})
		},
		"PRIORITY": func(c *frames, i int) error { return c.WritePriority(uint32(2*i+1), http2.PriorityParam{StreamDep: 0}) },
		"unknown":  func(c *frames, i int) error { return c.WriteRawFrame(0x42, 0, 0, nil) },
		"window updates": func(c *frames, i int) error {
			return c.WriteWindowUpdate(0, 1)
		},
		"empty DATA": func(c *frames, i int) error {
			if i == 0 {
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get(c), EndHeaders: true})
			}
			return c.WriteData(1, false, nil)
		},
	}
	for name, abuse := range tests {
		t.Run(name, func(t *testing.T) {
			c := dialFrames(t, s)
			runtime.GC()
			cpu, heap := spent(t)
			code := make(chan http2.ErrCode, 1)
			var told atomic.Bool
			go func() {
				last, _ := c.goAway()
				told.Store(true)
				code <- last
			}()
			sent := 0
			for ; sent < 200_000 && !told.Load(); sent++ {
				if err := abuse(c, sent); err != nil {
					break
				}
			}
			if got := <-code; got != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("after %d frames GOAWAY %v, want ENHANCE_YOUR_CALM", sent, got)
			}
			cpuAfter, heapAfter := spent(t)
			// The abuser's own work is in it.
			if used := cpuAfter - cpu; used > slower*500*time.Millisecond {
				t.Errorf("took %v of CPU", used)
			}
			if grown := heapAfter - heap; grown > 16<<20 {
				t.Errorf("took %d MiB", grown>>20)
			}
			c = dialFrames(t, s)
			c.ask(1, true, "GET", "/")
			if status, _, _ := c.answer(1, false); status != "200" {
				t.Errorf("others are not served: %s", status)
			}
		})
	}
}

// spent is what the process has used so far: CPU time, and memory.
func spent(t *testing.T) (time.Duration, int64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), int64(m.HeapSys + m.StackSys)
}

// TestHTTP2MakesRoom: idle connections go where others need their place, busy
// ones stay.
func TestHTTP2MakesRoom(t *testing.T) {
	release := make(chan struct{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			<-release
		}
		io.WriteString(w, "done")
	})
	s := start(t, Options{Handler: handler, TLS: testTLS(t)})
	idle, busy := dialFrames(t, s), dialFrames(t, s)
	idle.ask(1, true, "GET", "/")
	idle.answer(1, false)
	busy.ask(1, true, "GET", "/")
	busy.answer(1, false)
	busy.ask(3, true, "GET", "/busy")
	busy.WritePing(false, [8]byte{1})
	for { // then the request has been read
		if f, err := busy.ReadFrame(); err != nil || f.Header().Type == http2.FramePing {
			break
		}
	}
	s.CloseIdle(0)
	begin := time.Now()
	if code, said := idle.goAway(); code != http2.ErrCodeNo || !said || time.Since(begin) > time.Second {
		t.Errorf("idle: GOAWAY %v %v after %v", code, said, time.Since(begin))
	}
	close(release)
	if status, body, _ := busy.answer(3, false); status != "200" || body != "done" {
		t.Errorf("busy: %s %q", status, body)
	}
}
