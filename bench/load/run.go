package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"gatehouse/bench/measure"
	"gatehouse/bench/wire"
)

// drain is how long answers are waited for after the window.
const drain = 2 * time.Second

// Run sends what s says and gives the result; the window ends when ctx does.
// The error is one of the generator; failing requests are in the result.
func Run(ctx context.Context, s Spec) (Result, error) {
	switch s.Kind {
	case Handshake:
		return handshakes(ctx, s)
	case Idle:
		return idle(ctx, s)
	case H1, H2, NewConn, WebSocket:
	default:
		return Result{}, fmt.Errorf("no kind of load %q", s.Kind)
	}
	loop, err := wire.NewLoop()
	if err != nil {
		return Result{}, err
	}
	defer loop.Close()
	r := newRun(s, loop)
	defer context.AfterFunc(ctx, func() { r.ended.Store(true) })()
	if err := r.connect(); err != nil {
		return Result{}, err
	}
	if err := r.loopUntilDone(); err != nil {
		return Result{}, err
	}
	return r.result, nil
}

func newRun(s Spec, loop *wire.Loop) *run {
	return &run{
		spec: s, loop: loop, base: time.Now(), requests: requests(s), meter: meter{spec: s}, result: Result{Errors: map[string]int{}},
	}
}

// client is one connection's protocol. request sends a request that was due
// at the time given; the client calls run.done or run.failed for each. That it
// cannot be written is seen as the connection's end.
type client interface {
	request(due time.Duration)
}

// run is one run of the generator. Times are since base.
type run struct {
	spec     Spec
	loop     *wire.Loop
	base     time.Time
	requests [][]byte // sent in turn
	turn     int
	dialed   int
	ended    atomic.Bool // the window shall end

	sending   bool
	measuring bool
	free      []client      // with room for a request; only at a fixed rate
	due       time.Duration // of the next request at a fixed rate
	open      int           // requests under way
	clients   int           // connections that live

	times  histogram
	result Result
	meter  meter
}

func (r *run) now() time.Duration { return time.Since(r.base) }

// next gives the next request's bytes.
func (r *run) next() []byte {
	b := r.requests[r.turn]
	if r.turn++; r.turn == len(r.requests) {
		r.turn = 0
	}
	return b
}

// connect opens all connections before the first request is sent.
func (r *run) connect() (err error) {
	r.free, err = r.connectSome(r.spec.Conns)
	r.sending = err == nil
	return err
}

// connectSome opens n connections; one is given for each of its slots.
func (r *run) connectSome(n int) ([]client, error) {
	var all []client
	for i := range n {
		c, err := r.open1()
		if err != nil {
			return nil, fmt.Errorf("open connection %d: %w", i+1, err)
		}
		for range r.slots() {
			all = append(all, c)
		}
	}
	return all, nil
}

func (r *run) slots() int {
	if r.spec.Kind == H2 {
		return r.spec.Streams
	}
	return 1
}

func (r *run) open1() (client, error) {
	var c client
	var err error
	switch r.spec.Kind {
	case H2:
		c, err = openH2(r)
	case WebSocket:
		c, err = openWebSocket(r)
	default:
		c, err = openH1(r)
	}
	if err == nil {
		r.clients++
	}
	return c, err
}

// source is the i-th in turn of some addresses of loopback: a client has but
// 28,000 ports for each.
func source(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, byte(1 + i%200)}) }

// dial opens a connection.
func (r *run) dial(protocols ...string) (*wire.Conn, *tls.Conn, error) {
	var from netip.Addr
	switch r.spec.Kind {
	case NewConn:
		from = source(r.dialed)
	case Idle:
		from = source(r.dialed / 20_000)
	}
	r.dialed++
	return wire.Dial(r.spec.Addr, from, tlsConfig(r.spec, protocols...))
}

// tlsConfig trusts everybody: verifying is the client's cost.
func tlsConfig(s Spec, protocols ...string) *tls.Config {
	if !s.TLS {
		return nil
	}
	return &tls.Config{InsecureSkipVerify: true, ServerName: s.Host, NextProtos: protocols, MinVersion: tls.VersionTLS13}
}

// loopUntilDone warms up, measures and waits for the last answers.
func (r *run) loopUntilDone() error {
	r.due = r.now()
	if r.spec.Rate == 0 {
		for _, c := range r.free {
			r.send(c, r.now())
		}
		r.free = nil
	}
	begin := r.now() + r.spec.Warm
	end := begin + r.spec.Window
	if err := r.serveUntil(begin); err != nil {
		return err
	}
	if err := r.meter.start(); err != nil {
		return err
	}
	r.measuring = true
	measured := r.now()
	if err := r.serveUntil(end); err != nil {
		return err
	}
	r.measuring = false
	r.result.Seconds = (r.now() - measured).Seconds()
	if err := r.meter.stop(&r.result); err != nil {
		return err
	}
	r.sending = false
	for last := r.now() + drain; r.open > 0 && r.now() < last; {
		if err := r.loop.Wait(last - r.now()); err != nil {
			return err
		}
	}
	if r.open > 0 {
		r.measuring = true
		r.failed("unanswered", fmt.Errorf("%d requests had no answer %s after the last was sent", r.open, drain), r.open)
	}
	r.result.P50, r.result.P99 = r.times.quantile(0.5), r.times.quantile(0.99)
	return nil
}

func (r *run) serveUntil(end time.Duration) error {
	for now := r.now(); now < end && !r.ended.Load(); now = r.now() {
		if r.clients == 0 {
			return fmt.Errorf("no connection is left: %s", r.result.First)
		}
		wait := end - now
		if r.spec.Rate > 0 {
			r.sendDue(now)
			if len(r.free) > 0 {
				wait = min(wait, r.due-now)
			}
		}
		if err := r.loop.Wait(min(wait, 100*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

// sendDue sends what the rate asks for. What finds no free connection stays
// due and counts its waiting.
func (r *run) sendDue(now time.Duration) {
	for r.due <= now && len(r.free) > 0 {
		c := r.free[0]
		r.free = r.free[1:]
		r.send(c, r.due)
		r.due += time.Second / time.Duration(r.spec.Rate)
	}
}

// send starts a request.
func (r *run) send(c client, due time.Duration) {
	r.open++
	c.request(due)
}

// done notes an answer and uses the room it leaves; c nil: there is none.
func (r *run) done(c client, due time.Duration) {
	if r.measuring {
		r.result.Requests++
		r.times.add(r.now() - due)
	}
	r.release(c)
}

// release uses the room that a request leaves.
func (r *run) release(c client) {
	r.open--
	switch {
	case c == nil || !r.sending:
	case r.spec.Rate > 0:
		r.free = append(r.free, c)
	default:
		r.send(c, r.now())
	}
}

// failed counts n requests that failed. Outside the window only the first
// error is kept.
func (r *run) failed(kind string, err error, n int) {
	if r.result.First == "" {
		r.result.First = err.Error()
	}
	if r.measuring {
		r.result.Errors[kind] += n
		r.result.Failed += n
	}
}

// replace opens a connection for one that ended, with its slots.
func (r *run) replace() {
	r.clients--
	if !r.sending {
		return
	}
	r.result.Reconnects++
	c, err := r.open1()
	if err != nil {
		r.failed("dial", err, 1)
		return
	}
	for range r.slots() {
		if r.spec.Rate > 0 {
			r.free = append(r.free, c)
		} else {
			r.send(c, r.now())
		}
	}
}

// forget takes a connection that ended out of the free ones.
func (r *run) forget(c client) {
	kept := r.free[:0:0]
	for _, f := range r.free {
		if f != c {
			kept = append(kept, f)
		}
	}
	r.free = kept
}

func kindOf(err error) string {
	var status statusError
	switch {
	case errors.As(err, &status):
		return status.Error()
	case errors.Is(err, io.EOF):
		return "eof"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	}
	return "other"
}

// meter reads what the window costs.
type meter struct {
	spec          Spec
	cpu, org, own float64
}

func (m *meter) read() (cpu, org, own float64, err error) {
	if cpu, err = measure.CPU(m.spec.Pids); err != nil {
		return
	}
	if m.spec.Origin != 0 {
		if org, err = measure.CPU([]int{m.spec.Origin}); err != nil {
			return
		}
	}
	own, err = measure.CPU([]int{os.Getpid()})
	return
}

func (m *meter) start() (err error) {
	m.cpu, m.org, m.own, err = m.read()
	return err
}

func (m *meter) stop(r *Result) error {
	cpu, org, own, err := m.read()
	if err != nil {
		return err
	}
	r.CPU, r.OriginCPU, r.LoadCPU = cpu-m.cpu, org-m.org, own-m.own
	r.PSS, err = measure.PSS(m.spec.Pids)
	return err
}
