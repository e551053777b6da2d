package upstream

import (
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/wire"
)

// pool is a running service as the snapshots see it in which it is declared
// alike.
type pool struct {
	name      string
	service   *Service // as it is declared now; under Registry.mu
	first     Service
	problems  []config.Problem
	refs      int // sets using it; under Registry.mu
	ways      [2]way
	servers   []*server
	state     *serviceState
	transport *transport
	balancer  balancer
	sticky    *sticky
	health    *config.HealthCheck
	retry     int
	maxConn   int64
	passHost  bool          // servers see the client's host
	flush     time.Duration // at most this long is an answer held back
	buffers   *buffers
	logger    *slog.Logger
}

// server is one origin as one snapshot sees it.
type server struct {
	name   string
	url    address
	text   string // url as text
	scheme string // on the wire: http or https
	weight int
	via    http.RoundTripper
	origin *origin // how HTTP/1.1 reaches it; nil: it speaks HTTP/2
	http1  http1RoundTripper
	state  *serverState
}

// identity is what the server's state is kept under: a name keeps its state
// only while it means the same address.
type identity struct{ name, text string }

func (s *server) identity() identity { return identity{s.name, s.text} }

// init completes a pool whose servers are known.
func (p *pool) init(lb *config.LoadBalancer) {
	p.balancer.of = p
	p.balancer.weights = make([]int, len(p.servers))
	for i, s := range p.servers {
		p.balancer.weights[i] = s.weight
	}
	p.passHost = lb.PassHostHeader == nil || *lb.PassHostHeader
	p.flush = lb.ResponseForwarding
	for i := range p.ways {
		p.ways[i] = way{pool: p, keepHost: i == 1}
	}
	if lb.Sticky == nil {
		return
	}
	members := make([]string, len(p.servers))
	for i, s := range p.servers {
		members[i] = s.name
		if s.name == "" {
			members[i] = s.text
		}
	}
	p.sticky = newSticky(lb.Sticky, p.name, members)
}

func (p *pool) up(i int) bool { return p.servers[i].state.up() }

func (p *pool) version() uint64 { return p.state.health.Load() }

// way is how a service is asked: with the host that the client asked for, or
// that of the server.
type way struct {
	pool     *pool
	keepHost bool
	once     sync.Once
	proxy    *httputil.ReverseProxy // see engine
}

// way gives one; passHostHeader, when not nil, overrides what the service says.
func (p *pool) way(passHostHeader *bool) *way {
	keep := p.passHost
	if passHostHeader != nil {
		keep = *passHostHeader
	}
	if keep {
		return &p.ways[1]
	}
	return &p.ways[0]
}

func (p *pool) engine(keepHost bool) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { rewrite(r, keepHost) },
		Transport:     p,
		FlushInterval: p.flush,
		BufferPool:    p.buffers,
		ErrorHandler:  p.fail,
		ErrorLog:      log.New(cutLog{p}, "", 0),
	}
}

// set by the entry point, or by a middleware, and passed on as they are.
var forwarded = [...]string{
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port",
	"X-Forwarded-Server", "X-Forwarded-Prefix", "X-Real-Ip",
}

// rewrite prepares the request to a server; the server itself is picked later,
// in RoundTrip.
func rewrite(r *httputil.ProxyRequest, keepHost bool) {
	r.Out.URL.RawQuery = r.In.URL.RawQuery // the engine drops what it cannot parse; servers may
	for _, name := range forwarded {
		if values, ok := r.In.Header[name]; ok {
			r.Out.Header[name] = values
		}
	}
	if !keepHost {
		r.Out.Host = ""
	}
	// A tunnel made by an h2c upgrade would carry requests past all rules.
	if strings.EqualFold(r.Out.Header.Get("Upgrade"), "h2c") {
		r.Out.Header.Del("Upgrade")
		r.Out.Header.Del("Connection")
	}
	r.Out.Header.Del("Http2-Settings")
}

// ServeHTTP asks the service.
func (v *way) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p := v.pool
	middleware.RecordFrom(r.Context()).Service = p.name
	n := p.state.inFlight.Add(1)
	defer p.state.inFlight.Add(-1)
	if p.maxConn > 0 && n > p.maxConn {
		Refuse(w, http.StatusTooManyRequests, TooMany)
		return
	}
	if p.speaksHTTP1() {
		p.forward(w, r, v.keepHost)
		return
	}
	v.once.Do(func() { v.proxy = p.engine(v.keepHost) })
	v.proxy.ServeHTTP(w, r)
}

// servePlain is ServeHTTP on the plain path.
func (v *way) servePlain(x *wire.Exchange) (served bool) { return v.pool.plain(x, v.keepHost) }

// RoundTrip sends a request to the next server, and to further ones where that
// is safe. It is called by the engine, which gives it a request of its own.
func (p *pool) RoundTrip(req *http.Request) (*http.Response, error) {
	rec := middleware.RecordFrom(req.Context())
	start := time.Now()
	var room [4]int
	tried := room[:0]
	failed := errNoServer
	for tries := 0; ; {
		i, isNew := p.choose(req, &tried)
		if i < 0 {
			return nil, failed
		}
		s := p.servers[i]
		rec.Server, rec.Retries = s.text, tries
		body := trackBody(req)
		res, err := s.roundTrip(req)
		rec.Upstream = time.Since(start)
		p.settle(s, err, req.Context().Err() == nil && body.failure() == nil)
		if err == nil {
			if isNew {
				p.sticky.pin(res.Header, i)
			}
			return res, nil
		}
		tries++
		failed = &askError{server: s, tries: tries, client: body.failure(), err: err}
		if tries > p.retry {
			return nil, failed
		}
		if req = again(req, body, err); req == nil {
			return nil, failed
		}
	}
}

// choose picks a server that was not tried and adds it to tried; -1: there is
// none. isNew asks for a cookie. What came of it is for settle.
func (p *pool) choose(req *http.Request, tried *[]int) (i int, isNew bool) {
	if p.sticky == nil {
		return p.next(tried), false
	}
	i, ok := p.sticky.pinned(req)
	if ok && p.servers[i].weight > 0 && !slices.Contains(*tried, i) {
		if st := p.servers[i].state; st.up() && st.circuit.admit() {
			*tried = append(*tried, i)
			return i, false
		}
	}
	i = p.next(tried)
	return i, i >= 0
}

// next is choose without regard to cookies.
func (p *pool) next(tried *[]int) int {
	for {
		i := p.balancer.next(*tried)
		if i < 0 {
			return i
		}
		*tried = append(*tried, i)
		if p.servers[i].state.circuit.admit() {
			return i
		}
	}
}

// roundTrip asks this server. The request counts as in flight until the
// answer's body is closed.
func (s *server) roundTrip(req *http.Request) (*http.Response, error) {
	req.URL.Scheme, req.URL.Host = s.scheme, s.url.Host
	s.state.inFlight.Add(1)
	res, err := s.via.RoundTrip(req)
	if err != nil {
		s.state.inFlight.Add(-1)
		return nil, err
	}
	counted := &countedBody{ReadCloser: res.Body, state: s.state}
	res.Body = counted
	if rw, ok := counted.ReadCloser.(io.ReadWriteCloser); ok && res.StatusCode == http.StatusSwitchingProtocols {
		res.Body = struct {
			io.Writer
			*countedBody
		}{rw, counted}
	}
	return res, nil
}

type countedBody struct {
	io.ReadCloser
	state *serverState
	once  sync.Once
}

func (b *countedBody) Close() error {
	b.once.Do(func() { b.state.inFlight.Add(-1) })
	return b.ReadCloser.Close()
}

// buffers pools what bodies are copied through.
type buffers struct{ free sync.Pool }

const bufferSize = 32 << 10

// Get and Put are the engine's interface; buffers travel as arrays, which
// cost no allocation to keep.
func (b *buffers) Get() []byte {
	if a, ok := b.free.Get().(*[bufferSize]byte); ok {
		return a[:]
	}
	return make([]byte, bufferSize)
}

// Put takes back what Get gave.
func (b *buffers) Put(p []byte) { b.free.Put((*[bufferSize]byte)(p)) }

// cutLog receives what the engine says about answers that broke off under way.
type cutLog struct{ p *pool }

func (c cutLog) Write(line []byte) (int, error) {
	text := strings.TrimPrefix(strings.TrimSpace(string(line)), "httputil: ")
	c.p.logger.Warn("answer cut short", "service", c.p.name, "error", text)
	return len(line), nil
}
