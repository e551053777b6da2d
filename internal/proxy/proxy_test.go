package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"weak"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
)

func routing(services map[string]config.Service, rules ...string) config.Routing {
	r := config.Routing{Routers: map[string]config.Router{}, Services: services, Middlewares: map[string]config.Middleware{"panic@f": {Kind: "panic"}}}
	for i := 0; i+1 < len(rules); i += 2 {
		r.Routers[fmt.Sprintf("r%d@f", i/2)] = config.Router{Rule: rules[i], Service: rules[i+1]}
	}
	return r
}

func serve(t testing.TB, p *proxy.Proxy) *httptest.Server {
	s := httptest.NewUnstartedServer(p.Handler("http"))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func client(t testing.TB) *http.Client {
	tr := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

func TestBeforeAndAfterTheFirstSnapshot(t *testing.T) {
	p := proxy.New(nil)
	w := ask(p.Handler("http"), "http://a/")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || w.Header().Get("X-Gatehouse-Reason") != "not-ready" || p.Ready() || p.Snapshot() != nil {
		t.Error(w.Code, w.Header())
	}
	s, _ := compile(t, config.Routing{}, options())
	p.Swap(s)
	w = ask(p.Handler("http"), "http://a/")
	if w.Code != 404 || w.Body.String() != "404 Not Found\n" || !p.Ready() || p.Snapshot() != s {
		t.Error(w.Code, w.Body)
	}
}

func TestRecord(t *testing.T) {
	url := originNamed(t, "x")
	s, _ := compile(t, routing(map[string]config.Service{"s@f": service(url)}, "Host(`a`)", "s@f"), options())
	p := proxy.New(nil)
	p.Swap(s)
	var rec middleware.Record
	r := httptest.NewRequest("GET", "http://a/", nil)
	p.Handler("http").ServeHTTP(httptest.NewRecorder(), r.WithContext(middleware.WithRecord(r.Context(), &rec)))
	if rec.Router != "r0@f" || rec.Service != "s@f" || rec.Server != url || rec.Upstream <= 0 {
		t.Errorf("%+v", rec)
	}
}

func TestPanicCostsOneRequest(t *testing.T) {
	r := routing(map[string]config.Service{"s@f": service(originNamed(t, "x"))}, "Path(`/ok`)", "s@f")
	r.Routers["p@f"] = config.Router{Rule: "Path(`/panic`)", Service: "s@f", Middlewares: []string{"panic@f"}}
	var log bytes.Buffer
	s, _ := compile(t, r, options())
	p := proxy.New(slog.New(slog.NewTextHandler(&log, nil)))
	p.Swap(s)
	f, c := serve(t, p), client(t)
	for range 3 {
		res, err := c.Get(f.URL + "/panic")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 500 || string(body) != "500 Internal Server Error\n" {
			t.Error(res.Status, string(body))
		}
		// An answer that had begun must not look whole.
		if res, err = c.Get(f.URL + "/panic?late"); err == nil {
			_, err = io.ReadAll(res.Body)
			res.Body.Close()
		}
		if err == nil {
			t.Error("a cut answer looked whole")
		}
		if res, err = c.Get(f.URL + "/ok"); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		res.Body.Close()
	}
	f.Close()
	if n := strings.Count(log.String(), "oh dear"); n != 6 || !strings.Contains(log.String(), "compile_test.go") {
		t.Error(log.String())
	}
}

// TestReloadUnderLoad swaps a thousand times while requests run: none is lost,
// and each is answered by a snapshot that was current while it ran.
func TestReloadUnderLoad(t *testing.T) {
	const swaps, workers = 1000, 8
	services := map[string]config.Service{"s@f": service(originNamed(t, "a"), originNamed(t, "b"))}
	reg := newRegistry(t)
	p := proxy.New(nil)
	swap := func(i int) {
		s, problems := proxy.Compile(routing(services, "Host(`a`)", "s@f", fmt.Sprintf("Path(`/%d`)", i), "s@f"), reg, options())
		if len(problems) > 0 {
			t.Error(problems)
		}
		p.Swap(s)
	}
	swap(0)
	f, c := serve(t, p), client(t)
	done := make(chan bool)
	var count atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				req, _ := http.NewRequest("POST", f.URL+"/x", strings.NewReader("body"))
				req.Host = "a"
				res, err := c.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != 200 || len(body) != 1 {
					t.Error(res.Status, string(body), err)
					return
				}
				count.Add(1)
			}
		})
	}
	for i := range swaps {
		swap(i + 1)
		// Keep the load up: at least one request ends for each swap.
		for end := time.Now().Add(10 * time.Second); count.Load() < int64(i) && !t.Failed(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatal("requests hang")
			}
		}
	}
	close(done)
	wg.Wait()
	t.Logf("%d requests over %d swaps", count.Load(), swaps)
	// All old state is gone: what is left is one set's.
	if w := ask(p.Handler("http"), fmt.Sprintf("http://b/%d", swaps)); w.Code != 200 {
		t.Error("the last snapshot is not served", w.Code)
	}
	for _, s := range p.Snapshot().View().Services[0].Servers {
		if s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
	}
}

// TestStateSurvivesSwaps: balancer position, stickiness and health go on.
func TestStateSurvivesSwaps(t *testing.T) {
	var sick atomic.Bool
	var probes atomic.Int64
	a := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			probes.Add(1)
			if sick.Load() {
				w.WriteHeader(500)
			}
			return
		}
		io.WriteString(w, "a")
	}))
	defer a.Close()
	lb := &config.LoadBalancer{
		Servers:     []config.Server{{Name: "a", URL: a.URL, Weight: 1}, {Name: "b", URL: originNamed(t, "b"), Weight: 1}, {Name: "c", URL: originNamed(t, "c"), Weight: 1}},
		HealthCheck: &config.HealthCheck{Path: "/health", Interval: time.Hour},
	}
	pinned := *lb
	pinned.Sticky, pinned.HealthCheck = &config.Sticky{CookieName: "pin"}, nil
	r := routing(map[string]config.Service{"s@f": {LoadBalancer: lb}, "k@f": {LoadBalancer: &pinned}}, "Host(`s`)", "s@f", "Host(`k`)", "k@f")
	reg := newRegistry(t)
	p := proxy.New(nil)
	swap := func() {
		s, problems := proxy.Compile(r, reg, options())
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		p.Swap(s)
	}
	h := p.Handler("http")
	var order string
	for range 9 {
		swap()
		order += ask(h, "http://s/").Body.String()
	}
	if order != "abcabcabc" {
		t.Error(order)
	}
	w := ask(h, "http://k/")
	cookie, first := w.Result().Cookies()[0], w.Body.String()
	for range 5 {
		swap()
		req := httptest.NewRequest("GET", "http://k/", nil)
		req.AddCookie(cookie)
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, req); w.Body.String() != first {
			t.Error(w.Body)
		}
	}
	sick.Store(true)
	up := func() bool { return p.Snapshot().View().Services[1].Servers[0].Up }
	checked := *lb
	checked.HealthCheck = &config.HealthCheck{Path: "/health", Interval: 2 * time.Millisecond} // a change restarts the probe
	r.Services["s@f"] = config.Service{LoadBalancer: &checked}
	swap()
	for end := time.Now().Add(5 * time.Second); up(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never down")
		}
	}
	for range 6 {
		swap()
		if up() {
			t.Error("a reload made a sick server well")
		}
		if got := ask(h, "http://s/").Body.String(); got == "a" {
			t.Error("a sick server was asked after a reload")
		}
	}
}

// TestLongRequestOutlivesItsSnapshot: a tunnel goes on over swaps, and does
// not keep the replaced snapshot in memory.
func TestLongRequestOutlivesItsSnapshot(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		c, err := echo.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			io.Copy(c, br)
		}
	}()
	reg := newRegistry(t)
	p := proxy.New(nil)
	swap := func() weak.Pointer[proxy.Snapshot] {
		s, _ := proxy.Compile(routing(map[string]config.Service{"s@f": service("http://" + echo.Addr().String())}, "Path(`/ws`)", "s@f"), reg, options())
		p.Swap(s)
		return weak.Make(s)
	}
	old := swap()
	f := serve(t, p)
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	br := bufio.NewReader(c)
	if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	talk := func() {
		io.WriteString(c, "hello\n")
		if got, err := br.ReadString('\n'); got != "hello\n" {
			t.Fatal(got, err)
		}
	}
	talk()
	swap()
	talk()
	for end := time.Now().Add(5 * time.Second); old.Value() != nil; {
		if runtime.GC(); time.Now().After(end) {
			t.Fatal("the replaced snapshot stays in memory")
		}
	}
	talk()
	if n := p.Snapshot().View().Services[0].InFlight; n != 1 {
		t.Error("in flight over the swap:", n)
	}
}

func TestClientGoneCancelsTheServer(t *testing.T) {
	gone := make(chan bool)
	entered := make(chan bool)
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
		close(gone)
	}))
	defer o.Close()
	s, _ := compile(t, routing(map[string]config.Service{"s@f": service(o.URL)}, "Path(`/`)", "s@f"), options())
	p := proxy.New(nil)
	p.Swap(s)
	f := serve(t, p)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-entered; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "GET", f.URL, nil)
	if _, err := client(t).Do(req); err == nil {
		t.Error("answered")
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the server was not told")
	}
}

// BenchmarkRequest is a whole request: client and origin on sockets, both of
// net/http, so that most of it is theirs.
func BenchmarkRequest(b *testing.B) {
	o := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1024)) }))
	defer o.Close()
	s, _ := compile(b, routing(map[string]config.Service{"s@f": service(o.URL)}, "Host(`a.example.com`) && PathPrefix(`/x`)", "s@f"), options())
	p := proxy.New(nil)
	p.Swap(s)
	h := p.Handler("http")
	b.ReportAllocs()
	for b.Loop() {
		w := discard{http.Header{}}
		r := httptest.NewRequest("GET", "http://a.example.com/x/y", nil)
		ctx, cancel := context.WithCancel(r.Context()) // as a server's request has
		h.ServeHTTP(w, r.WithContext(ctx))
		cancel()
	}
}

// BenchmarkRefuse is what the proxy itself costs: no server is asked.
func BenchmarkRefuse(b *testing.B) {
	s, _ := compile(b, routing(map[string]config.Service{"s@f": service()}, "Host(`a.example.com`) && Method(`POST`)", "s@f"), options())
	p := proxy.New(nil)
	p.Swap(s)
	h, r, w := p.Handler("http"), httptest.NewRequest("GET", "http://a.example.com/x/y", nil), discard{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(w, r)
	}
}

// BenchmarkCompile is the first compile. The time of all cores is told beside
// that of the clock: the machine may be shared.
func BenchmarkCompile(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		r := manyRoutes(n)
		b.Run(fmt.Sprintf("routers=%d", n), func(b *testing.B) {
			reg := upstream.NewRegistry(upstream.Options{})
			defer reg.Close()
			b.ReportAllocs()
			before := cpu()
			for b.Loop() {
				s, _ := proxy.Compile(r, reg, options())
				s.Discard()
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// BenchmarkKept is what a snapshot keeps, for each route with two servers.
func BenchmarkKept(b *testing.B) {
	const n = 10_000
	r := manyRoutes(n)
	reg := upstream.NewRegistry(upstream.Options{})
	defer reg.Close()
	var kept uint64
	for b.Loop() {
		before := heap()
		s, _ := proxy.Compile(r, reg, options())
		kept = heap() - before
		s.Discard()
	}
	b.ReportMetric(float64(kept)/n, "B/route")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkRecompile is a compile after the servers of one service changed.
func BenchmarkRecompile(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		r := manyRoutes(n)
		services := [2]map[string]config.Service{maps.Clone(r.Services), maps.Clone(r.Services)}
		services[1]["s7@f"] = service("http://10.2.0.1:80")
		b.Run(fmt.Sprintf("routers=%d", n), func(b *testing.B) {
			reg := upstream.NewRegistry(upstream.Options{})
			defer reg.Close()
			compiler := proxy.NewCompiler(reg, options())
			last, _ := compiler.Compile(r, nil)
			b.ReportAllocs()
			before := cpu()
			for i := 0; b.Loop(); i++ {
				r.Services = services[i&1]
				s, _ := compiler.Compile(r, nil)
				last.Discard()
				last = s
			}
			b.ReportMetric(float64((cpu()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			last.Discard()
		})
	}
}

func manyRoutes(n int) config.Routing {
	r := config.Routing{Routers: map[string]config.Router{}, Services: map[string]config.Service{}}
	for i := range n {
		r.Routers[fmt.Sprintf("r%d@f", i)] = config.Router{Rule: fmt.Sprintf("Host(`h%d.example.com`) && PathPrefix(`/x`)", i), Service: fmt.Sprintf("s%d@f", i), EntryPoints: []string{"http"}}
		r.Services[fmt.Sprintf("s%d@f", i)] = service(fmt.Sprintf("http://10.0.%d.%d:80", i/250, i%250), fmt.Sprintf("http://10.1.%d.%d:80", i/250, i%250))
	}
	return r
}

// cpu is the time the process has had.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
