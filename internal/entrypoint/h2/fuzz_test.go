package h2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/internal/http1"
)

// feed gives a server all bytes of a client, and waits for the end of the
// connection.
func feed(t testing.TB, s *Server, sent []byte) {
	client, server := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.ServeConn(context.Background(), server, nil)
	}()
	go io.Copy(io.Discard, client) //nolint:errcheck // nobody looks at the answers
	client.SetWriteDeadline(time.Now().Add(10 * time.Second))
	client.Write(sent) //nolint:errcheck // the server may have hung up
	client.Close()
	select {
	case <-served:
	case <-time.After(10 * time.Second):
		t.Fatal("the connection does not end")
	}
}

// oneReading fails where http1 reads less or more than one head in a text: a
// client could then say two requests in one.
func oneReading(t testing.TB) func(*Stream) bool {
	rules := http1.DefaultRules()
	rules.MaxHead = 1 << 20
	return func(s *Stream) bool {
		var req http1.Request
		req.Reset()
		n, why := req.Parse(s.Head(), &rules)
		if n != len(s.Head()) && why == 0 {
			t.Errorf("%d of %d bytes are a head: %q", n, len(s.Head()), s.Head())
		}
		if why == 0 {
			io.Copy(io.Discard, s.Body()) //nolint:errcheck // whatever it is
			s.Writer().WriteHeader(http.StatusOK)
		}
		return why == 0
	}
}

// FuzzFrames: whatever a client sends, nothing panics or hangs, and each
// request that is served has one reading.
func FuzzFrames(f *testing.F) {
	seed := func(lines ...string) {
		var b, hb bytes.Buffer
		fr, enc := http2.NewFramer(&b, nil), hpack.NewEncoder(&hb)
		for _, line := range lines {
			i := strings.Index(line[1:], ": ") + 1
			enc.WriteField(hpack.HeaderField{Name: line[:i], Value: line[i+2:]})
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndHeaders: true})
		fr.WriteData(1, true, []byte("content"))
		fr.WriteWindowUpdate(1, 10)
		fr.WritePing(false, [8]byte{1})
		fr.WriteRSTStream(1, http2.ErrCodeCancel)
		f.Add(b.Bytes())
	}
	seed(ask("GET", "/")...)
	seed(ask("POST", "/a?b", "content-length: 7", "cookie: a", "cookie: b", "te: trailers")...)
	seed(append([]string{":protocol: websocket"}, ask("CONNECT", "/")...)...)
	f.Fuzz(func(t *testing.T, sent []byte) {
		s := New(Options{Handler: http.HandlerFunc(show), Serve: oneReading(t), ReadHeaderTimeout: time.Second})
		defer s.workers.close()
		var b bytes.Buffer
		b.WriteString(http2.ClientPreface)
		http2.NewFramer(&b, nil).WriteSettings()
		b.Write(sent)
		feed(t, s, b.Bytes())
	})
}

// FuzzLines: no line can say more than itself.
func FuzzLines(f *testing.F) {
	f.Add("GET", "/", "a.com", "x-a", "b", true)
	f.Add("POST", "/a b", "a.com\r\nx: y", "content-length", "5", false)
	f.Add("GET / HTTP/1.1\r\nHost: b\r\n\r\nGET", "/", "a", "transfer-encoding", "chunked", false)
	f.Add("GET", "/\r\n\r\n", "a:80", "host", "b", true)
	f.Add("OPTIONS", "*", "[::1]", "expect", "100-continue", false)
	f.Fuzz(func(t *testing.T, method, path, authority, name, value string, end bool) {
		serve := oneReading(t)
		s := New(Options{Handler: http.HandlerFunc(show), Serve: func(st *Stream) bool {
			if head := string(st.Head()); !strings.HasPrefix(head, fmt.Sprintf("%s %s HTTP/1.1\r\n", method, path)) {
				t.Errorf("%q %q became %q", method, path, head)
			}
			return serve(st)
		}})
		defer s.workers.close()
		var b, hb bytes.Buffer
		b.WriteString(http2.ClientPreface)
		fr, enc := http2.NewFramer(&b, nil), hpack.NewEncoder(&hb)
		fr.WriteSettings()
		for _, l := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", authority}, {":path", path}, {name, value}} {
			enc.WriteField(hpack.HeaderField{Name: l[0], Value: l[1]})
		}
		if hb.Len() > maxFrame {
			return
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: hb.Bytes(), EndStream: end, EndHeaders: true})
		fr.WriteData(1, true, []byte("12345"))
		feed(t, s, b.Bytes())
	})
}
