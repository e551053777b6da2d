package http1

import (
	"bufio"
	"bytes"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sameView: handlers see the request exactly as net/http would show an origin
// the head that we send on; and what they leave as it is goes on the same.
func sameView(t *testing.T, req *Request, o *Onward) {
	t.Helper()
	onward := AppendEnd(AppendRequest(nil, req, o))
	theirs, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(onward)))
	if err != nil {
		t.Fatalf("net/http: %v\n%q", err, onward)
	}
	if theirs.Header.Get("Te") != "" {
		theirs.Header.Del("Connection") // "TE": net/http's writer would say so too
	}
	ours := &http.Request{URL: &url.URL{Opaque: "old"}, Header: http.Header{"Old": {"x"}}}
	req.Fill(ours, o)
	theirs.Proto, theirs.ProtoMinor, theirs.Close = ours.Proto, ours.ProtoMinor, ours.Close // the onward head is 1.1, always
	if theirs.Trailer == nil && len(ours.Trailer) == 0 {
		ours.Trailer = nil
	}
	if len(theirs.Trailer) == 0 && len(ours.Trailer) == 0 {
		theirs.Trailer, ours.Trailer = nil, nil
	}
	ignore := cmp.Options{cmpopts.IgnoreUnexported(http.Request{}), cmpopts.IgnoreFields(http.Request{}, "Body", "GetBody", "RequestURI")}
	if req.Path()[0] == '/' {
		ignore[1] = cmpopts.IgnoreFields(http.Request{}, "Body", "GetBody")
	}
	if ours.RequestURI != theirs.RequestURI && ours.URL.RequestURI() == theirs.RequestURI {
		ours.RequestURI = theirs.RequestURI // absolute form
	}
	if diff := cmp.Diff(theirs, ours, ignore...); diff != "" {
		t.Fatalf("view (-net/http of the onward head +ours):\n%s\n%q", diff, onward)
	}
	again, why := AppendHTTPRequest(nil, ours, o.Host)
	if why != 0 {
		t.Fatalf("the view does not go on: %v", why)
	}
	second, n, why := parse(t, string(AppendEnd(again)))
	first, _, _ := parse(t, string(onward))
	if n == 0 || !bytes.Equal(second.Path(), first.Path()) || second.Framing() != first.Framing() || second.ContentLength() != first.ContentLength() ||
		second.WebSocket() != first.WebSocket() || second.WantsTrailers() != first.WantsTrailers() {
		t.Fatalf("the view goes on otherwise: %v\n%q\n%q", why, onward, again)
	}
	count := func(h *Request) map[string]int {
		all := map[string]int{}
		for i := range h.Len() {
			if h.Known(i) != Trailer {
				all[strings.ToLower(string(h.Name(i)))+"="+string(h.Value(i))]++
			}
		}
		return all
	}
	if diff := cmp.Diff(count(first), count(second)); diff != "" {
		t.Fatalf("fields of the view going on (-direct +view):\n%s", diff)
	}
}

func TestView(t *testing.T) {
	for _, head := range []string{
		browserHead, loadHead,
		get("/a%20b/./c[1]!?x=%zz", "x-lower: 1\r\nX-Lower: 2\r\nX_Odd: 1\r\nConnection: x-gone\r\nX-Gone: 1\r\n"),
		get("http://a.com/x//y?", "Accept:\r\n"), get("http://a.com", ""),
		"OPTIONS * HTTP/1.1\r\nHost: a.com\r\n\r\n",
		post("Transfer-Encoding: chunked\r\nTrailer: X-Sum, Cookie\r\n"), post("Content-Length: 0\r\n"), post("Content-Length: 5\r\nExpect: 100-continue\r\n"),
		get("/", "Connection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Key: x\r\n"), get("/", "TE: trailers\r\n"),
		"REPORT / HTTP/1.0\r\nHost: a.com:81\r\n\r\n",
		get("/", "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-Proto: wss\r\nX-Forwarded-Prefix: /p\r\nX-Real-Ip: 1.1.1.1\r\n"),
	} {
		req, _, why := parse(t, head)
		if why != 0 {
			t.Fatal(head, why)
		}
		for _, trusted := range []bool{false, true} {
			client := NewClient("192.0.2.1", trusted, trusted)
			sameView(t, req, &Onward{Client: &client, KeepOdd: trusted})
		}
	}
}

// TestChangedView: what handlers change goes on, or is refused.
func TestChangedView(t *testing.T) {
	client := NewClient("192.0.2.1", false, false)
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		want   string
		why    Reason
	}{
		{"path", func(r *http.Request) { r.URL.Path, r.URL.RawPath = "/new//x/../é y", "" }, "GET /new/%C3%A9%20y?q HTTP/1.1\r\nHost: a.com\r\n", 0},
		{"no path", func(r *http.Request) { r.URL.Path = "" }, "GET /?q HTTP/1.1\r\nHost: a.com\r\n", 0},
		{"query", func(r *http.Request) { r.URL.RawQuery = "" }, "GET /x HTTP/1.1\r\nHost: a.com\r\n", 0},
		{"host", func(r *http.Request) { r.Host = "b.com" }, "GET /x?q HTTP/1.1\r\nHost: b.com\r\n", 0},
		{"field", func(r *http.Request) { r.Header["X-A"] = []string{"1\r\nX-B: 2", "3"} }, "GET /x?q HTTP/1.1\r\nHost: a.com\r\nX-A: 1  X-B: 2\r\nX-A: 3\r\n", 0},
		{"connection", func(r *http.Request) {
			r.Header = http.Header{"Connection": {"close"}, "Transfer-Encoding": {"x"}, "Content-Length": {"9"}, "Keep-Alive": {"x"}, "Host": {"x"}, "Trailer:X": {"y"}}
		}, "GET /x?q HTTP/1.1\r\nHost: a.com\r\nContent-Length: 0\r\n", 0},
		{"body", func(r *http.Request) { r.ContentLength = -1 }, "GET /x?q HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\n", 0},
		{"bad query", func(r *http.Request) { r.URL.RawQuery = "a b" }, "", BadTarget},
		{"bad query", func(r *http.Request) { r.URL.RawQuery = "a\r\nHost: x" }, "", BadTarget},
		{"bad method", func(r *http.Request) { r.Method = "GET /" }, "", BadMethod},
		{"bad host", func(r *http.Request) { r.Host = "a\r\nb" }, "", BadHost},
		{"bad path", func(r *http.Request) { r.URL.Path = "/\n" }, "", BadPath},
		{"relative path", func(r *http.Request) { r.URL.Path = "x" }, "", BadPath},
	} {
		req, _, _ := parse(t, get("/x?q", ""))
		out := &http.Request{}
		req.Fill(out, &Onward{Client: &client})
		clear(out.Header)
		c.change(out)
		got, why := AppendHTTPRequest(nil, out, "")
		if string(got) != c.want || why != c.why {
			t.Errorf("%s: %q, %v, want %q, %v", c.name, got, why, c.want, c.why)
		}
	}
}

func TestTrailersOfTheView(t *testing.T) {
	tr := new(Trailers)
	tr.Reset()
	if n, why := tr.Parse([]byte("x-sum:1\r\nCookie: x\r\nX-Sum: 2\r\n\r\n")); n == 0 {
		t.Fatal(why)
	}
	h := http.Header{}
	tr.AddTo(h)
	if diff := cmp.Diff(http.Header{"X-Sum": {"1", "2"}}, h); diff != "" {
		t.Error(diff)
	}
}
