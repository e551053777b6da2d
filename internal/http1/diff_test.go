package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzRequest: whole or in parts, a head is judged alike; what we accept
// net/http accepts and reads the same, and what we send on has, to net/http and
// to ourselves, the reading that we routed by.
func FuzzRequest(f *testing.F) {
	for _, c := range refusedHeads {
		if len(c.head) < 4<<10 {
			f.Add([]byte(c.head), 7)
		}
	}
	f.Add([]byte(browserHead), 100)
	f.Add([]byte(post("Transfer-Encoding: chunked\r\nTrailer: X\r\nConnection: X-A\r\nX-A: 1\r\nX_B: 2\r\nTE: trailers\r\n")), 1)
	f.Add([]byte(get("http://a.com/%7e/../x?y", "X-Forwarded-For: 1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")), 1)
	f.Fuzz(func(t *testing.T, wire []byte, at int) {
		rules := DefaultRules()
		req := new(Request)
		req.Reset()
		n, why := req.Parse(wire, &rules)
		parts, n2, why2 := parseSplit(t, string(wire), max(0, at)%(len(wire)+1))
		if n != n2 || why != why2 {
			t.Fatalf("whole: %d, %v; in parts: %d, %v", n, why, n2, why2)
		}
		if n == 0 {
			if again, still := req.Parse(append(wire, "\r\n\r\n"...), &rules); why != 0 && (again != 0 || still != why) {
				t.Fatalf("refused for %v, then %d, %v", why, again, still)
			}
			reading(req) // whatever there is may be logged
			return
		}
		if diff := cmp.Diff(reading(req), reading(parts)); diff != "" {
			t.Fatalf("whole and in parts:\n%s", diff)
		}
		sameAsNetHTTP(t, wire[:n], req)
		client := NewClient("192.0.2.1", false, false)
		onward := AppendEnd(AppendRequest(nil, req, &Onward{Client: &client}))
		theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(onward)))
		if err != nil {
			t.Fatalf("net/http refuses what we send on: %v\n%q", err, onward)
		}
		if got := theirs.URL.EscapedPath(); got != string(req.Path()) && string(req.Path()) != "*" {
			t.Fatalf("routed by %q, sent on %q", req.Path(), got)
		}
		again, m, why := parse(t, string(onward))
		if m != len(onward) || again.Framing() != req.Framing() || again.ContentLength() != req.ContentLength() || !bytes.Equal(again.Path(), req.Path()) {
			t.Fatalf("our own head is read otherwise: %v\n%q\n%s\n%s", why, onward, reading(req), reading(again))
		}
		sameView(t, req, &Onward{Client: &client, KeepOdd: at%2 == 0})
		believed := NewClient("2001:db8::1", true, true)
		sameView(t, req, &Onward{Client: &believed, KeepOdd: at%2 == 1})
	})
}

// TestStricterThanNetHTTP lists what net/http lets through and we deliberately
// do not.
func TestStricterThanNetHTTP(t *testing.T) {
	for name, head := range map[string]string{
		"LF as line end":             "GET / HTTP/1.1\nHost: a.com\n\n",
		"obs-fold":                   get("/", "X: 1\r\n 2\r\n"),
		"the same length twice":      post("Content-Length: 5\r\nContent-Length: 5\r\n"),
		"length and coding":          post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
		"leading zeros":              post("Content-Length: 05\r\n"),
		"coding on 1.0":              "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
		"Host that is no name":       "GET / HTTP/1.1\r\nHost: a,b;c\r\n\r\n",
		"Host unlike the target":     get("http://b.com/", ""),
		"no Host on 1.0":             "GET / HTTP/1.0\r\n\r\n",
		"fragment":                   get("/a#b", ""),
		"not ASCII":                  get("/\xc3\xa9", ""),
		"encoded separators":         get("/a%2fb%5c%00", ""),
		"HTTP/2.0":                   strings.Replace(get("/", ""), "1.1", "2.0", 1),
		"asterisk":                   get("*", ""),
		"unknown expectation":        get("/", "Expect: x\r\n"),
		"CONNECT":                    "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n",
		"option that is no token":    get("/", "Connection: a b\r\n"),
		"more than MaxLines lines":   get("/", strings.Repeat("X: 1\r\n", 200)),
		"target of more than 8 KiB":  get("/"+strings.Repeat("x", 9<<10), ""),
		"head of more than 32 KiB":   get("/", "X: "+strings.Repeat("x", 33<<10)+"\r\n"),
		"other scheme":               get("ftp://a.com/", ""),
		"user in the target":         get("http://u:p@a.com/", ""),
		"a method of 100 characters": strings.Repeat("A", 100) + " / HTTP/1.1\r\nHost: a.com\r\n\r\n",
	} {
		if _, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head))); err != nil {
			t.Errorf("%s: net/http: %v", name, err)
		}
		if _, n, why := parse(t, head); n != 0 || why == 0 {
			t.Errorf("%s: we accept it", name)
		}
	}
}

// sameAsNetHTTP compares readings of an accepted head.
func sameAsNetHTTP(t *testing.T, head []byte, req *Request) {
	t.Helper()
	theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(bytes.TrimPrefix(head, []byte("\r\n")))))
	if err != nil {
		t.Fatalf("net/http: %v\n%q", err, head)
	}
	length := theirs.ContentLength
	if theirs.Method != string(req.Method()) || !strings.EqualFold(theirs.Host, string(req.Host())) ||
		theirs.ProtoMinor != req.Minor() || length != req.ContentLength() || theirs.Close == req.KeepAlive() {
		t.Fatalf("net/http reads %s %s %d length %d close %v, we\n%s", theirs.Method, theirs.Host, theirs.ProtoMinor, length, theirs.Close, reading(req))
	}
	if query, _ := req.Query(); theirs.URL.RawQuery != string(query) {
		t.Fatalf("net/http reads the query %q, we %q", theirs.URL.RawQuery, query)
	}
	ours := http.Header{}
	for i := range req.Len() {
		switch k := req.Known(i); k {
		case Host, TransferEncoding, Trailer: // net/http takes them out of its map
		default:
			ours.Add(string(req.Name(i)), string(req.Value(i)))
		}
	}
	theirs.Header.Del("Trailer")
	if diff := cmp.Diff(theirs.Header, ours); diff != "" {
		t.Fatalf("fields (-net/http +ours):\n%s", diff)
	}
}

// FuzzResponse: the same for answers.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HTTP/1.0 304\r\nConnection: keep-alive, X\r\nX: 1\r\n\r\n",
		"HTTP/1.1 103 Early\r\n\r\n", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nX_A:1\r\n\r\n"} {
		f.Add([]byte(s), 3, false, 1)
		f.Add([]byte(s), 9, true, 0)
	}
	f.Fuzz(func(t *testing.T, wire []byte, at int, head bool, minor int) {
		asked := Asked{Head: head, WebSocket: !head}
		res, n, why := parseAnswer(string(wire), asked, len(wire))
		parts, n2, why2 := parseAnswer(string(wire), asked, max(0, at)%(len(wire)+1))
		if n != n2 || why != why2 || n > 0 && answerReading(res) != answerReading(parts) {
			t.Fatalf("whole: %d, %v; in parts: %d, %v", n, why, n2, why2)
		}
		if n == 0 {
			answerReading(res)
			return
		}
		method := map[bool]string{true: "HEAD", false: "GET"}[head]
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(wire[:n])), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http: %v\n%q", err, wire[:n])
		}
		if theirs.StatusCode != res.Status() || theirs.ProtoMinor != res.Minor() ||
			res.Reusable() && theirs.Close && !res.Interim() || res.Framing() == Length && theirs.ContentLength != res.ContentLength() {
			t.Fatalf("net/http reads %d 1.%d close %v length %d, we\n%s", theirs.StatusCode, theirs.ProtoMinor, theirs.Close, theirs.ContentLength, answerReading(res))
		}
		minor &= 1
		onward := AppendEnd(AppendResponse(nil, res, Reply{Minor: minor, Date: []byte("now")}))
		again, m, why := parseAnswer(string(onward), asked, 0)
		if m != len(onward) || again.Framing() != res.FramingFor(minor) || again.Status() != res.Status() {
			t.Fatalf("our own head is read otherwise: %v\n%q\n%s", why, onward, answerReading(res))
		}
		if theirs, err = http.ReadResponse(bufio.NewReader(bytes.NewReader(onward)), &http.Request{Method: method}); err != nil {
			t.Fatalf("net/http refuses what we send on: %v\n%q", err, onward)
		}
		io.Copy(io.Discard, theirs.Body)
	})
}
