package middleware

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
)

var longText = strings.Repeat("gatehouse ", 1000)

func decoded(t *testing.T, encoding string, body io.Reader) string {
	t.Helper()
	switch encoding {
	case "gzip":
		r, err := gzip.NewReader(body)
		if err != nil {
			t.Fatal(err)
		}
		body = r
	case "br":
		body = brotli.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCompress(t *testing.T) {
	head := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	for _, c := range []struct {
		name, params, accept string
		method               string
		request              http.Header
		answer               http.Header
		status               int
		body                 string
		encoding             string
		vary                 string
		check                map[string]string
	}{
		{name: "gzip", accept: "gzip, deflate, br, zstd", answer: head("Content-Type", "text/html", "Etag", `"x"`, "Content-Length", "10000"),
			body: longText, encoding: "gzip", vary: "Accept-Encoding", check: map[string]string{"Etag": `W/"x"`}},
		{name: "brotli preferred by the client", accept: "gzip;q=0.5, br", answer: head(), body: longText, encoding: "br", vary: "Accept-Encoding"},
		{name: "brotli preferred here", params: `encodings = ["br", "gzip"]`, accept: "gzip, br", answer: head(), body: longText, encoding: "br", vary: "Accept-Encoding"},
		{name: "anything", accept: "*", answer: head(), body: longText, encoding: "gzip", vary: "Accept-Encoding"},
		{name: "refused", accept: "gzip;q=0, br;q=0", answer: head(), body: longText, vary: "Accept-Encoding"},
		{name: "identity preferred", accept: "identity, gzip;q=0.5", answer: head(), body: longText, vary: "Accept-Encoding"},
		{name: "unreadable weight", accept: "gzip;q=x", answer: head(), body: longText, vary: "Accept-Encoding"},
		{name: "not asked", answer: head(), body: longText, vary: "Accept-Encoding"},
		{name: "small", accept: "gzip", answer: head(), body: strings.Repeat("x", 511), vary: "Accept-Encoding"},
		{name: "just large enough", accept: "gzip", answer: head(), body: strings.Repeat("x", 512), encoding: "gzip", vary: "Accept-Encoding"},
		{name: "small, said so", accept: "gzip", answer: head("Content-Length", "5"), body: "hello"},
		{name: "empty", accept: "gzip", answer: head(), body: "", vary: ""},
		{name: "encoded already", accept: "gzip", answer: head("Content-Encoding", "zstd"), body: longText, check: map[string]string{"Content-Encoding": "zstd"}},
		{name: "no-transform", accept: "gzip", answer: head("Cache-Control", "max-age=1, No-Transform"), body: longText},
		{name: "events", accept: "gzip", answer: head("Content-Type", "text/event-stream; charset=utf-8"), body: longText},
		{name: "grpc answer", accept: "gzip", answer: head("Content-Type", "application/grpc+proto"), body: longText},
		{name: "grpc request", accept: "gzip", request: head("Content-Type", "application/grpc"), answer: head(), body: longText},
		{name: "image", accept: "gzip", answer: head("Content-Type", "image/png"), body: longText},
		{name: "drawing", accept: "gzip", answer: head("Content-Type", "image/svg+xml"), body: longText, encoding: "gzip", vary: "Accept-Encoding"},
		{name: "partial", accept: "gzip", answer: head("Content-Range", "bytes 0-1/2"), status: 206, body: longText},
		{name: "error page", accept: "gzip", answer: head(), status: 500, body: longText, encoding: "gzip", vary: "Accept-Encoding"},
		{name: "varies already", accept: "gzip", answer: head("Vary", "Origin, accept-encoding"), body: longText, encoding: "gzip", vary: "Origin, accept-encoding"},
		{name: "head", method: "HEAD", accept: "gzip", answer: head("Content-Length", "10000"), vary: "Accept-Encoding", check: map[string]string{"Content-Length": "10000"}},
		{name: "excluded", params: `excludedContentTypes = ["text/csv; charset=utf-8"]`, accept: "gzip", answer: head("Content-Type", "Text/CSV"), body: longText},
		{name: "included", params: `includedContentTypes = ["text/csv"]`, accept: "gzip", answer: head("Content-Type", "text/html"), body: longText},
		{name: "weak tag stays", accept: "gzip", answer: head("Etag", `W/"x"`), body: longText, encoding: "gzip", vary: "Accept-Encoding", check: map[string]string{"Etag": `W/"x"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.method == "" {
				c.method = "GET"
			}
			server := httptest.NewServer(mustDeclare(t, "compress", c.params).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for name, values := range c.answer {
					w.Header()[name] = values
				}
				if c.status != 0 {
					w.WriteHeader(c.status)
				}
				for part := c.body; part != ""; { // in pieces, as proxies write
					n := min(len(part), 700)
					io.WriteString(w, part[:n])
					part = part[n:]
				}
			})))
			defer server.Close()
			req, _ := http.NewRequest(c.method, server.URL, nil)
			for name, values := range c.request {
				req.Header[name] = values
			}
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			if c.accept != "" {
				req.Header.Set("Accept-Encoding", c.accept)
			}
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if c.check["Content-Encoding"] == "" && res.Header.Get("Content-Encoding") != c.encoding {
				t.Errorf("encoding %q, want %q", res.Header.Get("Content-Encoding"), c.encoding)
			}
			if got := strings.Join(res.Header["Vary"], "|"); got != c.vary {
				t.Errorf("vary %q, want %q", got, c.vary)
			}
			for name, want := range c.check {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if c.status != 0 && res.StatusCode != c.status {
				t.Errorf("status %d, want %d", res.StatusCode, c.status)
			}
			if got := decoded(t, c.encoding, res.Body); got != c.body {
				t.Errorf("body of %d bytes, want %d", len(got), len(c.body))
			}
		})
	}
}

// TestCompressStreams: what is flushed arrives, compressed, before the end.
func TestCompressStreams(t *testing.T) {
	next := make(chan struct{})
	server := httptest.NewServer(mustDeclare(t, "compress", "").Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			io.WriteString(w, "line\n")
			w.(http.Flusher).Flush()
			<-next
		}
	})))
	defer server.Close()
	req, _ := http.NewRequest("GET", server.URL, nil)
	req.Header.Set("Accept-Encoding", "gzip")
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.Header.Get("Content-Encoding") != "gzip" {
		t.Fatal("the stream is not compressed")
	}
	plain, err := gzip.NewReader(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(plain)
	for range 3 {
		line, err := lines.ReadString('\n')
		if err != nil || line != "line\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		next <- struct{}{}
	}
}

// TestCompressBrokenAnswer: an answer cut off by a panic never looks whole.
func TestCompressBrokenAnswer(t *testing.T) {
	server := httptest.NewServer(mustDeclare(t, "compress", "").Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, longText)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})))
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err == nil {
		t.Error("a cut answer was read without an error")
	}
}

type nullWriter struct{ h http.Header }

func (w nullWriter) Header() http.Header         { return w.h }
func (w nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w nullWriter) WriteHeader(int)             {}

func BenchmarkCompress(b *testing.B) {
	body := []byte(longText)
	h := mustDeclare(b, "compress", "").Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(body) }))
	for _, accept := range []string{"gzip", "br", ""} {
		b.Run("accept="+accept, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header.Set("Accept-Encoding", accept)
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				h.ServeHTTP(nullWriter{http.Header{}}, r)
			}
		})
	}
}

func BenchmarkHeaders(b *testing.B) {
	h := mustDeclare(b, "headers", "frameDeny = true\nstsSeconds = 1\ncustomRequestHeaders = {\"X-A\" = \"1\"}").Wrap(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) }))
	r := httptest.NewRequest("GET", "https://a.com/", nil)
	w := nullWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

func BenchmarkStripPrefix(b *testing.B) {
	h := mustDeclare(b, "stripPrefix", `prefixes = ["/api"]`).Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	r := httptest.NewRequest("GET", "https://a.com/api/x", nil)
	w := nullWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		delete(r.Header, forwardedPrefix)
		h.ServeHTTP(w, r)
	}
}

func BenchmarkRateLimit(b *testing.B) {
	h := mustDeclare(b, "rateLimit", "average = 1000000000\nburst = 1000000").Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	r := httptest.NewRequest("GET", "https://a.com/api/x", nil)
	w := nullWriter{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}
