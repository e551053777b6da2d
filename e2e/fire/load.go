package fire

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
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

// helloOf is the first message of a handshake for a name.
func helloOf(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer func() { _ = client.Close(); _ = server.Close() }()
	go func() { _ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() }()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		return nil, err
	}
	hello := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	_, err := io.ReadFull(server, hello[5:])
	return hello, err
}

// flood begins as many handshakes for names nobody knows as it can, each name
// once, and gives how many were answered.
func (c *crowd) flood(ctx context.Context, parallel, rate int, suffix string) (answered int, err error) {
	const mark = "x00000000"
	hello, err := helloOf(mark + suffix)
	if err != nil {
		return 0, err
	}
	at := bytes.Index(hello, []byte(mark))
	if at < 0 {
		return 0, errors.New("the hello has no name")
	}
	numbers := make(chan int)
	var mu sync.Mutex
	var running sync.WaitGroup
	for range parallel {
		mine := slices.Clone(hello)
		running.Go(func() {
			for n := range numbers {
				copy(mine[at:], fmt.Sprintf("x%08d", n))
				if c.begin(mine, n%c.replicas) == nil {
					mu.Lock()
					answered++
					mu.Unlock()
				}
			}
		})
	}
	began := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		if ahead := time.Until(began.Add(time.Duration(n) * time.Second / time.Duration(rate))); ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		select {
		case numbers <- n:
		case <-ctx.Done():
		}
	}
	close(numbers)
	running.Wait()
	return answered, nil
}

// begin sends a hello, waits for the first of the answer, and goes away.
func (c *crowd) begin(hello []byte, replica int) error {
	conn, err := net.DialTimeout("tcp", c.address(replica), 10*time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.(*net.TCPConn).SetLinger(0); _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 2048))
	return err
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
