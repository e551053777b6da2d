package upstream

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gatehouse/internal/config"
)

// probe asks one server, again and again, whether it is well. One answer from
// 200 to 399 makes it up, anything else down; before the first it is up.
type probe struct {
	pool   *pool  // that it was made for last
	spec   string // settings in one comparable text
	state  *serverState
	server string // URL, for messages
	url    string
	header http.Header
	host   string
	every  time.Duration
	within time.Duration
	via    http.RoundTripper
	logger *slog.Logger

	cancel context.CancelFunc
	done   chan struct{}
}

func newProbe(p *pool, s *server, logger *slog.Logger) *probe {
	c := p.health
	scheme := cmp.Or(c.Scheme, s.url.Scheme)
	u := url.URL{Scheme: scheme, Host: s.url.Host, Path: "/"}
	if scheme == "h2c" {
		u.Scheme = "http"
	}
	if c.Port != 0 {
		u.Host = net.JoinHostPort(u.Hostname(), strconv.Itoa(c.Port))
	}
	if ref, err := url.Parse(c.Path); err == nil && c.Path != "" {
		u.Path, u.RawPath, u.RawQuery = ref.Path, ref.RawPath, ref.RawQuery
	}
	header := http.Header{"User-Agent": {"gatehouse"}}
	for name, value := range c.Headers {
		header.Set(name, value)
	}
	h := &probe{
		pool: p, state: s.state, server: s.text, url: u.String(), header: header, host: c.Hostname,
		every: cmp.Or(c.Interval, 30*time.Second), within: cmp.Or(c.Timeout, 5*time.Second),
		via: p.transport.forScheme(scheme), logger: logger, done: make(chan struct{}),
	}
	h.spec = fmt.Sprintf("%s %s %s %v %v %v %s", scheme, h.url, h.host, h.header, h.every, h.within, p.transport.key)
	return h
}

func (h *probe) start() {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	go func() {
		defer close(h.done)
		h.run(ctx)
	}()
}

// run checks at once, then once each interval, until ctx ends.
func (h *probe) run(ctx context.Context) {
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	for {
		err := h.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		h.report(err)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (h *probe) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, h.within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url, nil)
	if err != nil {
		return fmt.Errorf("get %s: %w", h.url, err)
	}
	req.Header, req.Host = h.header.Clone(), h.host
	res, err := h.via.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("get %s: %w", h.url, err)
	}
	// A short body is read so that the connection can be used again.
	io.CopyN(io.Discard, res.Body, 64<<10)
	res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 399 {
		return fmt.Errorf("get %s: answered %d, wanted 200 to 399", h.url, res.StatusCode)
	}
	return nil
}

func (h *probe) report(err error) {
	h.state.checked.Store(&check{at: time.Now(), err: err})
	if !h.state.setDown(err != nil) {
		return
	}
	if err != nil {
		h.logger.Warn("server is down", "service", h.state.service.name, "server", h.server, "error", err, "next", h.every)
		return
	}
	h.logger.Info("server is up", "service", h.state.service.name, "server", h.server)
}

// replaceProbes makes the running probes those of pools: equal ones go on,
// others end, new ones start. A server that is no longer probed counts as up.
// r.probing is held.
func (r *Registry) replaceProbes(pools []*pool) {
	want := map[*serverState]*probe{}
	for _, p := range pools {
		for _, s := range p.servers {
			if h := r.probes[s.state]; h != nil && h.pool == p {
				want[s.state] = h
				continue
			}
			want[s.state] = newProbe(p, s, r.logger)
		}
	}
	var ended []*probe
	for state, old := range r.probes {
		if now := want[state]; now != nil && now.spec == old.spec {
			old.pool = now.pool
			delete(want, state)
			continue
		}
		old.cancel()
		ended = append(ended, old)
		delete(r.probes, state)
	}
	for _, old := range ended {
		<-old.done // so that its last word does not come after
		if want[old.state] == nil {
			old.state.checked.Store(nil)
			old.state.setDown(false)
		}
	}
	for state, h := range want {
		r.probes[state] = h
		h.start()
	}
}

// checkHealth gives what is wrong with health check settings, "" for nothing.
func checkHealth(c *config.HealthCheck) (wrong, allowed string) {
	if c == nil {
		return "", ""
	}
	switch c.Scheme {
	case "", "http", "https", "h2c":
	default:
		return fmt.Sprintf("the health check's scheme is %q", c.Scheme), "http, https, h2c"
	}
	if u, err := url.Parse(c.Path); err != nil || c.Path != "" && (c.Path[0] != '/' || u.Host != "") {
		return fmt.Sprintf("the health check's path is %q", c.Path), "a path that starts with /"
	}
	if c.Port < 0 || c.Port > 65535 {
		return fmt.Sprintf("the health check's port is %d", c.Port), "1 to 65535"
	}
	if c.Interval < 0 || c.Timeout < 0 {
		return "a time of the health check is negative", "for example 10s"
	}
	return "", ""
}
