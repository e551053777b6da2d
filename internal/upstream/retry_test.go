package upstream_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/upstream"
)

// raw is an origin on a bare socket: it reads a request's head, then does as told.
func raw(t testing.TB, serve func(c net.Conn, head *http.Request)) (url string, asked *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	asked = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if head, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					asked.Add(1)
					serve(c, head)
				}
			}()
		}
	}()
	return "http://" + l.Addr().String(), asked
}

func TestRetryOnDeadServer(t *testing.T) {
	b := origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	r, log := newRegistry(t, upstream.Options{})
	var rec middleware.Record
	set := build(t, r, one(balanced(srv("dead", deadURL(t)), srv("b", b.URL))), 1)
	f := front(t, set, "s@file", &rec)
	for range 4 {
		// Nothing was sent, so that even a POST with a body goes on, whole.
		req, _ := http.NewRequest("POST", f.URL, strings.NewReader("all of it"))
		if res, body := do(t, req); res.StatusCode != 200 || body != "all of it" {
			t.Error(res.Status, body)
		}
	}
	if rec.Server != b.URL {
		t.Errorf("%+v", rec)
	}
	if strings.Contains(log.String(), "failed") {
		t.Error("a failure nobody saw is logged:", log)
	}
}

func TestNoRetryWhereNoneIsAllowed(t *testing.T) {
	b := origin(t, named("b"))
	r, log := newRegistry(t, upstream.Options{})
	f := front(t, build(t, r, one(balanced(srv("dead", deadURL(t)), srv("b", b.URL))), 0), "s@file", nil)
	res, _ := get(t, f.URL)
	if res.StatusCode != 502 || !strings.Contains(log.String(), "connection refused") {
		t.Error(res.Status, log)
	}
}

func TestRetryAfterBrokenConnection(t *testing.T) {
	cut, asked := raw(t, func(net.Conn, *http.Request) {})
	b := origin(t, named("b"))
	r, _ := newRegistry(t, upstream.Options{})
	var rec middleware.Record
	set := build(t, r, one(balanced(srv("cut", cut), srv("b", b.URL))), 1)
	f := front(t, set, "s@file", &rec)
	// The request was sent: only what may be repeated is.
	if _, body := get(t, f.URL); body != "b" || rec.Retries != 1 {
		t.Error(body, rec)
	}
	get(t, f.URL) // b's turn
	before := asked.Load()
	codes := map[int]int{}
	for range 4 {
		req, _ := http.NewRequest("POST", f.URL, nil)
		res, _ := do(t, req)
		codes[res.StatusCode]++
	}
	if codes[502] == 0 || codes[200] == 0 || asked.Load()-before != int64(codes[502]) {
		t.Error(codes, asked.Load()-before)
	}
	before = asked.Load()
	for range 4 {
		req, _ := http.NewRequest("PUT", f.URL, io.MultiReader(strings.NewReader("a body that was read")))
		res, _ := do(t, req)
		codes[1000+res.StatusCode]++
	}
	if codes[1502] == 0 || asked.Load()-before != int64(codes[1502]) {
		t.Error("a body that was partly sent was sent again", codes)
	}
}

func TestReplayableBody(t *testing.T) {
	cut, _ := raw(t, func(c net.Conn, r *http.Request) { io.Copy(io.Discard, r.Body) })
	b := origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	r, _ := newRegistry(t, upstream.Options{})
	service, _ := build(t, r, one(balanced(srv("cut", cut), srv("b", b.URL))), 1).Service("s@file")
	for range 2 {
		req := httptest.NewRequest("PUT", "/", strings.NewReader("kept"))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("kept")), nil }
		w := httptest.NewRecorder()
		service.Handler(nil).ServeHTTP(w, req)
		if w.Code != 200 || w.Body.String() != "kept" {
			t.Error(w.Code, w.Body)
		}
	}
}

func TestRetryGoesOnThroughSeveral(t *testing.T) {
	b := origin(t, named("b"))
	r, _ := newRegistry(t, upstream.Options{})
	lb := balanced(srv("1", deadURL(t)), srv("2", deadURL(t)), srv("3", deadURL(t)), srv("b", b.URL))
	var rec middleware.Record
	f := front(t, build(t, r, one(lb), 3), "s@file", &rec)
	for range 4 {
		if _, body := get(t, f.URL); body != "b" {
			t.Error(body, rec)
		}
	}
	f = front(t, build(t, r, one(balanced(srv("1", deadURL(t)))), 9), "s@file", nil)
	if res, _ := get(t, f.URL); res.StatusCode != 502 {
		t.Error(res.Status)
	}
}

func TestBrokenAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		answer string
		want   int
	}{
		"no HTTP":           {"SSH-2.0-x\r\n", 502},
		"nobody asked 101":  {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 502},
		"endless head":      {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", 502},
		"two lengths":       {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 502},
		"a colon is absent": {"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", 502},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := raw(t, func(c net.Conn, _ *http.Request) { io.WriteString(c, tc.answer) })
			other := origin(t, named("other"))
			r, _ := newRegistry(t, upstream.Options{})
			f := front(t, build(t, r, one(balanced(srv("a", url), srv("b", other.URL))), 1), "s@file", nil)
			res, _ := get(t, f.URL)
			if res.StatusCode != tc.want || res.Header.Get(upstream.ReasonHeader) != "server-failed" || asked.Load() != 1 {
				t.Error(res.Status, res.Header)
			}
		})
	}
}

func TestCutAnswerDoesNotLookWhole(t *testing.T) {
	url, _ := raw(t, func(c net.Conn, _ *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	})
	r, log := newRegistry(t, upstream.Options{})
	f := front(t, build(t, r, one(balanced(srv("a", url))), 0), "s@file", nil)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Get(f.URL)
	if err == nil {
		_, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	if err == nil {
		t.Error("the client saw a whole answer")
	}
	if !strings.Contains(log.String(), "answer cut short") {
		t.Error(log)
	}
}

func TestTimeout(t *testing.T) {
	release := make(chan bool)
	o := origin(t, func(w http.ResponseWriter, r *http.Request) { <-release })
	defer close(release)
	r, log := newRegistry(t, upstream.Options{AnswerTimeout: 20 * time.Millisecond})
	f := front(t, build(t, r, one(balanced(srv("a", o.URL), srv("b", o.URL))), 1), "s@file", nil)
	for range 3 {
		res, _ := get(t, f.URL)
		if res.StatusCode != 504 || res.Header.Get(upstream.ReasonHeader) != "server-timeout" {
			t.Error(res.Status)
		}
	}
	if n := strings.Count(log.String(), "server failed"); n < 1 || n > 2 {
		t.Error("wanted one line a second and server", log)
	}
}

// badBody fails under way, as a body with a broken chunk does.
type badBody struct{ n int }

func (b *badBody) Read(p []byte) (int, error) {
	if b.n++; b.n > 1 {
		return 0, errors.New("malformed chunked encoding")
	}
	return copy(p, "abc"), nil
}

func TestBadClientBodyIsTheClientsFault(t *testing.T) {
	o := origin(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	r, log := newRegistry(t, upstream.Options{})
	service, _ := build(t, r, one(balanced(srv("a", o.URL), srv("b", o.URL))), 1).Service("s@file")
	ask := func(body io.Reader) int {
		w := httptest.NewRecorder()
		req := httptest.NewRequest("POST", "/", body)
		req.ContentLength = -1
		service.Handler(nil).ServeHTTP(w, req)
		return w.Code
	}
	if got := ask(&badBody{}); got != 400 {
		t.Error(got)
	}
	if got := ask(http.MaxBytesReader(nil, io.NopCloser(strings.NewReader("too much")), 3)); got != 413 {
		t.Error(got)
	}
	if strings.Contains(log.String(), "failed") {
		t.Error(log)
	}
}

// state of two snapshots: what is in flight in one is seen by the other.
func TestStateOutlivesSets(t *testing.T) {
	enter, leave := make(chan bool), make(chan bool)
	slow := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			enter <- true
			<-leave
		}
		io.WriteString(w, "a")
	})
	b, c := origin(t, named("b")), origin(t, named("c"))
	r, _ := newRegistry(t, upstream.Options{})
	lb := balanced(srv("a", slow.URL), srv("b", b.URL), srv("c", c.URL))
	old, _ := r.Build(one(lb), 0)
	f := front(t, old, "s@file", nil)
	done := make(chan string)
	go func() { _, body := get(t, f.URL+"/slow"); done <- body }()
	<-enter
	now := build(t, r, one(lb), 0)
	view := now.View()[0]
	if view.InFlight != 1 || view.Servers[0].InFlight != 1 || view.Servers[1].InFlight != 0 {
		t.Errorf("%+v", view)
	}
	old.Release()
	old.Release()
	// The balancer goes on where it was.
	if _, body := get(t, front(t, now, "s@file", nil).URL); body != "b" {
		t.Error(body)
	}
	leave <- true
	if got := <-done; got != "a" {
		t.Error(got)
	}
	if got := now.View()[0]; got.Servers[0].InFlight != 0 {
		t.Errorf("%+v", got)
	}
	// With its last set the service's state goes.
	now.Release()
	again := build(t, r, one(lb), 0)
	if _, body := get(t, front(t, again, "s@file", nil).URL); body != "a" {
		t.Error(body)
	}
}

func TestConnectionsOutliveSets(t *testing.T) {
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(named("a"))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	r, _ := newRegistry(t, upstream.Options{})
	var last *upstream.Set
	for range 20 {
		set, _ := r.Build(map[string]config.Service{"s@file": {LoadBalancer: balanced(srv("a", s.URL))}}, 0)
		get(t, front(t, set, "s@file", nil).URL)
		if last != nil {
			last.Release()
		}
		last = set
	}
	last.Release()
	if n := conns.Load(); n != 1 {
		t.Error(n, "connections for 20 snapshots")
	}
}
