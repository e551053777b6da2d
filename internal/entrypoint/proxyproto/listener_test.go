package proxyproto

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers each connection with the address it is told and all it reads.
func serve(t *testing.T, opts Options) *Listener {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Listen(inner.(*net.TCPListener), opts)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if _, ok := c.(syscall.Conn); !ok {
					t.Errorf("a %T is no socket", c)
				}
				data, _ := io.ReadAll(c)
				host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
				fmt.Fprintf(c, "%s says %q", host, data)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return l
}

// say sends parts with a pause between them and gives the answer.
func say(t *testing.T, l *Listener, parts ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, p := range parts {
		if i > 0 {
			time.Sleep(5 * time.Millisecond)
		}
		io.WriteString(c, p) //nolint:errcheck // the server may have closed
	}
	c.(*net.TCPConn).CloseWrite() //nolint:errcheck // as above
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	answer, _ := io.ReadAll(c)
	return string(answer)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

const line = "PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"

func TestConnections(t *testing.T) {
	four := unhex(t, "c0000207 c0000201 dc04 01bb")
	binary := v2(0x21, 0x11, four+tlv(0xea, strings.Repeat("x", 1000)))
	whole := func(s string) []string { return []string{s} }
	bytewise := func(s string) []string { return strings.Split(s, "") }
	for name, c := range map[string]struct {
		parts []string
		want  string
	}{
		"version 1":            {whole(line + "hello"), `192.0.2.7 says "hello"`},
		"version 1, in bytes":  {bytewise(line + "hello"), `192.0.2.7 says "hello"`},
		"version 1, two parts": {[]string{line[:9], line[9:] + "hel", "lo"}, `192.0.2.7 says "hello"`},
		"UNKNOWN":              {whole("PROXY UNKNOWN\r\nhello"), `127.0.0.1 says "hello"`},
		"version 2":            {whole(binary + "hello"), `192.0.2.7 says "hello"`},
		"version 2, in parts":  {[]string{binary[:3], binary[3:14], binary[14:200], binary[200:] + "hel", "lo"}, `192.0.2.7 says "hello"`},
		"LOCAL":                {whole(v2(0x20, 0x00, "skipped") + "hello"), `127.0.0.1 says "hello"`},
		"header twice":         {whole(line + line), `192.0.2.7 says ` + fmt.Sprintf("%q", line)},
		"none":                 {whole("GET / HTTP/1.1"), `127.0.0.1 says "GET / HTTP/1.1"`},
		"none, alike at first": {[]string{"P", "R", "OPFIND /"}, `127.0.0.1 says "PROPFIND /"`},
		"none, one byte":       {[]string{"\x16", "\x03"}, `127.0.0.1 says "\x16\x03"`},
		"broken":               {whole("PROXY TCP4 x y z\r\nhello"), ""},
		"no end":               {whole("PROXY UNKNOWN " + strings.Repeat("x", 200)), ""},
		"end of file within":   {whole(line[:20]), ""},
		"version 2, broken":    {whole(v2(0x22, 0x11, four) + "hello"), ""},
		"version 2, too long":  {whole(v2(0x21, 0x11, four+strings.Repeat("x", 5000)) + "hello"), ""},
		"silence":              {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := serve(t, Options{Trusted: loopback, Timeout: time.Second})
			if got := say(t, l, c.parts...); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestOnlyListedPeers: from others the bytes stay what they are.
func TestOnlyListedPeers(t *testing.T) {
	l := serve(t, Options{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if got, want := say(t, l, line), "127.0.0.1 says "+fmt.Sprintf("%q", line); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	l = serve(t, Options{Insecure: true})
	if got := say(t, l, line); got != `192.0.2.7 says ""` {
		t.Errorf("everybody is believed: got %q", got)
	}
}

// TestDeadline: who does not finish its header is cut off, and holds nobody
// else up meanwhile.
func TestDeadline(t *testing.T) {
	var log bytes.Buffer
	l := serve(t, Options{Trusted: loopback, Timeout: time.Second, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	var slow []net.Conn
	for _, begin := range []string{"", "PROX", "PROXY TCP4 ", signature2 + "\x21"} {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, begin)
		slow = append(slow, c)
	}
	start := time.Now()
	if got := say(t, l, line+"x"); got != `192.0.2.7 says "x"` {
		t.Errorf("beside slow ones: %q", got)
	}
	if took := time.Since(start); took > 800*time.Millisecond {
		t.Errorf("held up for %v", took)
	}
	for i, c := range slow {
		c.SetReadDeadline(time.Now().Add(8 * time.Second))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("slow connection %d: %d bytes, %v, want its end", i, n, err)
		}
	}
	l.Close()
	<-l.over
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "peer=127.0.0.1") {
		t.Errorf("log, want one line: %s", got)
	}
}

// TestClose: a header that arrives in the last moment is still taken; what is
// unfinished ends.
func TestClose(t *testing.T) {
	t.Run("at once", func(t *testing.T) { end(t, func(l *Listener) { l.Close() }) })
	t.Run("by deadline", func(t *testing.T) { end(t, func(l *Listener) { l.SetDeadline(time.Now().Add(lastCalls)) }) })
}

func end(t *testing.T, end func(*Listener)) {
	l := serve(t, Options{Trusted: loopback})
	late, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	time.Sleep(20 * time.Millisecond) // both are accepted
	end(l)
	io.WriteString(late, line+"bye")
	late.(*net.TCPConn).CloseWrite()
	late.SetReadDeadline(time.Now().Add(3 * time.Second))
	if got, _ := io.ReadAll(late); string(got) != `192.0.2.7 says "bye"` {
		t.Errorf("last call: %q", got)
	}
	silent.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := silent.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("silent connection: %v, want its end", err)
	}
	l.Close()
	if _, err := l.Accept(); err == nil {
		t.Error("accept after the end")
	}
}
