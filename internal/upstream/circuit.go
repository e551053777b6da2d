package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/wire"
)

// A server is taken out after so many failures in so long a time, if it failed
// at least as often as it answered: somebody who finds a request that a server
// dies of must not take it away from everybody. Once in each pause one request
// tries whether it is well again.
const (
	circuitFailures = 5
	circuitWindow   = 10 * time.Second
	circuitPause    = 5 * time.Second
)

// circuit watches what requests meet at one server. Where all is well it costs
// a request two loads. Its methods may be called from any goroutine.
type circuit struct {
	phase  atomic.Int32
	marked atomic.Bool // something failed in this window: answers are counted

	mu               sync.Mutex
	began            int64 // the window, in the time of wire.Now
	failed, answered int
}

// The phases of a circuit.
const (
	circuitWhole  int32 = iota
	circuitOpen         // nothing is sent
	circuitTrial        // the next request tries
	circuitTrying       // it is under way
)

var circuitNames = [...]string{circuitWhole: "", circuitOpen: "open", circuitTrial: "trial", circuitTrying: "trial"}

// passes reports whether a balancer may pick the server.
func (c *circuit) passes() bool {
	p := c.phase.Load()
	return p == circuitWhole || p == circuitTrial
}

// admit is asked by each request before it goes to the server, which was
// picked. Whoever gets true calls worked, broke or released.
func (c *circuit) admit() bool {
	switch c.phase.Load() {
	case circuitWhole:
		return true
	case circuitTrial:
		return c.phase.CompareAndSwap(circuitTrial, circuitTrying)
	}
	return false
}

// worked notes an answer; it reports whether that brought the server back.
func (c *circuit) worked() (back bool) {
	if !c.marked.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase.CompareAndSwap(circuitTrying, circuitWhole):
		c.marked.Store(false)
		return true
	case wire.Now()-c.began > int64(circuitWindow):
		c.marked.Store(false)
	default:
		c.answered++
	}
	return false
}

// broke notes a failure; it reports whether that took the server out. The
// caller has tryAgain called after circuitPause.
func (c *circuit) broke() (opened bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase.CompareAndSwap(circuitTrying, circuitOpen) {
		return true
	}
	now := wire.Now()
	if !c.marked.Load() || now-c.began > int64(circuitWindow) {
		c.began, c.failed, c.answered = now, 0, 0
		c.marked.Store(true)
	}
	c.failed++
	return c.failed >= circuitFailures && c.failed >= c.answered && c.phase.CompareAndSwap(circuitWhole, circuitOpen)
}

// released: the request ended without saying anything about the server.
func (c *circuit) released() { c.phase.CompareAndSwap(circuitTrying, circuitTrial) }

// tryAgain ends the pause.
func (c *circuit) tryAgain() { c.phase.CompareAndSwap(circuitOpen, circuitTrial) }

// settle tells the server's circuit how a request fared: err is nil where an
// answer came, says is false where err says nothing about the server.
func (p *pool) settle(s *server, err error, says bool) {
	st := s.state
	switch {
	case err == nil:
		if st.circuit.worked() {
			st.service.health.Add(1)
			p.logger.Info("server is back", "service", p.name, "server", s.text)
		}
	case !says:
		st.circuit.released()
	case st.circuit.broke():
		st.service.health.Add(1)
		p.logger.Warn("server is taken out", "service", p.name, "server", s.text, "error", err, "next", circuitPause)
		time.AfterFunc(circuitPause, func() {
			st.circuit.tryAgain()
			st.service.health.Add(1)
		})
	}
}
