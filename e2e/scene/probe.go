package scene

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Certificate gives what a replica serves for a name now, checked against the
// roots; nil roots: whatever it is.
func (r *Replica) Certificate(ctx context.Context, name string, roots *x509.CertPool) (*x509.Certificate, error) {
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 2 * time.Second}, Config: &tls.Config{
		ServerName: name, RootCAs: roots, InsecureSkipVerify: roots == nil,
	}}
	c, err := d.DialContext(ctx, "tcp", r.HTTPS())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// Served waits until every replica alive serves a certificate of the CA for
// every name, and gives the time between the first and the last replica.
func (s *Scene) Served(ctx context.Context, names ...string) (spread time.Duration, err error) {
	roots, err := s.CA.Issued(ctx)
	if err != nil {
		return 0, err
	}
	var mu sync.Mutex
	var times []time.Time
	var wg sync.WaitGroup
	for _, r := range s.Alive() {
		wg.Go(func() {
			last := r.waitServed(ctx, roots, names)
			mu.Lock()
			defer mu.Unlock()
			if last != nil {
				err = fmt.Errorf("%s: %w", r.Name, last)
			}
			times = append(times, time.Now())
		})
	}
	wg.Wait()
	if err != nil || len(times) == 0 {
		return 0, err
	}
	return times[len(times)-1].Sub(times[0]), nil
}

func (r *Replica) waitServed(ctx context.Context, roots *x509.CertPool, names []string) error {
	for {
		var err error
		for _, name := range names {
			if _, err = r.Certificate(ctx, name, roots); err != nil {
				break
			}
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no certificate of the CA is served: %w", err)
		case <-r.Done():
			return fmt.Errorf("the process ended")
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Load is requests without end at a set of URLs, counted.
type Load struct {
	Sent, Failed atomic.Int64

	mu     sync.Mutex
	errors []string
	stop   context.CancelFunc
	done   sync.WaitGroup
}

// StartLoad sends requests for host to each URL, on kept-alive connections, one
// every pause per URL, until Stop. Anything but 200 has failed.
func StartLoad(ctx context.Context, host string, pause time.Duration, urls ...string) *Load {
	return startLoad(ctx, host, pause, urls, func(tr *http.Transport, _ int) {})
}

// StartBalanced is StartLoad through a load balancer: clients that reach any
// replica that accepts connections, half of them with a connection for each
// request.
func (s *Scene) StartBalanced(ctx context.Context, pause time.Duration, clients int, path string) *Load {
	urls := slices.Repeat([]string{"https://" + Zone + path}, clients)
	addresses := s.addresses()
	return startLoad(ctx, Zone, pause, urls, func(tr *http.Transport, client int) {
		tr.DisableKeepAlives = client%2 == 1
		tr.DialContext = func(ctx context.Context, network, _ string) (c net.Conn, err error) {
			for _, i := range rand.Perm(len(addresses)) {
				if c, err = new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("%s:%d", addresses[i], s.ports.HTTPS)); err == nil {
					break
				}
			}
			return c, err
		}
	})
}

func startLoad(ctx context.Context, host string, pause time.Duration, urls []string, prepare func(tr *http.Transport, client int)) *Load {
	l := &Load{}
	ctx, l.stop = context.WithCancel(ctx)
	for i, url := range urls {
		l.done.Go(func() {
			tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: host}}
			prepare(tr, i)
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			tick := time.NewTicker(pause)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				if err := once(ctx, client, url, host); err != nil && ctx.Err() == nil {
					l.fail(err)
				}
				l.Sent.Add(1)
			}
		})
	}
	return l
}

func once(ctx context.Context, client *http.Client, url, host string) error {
	// A request under way when the load is stopped is still waited for.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s says %s", url, resp.Status)
	}
	return nil
}

func (l *Load) fail(err error) {
	l.Failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errors) < 5 {
		l.errors = append(l.errors, time.Now().Format(time.TimeOnly)+" "+err.Error())
	}
}

// Stop ends it and gives the first errors.
func (l *Load) Stop() []string {
	l.stop()
	l.done.Wait()
	return l.errors
}
