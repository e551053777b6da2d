package proxy

import (
	"testing"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/wire"
)

// stagedExchange is a request and the stages of three middlewares before it.
func stagedExchange(t testing.TB, next func(*wire.Exchange) bool) (x *wire.Exchange, run func(*wire.Exchange) bool) {
	var around []middleware.Middleware
	for _, p := range []middleware.Params{
		middleware.Headers{CustomRequestHeaders: map[string]string{"X-Bench": "request"}, CustomResponseHeaders: map[string]string{"X-Bench": "response"}},
		middleware.StripPrefix{Prefixes: []string{"/app"}},
		middleware.InFlightReq{Amount: 1},
	} {
		m, problems := p.Build(middleware.Env{})
		if problems != nil {
			t.Fatal(problems)
		}
		around = append(around, m)
	}
	client := http1.NewClient("127.0.0.1", false, false)
	x = &wire.Exchange{Req: new(http1.Request), Remote: "127.0.0.1:1234", Client: &client}
	head, rules := []byte("GET /app/x HTTP/1.1\r\nHost: three\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"), http1.DefaultRules()
	x.Req.Reset()
	if n, why := x.Req.Parse(head, &rules); n != len(head) {
		t.Fatal(why)
	}
	return x, stage(next, around)
}

// TestStagesLeaveNothing: neither garbage nor anything in the request, whatever
// becomes of it.
func TestStagesLeaveNothing(t *testing.T) {
	served, path, after := true, "", ""
	x, run := stagedExchange(t, func(x *wire.Exchange) bool {
		if path = text(x.Req.Path()); after == "panic" {
			panic(after)
		}
		return served
	})
	for _, served = range []bool{true, false} {
		if run(x) != served || path != "/x" {
			t.Errorf("served %v: path %q", !served, path)
		}
	}
	func() {
		defer func() { recover() }()
		after = "panic"
		run(x)
	}()
	if after, served = "", true; !run(x) {
		t.Error("after a panic the request is still under way")
	}
	if text(x.Req.Path()) != "/app/x" || x.Req.Len() != 3 || len(x.Edits) != 0 {
		t.Errorf("afterwards: path %q, %d lines, edits %v", x.Req.Path(), x.Req.Len(), x.Edits)
	}
	// Of the one in flight its name is kept, no more.
	if n := testing.AllocsPerRun(200, func() { run(x) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkStages(b *testing.B) {
	x, run := stagedExchange(b, func(*wire.Exchange) bool { return true })
	b.ReportAllocs()
	for b.Loop() {
		run(x)
	}
}

// TestKeptOffHosts: what handlers refuse by host the plain path leaves to them.
func TestKeptOffHosts(t *testing.T) {
	asked := false
	x, run := stagedExchange(t, func(*wire.Exchange) bool { asked = true; return true })
	for _, c := range []struct {
		host   string
		served bool
	}{{"three", false}, {"two", true}} {
		s := &served{plain: run}
		s.keepOff(map[string]bool{c.host: true})
		if asked = false; s.plain(x) != c.served || asked != c.served {
			t.Errorf("kept off %s: asked %v", c.host, asked)
		}
	}
}
