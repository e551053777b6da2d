package middleware

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

func TestIPAllowList(t *testing.T) {
	for _, c := range []struct {
		params, remote, forwarded string
		status                    int
	}{
		{`sourceRange = ["10.0.0.0/8", "192.0.2.1"]`, "10.1.2.3:99", "", 200},
		{`sourceRange = ["10.0.0.0/8", "192.0.2.1"]`, "192.0.2.1:99", "", 200},
		{`sourceRange = ["10.0.0.0/8", "192.0.2.1"]`, "192.0.2.2:99", "10.0.0.1", 403},
		{`sourceRange = ["10.0.0.0/8"]`, "[::ffff:10.0.0.1]:99", "", 200},
		{`sourceRange = ["::ffff:10.0.0.0/104"]`, "10.0.0.1:99", "", 200},
		{`sourceRange = ["fe80::/10"]`, "[fe80::1%eth0]:99", "", 200},
		{`sourceRange = ["10.0.0.0/8"]`, "garbage", "", 403},
		{"sourceRange = [\"10.0.0.0/8\"]\nrejectStatusCode = 404", "1.1.1.1:1", "", 404},
		// The gate ends X-Forwarded-For with the peer; depth counts before it.
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {depth = 1}", "192.0.2.9:1", "1.1.1.1, 10.0.0.1, 192.0.2.9", 200},
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {depth = 2}", "192.0.2.9:1", "1.1.1.1, 10.0.0.1, 192.0.2.9", 403},
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {depth = 1}", "10.0.0.9:1", "10.0.0.9", 403},
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {depth = 1}", "192.0.2.9:1", "10.0.0.1 evil, 192.0.2.9", 403},
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {excludedIPs = [\"192.0.2.0/24\"]}", "192.0.2.9:1", "1.1.1.1, 10.0.0.1, 192.0.2.8, 192.0.2.9", 200},
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {excludedIPs = [\"192.0.2.0/24\"]}", "10.0.0.9:1", "1.1.1.1, 10.0.0.9", 200},
		{"sourceRange = [\"10.0.0.0/8\"]\nipStrategy = {excludedIPs = [\"192.0.2.0/24\"]}", "192.0.2.9:1", "192.0.2.9", 403},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if w, _ := serve(mustDeclare(t, "ipAllowList", c.params), r, nil); w.Code != c.status {
			t.Errorf("%s for %s (%s): %d, want %d", c.params, c.remote, c.forwarded, w.Code, c.status)
		}
	}
}

func TestRateLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustDeclare(t, "rateLimit", "average = 10\nburst = 3").Wrap(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		ask := func(remote string) *httptest.ResponseRecorder {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = remote
			w := httptest.NewRecorder()
			m.ServeHTTP(w, r)
			return w
		}
		passed := func(remote string, n int) (ok int) {
			for range n {
				if ask(remote).Code == 200 {
					ok++
				}
			}
			return ok
		}
		if n := passed("1.1.1.1:1", 5); n != 3 {
			t.Errorf("%d of 5 at once passed, want the burst of 3", n)
		}
		if w := ask("1.1.1.1:2"); w.Code != 429 || w.Header().Get("Retry-After") != "1" {
			t.Errorf("got %d, Retry-After %q, want 429 and 1", w.Code, w.Header().Get("Retry-After"))
		}
		if n := passed("1.1.1.2:1", 5); n != 3 {
			t.Errorf("another client: %d passed, want 3", n)
		}
		if n := passed("[2001:db8::1]:1", 2) + passed("[2001:db8::2]:1", 2); n != 3 {
			t.Errorf("one /64: %d passed, want 3", n)
		}
		time.Sleep(100 * time.Millisecond)
		if n := passed("1.1.1.1:1", 5); n != 1 {
			t.Errorf("after a tenth of a second %d passed, want 1", n)
		}
		time.Sleep(time.Hour)
		if n := passed("1.1.1.1:1", 5); n != 3 {
			t.Errorf("after an hour %d passed, want the burst of 3", n)
		}
		total := 0
		for range 1000 {
			total += passed("1.1.1.3:1", 5)
			time.Sleep(10 * time.Millisecond)
		}
		if total < 100 || total > 103 {
			t.Errorf("%d passed in ten seconds, want 100 and the burst", total)
		}
	})
}

// TestRateLimitMemory: a flood of clients cannot take more than the bound, and
// each still gets its own burst and no more.
func TestRateLimitMemory(t *testing.T) {
	l := newLimiter(time.Hour, 1)
	for i := range 200_000 {
		if wait := l.take(source{addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}); wait != 0 {
			t.Fatalf("first request of client %d has to wait %v", i, wait)
		}
	}
	kept := 0
	for i := range l.shards {
		kept += len(l.shards[i].full)
	}
	if kept > shards*shardSize {
		t.Errorf("%d clients are kept, want at most %d", kept, shards*shardSize)
	}
	if s := textSource(strings.Repeat("x", 1<<20)); len(s.text) > maxSourceText {
		t.Errorf("a source of %d bytes is kept", len(s.text))
	}
}

func TestSourceCriterion(t *testing.T) {
	for params, want := range map[string]string{
		`sourceCriterion = {requestHost = true}`:             "{invalid IP a.com}",
		`sourceCriterion = {requestHeaderName = "x-tenant"}`: "{invalid IP blue}",
		`sourceCriterion = {ipStrategy = {depth = 1}}`:       "{1.1.1.1 }",
		``: "{192.0.2.1 }",
	} {
		var criterion *SourceCriterion
		switch {
		case strings.Contains(params, "Host"):
			criterion = &SourceCriterion{RequestHost: true}
		case strings.Contains(params, "Name"):
			criterion = &SourceCriterion{RequestHeaderName: "x-tenant"}
		case strings.Contains(params, "depth"):
			criterion = &SourceCriterion{IPStrategy: &IPStrategy{Depth: 1}}
		}
		mustDeclare(t, "rateLimit", "average = 1\n"+params)
		of, problems := criterion.sourceOf(testEnv())
		if problems != nil {
			t.Fatal(problems)
		}
		r := httptest.NewRequest("GET", "http://A.com:80/", nil)
		r.RemoteAddr = "192.0.2.1:5"
		r.Header.Set("X-Tenant", "blue")
		r.Header.Set("X-Forwarded-For", "1.1.1.1, 192.0.2.1")
		if got := of(r); fmt.Sprintf("{%v %s}", got.addr, got.text) != want {
			t.Errorf("%s: source %v, want %s", params, got, want)
		}
	}
}

func TestInFlightReq(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	h := mustDeclare(t, "inFlightReq", "amount = 2").Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("x")
		}
		started <- struct{}{}
		<-finish
	}))
	ask := func(url string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", url, nil))
		return w.Code
	}
	for range 5 {
		func() {
			defer func() { recover() }()
			ask("http://a.com/panic") // gives its place back
		}()
	}
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			if code := ask("http://a.com/"); code != 200 {
				t.Errorf("a request within the amount got %d", code)
			}
		})
		<-started
	}
	if code := ask("http://a.com/"); code != 429 {
		t.Errorf("the third request got %d, want 429", code)
	}
	for _, host := range []string{"a.com:80", "a.com:81", "A.com", "a.com."} { // the same
		if code := ask("http://" + host + "/"); code != 429 {
			t.Errorf("another spelling, %s, got %d, want 429", host, code)
		}
	}
	running.Go(func() { ask("http://b.com/") })
	<-started // another host has an amount of its own
	close(finish)
	running.Wait()
	running.Go(func() { ask("http://a.com/") })
	<-started
	running.Wait()
}

// TestBothFormsCountTogether: what passes a stage counts for handlers too, and
// what its route's handlers are asked again counts once.
func TestBothFormsCountTogether(t *testing.T) {
	req, rules := new(http1.Request), http1.DefaultRules()
	req.Reset()
	head := []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if n, why := req.Parse(head, &rules); n != len(head) {
		t.Fatal(why)
	}
	x := &wire.Exchange{Req: req, Remote: "192.0.2.1:1234"}
	handlers := func(m Middleware) int {
		r := httptest.NewRequest("GET", "http://h/", nil)
		r.RemoteAddr = x.Remote
		w, _ := serve(m, r, nil)
		return w.Code
	}

	rate := mustDeclare(t, "rateLimit", "average = 1\nperiod = \"1h\"\nburst = 3")
	for i := range 5 { // each is left to the handlers, but for the last two
		if passed := rate.Stage.Pass(x); passed != (i < 3) {
			t.Fatalf("rate %d: passed %v", i, passed)
		} else if passed {
			rate.Stage.Leave(x, false)
		}
		if code, want := handlers(rate), map[bool]int{true: 200, false: 429}[i < 3]; code != want {
			t.Fatalf("rate %d: %d, want %d", i, code, want)
		}
	}
	rate = mustDeclare(t, "rateLimit", "average = 1\nperiod = \"1h\"")
	if !rate.Stage.Pass(x) {
		t.Fatal("the first request is too many")
	}
	if rate.Stage.Leave(x, true); handlers(rate) != 429 {
		t.Error("handlers do not know what a stage let pass")
	}

	flight := mustDeclare(t, "inFlightReq", "amount = 1")
	for range 3 {
		if !flight.Stage.Pass(x) {
			t.Fatal("the first request is too many")
		}
		if flight.Stage.Pass(x) || handlers(flight) != 429 {
			t.Error("a second request may pass")
		}
		if flight.Stage.Leave(x, true); handlers(flight) != 200 {
			t.Error("the first has left, and is still there")
		}
	}
	for kind, params := range map[string]string{
		"rateLimit":   "average = 1\nsourceCriterion = {requestHeaderName = \"X\"}",
		"inFlightReq": "amount = 1\nsourceCriterion = {ipStrategy = {depth = 1}}",
	} {
		if mustDeclare(t, kind, params).Stage.Pass != nil {
			t.Errorf("%s has a stage, although fields can change before Leave", kind)
		}
	}
}

// TestCountsOutliveRequests: a stage sees texts that are bytes of a buffer; what
// is counted must not change with it.
func TestCountsOutliveRequests(t *testing.T) {
	rules := http1.DefaultRules()
	exchange := func() (x *wire.Exchange, gone func()) {
		req, head := new(http1.Request), []byte("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n")
		req.Reset()
		if n, why := req.Parse(head, &rules); n != len(head) {
			t.Fatal(why)
		}
		return &wire.Exchange{Req: req, Remote: "192.0.2.1:1234"}, func() { copy(head, strings.Repeat("x", len(head))) }
	}
	flight := mustDeclare(t, "inFlightReq", "amount = 2")
	for range 3 {
		first, end1 := exchange()
		second, end2 := exchange()
		if !flight.Stage.Pass(first) || !flight.Stage.Pass(second) {
			t.Fatal("two requests are too many")
		}
		flight.Stage.Leave(second, true)
		end2()
		if third, _ := exchange(); !flight.Stage.Pass(third) || flight.Stage.Pass(third) {
			t.Fatal("the second has left, and the first is there")
		} else {
			flight.Stage.Leave(third, true)
		}
		flight.Stage.Leave(first, true)
		end1()
	}
	rate := mustDeclare(t, "rateLimit", "average = 1\nperiod = \"1h\"\nburst = 3\nsourceCriterion = {requestHost = true}")
	for i := range 5 {
		x, end := exchange()
		if passed := rate.Stage.Pass(x); passed != (i < 3) {
			t.Errorf("rate %d: passed %v", i, passed)
		}
		end()
	}
}
