package h2

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// show answers with what it sees of a request.
func show(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %s body %q err %v", r.Method, r.Host, r.RequestURI, body, err)
}

func without(lines []string, prefix string) []string {
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) })
}

// TestMalformed: each costs its stream only, and no handler sees it.
func TestMalformed(t *testing.T) {
	addr := listen(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Errorf("reached the handler: %s %q %v", r.Method, r.URL, r.Header)
		}
	})})
	get := func(more ...string) []string { return ask("GET", "/bad", more...) }
	tests := map[string][]string{
		"no method":               without(get(), ":method"),
		"no scheme":               without(get(), ":scheme"),
		"no path":                 without(get(), ":path"),
		"empty path":              {":method: GET", ":scheme: https", ":authority: a", ":path: "},
		"relative path":           {":method: GET", ":scheme: https", ":authority: a", ":path: bad"},
		"absolute path":           {":method: GET", ":scheme: https", ":authority: a", ":path: http://a/bad"},
		"star for GET":            {":method: GET", ":scheme: https", ":authority: a", ":path: *"},
		"blank in path":           {":method: GET", ":scheme: https", ":authority: a", ":path: /bad HTTP/1.1"},
		"newline in path":         {":method: GET", ":scheme: https", ":authority: a", ":path: /bad\r\nx: y"},
		"NUL in path":             {":method: GET", ":scheme: https", ":authority: a", ":path: /bad\x00"},
		"method no token":         {":method: GE T", ":scheme: https", ":authority: a", ":path: /bad"},
		"empty method":            {":method: ", ":scheme: https", ":authority: a", ":path: /bad"},
		"newline in method":       {":method: GET / HTTP/1.1\r\na: b", ":scheme: https", ":authority: a", ":path: /bad"},
		"unknown scheme":          {":method: GET", ":scheme: ftp", ":authority: a", ":path: /bad"},
		"empty authority":         {":method: GET", ":scheme: https", ":authority: ", ":path: /bad"},
		"user in authority":       {":method: GET", ":scheme: https", ":authority: u@a", ":path: /bad"},
		"newline in authority":    {":method: GET", ":scheme: https", ":authority: a\r\nx: y", ":path: /bad"},
		"method twice":            get(":method: GET"),
		"path twice":              append([]string{":path: /bad"}, get()...),
		"status":                  append([]string{":status: 200"}, get()...),
		"unknown pseudo-header":   append([]string{":foo: bar"}, get()...),
		"empty pseudo-header":     append([]string{":: bar"}, get()...),
		"pseudo-header late":      append(append([]string{"x: y"}, get()[1:]...), ":method: GET"),
		"upper case":              get("X-Upper: y"),
		"name with blank":         get("a b: y"),
		"name with colon":         get("a:b: y"),
		"name with newline":       get("a\r\nb: y"),
		"name with high byte":     get("a\xff: y"),
		"value with CR":           get("a: b\rc"),
		"value with LF":           get("a: b\nc"),
		"value with NUL":          get("a: b\x00c"),
		"value with control":      get("a: b\x01c"),
		"value with DEL":          get("a: b\x7fc"),
		"value begins with blank": get("a:  b"),
		"value ends with tab":     get("a: b\t"),
		"connection":              get("connection: close"),
		"keep-alive":              get("keep-alive: 1"),
		"proxy-connection":        get("proxy-connection: close"),
		"transfer-encoding":       get("transfer-encoding: chunked"),
		"upgrade":                 get("upgrade: websocket"),
		"te gzip":                 get("te: gzip"),
		"te trailers, gzip":       get("te: trailers, gzip"),
		"host differs":            get("host: other.example"),
		"host twice":              get("host: example.com", "host: example.com"),
		"content without any":     get("content-length: 1"),
		"length no number":        get("content-length: x"),
		"length negative":         get("content-length: -0"),
		"length with plus":        get("content-length: +0"),
		"length empty":            get("content-length: "),
		"length twice":            get("content-length: 0", "content-length: 0"),
		"length list":             get("content-length: 0, 0"),
		"CONNECT with path":       {":method: CONNECT", ":authority: a:1", ":path: /bad"},
		"CONNECT with scheme":     {":method: CONNECT", ":authority: a:1", ":scheme: https"},
		"CONNECT to nobody":       {":method: CONNECT"},
		"protocol for GET":        append([]string{":protocol: websocket"}, get()...),
		"tunnel without path":     {":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: a"},
		"tunnel without host":     {":method: CONNECT", ":protocol: websocket", ":scheme: https", ":path: /bad"},
		"tunnel that ends":        {":method: CONNECT", ":protocol: websocket", ":scheme: https", ":authority: a", ":path: /bad"},
	}
	for name, lines := range tests {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.headers(1, true, lines...)
			if a := c.answer(1); a.reset == nil || *a.reset != http2.ErrCodeProtocol {
				t.Errorf("got %v, want RST_STREAM PROTOCOL_ERROR", a)
			}
			c.ok(3)
		})
	}
}

// TestRefused: well-formed requests that are not served.
func TestRefused(t *testing.T) {
	addr := listen(t, Options{Handler: http.HandlerFunc(show), MaxHeaderBytes: 16 << 10})
	many := func(n int) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("x-%d: y", i))
		}
		return lines
	}
	tests := []struct {
		name   string
		end    bool
		lines  []string
		status string
	}{
		{"128 lines", true, ask("GET", "/", many(128)...), "200"},
		{"129 lines", true, ask("GET", "/", many(129)...), "431"},
		{"lines too long together", true, ask("GET", "/", "a: "+strings.Repeat("a", 8<<10), "b: "+strings.Repeat("b", 8<<10)), "431"},
		{"path too long", true, ask("GET", "/"+strings.Repeat("a", 20<<10), "a: b"), "414"},
		{"unknown protocol", false, append([]string{":protocol: connect-udp"}, ask("CONNECT", "/")...), "501"},
		{"path that does not parse", true, ask("GET", "/%zz"), "400"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.headers(1, test.end, test.lines...)
			if a := c.answer(1); a.status != test.status {
				t.Errorf("got %v, want %s", a, test.status)
			}
			c.ok(3)
		})
	}
}

// TestReadings: what handlers see.
func TestReadings(t *testing.T) {
	addr := listen(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s|%s|%s|%s|%d|%v|", r.Method, r.Host, r.RequestURI, r.URL.Path, r.URL.RawQuery, r.ContentLength, r.Body == http.NoBody)
		for _, name := range []string{"Cookie", "Te", "X-A", "Host", "X-Odd_name"} {
			if v, ok := r.Header[name]; ok {
				fmt.Fprintf(w, "%s=%q ", name, v)
			}
		}
	})})
	tests := []struct {
		name  string
		end   bool
		lines []string
		want  string
	}{
		{"plain", true, ask("GET", "/a/b?c=d"), "GET|example.com|/a/b?c=d|/a/b|c=d|0|true|"},
		{"escaped", true, ask("GET", "/a%20b?%20"), "GET|example.com|/a%20b?%20|/a b|%20|0|true|"},
		{"two slashes", true, ask("GET", "//x/y"), "GET|example.com|//x/y|//x/y||0|true|"},
		{"host only", true, append(without(ask("GET", "/"), ":authority"), "host: other"), "GET|other|/|/||0|true|"},
		{"host equal", true, ask("GET", "/", "host: EXAMPLE.com"), "GET|example.com|/|/||0|true|"},
		{"cookies", true, ask("GET", "/", "cookie: a=1", "cookie: b=2"), `GET|example.com|/|/||0|true|Cookie=["a=1; b=2"] `},
		{"te", true, ask("GET", "/", "te: trailers"), `GET|example.com|/|/||0|true|Te=["trailers"] `},
		{"same name", true, ask("GET", "/", "x-a: 1", "x-a: 2"), `GET|example.com|/|/||0|true|X-A=["1" "2"] `},
		{"odd name", true, ask("GET", "/", "x-odd_name: 1"), `GET|example.com|/|/||0|true|X-Odd_name=["1"] `},
		{"star", true, ask("OPTIONS", "*"), "OPTIONS|example.com|*|*||0|true|"},
		{"CONNECT", true, []string{":method: CONNECT", ":authority: example.com:443"}, "CONNECT|example.com:443|example.com:443|||0|true|"},
		{"content of unknown length", false, ask("POST", "/"), "POST|example.com|/|/||-1|false|"},
		{"content of known length", false, ask("POST", "/", "content-length: 5"), "POST|example.com|/|/||5|false|"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.headers(1, test.end, test.lines...)
			if a := c.answer(1); a.body != test.want {
				t.Errorf("got  %s\nwant %s (%v)", a.body, test.want, a)
			}
		})
	}
}

// TestContentLength: a body that is not as long as declared resets its stream,
// and its handler does not take it for whole.
func TestContentLength(t *testing.T) {
	saw := make(chan error, 1)
	addr := listen(t, Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			_, err := io.ReadAll(r.Body)
			saw <- err
		}
	})})
	for _, test := range []struct {
		name     string
		body     []string // frames; the last ends the stream
		trailers bool
	}{
		{name: "more", body: []string{"123456"}},
		{name: "more, later", body: []string{"12345", "6", ""}},
		{name: "less", body: []string{"1234"}},
		{name: "none", body: []string{""}},
		{name: "less, with trailers", body: []string{"1234"}, trailers: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialRaw(t, addr)
			c.headers(1, false, ask("POST", "/", "content-length: 5")...)
			for i, part := range test.body {
				c.must(c.fr.WriteData(1, i == len(test.body)-1 && !test.trailers, []byte(part)))
			}
			if test.trailers {
				c.headers(1, true, "x-check: 1")
			}
			if a := c.answer(1); a.reset == nil || *a.reset != http2.ErrCodeProtocol {
				t.Errorf("got %v, want RST_STREAM PROTOCOL_ERROR", a)
			}
			if err := <-saw; err == nil {
				t.Error("the handler took the body for whole")
			}
			c.ok(3)
		})
	}
}
