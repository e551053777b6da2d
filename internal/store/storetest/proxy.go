package storetest

import (
	"net"
	"sync"
	"testing"
)

// Proxy is a TCP proxy that can be cut: everything goes on looking connected,
// and nothing arrives. When it is joined again, the connections of before are
// reset.
type Proxy struct {
	listener net.Listener
	target   string

	mu    sync.Mutex
	cut   chan struct{} // closed while joined
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// NewProxy starts a proxy before target, until t ends.
func NewProxy(t testing.TB, target string) *Proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l, target)
}

func serve(t testing.TB, l net.Listener, target string) *Proxy {
	p := &Proxy{listener: l, target: target, cut: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	close(p.cut)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut(false)
		p.reset()
		p.wg.Wait()
	})
	return p
}

// Addr is where it listens, host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut cuts, or joins again.
func (p *Proxy) Cut(cut bool) {
	p.mu.Lock()
	was := isOpen(p.cut)
	switch {
	case cut && was:
		p.cut = make(chan struct{})
	case !cut && !was:
		close(p.cut)
	}
	p.mu.Unlock()
	if !cut && !was {
		p.reset()
	}
}

func isOpen(gate chan struct{}) bool {
	select {
	case <-gate:
		return true
	default:
		return false
	}
}

func (p *Proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
	clear(p.conns)
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns[client], p.conns[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.relay(client, server) })
		p.wg.Go(func() { p.relay(server, client) })
	}
}

// relay copies until either side ends; what arrives while cut waits.
func (p *Proxy) relay(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		gate := p.cut
		p.mu.Unlock()
		<-gate
		if n > 0 {
			if _, werr := to.Write(buffer[:n]); werr != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}
