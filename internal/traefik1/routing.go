package traefik1

import (
	"fmt"
	"strings"

	"gatehouse/internal/config"
)

// Translate turns the 1.x sections of n — backends, frontends and tls, of a
// file or of a tree made by Tree — into routers, services, middlewares and
// certificates of the same names. Every frontend has its own chain of
// middlewares, whatever backend it shares. A frontend whose rule is understood
// is never left out: if one of its settings cannot be honoured and somebody's
// protection might hang on it, it answers 503 instead (its router names a
// middleware that does not exist), and a problem says so.
func Translate(n *config.Node) (config.Routing, []config.Problem) {
	t := &translator{
		report: &report{},
		out: config.Routing{
			Routers:     map[string]config.Router{},
			Middlewares: map[string]config.Middleware{},
			Services:    map[string]config.Service{},
		},
		backends: map[string]backend{},
	}
	top := t.report.open(n, "routing")
	backends, frontends := top.field("backends"), top.field("frontends")
	certificates := []*config.Node{top.field("tls"), top.field("tlsConfiguration")}
	top.done()
	for _, c := range t.named(backends, "backend") {
		t.backend(c.name, c.node)
	}
	for _, c := range t.named(frontends, "frontend") {
		t.frontend(c.name, c.node)
	}
	for _, list := range certificates {
		for _, c := range children(list) {
			t.certificate(c.name, c.node)
		}
	}
	return t.out, t.report.problems
}

// translator is one translation under way.
type translator struct {
	*report
	out       config.Routing
	backends  map[string]backend
	ruleBytes int // of the rules read so far
}

// backend is what a 1.x backend asks of the frontends that use it: limits
// stood there, middlewares stand in each frontend's chain here.
type backend struct {
	broken      bool
	middlewares []named
}

// named is a middleware under the last part of its name.
type named struct {
	suffix string
	config.Middleware
}

// named gives the objects of a section whose keys are their names.
func (t *translator) named(n *config.Node, what string) []child {
	if n != nil && n.Kind != config.Map {
		if !isEmpty(n) {
			t.fail(n.Origin, what+"s", "is not a section of named "+what+"s", "")
		}
		return nil
	}
	return children(n)
}

func (t *translator) backend(name string, n *config.Node) {
	o := t.open(n, "backend "+name)
	s := config.Service{Origin: n.Origin, LoadBalancer: &config.LoadBalancer{}}
	b := backend{}
	t.servers(o, name, s.LoadBalancer)
	t.balancing(o.tuning("loadBalancer"), s.LoadBalancer)
	t.healthCheck(o.tuning("healthCheck"), s.LoadBalancer)
	if m, ok := t.maxConn(o.tuning("maxConn")); ok {
		b.middlewares = append(b.middlewares, m)
	}
	if r := o.tuning("responseForwarding"); r != nil {
		s.LoadBalancer.ResponseForwarding = r.duration("flushInterval")
		r.done()
	}
	t.notInForce(o, "circuitBreaker", "buffering")
	o.done()
	b.broken = *o.broken
	t.backends[name] = b
	if !b.broken {
		t.out.Services[name] = s
	}
}

// notInForce accepts sections whose feature does not exist yet.
func (t *translator) notInForce(o *object, names ...string) {
	for _, name := range names {
		if n := o.field(name); n != nil {
			o.warn(n.Origin, name+" is not in force yet: requests pass without it", "")
		}
	}
}

// servers reads servers/S. A server that cannot be read is left out alone.
func (t *translator) servers(o *object, backend string, lb *config.LoadBalancer) {
	for _, c := range children(o.field("servers")) {
		s := t.open(c.node, fmt.Sprintf("backend %s, server %s", backend, c.name))
		url, _ := s.text("url")
		server := config.Server{Origin: c.node.Origin, Name: c.name, URL: url,
			Weight: int(s.integer(1, 0, maxWeight, "weight"))}
		if tags := s.field("tags"); tags != nil {
			s.warn(tags.Origin, "tags are not in force yet: the server is used whatever they say", "")
		}
		s.done()
		if url == "" && !*s.broken {
			s.fail(c.node.Origin, "has no url", "url: http://host:port")
		}
		if !*s.broken {
			lb.Servers = append(lb.Servers, server)
		}
	}
}

const maxWeight = 1 << 20

func (t *translator) balancing(o *object, lb *config.LoadBalancer) {
	if o == nil {
		return
	}
	if method, n := o.text("method"); n != nil && !strings.EqualFold(method, "wrr") && method != "" {
		o.warn(n.Origin, fmt.Sprintf("method %q is not in force yet: wrr is used", method), "wrr")
	}
	if o.boolean(false, "sticky") {
		lb.Sticky = &config.Sticky{CookieName: "_TRAEFIK_BACKEND"}
	}
	if s, on := t.stickiness(o.field("stickiness")); on {
		lb.Sticky = &s
	}
	o.done()
}

// stickiness is a section, or in a store the word true.
func (t *translator) stickiness(n *config.Node) (config.Sticky, bool) {
	if n == nil {
		return config.Sticky{}, false
	}
	if n.Kind == config.Scalar {
		return config.Sticky{}, !strings.EqualFold(scalarText(n), "false")
	}
	o := t.open(n, "stickiness")
	o.lenient = n.Weak
	var s config.Sticky
	s.CookieName, _ = o.text("cookieName")
	s.Secure = o.boolean(false, "secure")
	s.HTTPOnly = o.boolean(false, "httpOnly")
	sameSite, _ := o.text("sameSite")
	s.SameSite = strings.ToLower(sameSite)
	o.done()
	return s, !*o.broken
}

func (t *translator) healthCheck(o *object, lb *config.LoadBalancer) {
	if o == nil {
		return
	}
	h := &config.HealthCheck{Interval: o.duration("interval"), Port: int(o.integer(0, 0, 65535, "port"))}
	h.Scheme, _ = o.text("scheme")
	h.Path, _ = o.text("path")
	h.Hostname, _ = o.text("hostname")
	for _, f := range o.texts("headers") {
		if h.Headers == nil {
			h.Headers = map[string]string{}
		}
		h.Headers[f.Name] = scalarText(f.Node)
	}
	o.done()
	if h.Path != "" {
		lb.HealthCheck = h
	}
}

func (t *translator) certificate(name string, n *config.Node) {
	o := t.open(n, "tls "+name)
	c := config.Certificate{Origin: n.Origin, EntryPoints: o.list("entryPoints")}
	if pair := o.section("certificate"); pair != nil {
		c.CertFile, _ = pair.text("certFile")
		c.KeyFile, _ = pair.text("keyFile")
		pair.done()
	}
	o.done()
	if (c.CertFile == "" || c.KeyFile == "") && !*o.broken {
		o.fail(n.Origin, "needs a certificate and its key", "certificate.certFile and certificate.keyFile")
	}
	if !*o.broken {
		t.out.Certificates = append(t.out.Certificates, c)
	}
}
