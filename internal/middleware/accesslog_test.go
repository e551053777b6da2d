package middleware

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func openTestLog(t testing.TB, opts AccessLogOptions) *AccessLog {
	t.Helper()
	a, err := OpenAccessLog(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return a
}

func closeAndRead(t *testing.T, a *AccessLog, path string) string {
	t.Helper()
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sampleEntry is one request with everything a line can hold.
func sampleEntry() *Entry {
	return &Entry{
		EntryPoint: "web", Remote: "[2001:db8::1]:4711", Method: "GET", URI: "/a?b=c", Proto: "HTTP/1.1", Host: "web.example.com:81",
		Agent: `curl "8"`, Referer: "http://x/", Status: 404, Size: 1234, Took: 1500 * time.Millisecond,
		Record: Record{Start: time.Date(2026, 11, 23, 9, 8, 7, 6, time.FixedZone("", 3600)), Router: "web@file", Service: "s@file",
			Server: "http://10.0.0.1:80", User: "joe doe", Retries: 1, Upstream: time.Second},
	}
}

func TestAccessLogLines(t *testing.T) {
	x := sampleEntry()
	want := `2001:db8::1 - joe\x20doe [23/Nov/2026:09:08:07 +0100] "GET /a?b=c HTTP/1.1" 404 1234 "http://x/" "curl \"8\"" 7 "web@file" "http://10.0.0.1:80" 1500ms` + "\n"
	if diff := cmp.Diff(want, string(appendCommon(nil, x, 7, new(dates)))); diff != "" {
		t.Errorf("common (-want +got):\n%s", diff)
	}
	var got map[string]any
	if err := json.Unmarshal(appendJSON(nil, x, 7), &got); err != nil {
		t.Fatal(err)
	}
	wantFields := map[string]any{
		"ClientAddr": "[2001:db8::1]:4711", "ClientHost": "2001:db8::1", "ClientPort": "4711", "ClientUsername": "joe doe",
		"DownstreamContentSize": 1234., "DownstreamStatus": 404., "Duration": 1.5e9, "OriginDuration": 1e9,
		"RequestContentSize": 0., "RequestCount": 7., "RequestAddr": "web.example.com:81", "RequestHost": "web.example.com",
		"RequestMethod": "GET", "RequestPath": "/a?b=c", "RequestProtocol": "HTTP/1.1", "RequestScheme": "http", "RetryAttempts": 1.,
		"RouterName": "web@file", "ServiceName": "s@file", "ServiceURL": "http://10.0.0.1:80", "StartUTC": "2026-11-23T08:08:07.000000006Z",
		"entryPointName": "web", "request_Referer": "http://x/", "request_User-Agent": `curl "8"`, "level": "info", "msg": "",
		"time": "2026-11-23T09:08:08+01:00",
	}
	if diff := cmp.Diff(wantFields, got); diff != "" {
		t.Errorf("json (-want +got):\n%s", diff)
	}
	empty := &Entry{Status: 200}
	line := string(appendCommon(nil, empty, 0, new(dates)))
	if !strings.HasPrefix(line, "- - - [") || !strings.HasSuffix(line, `"-" "-" 0 "-" "-" 0ms`+"\n") {
		t.Errorf("empty line: %s", line)
	}
}

var commonLine = regexp.MustCompile(`^\S+ - \S+ \[[^\]]+\] "(?:[^"\\]|\\.)*" \d+ \d+ "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*" \d+ "(?:[^"\\]|\\.)*" "(?:[^"\\]|\\.)*" \d+ms\n$`)

// FuzzAccessLog: whatever a client sends, a line is one line of printable
// ASCII with its fields in place, and an object is valid JSON that gives the
// same text back.
func FuzzAccessLog(f *testing.F) {
	f.Add("GET", "/a", "agent", "referer", "user")
	f.Add("G\"ET", "/a\r\n127.0.0.1 - - forged", "a\\", "\x1b[31m\x00", "u \" \u2028")
	f.Fuzz(func(t *testing.T, method, uri, agent, referer, user string) {
		x := sampleEntry()
		x.Method, x.URI, x.Agent, x.Referer, x.User = method, uri, agent, referer, user
		line := appendCommon(nil, x, 7, new(dates))
		if !commonLine.Match(line) {
			t.Errorf("line breaks its form: %q", line)
		}
		for _, c := range line[:len(line)-1] {
			if c < 0x20 || c >= 0x7f {
				t.Errorf("byte %#x in %q", c, line)
			}
		}
		object := appendJSON(nil, x, 7)
		if bytes.IndexByte(object, '\n') != len(object)-1 || !utf8.Valid(object) {
			t.Errorf("object breaks its form: %q", object)
		}
		var got map[string]any
		if err := json.Unmarshal(object, &got); err != nil {
			t.Fatalf("%v: %q", err, object)
		}
		if want := strings.ToValidUTF8(uri, "\ufffd"); utf8.ValidString(uri) && got["RequestPath"] != want {
			t.Errorf("path %q came back as %q", uri, got["RequestPath"])
		}
	})
}

func TestAccessLogOfRealRequests(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	a := openTestLog(t, AccessLogOptions{FilePath: path})
	handler := a.Handler("web", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		RecordFrom(r.Context()).Router = "r@file"
		r.Header.Set("User-Agent", "changed")
		switch r.URL.Path {
		case "/copy":
			io.Copy(w, strings.NewReader("copied"))
		case "/panic":
			panic(http.ErrAbortHandler)
		case "/late":
			w.WriteHeader(201)
			panic(http.ErrAbortHandler)
		case "/hijack":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
		}
	}))
	var running sync.WaitGroup // the server does not wait for hijacked ones
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		handler.ServeHTTP(w, r)
	}))
	for _, p := range []string{"/", "/copy", "/panic", "/late", "/hijack"} {
		req, _ := http.NewRequest("GET", server.URL+p, nil)
		req.Header.Set("User-Agent", "mine")
		if res, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	server.Close()
	running.Wait()
	http.DefaultClient.CloseIdleConnections()
	var got []string
	for line := range strings.Lines(closeAndRead(t, a, path)) {
		got = append(got, regexp.MustCompile(`^.*\] | \d+ms\n$`).ReplaceAllString(line, ""))
	}
	want := []string{
		`"GET / HTTP/1.1" 200 0 "-" "mine" 1 "r@file" "-"`,
		`"GET /copy HTTP/1.1" 200 6 "-" "mine" 2 "r@file" "-"`,
		`"GET /panic HTTP/1.1" 500 0 "-" "mine" 3 "r@file" "-"`,
		`"GET /late HTTP/1.1" 201 0 "-" "mine" 4 "r@file" "-"`,
		`"GET /hijack HTTP/1.1" 101 0 "-" "mine" 5 "r@file" "-"`,
	}
	// net/http's client asks again when a connection ends without an answer.
	got = slicesCompact(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// slicesCompact keeps one line of requests that were repeated, renumbered.
func slicesCompact(lines []string) []string {
	var out []string
	seen := map[string]bool{}
	number := regexp.MustCompile(`"mine" \d+ `)
	for _, l := range lines {
		key := number.ReplaceAllString(l, "")
		if !seen[key] {
			seen[key] = true
			out = append(out, number.ReplaceAllString(l, `"mine" `+string(rune('1'+len(out)))+" "))
		}
	}
	return out
}

func TestAccessLogReopens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	a := openTestLog(t, AccessLogOptions{FilePath: path})
	h := a.Handler("web", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(path string) { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)) }
	ask("/before")
	for {
		if text, _ := os.ReadFile(path); strings.Contains(string(text), "/before") {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := a.Reopen(); err != nil {
		t.Fatal(err)
	}
	ask("/after")
	text := closeAndRead(t, a, path)
	if strings.Contains(text, "/before") || !strings.Contains(text, "/after") {
		t.Errorf("new file holds %q", text)
	}
	if _, err := OpenAccessLog(AccessLogOptions{FilePath: "/nonexistent/dir/log"}); err == nil {
		t.Error("a file that cannot be made is no error")
	}
	if _, err := OpenAccessLog(AccessLogOptions{Format: "xml"}); err == nil {
		t.Error("an unknown format is no error")
	}
}

// stuckWriter is a disk that does not answer.
type stuckWriter struct{ release chan struct{} }

func (s stuckWriter) Write(b []byte) (int, error) {
	<-s.release
	return 0, io.ErrShortWrite
}

// TestAccessLogNeverHoldsRequests: with a disk that hangs, and one that is
// full, requests go on, and what is lost is counted.
func TestAccessLogNeverHoldsRequests(t *testing.T) {
	a := openTestLog(t, AccessLogOptions{FilePath: filepath.Join(t.TempDir(), "log")})
	stuck := stuckWriter{make(chan struct{})}
	a.fileMu.Lock()
	a.file = stuck
	a.fileMu.Unlock()
	h := a.Handler("web", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	r := httptest.NewRequest("GET", "/"+strings.Repeat("x", 8000), nil)
	const requests = 2000 // 16 MB of lines: four times the room
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range requests / 4 {
				h.ServeHTTP(nullWriter{http.Header{}}, r)
			}
		})
	}
	all.Wait()
	if a.Dropped() == 0 {
		t.Error("nothing was counted as dropped")
	}
	if len(a.waiting) > accessBuffer {
		t.Errorf("%d bytes wait, want at most %d", len(a.waiting), accessBuffer)
	}
	close(stuck.release)
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.Dropped() != requests {
		t.Errorf("%d lines counted as lost, want all %d", a.Dropped(), requests)
	}
}

func BenchmarkAccessLog(b *testing.B) {
	for _, format := range []string{"common", "json"} {
		b.Run(format, func(b *testing.B) {
			a := openTestLog(b, AccessLogOptions{FilePath: "/dev/null", Format: format})
			h := a.Handler("web", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }))
			r := httptest.NewRequest("GET", "http://a.com/some/path?with=query", nil)
			r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
			w := nullWriter{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
