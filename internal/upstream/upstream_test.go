package upstream_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer is a log to look into.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newRegistry(t testing.TB, o upstream.Options) (*upstream.Registry, *logBuffer) {
	l := new(logBuffer)
	o.Logger = slog.New(slog.NewTextHandler(l, nil))
	r := upstream.NewRegistry(o)
	t.Cleanup(r.Close)
	return r, l
}

func origin(t testing.TB, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }
}

func balanced(servers ...config.Server) *config.LoadBalancer {
	return &config.LoadBalancer{Servers: servers}
}

func srv(name, url string) config.Server { return config.Server{Name: name, URL: url, Weight: 1} }

// build makes one set; problems are fatal.
func build(t testing.TB, r *upstream.Registry, services map[string]config.Service, retry int) *upstream.Set {
	t.Helper()
	set, problems := r.Build(services, retry)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	t.Cleanup(set.Release)
	return set
}

func one(lb *config.LoadBalancer) map[string]config.Service {
	return map[string]config.Service{"s@file": {LoadBalancer: lb}}
}

// front serves a service of a set on a real socket, with a record.
func front(t testing.TB, set *upstream.Set, name string, rec *middleware.Record) *httptest.Server {
	t.Helper()
	service, ok := set.Service(name)
	if !ok {
		t.Fatal("no service", name)
	}
	h := service.Handler(nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rec != nil {
			*rec = middleware.Record{}
			r = r.WithContext(middleware.WithRecord(r.Context(), rec))
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func get(t testing.TB, url string, header ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return do(t, req)
}

func do(t testing.TB, req *http.Request) (*http.Response, string) {
	t.Helper()
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// deadURL is an address nobody answers at.
func deadURL(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestRoundRobinAndRecord(t *testing.T) {
	a, b := origin(t, named("a")), origin(t, named("b"))
	r, _ := newRegistry(t, upstream.Options{})
	var rec middleware.Record
	set := build(t, r, one(balanced(srv("a", a.URL), srv("b", b.URL), config.Server{Name: "none", URL: deadURL(t)})), 0)
	f := front(t, set, "s@file", &rec)
	var got string
	for range 6 {
		_, body := get(t, f.URL)
		got += body
	}
	if got != "ababab" {
		t.Error(got)
	}
	if rec.Service != "s@file" || rec.Server != b.URL || rec.Retries != 0 || rec.Upstream <= 0 {
		t.Errorf("%+v", rec)
	}
}

func TestForwarding(t *testing.T) {
	var seen *http.Request
	var query string
	o := origin(t, func(w http.ResponseWriter, r *http.Request) { seen, query = r, r.URL.RawQuery })
	r, _ := newRegistry(t, upstream.Options{})
	no := false
	set := build(t, r, one(balanced(srv("a", o.URL))), 0)
	service, _ := set.Service("s@file")
	ask := func(pass *bool) {
		req := httptest.NewRequest("GET", "http://front.example.com/a%2Fb?x=1;y=%zz", nil)
		req.Header = http.Header{
			"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Real-Ip": {"192.0.2.7"},
			"Connection": {"X-Forwarded-For, X-Private, Upgrade, HTTP2-Settings"}, "X-Private": {"1"}, "Keep-Alive": {"1"},
			"Upgrade": {"h2c"}, "Http2-Settings": {"AAMAAABkAARAAAAAAAIAAAAA"}, "Proxy-Authorization": {"x"},
		}
		w := httptest.NewRecorder()
		service.Handler(pass).ServeHTTP(w, req)
		if w.Code != 200 {
			t.Fatal(w.Code, w.Body)
		}
	}
	ask(nil)
	if seen.Host != "front.example.com" || seen.RequestURI != "/a%2Fb?x=1;y=%zz" || query != "x=1;y=%zz" {
		t.Error(seen.Host, seen.RequestURI)
	}
	want := http.Header{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Real-Ip": {"192.0.2.7"}}
	if fmt.Sprint(seen.Header) != fmt.Sprint(want) {
		t.Errorf("%v", seen.Header)
	}
	if ask(&no); "http://"+seen.Host != o.URL {
		t.Error(seen.Host)
	}
}

func TestNoServer(t *testing.T) {
	r, _ := newRegistry(t, upstream.Options{})
	set := build(t, r, one(balanced()), 1)
	res, _ := get(t, front(t, set, "s@file", nil).URL)
	if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get(upstream.ReasonHeader) != "no-server" {
		t.Error(res)
	}
}

func TestSticky(t *testing.T) {
	a, b := origin(t, named("a")), origin(t, named("b"))
	r, _ := newRegistry(t, upstream.Options{})
	lb := balanced(srv("a", a.URL), srv("b", b.URL))
	lb.Sticky = &config.Sticky{Secure: true, HTTPOnly: true, SameSite: "lax"}
	f := front(t, build(t, r, map[string]config.Service{"web@file": {LoadBalancer: lb}}, 0), "web@file", nil)
	res, first := get(t, f.URL)
	cookie := res.Header.Get("Set-Cookie")
	// The default name is 1.x's for the backend "web".
	if !strings.HasPrefix(cookie, "_6983a=") || strings.Contains(cookie, "127.0.0.1") ||
		!strings.HasSuffix(cookie, "; Path=/; HttpOnly; Secure; SameSite=Lax") {
		t.Error(cookie)
	}
	pair, _, _ := strings.Cut(cookie, ";")
	for range 5 {
		res, body := get(t, f.URL, "Cookie", pair)
		if body != first || res.Header.Get("Set-Cookie") != "" {
			t.Error(body, res.Header)
		}
	}
	// Another snapshot, where the server is gone: another server, another cookie.
	gone := balanced(srv("b", b.URL))
	gone.Sticky = lb.Sticky
	f = front(t, build(t, r, map[string]config.Service{"web@file": {LoadBalancer: gone}}, 0), "web@file", nil)
	if res, body := get(t, f.URL, "Cookie", pair); body != "b" || res.Header.Get("Set-Cookie") == "" {
		t.Error(body, res.Header)
	}
	if res, _ := get(t, f.URL, "Cookie", "_x=junk; "+strings.Split(pair, "=")[0]+"=http://10.0.0.1"); res.Header.Get("Set-Cookie") == "" {
		t.Error("a junk cookie pinned")
	}
}

func TestCookieNameIsAToken(t *testing.T) {
	o := origin(t, named("a"))
	r, _ := newRegistry(t, upstream.Options{})
	lb := balanced(srv("a", o.URL))
	lb.Sticky = &config.Sticky{CookieName: "my cookie;=é"}
	res, _ := get(t, front(t, build(t, r, one(lb), 0), "s@file", nil).URL)
	if c := res.Header.Get("Set-Cookie"); !strings.HasPrefix(c, "my_cookie___=") {
		t.Error(c)
	}
}

func TestMaxConn(t *testing.T) {
	enter, leave := make(chan bool), make(chan bool)
	o := origin(t, func(w http.ResponseWriter, r *http.Request) { enter <- true; <-leave })
	r, _ := newRegistry(t, upstream.Options{})
	lb := balanced(srv("a", o.URL))
	lb.MaxConn = 1
	f := front(t, build(t, r, one(lb), 0), "s@file", nil)
	done := make(chan int)
	go func() { res, _ := get(t, f.URL); done <- res.StatusCode }()
	<-enter
	res, _ := get(t, f.URL)
	if res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Error(res.Status)
	}
	leave <- true
	if got := <-done; got != 200 {
		t.Error(got)
	}
	go func() { <-enter; leave <- true }()
	if res, _ := get(t, f.URL); res.StatusCode != 200 {
		t.Error(res.Status)
	}
}

func TestWeighted(t *testing.T) {
	a, b := origin(t, named("a")), origin(t, named("b"))
	r, _ := newRegistry(t, upstream.Options{})
	services := map[string]config.Service{
		"a": {LoadBalancer: balanced(srv("", a.URL))},
		"b": {LoadBalancer: balanced(srv("", b.URL))},
		"e": {LoadBalancer: balanced()},
		"w": {Weighted: &config.Weighted{
			Sticky:   &config.Sticky{CookieName: "w"},
			Services: []config.WeightedService{{Name: "a", Weight: 2}, {Name: "b", Weight: 1}, {Name: "e", Weight: 5}},
		}},
	}
	var rec middleware.Record
	f := front(t, build(t, r, services, 0), "w", &rec)
	var all, pair string
	for range 6 {
		res, body := get(t, f.URL)
		all += body
		if body == "b" {
			pair, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
		}
	}
	if strings.Count(all, "a") != 4 || strings.Count(all, "b") != 2 || rec.Service == "w" {
		t.Error(all, rec)
	}
	for range 3 {
		if _, body := get(t, f.URL, "Cookie", pair); body != "b" {
			t.Error(body)
		}
	}
}

func TestProblems(t *testing.T) {
	o := origin(t, named("a"))
	r, _ := newRegistry(t, upstream.Options{})
	at := func(line int) config.Origin { return config.Origin{Source: "f.toml", Line: line} }
	lb := balanced(
		config.Server{Origin: at(1), Name: "a", URL: "ftp://x"},
		config.Server{Origin: at(2), Name: "b", URL: "http://"},
		config.Server{Origin: at(3), Name: "c", URL: "http://u:secret@x/"},
		config.Server{Origin: at(4), Name: "d", URL: "http://x?q"},
		config.Server{Origin: at(5), Name: "e", URL: "http://%zz"},
		config.Server{Origin: at(6), Name: "f", URL: "http://x", Weight: -1},
		config.Server{Origin: at(7), Name: "ok", URL: o.URL + "/base", Weight: 1},
		config.Server{Origin: at(8), Name: "ok", URL: o.URL, Weight: 1},
	)
	set, problems := r.Build(map[string]config.Service{
		"a":     {Origin: at(9), LoadBalancer: lb},
		"both":  {Origin: at(10), LoadBalancer: lb, Weighted: &config.Weighted{}},
		"roots": {Origin: at(11), LoadBalancer: &config.LoadBalancer{ServersTransport: config.ServersTransport{RootCAs: []string{"/nowhere"}}}},
		"same":  {Origin: at(12), LoadBalancer: &config.LoadBalancer{Sticky: &config.Sticky{SameSite: "x"}}},
		"well":  {Origin: at(13), LoadBalancer: &config.LoadBalancer{HealthCheck: &config.HealthCheck{Path: "x"}}},
		"x":     {Origin: at(14), Weighted: &config.Weighted{Services: []config.WeightedService{{Name: "y", Weight: 1}}}},
		"y":     {Origin: at(15), Weighted: &config.Weighted{Services: []config.WeightedService{{Name: "x", Weight: 1}, {Name: "a", Weight: 1}, {Name: "no", Weight: 1}}}},
	}, 0)
	t.Cleanup(set.Release)
	var got strings.Builder
	for _, p := range problems {
		fmt.Fprintln(&got, p)
	}
	want := `f.toml:1: service a: the URL of server "a" is "ftp://x"; the server is left out (http://host:port, https://host:port or h2c://host:port)
f.toml:2: service a: the URL of server "b" is "http:"; the server is left out (http://host:port, https://host:port or h2c://host:port)
f.toml:3: service a: the URL of server "c" is "http://u:xxxxx@x/"; the server is left out (http://host:port, https://host:port or h2c://host:port)
f.toml:4: service a: the URL of server "d" is "http://x?q"; the server is left out (http://host:port, https://host:port or h2c://host:port)
f.toml:5: service a: the URL of server "e" cannot be read; the server is left out (http://host:port, https://host:port or h2c://host:port)
f.toml:6: service a: the weight of server "f" is -1; the server is left out (0 (gets nothing) or more)
f.toml:7: service a: the path of server URL "` + o.URL + `/base" is not used (use the middleware addPrefix)
f.toml:8: service a: there are two servers named "ok"; the second is left out
f.toml:10: service both: a service has exactly one form; it is left out (one of loadBalancer, weighted)
f.toml:11: service roots: read root certificates: open /nowhere: no such file or directory; the service is left out
f.toml:12: service same: sameSite of the sticky cookie is "x"; the service is left out (lax, strict, none)
f.toml:13: service well: the health check's path is "x"; the service is left out (a path that starts with /)
f.toml:15: service y: service x leads back to this one; its share goes to the others
f.toml:15: service y: there is no service no; its share goes to the others
`
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	for _, name := range []string{"a", "x", "y"} {
		if _, ok := set.Service(name); !ok {
			t.Error(name, "is left out")
		}
		if _, body := get(t, front(t, set, name, nil).URL); body != "a" {
			t.Error(name, body)
		}
	}
}

func TestClientGoneIsNotTheServersFault(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	o := origin(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	r, log := newRegistry(t, upstream.Options{})
	service, _ := build(t, r, one(balanced(srv("a", o.URL), srv("b", o.URL+"/"))), 1).Service("s@file")
	ctx, cancel := context.WithCancel(context.Background())
	w := httptest.NewRecorder()
	go func() { <-entered; cancel() }()
	service.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", "/", nil).WithContext(ctx))
	close(release)
	if w.Code != 499 || strings.Contains(log.String(), "failed") {
		t.Error(w.Code, log)
	}
}

func FuzzServerURL(f *testing.F) {
	for _, s := range []string{"http://a", "h2c://[::1]:80/", "https://a:b", "//", "http://a:99999", "http://u:p@h"} {
		f.Add(s)
	}
	r := upstream.NewRegistry(upstream.Options{})
	f.Fuzz(func(t *testing.T, s string) {
		set, problems := r.Build(one(balanced(srv("a", s))), 0)
		defer set.Release()
		view := set.View()
		if len(view) != 1 || len(view[0].Servers)+len(problems) == 0 {
			t.Fatal(view, problems)
		}
	})
}
