package proxy_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/wire"
)

// chains are middlewares in YAML, outermost first, by the host of their router.
var chains = map[string][]string{
	"headers":  {`headers: {customRequestHeaders: {X-Bench: request, Authorization: ""}, customResponseHeaders: {X-Bench: response, Server: "", Date: "never"}}`},
	"strip":    {`stripPrefix: {prefixes: [/app, /a%20b]}`},
	"three":    {`headers: {frameDeny: true, customRequestHeaders: {X-Bench: request, Cookie: one=1}}`, `stripPrefix: {prefixes: [/app]}`, `headers: {customResponseHeaders: {X-Frame-Options: inner, X-Inner: "yes", Content-Type: ""}}`},
	"secure":   {`headers: {stsSeconds: 60, sslProxyHeaders: {X-Forwarded-Proto: https, X-Tls: "on"}, sslRedirect: true}`},
	"hosts":    {`headers: {allowedHosts: [hosts, other], hostsProxyHeaders: [X-Real-Host], customResponseHeaders: {X-A: b}}`},
	"paths":    {`addPrefix: {prefix: /pre%20fix}`, `replacePathRegex: {regex: "^/pre%20fix/x/(.*)", replacement: "/y/$1"}`, `stripPrefixRegex: {regex: ["^/[a-z]/"]}`},
	"replace":  {`replacePath: {path: /one}`, `replacePath: {path: /two/}`},
	"allow":    {`headers: {customResponseHeaders: {X-Outer: "1"}}`, `ipAllowList: {sourceRange: [127.0.0.0/8]}`},
	"deny":     {`headers: {customResponseHeaders: {X-Outer: "1"}}`, `stripPrefix: {prefixes: [/app]}`, `ipAllowList: {sourceRange: [10.0.0.0/8]}`},
	"redirect": {`headers: {customResponseHeaders: {X-Outer: "1"}}`, `redirectScheme: {scheme: https}`},
	"stay":     {`redirectScheme: {scheme: http}`, `redirectEntryPoint: {entryPoint: web}`},
	"auth":     {`headers: {customRequestHeaders: {X-User: nobody}}`, `basicAuth: {users: ["u:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="], headerField: X-User, removeHeader: true}`},
	"counted":  {`rateLimit: {average: 1000000, burst: 1000}`, `inFlightReq: {amount: 1, sourceCriterion: {requestHost: true}}`, `rateLimit: {average: 0}`},
	"forwards": {`headers: {customRequestHeaders: {X-Forwarded-Proto: https}}`}, // has no second form
	"lost":     {`headers: {customResponseHeaders: {X-Outer: "1", Retry-After: "9", Content-Type: ""}}`, `stripPrefix: {prefixes: [/app]}`},
}

// forms serves the same routes twice: handlers alone, and the second form of
// middlewares before them.
type forms struct {
	handlers, stages string       // addresses
	staged           atomic.Int64 // requests that needed no handler
	logged           chan middleware.Entry

	mu     sync.Mutex
	asked  []byte // what the origin was last asked
	answer string
}

func newForms(t testing.TB, trusted bool) *forms {
	f := &forms{logged: make(chan middleware.Entry, 16)}
	var text strings.Builder
	text.WriteString("http:\n  routers:\n")
	for _, host := range slices.Sorted(maps.Keys(chains)) {
		service, names := "origin", []string{}
		if host == "lost" {
			service = "nobody"
		}
		for i := range chains[host] {
			names = append(names, fmt.Sprintf("%s%d", host, i))
		}
		fmt.Fprintf(&text, "    %s: {rule: 'Host(`%s`)', service: %s, middlewares: [%s]}\n", host, host, service, strings.Join(names, ", "))
	}
	text.WriteString("  middlewares:\n")
	for host, chain := range chains {
		for i, m := range chain {
			fmt.Fprintf(&text, "    %s%d: {%s}\n", host, i, m)
		}
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	fmt.Fprintf(&text, "  services:\n    origin: {loadBalancer: {servers: [{url: 'http://%s'}]}}\n    nobody: {loadBalancer: {servers: [{url: 'http://%s'}]}}\n", f.origin(t), gone.Addr())
	p := proxy.New(nil)
	p.Swap(compileYAML(t, text.String()))
	o := entrypoint.Options{
		Name: "web", Address: "127.0.0.1:0", Handler: p.Handler("web"), ForwardedInsecure: trusted, H2C: true,
		Observe: func(e *middleware.Entry) {
			kept := *e
			kept.Method, kept.URI, kept.Proto, kept.Host = strings.Clone(e.Method), strings.Clone(e.URI), strings.Clone(e.Proto), strings.Clone(e.Host)
			kept.Agent, kept.Referer, kept.Remote, kept.User = "", "", "", strings.Clone(e.User)
			kept.Start, kept.Took, kept.Upstream = time.Time{}, 0, 0
			f.logged <- kept
		},
	}
	f.handlers = serveAt(t, o)
	plain := p.Plain("web")
	o.Plain = func(x *wire.Exchange) bool {
		served := plain(x)
		if served {
			f.staged.Add(1)
		}
		return served
	}
	f.stages = serveAt(t, o)
	return f
}

func compileYAML(t testing.TB, text string) *proxy.Snapshot {
	n, problems := config.ParseYAML("r.yaml", []byte(text))
	if problems != nil {
		t.Fatal(problems)
	}
	r, problems := config.ParseRouting(n, "file")
	if problems != nil {
		t.Fatal(problems)
	}
	s, problems := proxy.Compile(r, newRegistry(t), proxy.Options{
		EntryPoints: []proxy.EntryPoint{{Name: "web", Address: ":80"}}, Builders: middleware.Builders(),
	})
	if problems != nil {
		t.Fatal(problems)
	}
	return s
}

// serveAt serves an entry point until the test ends.
func serveAt(t testing.TB, o entrypoint.Options) (address string) {
	s, err := entrypoint.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx) //nolint:errcheck // it is cut off
		<-served
	})
	return s.Addr().String()
}

// origin keeps the head it was last asked, and answers each with f.answer.
func (f *forms) origin(t testing.TB) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	t.Cleanup(func() { l.Close(); open.Wait() })
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for n := 0; ; {
					m, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
						f.mu.Lock()
						f.asked = bytes.Clone(buf[:n])
						answer := f.answer
						f.mu.Unlock()
						io.WriteString(c, answer)
						if n = 0; strings.HasPrefix(answer, "HTTP/1.1 101") {
							return
						}
					}
				}
			})
		}
	})
	return l.Addr().String()
}

// exchange is what the origin saw, what the client got, and what is logged.
type exchange struct {
	Asked, Answered []string
	Body            string
	Logged          middleware.Entry
}

// ask sends a request to one of the two and puts lines in an order.
func (f *forms) ask(t testing.TB, address, request string) (x exchange) {
	f.mu.Lock()
	f.asked = nil
	f.mu.Unlock()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, request)
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	f.mu.Lock()
	x.Asked, _ = parts(f.asked)
	f.mu.Unlock()
	x.Answered, x.Body = parts(got)
	x.Logged = <-f.logged
	return x
}

// parts gives the lines of a head, names in lower case, in an order.
func parts(message []byte) (lines []string, body string) {
	head, body, _ := strings.Cut(string(message), "\r\n\r\n")
	lines = strings.Split(head, "\r\n")
	for i, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		if name = strings.ToLower(name); name == "date" && strings.HasSuffix(value, "GMT") {
			value = "now"
		}
		lines[i+1] = name + ":" + value
	}
	slices.Sort(lines[1:])
	if strings.HasPrefix(head, "HTTP/1.1 1") { // the final answer follows
		more, body := parts([]byte(body))
		return append(lines, more...), body
	}
	return lines, body
}

const formsAnswer = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n" +
	"X-Bench: origin\r\nx-frame-options: ALLOW\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 5\r\n\r\nhello"

// TestBothFormsOfMiddlewaresAreOne: whether a request goes through the handlers
// of its route or through stages, server, client and log see the same.
func TestBothFormsOfMiddlewaresAreOne(t *testing.T) {
	const get = " HTTP/1.1\r\nConnection: close\r\nHost: "
	authorized := "Authorization: Basic dTpzZWNyZXQ=\r\n"
	cases := []struct {
		request string
		answer  string // "": formsAnswer
		staged  bool   // no handler is needed
	}{
		{request: "GET /" + get + "headers\r\nx-bench: client\r\nX-Bench: twice\r\nAuthorization: me\r\nAccept: */*\r\n\r\n", staged: true},
		{request: "GET /?a=b" + get + "headers\r\nx_bench: client\r\nX-Forwarded-Proto: https\r\n\r\n", staged: true},
		{request: "HEAD /" + get + "headers\r\n\r\n", answer: strings.TrimSuffix(formsAnswer, "hello"), staged: true},
		{request: "GET / HTTP/1.0\r\nHost: headers\r\n\r\n", staged: true},
		{request: "GET /" + get + "headers\r\n\r\n", answer: "HTTP/1.1 304 Not Modified\r\nDate: x\r\nX-Bench: o\r\n\r\n", staged: true},
		{request: "GET /" + get + "headers\r\n\r\n", answer: "HTTP/1.1 103 Early Hints\r\nX-Bench: early\r\n\r\n" + formsAnswer, staged: true},
		{request: "GET / HTTP/1.1\r\nHost: headers\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", staged: true,
			answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX-Bench: o\r\nServer: s\r\n\r\nhello"},
		{request: "GET /app/x?y" + get + "strip\r\nX-Forwarded-Prefix: /outer\r\n\r\n", staged: true},
		{request: "GET /app" + get + "strip\r\n\r\n", staged: true},
		{request: "GET /apple//pie/%41" + get + "strip\r\n\r\n", staged: true},
		{request: "GET /a%20b/c%20d" + get + "strip\r\n\r\n", staged: true},
		{request: "GET /app..%2f" + get + "strip\r\n\r\n"}, // refused
		{request: "GET /app.." + get + "strip\r\n\r\n"},    // becomes ..
		{request: "GET /other" + get + "strip\r\n\r\n", staged: true},
		{request: "OPTIONS *" + get + "strip\r\n\r\n", staged: true},
		{request: "GET /app/x" + get + "three\r\nCookie: two=2\r\nCookie: three=3\r\n\r\n", staged: true},
		{request: "GET /app/x" + get + "three\r\nConnection: Cookie\r\nCookie: two=2\r\n\r\n", staged: true},
		{request: "GET /x" + get + "secure\r\n\r\n"},
		{request: "GET /x" + get + "secure\r\nX-Forwarded-Proto: https\r\n\r\n"},
		{request: "GET /x" + get + "secure\r\nX-TLS: on\r\n\r\n", staged: true},
		{request: "GET /x" + get + "hosts\r\n\r\n", staged: true},
		{request: "GET /x" + get + "hosts\r\nX-Real-Host: other:80\r\n\r\n", staged: true},
		{request: "GET /x" + get + "hosts\r\nX-Real-Host: strange\r\n\r\n"},
		{request: "GET /x/y/z" + get + "paths\r\n\r\n", staged: true},
		{request: "GET /a/b" + get + "paths\r\n\r\n", staged: true},
		{request: "GET /x/%2e" + get + "paths\r\n\r\n", staged: true},
		{request: "GET /old?q" + get + "replace\r\nX-Replaced-Path: /said\r\n\r\n", staged: true},
		{request: "GET /x" + get + "allow\r\n\r\n", staged: true},
		{request: "GET /app/x" + get + "deny\r\nX-Outer: client\r\n\r\n"},
		{request: "GET /x" + get + "redirect\r\n\r\n"},
		{request: "POST /x" + get + "redirect\r\nContent-Length: 0\r\n\r\n"},
		{request: "GET /x" + get + "stay\r\n\r\n", staged: true},
		{request: "GET /x" + get + "auth\r\n\r\n"},
		{request: "GET /x" + get + "auth\r\n" + authorized + "\r\n", staged: true}, // the handlers were asked first, and remember
		{request: "GET /x" + get + "auth\r\nAuthorization: Basic dTp3cm9uZw==\r\n\r\n"},
		{request: "GET /x" + get + "counted\r\n\r\n", staged: true},
		{request: "GET /y" + get + "Counted\r\n\r\n", staged: true},
		{request: "GET /x" + get + "forwards\r\n\r\n"},
		{request: "GET /app/x" + get + "lost\r\n\r\n", staged: true},
		{request: "HEAD /app/x" + get + "lost\r\n\r\n", staged: true},
	}
	for _, trusted := range []bool{false, true} {
		f := newForms(t, trusted)
		for _, c := range cases {
			f.answer = cmp.Or(c.answer, formsAnswer)
			want := f.ask(t, f.handlers, c.request)
			before := f.staged.Load()
			got := f.ask(t, f.stages, c.request)
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%q, trusted %v: handlers (-) and stages (+) differ:\n%s", c.request, trusted, diff)
			}
			staged := f.staged.Load() > before
			if c.staged != staged && !strings.Contains(c.request, "Forwarded-Proto: https") {
				t.Errorf("%q, trusted %v: without handlers: %v, want %v", c.request, trusted, staged, c.staged)
			}
		}
	}
}

// TestBothFormsOverHTTP2: the same for clients of HTTP/2.
func TestBothFormsOverHTTP2(t *testing.T) {
	f := newForms(t, false)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	type seen struct {
		Status  int
		Header  http.Header
		Trailer http.Header
		Body    string
		Asked   []string
		Logged  middleware.Entry
	}
	ask := func(address, host, path string) (s seen) {
		r, _ := http.NewRequest("GET", "http://"+address+path, nil)
		r.Host = host
		r.Header["Cookie"] = []string{"two=2"}
		r.Header.Set("Authorization", "Basic dTpzZWNyZXQ=")
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		s = seen{Status: res.StatusCode, Header: res.Header, Trailer: res.Trailer, Body: string(body), Logged: <-f.logged}
		if s.Header["Date"][0] != "never" {
			s.Header["Date"] = nil
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		s.Asked, _ = parts(f.asked)
		return s
	}
	chunked := strings.Replace(formsAnswer, "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", 1)
	for _, f.answer = range []string{formsAnswer, chunked} {
		for _, host := range []string{"headers", "three", "strip", "hosts", "allow", "deny", "redirect", "auth", "lost"} {
			want := ask(f.handlers, host, "/app/x?y")
			before := f.staged.Load()
			got := ask(f.stages, host, "/app/x?y")
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s: handlers (-) and stages (+) differ:\n%s", host, diff)
			}
			if staged := f.staged.Load() > before; staged != (host != "deny" && host != "redirect") {
				t.Errorf("%s: without handlers: %v", host, staged)
			}
		}
	}
}

// FuzzForms tries requests and answers that nobody has thought of.
func FuzzForms(f *testing.F) {
	hosts := slices.Sorted(maps.Keys(chains))
	hosts = slices.DeleteFunc(hosts, func(host string) bool { return host == "lost" }) // its server is up or down by turns
	for i := range hosts {
		f.Add(uint8(i), "GET", "/app/x?y=z", "X-Bench: client\r\nCookie: a\r\n", "Server: x\r\nX-Outer: o\r\n", i%2 == 0)
		f.Add(uint8(i), "HEAD", "/a/%2e%2E/a%20b//c", "Connection: X-Bench, te\r\nX-Forwarded-Prefix: /p\r\nTE: trailers\r\n", "Date: x\r\nConnection: Server\r\n", i%2 == 1)
	}
	both := map[bool]*forms{false: newForms(f, false), true: newForms(f, true)}
	rules := http1.DefaultRules()
	f.Fuzz(func(t *testing.T, host uint8, method, target, fields, answered string, trusted bool) {
		request := method + " " + target + " HTTP/1.1\r\nConnection: close\r\nHost: " + hosts[int(host)%len(hosts)] + "\r\n" + fields + "\r\n"
		var req http1.Request
		req.Reset()
		if n, _ := req.Parse([]byte(request), &rules); n != len(request) || req.Framing() != http1.NoBody {
			t.Skip("no request without a body")
		}
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + answered + "\r\n"
		var res http1.Response
		res.Reset()
		if n, _ := res.Parse([]byte(answer), len(answer), http1.Asked{}); n != len(answer) || res.ContentLength() != 0 {
			t.Skip("no answer without a body")
		}
		forms := both[trusted]
		forms.answer = answer
		want := forms.ask(t, forms.handlers, request)
		if diff := gocmp.Diff(want, forms.ask(t, forms.stages, request)); diff != "" {
			t.Errorf("%q, trusted %v: handlers (-) and stages (+) differ:\n%s", request, trusted, diff)
		}
	})
}

// BenchmarkChain is a whole request through headers, stripPrefix and an access
// log, in either form, and without any, on one connection.
func BenchmarkChain(b *testing.B) {
	text := "http:\n  routers:\n    none: {rule: 'Host(`none`)', service: s}\n    three: {rule: 'Host(`three`)', service: s, middlewares: [h, p]}\n" +
		"  middlewares:\n    h: {headers: {customRequestHeaders: {X-Bench: request}, customResponseHeaders: {X-Bench: response}}}\n    p: {stripPrefix: {prefixes: [/app]}}\n" +
		"  services:\n    s: {loadBalancer: {servers: [{url: 'http://" + benchOrigin(b) + "'}]}}\n"
	p := proxy.New(nil)
	p.Swap(compileYAML(b, text))
	log, err := middleware.OpenAccessLog(middleware.AccessLogOptions{FilePath: filepath.Join(b.TempDir(), "access.log")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { log.Close(context.Background()) })
	for _, way := range []string{"none", "three", "three by handlers"} {
		b.Run(way, func(b *testing.B) {
			o := entrypoint.Options{Name: "web", Address: "127.0.0.1:0", Handler: p.Handler("web")}
			host, handlers := strings.CutSuffix(way, " by handlers")
			if !handlers {
				o.Plain = p.Plain("web")
			}
			if host != "none" {
				o.Observe = log.Note
			}
			address := serveAt(b, o)
			request := []byte("GET /app/x HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
			buf := make([]byte, 64<<10)
			var c net.Conn
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				if n%9_000 == 0 { // a connection lives for 10,000 requests
					if c != nil {
						c.Close()
					}
					if c, err = net.Dial("tcp", address); err != nil {
						b.Fatal(err)
					}
				}
				c.Write(request)
				if n, err := c.Read(buf); err != nil || !bytes.HasSuffix(buf[:n], []byte("hello")) {
					b.Fatalf("%q %v", buf[:n], err)
				}
			}
			c.Close()
		})
	}
}

// benchOrigin answers every head and allocates nothing.
func benchOrigin(b *testing.B) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	answer := []byte(formsAnswer)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4<<10)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					c.Write(answer)
				}
			}()
		}
	}()
	return l.Addr().String()
}
