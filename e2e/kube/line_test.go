package main

import (
	"net"
	"sync"
	"testing"
)

// line is the way from Gatehouse to the API server, which a test can cut.
type line struct {
	to string
	l  net.Listener

	mu    sync.Mutex
	cut   bool                 // new connections are closed at once
	deaf  bool                 // new connections are silent
	open  map[*connection]bool // those under way
	count int                  // all so far
}

// connection has two ends. One that is silent swallows what it gets, and is not
// closed: as when a router between them forgot about it.
type connection struct {
	ends   [2]net.Conn
	mu     sync.Mutex
	silent bool
}

func newLine(t *testing.T, to string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &line{to: to, l: l, open: map[*connection]bool{}}
	go n.accept()
	t.Cleanup(func() { _ = l.Close(); n.Cut() })
	return n
}

// URL is where Gatehouse finds the API server.
func (n *line) URL() string { return "https://" + n.l.Addr().String() }

// Cut closes all connections and refuses new ones.
func (n *line) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	for c := range n.open {
		c.close()
	}
}

// Mend lets new connections through again.
func (n *line) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut, n.deaf = false, false
}

// Hush makes the connections under way silent, of which there must be some, and
// new ones until Mend.
func (n *line) Hush(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.open) == 0 {
		t.Fatal("there is no connection")
	}
	n.deaf = true
	for c := range n.open {
		c.mu.Lock()
		c.silent = true
		c.mu.Unlock()
	}
}

// Count is how many connections there were.
func (n *line) Count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.count
}

func (n *line) accept() {
	for {
		in, err := n.l.Accept()
		if err != nil {
			return
		}
		go n.relay(in)
	}
}

func (n *line) relay(in net.Conn) {
	out, err := net.Dial("tcp", n.to)
	if err != nil {
		_ = in.Close()
		return
	}
	c := &connection{ends: [2]net.Conn{in, out}}
	n.mu.Lock()
	n.count++
	c.silent = n.deaf
	if n.cut {
		n.mu.Unlock()
		c.close()
		return
	}
	n.open[c] = true
	n.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { c.copy(0, 1) })
	both.Go(func() { c.copy(1, 0) })
	both.Wait()
	n.mu.Lock()
	delete(n.open, c)
	n.mu.Unlock()
}

func (c *connection) close() {
	_ = c.ends[0].Close()
	_ = c.ends[1].Close()
}

func (c *connection) copy(from, to int) {
	defer c.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := c.ends[from].Read(buffer)
		c.mu.Lock()
		silent := c.silent
		c.mu.Unlock()
		if n > 0 && !silent {
			if _, err := c.ends[to].Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
