package fire

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// load is requests to known names, each on a connection of its own.
type load struct {
	crowd *crowd
	skip  func(replica int) bool // the load balancer knows it to be down; may be nil

	mu     sync.Mutex
	took   []time.Duration // of good handshakes
	failed []error
	all    int
}

// run sends so many requests a second until ctx ends.
func (l *load) run(ctx context.Context, rate int) {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			running.Go(l.one)
		}
	}
}

func (l *load) one() {
	n := rand.IntN(l.crowd.replicas)
	if l.skip != nil && l.skip(n) {
		return
	}
	took, err := l.crowd.ask(n, l.crowd.name(rand.IntN(l.crowd.names)), 20*time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all++
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s replica %d: %w", time.Now().Format(time.TimeOnly), n+1, err))
		return
	}
	l.took = append(l.took, took)
}

func (l *load) seen() (all int, failed []error, p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all, slices.Clone(l.failed), quantile(l.took, 0.5), quantile(l.took, 0.99)
}

// ask makes one request for a name of a replica, and tells how long the
// handshake took. A certificate of another name is an error.
func (c *crowd) ask(replica int, name string, patience time.Duration) (time.Duration, error) {
	client, took, err := c.greet(replica, name, patience)
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Close() }()
	if _, err := fmt.Fprintf(client, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name); err != nil {
		return 0, err
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(client, head); err != nil {
		return 0, err
	}
	if string(head) != "HTTP/1.1 200" {
		return 0, fmt.Errorf("%s: answered %q", name, head)
	}
	return took, nil
}

// greet connects to a replica, which serves name with its certificate, and tells
// how long the handshake took. All must be done within patience.
func (c *crowd) greet(replica int, name string, patience time.Duration) (client *tls.Conn, took time.Duration, err error) {
	conn, err := net.DialTimeout("tcp", c.address(replica), patience)
	if err != nil {
		return nil, 0, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	began := time.Now()
	client = tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		_ = conn.Close()
		return nil, 0, fmt.Errorf("handshake for %s: %w", name, err)
	}
	took = time.Since(began)
	if leaf := client.ConnectionState().PeerCertificates[0]; !slices.Contains(leaf.DNSNames, name) {
		_ = conn.Close()
		return nil, 0, fmt.Errorf("for %s served %s %v", name, leaf.Subject.CommonName, leaf.DNSNames)
	}
	return client, took, nil
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
