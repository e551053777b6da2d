package upstream

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// circuitPool is a pool of servers that are never asked: tests say how they did.
func circuitPool(servers int, log *strings.Builder) *pool {
	p := &pool{name: "s", state: &serviceState{name: "s"}, logger: slog.New(slog.NewTextHandler(log, nil))}
	for i := range servers {
		p.servers = append(p.servers, &server{text: string(rune('a' + i)), state: &serverState{service: p.state}})
		p.balancer.weights = append(p.balancer.weights, 1)
	}
	p.balancer.position, p.balancer.of = &p.state.position, p
	return p
}

// pretend picks a server and has it fail or not; "" where there is none.
func (p *pool) pretend(broken string) string {
	var tried []int
	i := p.next(&tried)
	if i < 0 {
		return ""
	}
	var err error
	if s := p.servers[i]; strings.Contains(broken, s.text) {
		err = errors.New("broken")
	}
	p.settle(p.servers[i], err, true)
	return p.servers[i].text
}

func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		p := circuitPool(2, &log)
		got := ""
		for range 14 {
			got += p.pretend("a")
		}
		// a fails five times, then everything goes to b.
		if got != "ababababab"[:9]+"bbbbb" || p.servers[0].state.up() || !strings.Contains(log.String(), "server is taken out") {
			t.Fatal(got, &log)
		}
		for round := range 2 { // one request each pause, while it fails
			time.Sleep(circuitPause)
			synctest.Wait()
			got = ""
			for range 10 {
				got += p.pretend("a")
			}
			if strings.Count(got, "a") != 1 {
				t.Fatal(round, got)
			}
		}
		time.Sleep(circuitPause)
		synctest.Wait()
		got = ""
		for range 10 {
			got += p.pretend("")
		}
		if n := strings.Count(got, "a"); n < 4 || !strings.Contains(log.String(), "server is back") {
			t.Fatal(got, &log)
		}
	})
}

func TestCircuitTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		p := circuitPool(1, &log)
		for range circuitFailures {
			p.pretend("a")
		}
		if p.pretend("a") != "" || p.balancer.any() {
			t.Fatal("asked although it is out")
		}
		time.Sleep(circuitPause)
		synctest.Wait()
		var tried []int
		if i := p.next(&tried); i != 0 {
			t.Fatal("no trial")
		}
		var others []int
		if i := p.next(&others); i >= 0 {
			t.Fatal("two trials at once")
		}
		p.settle(p.servers[0], errors.New("client left"), false)
		if got := p.pretend("") + p.pretend(""); got != "aa" {
			t.Error("no trial after one that said nothing:", got)
		}
	})
}

// What fails now and then, or rarely as against what is answered, stays.
func TestCircuitIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		p := circuitPool(1, &log)
		for range 20 {
			p.pretend("a")
			time.Sleep(circuitWindow/(circuitFailures-1) + time.Millisecond)
		}
		for range 20 {
			p.pretend("a")
			p.pretend("")
			p.pretend("")
		}
		if log.Len() > 0 {
			t.Error(&log)
		}
	})
}
