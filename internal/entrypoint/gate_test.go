package entrypoint

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/middleware"
)

// TestForwardedHeaders sends heads as bytes and compares what the handler
// sees, byte for byte.
func TestForwardedHeaders(t *testing.T) {
	const ours = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: a.com\r\nX-Forwarded-Port: 80\r\nX-Forwarded-Proto: http\r\nX-Real-Ip: 127.0.0.1\r\n"
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	other := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []struct {
		name    string
		trusted []netip.Prefix
		keepOdd bool
		head    string // after the Host line
		want    string
	}{
		{name: "nothing", want: ours},
		{name: "canonical", head: "X-Forwarded-For: 6.6.6.6\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil\nX-Forwarded-Port: 1\nX-Real-Ip: 6.6.6.6\nForwarded: for=6.6.6.6\nX-Forwarded-Prefix: /x\nX-Forwarded-Tls-Client-Cert: x\nX-Forwarded: x\n", want: ours},
		{name: "case", head: "x-forwarded-for: 6.6.6.6\nX-FORWARDED-PROTO: https\nx-real-IP: 6.6.6.6\nfORWARDED: for=x\n", want: ours},
		{name: "underscores and dots", keepOdd: true, head: "X_Forwarded_For: 6\nx-forwarded_proto: https\nX.Forwarded.Host: evil\nX_Real-IP: 6\nx_real_ip: 7\nX_Forwarded: 1\nHTTP_X: kept\n", want: "Http_x: kept\r\n" + ours},
		{name: "odd ones go by default", head: "X_User: root\nX.User: root\nX-User: me\n", want: ours[:strings.Index(ours, "X-Real-Ip")] + "X-Real-Ip: 127.0.0.1\r\nX-User: me\r\n"},
		{name: "protected ones always go", keepOdd: true, head: "Content_Length: 5\nTransfer_Encoding: chunked\nAuthorization_: x\nCookie.: x\n", want: "Authorization_: x\r\nCookie.: x\r\n" + ours},
		{name: "hop by hop takes nothing of ours", head: "Connection: X-Forwarded-For, X-Real-Ip, X-Mine, close\nX-Mine: 1\nX-Forwarded-For: 6\nKeep-Alive: x\nProxy-Connection: x\nProxy-Authorization: x\n", want: ours},
		{name: "not trusted", trusted: other, head: "X-Forwarded-For: 6.6.6.6\n", want: ours},
		{name: "trusted", trusted: loopback,
			head: "X-Forwarded-For: 6.6.6.6\nX-Forwarded-For: 7.7.7.7\nX-Forwarded-Proto: https\nX-Forwarded-Host: b.com\nX-Forwarded-Port: 444\nX-Real-Ip: 6.6.6.6\nForwarded: for=6.6.6.6\nX-Forwarded-Prefix: /x\n",
			want: "Forwarded: for=6.6.6.6\r\nForwarded: for=127.0.0.1;host=\"a.com\";proto=https\r\nX-Forwarded-For: 6.6.6.6, 7.7.7.7, 127.0.0.1\r\nX-Forwarded-Host: b.com\r\nX-Forwarded-Port: 444\r\nX-Forwarded-Prefix: /x\r\nX-Forwarded-Proto: https\r\nX-Real-Ip: 6.6.6.6\r\n"},
		{name: "trusted, but odd spelling", trusted: loopback, keepOdd: true, head: "X_Forwarded_For: 6.6.6.6\n", want: ours},
		{name: "trusted nonsense", trusted: loopback,
			head: "X-Forwarded-Proto: javascript\nX-Forwarded-Host: a b\nX-Forwarded-Port: 99999\nX-Real-Ip: evil\n", want: ours},
		{name: "trusted twice", trusted: loopback, head: "X-Forwarded-Host: b.com\nX-Forwarded-Host: c.com\nX-Real-Ip: 1.1.1.1\nX-Real-Ip: 2.2.2.2\n", want: ours},
		{name: "trusted without port", trusted: loopback, head: "X-Forwarded-Proto: wss\n",
			want: strings.NewReplacer("80", "443", "Proto: http", "Proto: wss").Replace(ours)},
		{name: "websocket", head: "Connection: keep-alive, Upgrade\nUpgrade: WebSocket\nSec-Websocket-Key: x\n",
			want: "Connection: Upgrade\r\nSec-Websocket-Key: x\r\nUpgrade: websocket\r\n" + strings.Replace(ours, "Proto: http", "Proto: ws", 1)},
		{name: "other upgrade", head: "Connection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: x\n", want: ours},
		{name: "upgrade not asked for", head: "Upgrade: websocket\n", want: ours},
		{name: "trailers", head: "TE: gzip, trailers\nConnection: TE\n", want: "Te: trailers\r\n" + ours},
		{name: "te", head: "TE: gzip\n", want: ours},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := start(t, Options{Handler: echo(), ForwardedTrusted: c.trusted, KeepOddHeaders: c.keepOdd})
			head := "GET / HTTP/1.1\r\nHost: a.com\r\n" + strings.ReplaceAll(c.head, "\n", "\r\n") + "\r\n"
			answer := exchange(t, s, head+"GET /end HTTP/1.1\r\nHost: z\r\nConnection: close\r\n\r\n")
			_, body, _ := strings.Cut(answer, "\r\n\r\n")
			body, _, _ = strings.Cut(body, "HTTP/1.1 ") // the answer to the second request
			got := strings.TrimPrefix(body, "GET / a.com\n")
			if diff := cmp.Diff(sorted(c.want), sorted(got)); diff != "" {
				t.Errorf("headers (-want +got):\n%s\n%s", diff, answer)
			}
		})
	}
}

func sorted(head string) []string {
	var lines []string
	for l := range strings.SplitSeq(head, "\r\n") {
		if l != "" {
			lines = append(lines, l)
		}
	}
	// Header.Write sorts names; wants are written by hand.
	for i := range lines {
		for j := i + 1; j < len(lines); j++ {
			if strings.SplitN(lines[j], ":", 2)[0] < strings.SplitN(lines[i], ":", 2)[0] {
				lines[i], lines[j] = lines[j], lines[i]
			}
		}
	}
	return lines
}

func TestRefusals(t *testing.T) {
	reached := false
	s := start(t, Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })})
	get := func(target, rest string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: a.com\r\n" + rest + "\r\n"
	}
	for _, c := range []struct{ name, request, status string }{
		{"connect", "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n", "405"},
		{"trace", "TRACE / HTTP/1.1\r\nHost: a.com\r\n\r\n", "405"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		{"host with user", "GET / HTTP/1.1\r\nHost: b@a.com\r\n\r\n", "400"},
		{"host with path", "GET / HTTP/1.1\r\nHost: a.com/x\r\n\r\n", "400"},
		{"host with comma", "GET / HTTP/1.1\r\nHost: a.com,b.com\r\n\r\n", "400"},
		{"host with bad port", "GET / HTTP/1.1\r\nHost: a.com:http\r\n\r\n", "400"},
		{"absolute beside another host", "GET http://a.com/x HTTP/1.1\r\nHost: b.com\r\n\r\n", "400"},
		{"absolute with user", get("http://u@a.com/", ""), "400"},
		{"absolute with other scheme", get("ftp://a.com/", ""), "400"},
		{"asterisk", get("*", ""), "400"},
		{"fragment", get("/a#b", ""), "400"},
		{"encoded slash", get("/a%2fb", ""), "400"},
		{"encoded backslash", get("/a%5Cb", ""), "400"},
		{"nul", get("/a%00b", ""), "400"},
		{"backslash", get(`/a\b`, ""), "400"},
		{"not ascii", get("/\xc3\xa9", ""), "400"},
		{"control byte", get("/a\x01", ""), "400"},
		{"expectation", get("/", "Expect: 200-ok\r\n"), "417"},
		{"space in name", get("/", "X Y: 1\r\n"), "400"},
		{"long target", get("/"+strings.Repeat("x", 9<<10), ""), "414"},
		{"many lines", get("/", strings.Repeat("X: 1\r\n", 200)), "431"},
		{"large head", get("/", "X: "+strings.Repeat("x", 40<<10)+"\r\n"), "431"},
		{"both lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"},
	} {
		answer := exchange(t, s, c.request)
		if status(answer) != c.status || !strings.Contains(strings.ToLower(answer), "connection: close") {
			t.Errorf("%s: %q, want %s and the end of the connection", c.name, answer, c.status)
		}
		if reached {
			t.Errorf("%s: reached the handler", c.name)
			reached = false
		}
	}
	for name, request := range map[string]string{
		"absolute":  "GET http://a.com/x HTTP/1.1\r\nHost: A.com\r\nConnection: close\r\n\r\n",
		"head size": get("/", "X: "+strings.Repeat("x", 28<<10)+"\r\nConnection: close\r\n"),
	} {
		if answer := exchange(t, s, request); status(answer) != "200" || !reached {
			t.Errorf("%s: %q, want 200", name, answer)
		}
	}
}

// TestOnePath: the handler sees one path for all its spellings, with Path and
// RawPath in agreement and the query untouched.
func TestOnePath(t *testing.T) {
	for in, want := range map[string]string{
		"/":                "/",
		"/a/b?x=%2e%2F../": "/a/b?x=%2e%2F../",
		"/a//b///c":        "/a/b/c",
		"/a/./b/../c":      "/a/c",
		"/a/%2e%2E/b":      "/b",
		"/a/.":             "/a/",
		"/a/b/..":          "/a/",
		"/../../a":         "/a",
		"/..":              "/",
		"//a//..//b":       "/b",
		"/%61%7e%2D":       "/a~-",
		"/%c3%a9":          "/%C3%A9",
		"/a%20b|c":         "/a%20b%7Cc",
		"/a;b=c,d@e":       "/a;b=c,d@e",
		"/a(b)[c]":         "/a(b)[c]",
		"/...":             "/...",
		"/.a/..b":          "/.a/..b",
		"/%25%32%65":       "/%252e",
	} {
		s := start(t, Options{Handler: echo()})
		answer := exchange(t, s, "GET "+in+" HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n")
		if !strings.Contains(answer, "GET "+want+" a.com\n") {
			t.Errorf("%s: want %s, got %q", in, want, answer)
		}
	}
	s := start(t, Options{Handler: echo(), AllowEncodedSlash: true})
	answer := exchange(t, s, "GET /a%2fb%5c/%2e%2e/c HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n")
	if !strings.Contains(answer, "GET /c a.com\n") {
		t.Errorf("encoded slashes let through: %q", answer)
	}
}

// FuzzNormalPath: what comes out is its own normal form, begins with one
// slash, and holds nothing that could be read in two ways.
func FuzzNormalPath(f *testing.F) {
	for _, p := range []string{"/", "", "*", "/a//b", "/%2e%2e/x", "/a/..", "/%2F", "/%", "/%zz", "/é", "/a%2525"} {
		f.Add(p, true)
		f.Add(p, false)
	}
	f.Fuzz(func(t *testing.T, path string, allow bool) {
		out, ok := normalPath(path, allow)
		if !ok || out == "*" {
			return
		}
		again, ok := normalPath(out, allow)
		if !ok || again != out {
			t.Errorf("%q became %q, and that %q (%v)", path, out, again, ok)
		}
		if out[0] != '/' || strings.Contains(out, "//") || strings.ContainsAny(out, "\\ \x00") {
			t.Errorf("%q became %q", path, out)
		}
		for s := range strings.SplitSeq(out, "/") {
			if s == "." || s == ".." {
				t.Errorf("%q became %q", path, out)
			}
		}
		if !allow && (strings.Contains(out, "%2F") || strings.Contains(out, "%5C")) {
			t.Errorf("%q became %q", path, out)
		}
	})
}

func TestPanicCostsOneRequest(t *testing.T) {
	var log bytes.Buffer
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "five")
			http.NewResponseController(w).Flush()
		}
		if r.URL.Path != "/ok" {
			panic("boom")
		}
	})
	plain := start(t, Options{Handler: handler, Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	secure := start(t, Options{Handler: handler, TLS: testTLS(t)})
	for url, client := range map[string]*http.Client{"http://" + plain.Addr().String(): {Transport: &http.Transport{DisableKeepAlives: true}}, "https://" + secure.Addr().String(): h2Client(t)} {
		res, err := client.Post(url+"/", "text/plain", strings.NewReader("not repeated"))
		if err != nil {
			t.Errorf("%s: %v, want 500", url, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != 500 {
			t.Errorf("%s: %d, want 500", url, res.StatusCode)
		}
		if res, err = client.Get(url + "/late"); err == nil {
			if _, err = io.ReadAll(res.Body); err == nil {
				t.Errorf("%s: a cut answer was read without an error", url)
			}
			res.Body.Close()
		}
		if res, err = client.Get(url + "/ok"); err != nil || res.StatusCode != 200 {
			t.Errorf("%s: the next request got %v %v", url, res, err)
		} else {
			res.Body.Close()
		}
	}
	if n := strings.Count(log.String(), `"panic":"boom"`); n != 1 || !strings.Contains(log.String(), "gate_test.go") {
		t.Errorf("%d panics were logged, want one a minute, with its stack:\n%s", n, log.String())
	}
}

// TestObserveSeesWhatCameIn: the log is told of requests as they came in, also
// of those that go no further.
func TestObserveSeesWhatCameIn(t *testing.T) {
	var seen []string
	s := start(t, Options{Handler: echo(), Observe: func(e *middleware.Entry) {
		seen = append(seen, strings.Clone(e.Method+" "+e.URI+" "+e.Agent), fmt.Sprint(e.Status, " ", e.Size))
	}})
	exchange(t, s, "GET /a/../b HTTP/1.1\r\nHost: a.com\r\nUser-Agent: x\r\n\r\nGET /%2f HTTP/1.1\r\nHost: a.com\r\n\r\n")
	if diff := cmp.Diff([]string{"GET /a/../b x", "200 150", "GET /%2f ", "400 0"}, seen); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}
