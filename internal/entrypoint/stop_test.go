package entrypoint

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/upstream"
)

// TestStopAtAnyMoment: clients who repeat nothing use kept connections, plain and
// TLS, through the plain path to an origin, while the entry points stop.
// Whatever the moment, a request is answered whole or nothing of it was passed
// on, and every answer that is made after the stop began says that it is the
// last.
func TestStopAtAnyMoment(t *testing.T) {
	for round := range 8 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Parallel()
			newStopRound(t, round%3 == 0).run()
		})
	}
}

// stopRound is two entry points before an origin, and their clients.
type stopRound struct {
	*testing.T
	servers  []*Server // plain, TLS
	seen     sync.Map  // requests the origin has had
	draining atomic.Bool
	answered atomic.Int64
	raced    atomic.Int64 // requests that came too late
	next     atomic.Int64
}

// newStopRound: slow origins are silent for longer than patience with them lasts
// before the client is watched.
func newStopRound(t *testing.T, slow bool) *stopRound {
	r := &stopRound{T: t}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.seen.Store(req.URL.Path, true)
		body, _ := io.ReadAll(req.Body)
		wait := time.Duration(rand.IntN(30)) * time.Millisecond
		if n := rand.IntN(10); n == 0 {
			wait *= 10
		} else if n == 1 && slow {
			wait += 1100 * time.Millisecond
		}
		time.Sleep(wait)
		if r.draining.Load() {
			w.Header().Set("Draining", "yes")
		}
		w.Write(append(body, "answer"...))
	}))
	t.Cleanup(origin.Close)
	registry := upstream.NewRegistry(upstream.Options{Logger: slog.New(slog.DiscardHandler), DialTimeout: 30 * time.Second})
	t.Cleanup(registry.Close)
	set, _ := registry.Build(map[string]config.Service{"s": {LoadBalancer: &config.LoadBalancer{
		Servers: []config.Server{{URL: origin.URL, Weight: 1}}}}}, 0)
	t.Cleanup(set.Release)
	service, _ := set.Service("s")
	for _, o := range []Options{{}, {TLS: testTLS(t)}, {}} {
		if o.Handler, o.Plain = service.Handler(nil), service.Plain(nil); len(r.servers) == 2 {
			o.Plain = nil
		}
		r.servers = append(r.servers, start(t, o))
	}
	return r
}

func (r *stopRound) run() {
	var clients, stops sync.WaitGroup
	var begun sync.WaitGroup
	begun.Add(24)
	for i := range 24 {
		clients.Go(func() { r.client(r.servers[i%3], begun.Done) })
	}
	begun.Wait()
	time.Sleep(time.Duration(rand.IntN(600)) * time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	end := (*Server).Shutdown
	if rand.IntN(2) == 0 {
		end = (*Server).Retire
	}
	for _, s := range r.servers {
		stops.Go(func() {
			if err := end(s, ctx); err != nil {
				r.Error(err)
			}
		})
	}
	for _, s := range r.servers {
		await(r.T, "the stop", s.draining.Load)
	}
	r.draining.Store(true)
	clients.Wait()
	stops.Wait()
	r.Logf("%d answered, %d came too late", r.answered.Load(), r.raced.Load())
}

// client asks on one connection until it is told to close.
func (r *stopRound) client(s *Server, begun func()) {
	begin := sync.OnceFunc(begun)
	defer begin()
	c, err := net.Dial("tcp", s.Addr().String())
	if err == nil && s.opts.TLS != nil {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	}
	if err != nil {
		r.Error(err)
		return
	}
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		path := fmt.Sprintf("/%d", r.next.Add(1))
		last, err := r.ask(c, in, path)
		if err != nil {
			r.lost(c, path, err)
			return
		}
		r.answered.Add(1)
		begin()
		if last {
			return
		}
		switch rand.IntN(20) {
		case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9:
			time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
		case 10: // until after the stop, perhaps
			time.Sleep(time.Duration(rand.IntN(1200)) * time.Millisecond)
		}
	}
}

// errTooLate is a connection that ended without a byte of an answer.
var errTooLate = errors.New("no answer")

func (r *stopRound) ask(c net.Conn, in *bufio.Reader, path string) (last bool, err error) {
	c.SetDeadline(time.Now().Add(30 * time.Second))
	request := "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
	for parts := rand.IntN(4); len(request) > 0; parts-- {
		n := len(request)
		if parts > 0 {
			n = rand.IntN(n) + 1
		}
		if _, err := io.WriteString(c, request[:n]); err != nil {
			break // the answer, or its absence, says why
		}
		if request = request[n:]; request != "" && rand.IntN(2) == 0 {
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		}
	}
	if _, err := in.Peek(1); err != nil {
		return true, fmt.Errorf("%w: %w", errTooLate, err)
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return true, err
	}
	text, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return true, err
	case res.StatusCode != 200 || string(text) != "bodyanswer":
		return true, fmt.Errorf("%s: %q", res.Status, text)
	case res.Header.Get("Draining") != "" && !res.Close:
		return true, errors.New("an answer after the stop began does not say so")
	}
	return res.Close, nil
}

// lost judges a request without an answer.
func (r *stopRound) lost(c net.Conn, path string, err error) {
	_, seen := r.seen.Load(path)
	if r.raced.Add(1); seen || !r.draining.Load() || !errors.Is(err, errTooLate) || isTimeoutErr(err) {
		r.Errorf("%T %s: %v (passed on: %t, stopping: %t)", c, path, err, seen, r.draining.Load())
	}
}

func isTimeoutErr(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
