package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// connectionPatience bounds one connection of handshakes.
const connectionPatience = 5 * time.Second

// handshakes makes Conns connections at a time, each with a full TLS 1.3
// handshake and one request. It waits in goroutines: what costs here is the
// cryptography.
func handshakes(ctx context.Context, s Spec) (Result, error) {
	s.TLS = true
	h := &shaker{spec: s, request: requests(s)[0], config: tlsConfig(s, "http/1.1")}
	// The group that every peer has: another would be other work.
	h.config.CurvePreferences = []tls.CurveID{tls.X25519}
	h.result.Errors = map[string]int{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	for i := range s.Conns {
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n += s.Conns {
				start := time.Now()
				err := h.one(n)
				h.note(start, err)
			}
		})
	}
	m := meter{spec: s}
	sleep(ctx, s.Warm)
	if err := m.start(); err != nil {
		return Result{}, err
	}
	begin := time.Now()
	h.measure(true)
	sleep(ctx, s.Window)
	h.measure(false)
	h.result.Seconds = time.Since(begin).Seconds()
	err := m.stop(&h.result)
	cancel()
	wg.Wait()
	h.result.P50, h.result.P99 = h.times.quantile(0.5), h.times.quantile(0.99)
	return h.result, err
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

type shaker struct {
	spec    Spec
	request []byte
	config  *tls.Config

	mu        sync.Mutex
	measuring bool
	times     histogram
	result    Result
}

func (h *shaker) measure(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.measuring = on
}

func (h *shaker) note(start time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err != nil && h.result.First == "":
		h.result.First = err.Error()
		fallthrough
	case err != nil:
		if h.measuring {
			h.result.Errors[kindOf(err)]++
			h.result.Failed++
		}
	case h.measuring:
		h.result.Requests++
		h.times.add(time.Since(start))
	}
}

// one is one connection, from the n-th source address in turn, until the
// other side closes it.
func (h *shaker) one(n int) error {
	d := net.Dialer{Timeout: connectionPatience, LocalAddr: &net.TCPAddr{IP: source(n).AsSlice()}}
	raw, err := d.Dial("tcp", h.spec.Addr.String())
	if err != nil {
		return err
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(time.Now().Add(connectionPatience))
	c := tls.Client(raw, h.config)
	if _, err := c.Write(h.request); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("an answer that starts with %.20q", answer)
	}
	return nil
}
