package fire

import (
	"net"
	"sync"
	"time"
)

// relay stands between the replicas and a server, and takes it away from them:
// by refusing, as if the server had died, or by silence, as a partition does.
type relay struct {
	to string
	l  net.Listener

	mu     sync.Mutex
	state  relayState
	turned chan struct{} // closed when the state changes
	conns  map[net.Conn]struct{}
	calls  []time.Time // of connections, and of what was sent on them
	closed bool
}

type relayState int

const (
	open relayState = iota
	refusing
	silent
)

func newRelay(to string) (*relay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &relay{to: to, l: l, turned: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	go r.serve()
	return r, nil
}

func (r *relay) addr() string { return r.l.Addr().String() }

func (r *relay) serve() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		go r.pass(c)
	}
}

// turn changes what happens from now on. Refusing breaks what is connected.
func (r *relay) turn(to relayState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = to
	close(r.turned)
	r.turned = make(chan struct{})
	if to == refusing {
		r.breakAll()
	}
}

// breakAll resets all connections. The caller holds mu.
func (r *relay) breakAll() {
	for c := range r.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	clear(r.conns)
}

func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	r.breakAll()
	_ = r.l.Close()
}

// since is how many calls came in the time given, and the most of any minute.
func (r *relay) since(from, to time.Time) (all, minute int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var times []time.Time
	for _, at := range r.calls {
		if at.After(from) && at.Before(to) {
			times = append(times, at)
		}
	}
	return len(times), mostIn(times, time.Minute)
}

// mostIn is the largest number of times in any window; they are sorted.
func mostIn(times []time.Time, window time.Duration) (best int) {
	first := 0
	for i, at := range times {
		for times[first].Before(at.Add(-window)) {
			first++
		}
		best = max(best, i-first+1)
	}
	return best
}

func (r *relay) add(conns ...net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, time.Now())
	if r.state == refusing || r.closed {
		return false
	}
	for _, c := range conns {
		r.conns[c] = struct{}{}
	}
	return true
}

func (r *relay) pass(c net.Conn) {
	if !r.add(c) {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		return
	}
	up, err := net.DialTimeout("tcp", r.to, 5*time.Second)
	if err != nil {
		_ = c.Close()
		return
	}
	r.mu.Lock()
	r.conns[up] = struct{}{}
	r.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { r.copy(up, c, true) })
	both.Go(func() { r.copy(c, up, false) })
	both.Wait()
	r.mu.Lock()
	delete(r.conns, c)
	delete(r.conns, up)
	r.mu.Unlock()
}

// copy copies until either side ends; what comes while it is silent waits.
func (r *relay) copy(to, from net.Conn, counts bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			r.wait(counts)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait lets pass when it is not silent.
func (r *relay) wait(counts bool) {
	for {
		r.mu.Lock()
		if counts {
			r.calls, counts = append(r.calls, time.Now()), false
		}
		quiet, turned := r.state == silent && !r.closed, r.turned
		r.mu.Unlock()
		if !quiet {
			return
		}
		select {
		case <-turned:
		case <-time.After(time.Second):
		}
	}
}
