package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/internal/entrypoint"
)

// field is one of a head in HTTP/2, as it stands in the frame.
type field struct{ name, value string }

// TestHTTP2ToHTTP1 (item 6): what a frame can say and a line cannot never
// becomes a line; what reaches the server has one reading.
func TestHTTP2ToHTTP1(t *testing.T) {
	base := []field{{":method", "POST"}, {":scheme", "http"}, {":authority", "a.com"}, {":path", "/"}}
	with := func(more ...field) []field { return append(append([]field{}, base...), more...) }
	swap := func(name, value string) []field {
		list := append([]field{}, base...)
		for i := range list {
			if list[i].name == name {
				list[i].value = value
			}
		}
		return list
	}
	for _, w := range ways(t, func(o *entrypoint.Options) { o.H2C = true }) {
		for _, c := range []struct {
			name  string
			head  []field
			body  string
			reach string // "": nothing
		}{
			{"plain", base, "hi", onward("POST /", "content-length: 2", "host: a.com") + "hi"},
			{"length that fits", with(field{"content-length", "2"}), "hi", onward("POST /", "content-length: 2", "host: a.com") + "hi"},
			{"the same Host", with(field{"host", "a.com"}), "", onward("POST /", "host: a.com")},
			{"path", swap(":path", "/a/../b//c"), "", onward("POST /b/c", "host: a.com")},
			{"trailers wanted", with(field{"te", "trailers"}), "", onward("POST /", "connection: TE", "host: a.com", "te: trailers")},
			{"forwarded", with(field{"x-forwarded-for", "6.6.6.6"}, field{"x_forwarded_for", "6.6.6.6"}, field{"forwarded", "for=x"}), "", onward("POST /", "host: a.com")},
			{"cookies", with(field{"cookie", "a=b"}, field{"cookie", "c=d"}), "", onward("POST /", "cookie: a=b; c=d", "host: a.com")},

			{"length too short", with(field{"content-length", "1"}), "hi", ""},
			{"length too long", with(field{"content-length", "5"}), "hi", ""},
			{"two lengths", with(field{"content-length", "2"}, field{"content-length", "3"}), "hi", ""},
			{"coding", with(field{"transfer-encoding", "chunked"}), "0\r\n\r\n", ""},
			{"connection", with(field{"connection", "x-forwarded-for"}), "", ""},
			{"upgrade", with(field{"upgrade", "websocket"}), "", ""},
			{"te", with(field{"te", "gzip"}), "", ""},
			{"another Host", with(field{"host", "b.com"}), "", ""},
			{"capitals", with(field{"X-Y", "z"}), "", ""},
			{"line in a value", with(field{"x", "y\r\nTransfer-Encoding: chunked"}), "", ""},
			{"LF in a value", with(field{"x", "y\nz: 1"}), "", ""},
			{"NUL in a value", with(field{"x", "y\x00"}), "", ""},
			{"line in a name", with(field{"x: y\r\nz", "1"}), "", ""},
			{"colon in a name", with(field{"x:y", "1"}), "", ""},
			{"blank in a name", with(field{"x y", "1"}), "", ""},
			{"empty name", with(field{"", "1"}), "", ""},
			{"line in the path", swap(":path", "/ HTTP/1.1\r\nX: y"), "", ""},
			{"blank in the path", swap(":path", "/a b"), "", ""},
			{"path that is none", swap(":path", "a"), "", ""},
			{"empty path", swap(":path", ""), "", ""},
			{"encoded slash", swap(":path", "/a%2fb"), "", ""},
			{"line in the method", swap(":method", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"), "", ""},
			{"CONNECT", []field{{":method", "CONNECT"}, {":authority", "a.com:443"}}, "", ""},
			{"TRACE", swap(":method", "TRACE"), "", ""},
			{"line in the authority", swap(":authority", "a.com\r\nX: y"), "", ""},
			{"user in the authority", swap(":authority", "u@a.com"), "", ""},
			{"scheme with a line", swap(":scheme", "http://a\r\nX: y"), "", ""},
			{"path twice", with(field{":path", "/admin"}), "", ""},
			{"pseudo-header behind", append([]field{{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {"x", "y"}}, field{":authority", "a.com"}), "", ""},
			{"pseudo-header unknown", with(field{":x", "y"}), "", ""},
		} {
			answer, err := http2Once(w, c.head, c.body)
			if err != nil {
				t.Fatalf("%s, %s: %v", w.name, c.name, err)
			}
			all := strings.Join(w.origin.got(), "")
			switch {
			case c.reach == "" && (answer == "200" || whole(all)):
				t.Errorf("%s, %s: answered %s; reached the server: %q", w.name, c.name, answer, all)
			case c.reach != "" && (answer != "200" || !sameRequest(all, c.reach, c.body)):
				t.Errorf("%s, %s: answered %s\n got %q\nwant %q", w.name, c.name, answer, canon(all), canon(c.reach))
			}
		}
	}
}

// TestHTTP2OwnAnswer: what is answered where no server does is dated as well.
func TestHTTP2OwnAnswer(t *testing.T) {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	for _, w := range ways(t, func(o *entrypoint.Options) { o.H2C = true }) {
		w.origin.socket.Close()
		res, err := tr.RoundTrip(httptest.NewRequest("GET", "http://"+w.server.Addr().String()+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if _, err := http.ParseTime(res.Header.Get("Date")); err != nil || res.StatusCode != http.StatusBadGateway || len(res.Header["Date"]) != 1 {
			t.Errorf("%s: %s, Date %q", w.name, res.Status, res.Header["Date"])
		}
	}
}

// whole tells whether a server would serve what it got.
func whole(text string) bool {
	head, body, ok := strings.Cut(text, "\r\n\r\n")
	if !ok {
		return false
	}
	lower := strings.ToLower(head)
	if strings.Contains(lower, "transfer-encoding: chunked") {
		return strings.HasSuffix(body, "0\r\n\r\n")
	}
	if _, length, ok := strings.Cut(lower, "content-length: "); ok {
		n := 0
		fmt.Sscanf(length, "%d", &n) //nolint:errcheck // 0 is right then
		return len(body) >= n
	}
	return true
}

// sameRequest: a body whose length is not declared may go on in chunks.
func sameRequest(got, want, body string) bool {
	if canon(got) == canon(want) {
		return true
	}
	length := fmt.Sprintf("content-length: %d\r\n", len(body))
	chunked := strings.Replace(strings.Replace(want, length, "", 1), "\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n", 1)
	chunked = strings.TrimSuffix(chunked, body) + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	return canon(got) == canon(chunked)
}

// http2Once sends one request, without a look at what it says, on a connection
// of its own. It gives the status, or how the stream or connection ended.
func http2Once(w *way, head []field, body string) (string, error) {
	c, err := net.Dial("tcp", w.server.Addr().String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return "", err
	}
	f := http2.NewFramer(c, c)
	f.AllowIllegalWrites = true
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range head {
		if err := enc.WriteField(hpack.HeaderField{Name: h.name, Value: h.value}); err != nil {
			return "", err
		}
	}
	err = errors.Join(f.WriteSettings(), f.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: body == "",
	}))
	if body != "" {
		err = errors.Join(err, f.WriteData(1, true, []byte(body)))
	}
	if err != nil {
		return "", err
	}
	dec := hpack.NewDecoder(4096, nil)
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "closed", nil //nolint:nilerr // that is an answer too
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			fields, err := dec.DecodeFull(frame.HeaderBlockFragment())
			if err != nil {
				return "", err
			}
			return fields[0].Value, nil
		case *http2.RSTStreamFrame:
			return frame.ErrCode.String(), nil
		case *http2.GoAwayFrame:
			if frame.ErrCode != http2.ErrCodeNo {
				return frame.ErrCode.String(), nil
			}
		}
	}
}
