package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The form of routing configuration as it is written: the words of Traefik 2
// and 3. Every object is first kept undecoded, so that a bad one is left out
// alone.
type (
	writtenRouting struct {
		HTTP struct {
			Routers           objects `key:"routers"`
			Middlewares       objects `key:"middlewares"`
			Services          objects `key:"services"`
			ServersTransports objects `key:"serversTransports"`
		} `key:"http"`
		TLS struct {
			Certificates []*Node          `key:"certificates"`
			Options      map[string]*Node `key:"options"`
		} `key:"tls"`
	}
	writtenRouter struct {
		EntryPoints    []string `key:"entryPoints"`
		Rule           string   `key:"rule"`
		Priority       int      `key:"priority"`
		Middlewares    []string `key:"middlewares"`
		Service        string   `key:"service"`
		PassHostHeader *bool    `key:"passHostHeader"`
		TLS            *struct {
			CertResolver string   `key:"certResolver"`
			Domains      []Domain `key:"domains"`
			Options      string   `key:"options"`
		} `key:"tls"`
	}
	writtenService struct {
		LoadBalancer *writtenLoadBalancer `key:"loadBalancer"`
		Weighted     *writtenWeighted     `key:"weighted"`
	}
	writtenLoadBalancer struct {
		Servers            []*Node       `key:"servers"`
		Sticky             *writtenStick `key:"sticky"`
		HealthCheck        *HealthCheck  `key:"healthCheck"`
		PassHostHeader     *bool         `key:"passHostHeader"`
		MaxConn            int           `key:"maxConn"`
		ResponseForwarding struct {
			FlushInterval time.Duration `key:"flushInterval"`
		} `key:"responseForwarding"`
		ServersTransport *Node `key:"serversTransport"`
	}
	writtenWeighted struct {
		Services []writtenShare `key:"services"`
		Sticky   *writtenStick  `key:"sticky"`
	}
	writtenShare struct {
		Name   string `key:"name"`
		Weight *int   `key:"weight"`
	}
	writtenStick struct {
		Cookie Sticky `key:"cookie"`
	}
	writtenServer struct {
		Name   string `key:"name"`
		URL    string `key:"url"`
		Weight *int   `key:"weight"`
	}
	writtenTLSOptions struct {
		Profile      string   `key:"profile"`
		MinVersion   string   `key:"minVersion"`
		CipherSuites []string `key:"cipherSuites"`
		ClientAuth   struct {
			CAFiles []string `key:"caFiles"`
			Type    string   `key:"clientAuthType"`
		} `key:"clientAuth"`
	}
	writtenCertificate struct {
		CertFile    string   `key:"certFile"`
		KeyFile     string   `key:"keyFile"`
		EntryPoints []string `key:"entryPoints"`
	}
)

// ParseRouting reads routing configuration in our own form:
//
//	http.routers.<r>.{rule, entryPoints, priority, service, middlewares,
//	    passHostHeader, tls.{certResolver, domains, options}}
//	http.services.<s>.loadBalancer.{servers, sticky.cookie, healthCheck,
//	    passHostHeader, maxConn, responseForwarding.flushInterval, serversTransport}
//	http.services.<s>.weighted.{services, sticky.cookie}
//	http.middlewares.<m>.<kind>, its parameters left undecoded
//	http.serversTransports.<t>.{serverName, insecureSkipVerify, rootCAs,
//	    certificates, disableHTTP2}
//	tls.certificates[].{certFile, keyFile, entryPoints}
//	tls.options.<o>.{profile, minVersion, cipherSuites,
//	    clientAuth.{caFiles, clientAuthType}}
//
// A bad object is left out with a Problem, the rest is kept. provider becomes
// part of every origin. A nil n is an empty Routing.
func ParseRouting(n *Node, provider string) (Routing, []Problem) {
	p := routingParser{provider: provider, schema: schema{}, transports: map[string]ServersTransport{}, out: Routing{
		Middlewares: map[string]Middleware{},
	}}
	var w writtenRouting
	d := decoder{schema: p.schema}
	p.problems = d.run(n, &w)
	p.out.Routers = make(map[string]Router, len(w.HTTP.Routers))
	p.out.Services = make(map[string]Service, len(w.HTTP.Services))
	if n != nil {
		p.weak, p.nanos = n.Weak, n.Nanos
	}
	for name, node := range w.HTTP.ServersTransports.sorted() {
		var t ServersTransport
		if p.decode("servers transport", name, node, &t) {
			p.transports[name] = t
		}
	}
	for name, node := range w.HTTP.Services.sorted() {
		p.service(name, node)
	}
	for name, node := range w.HTTP.Middlewares.sorted() {
		p.middleware(name, node)
	}
	for name, node := range w.HTTP.Routers.sorted() {
		p.router(name, node)
	}
	for i, node := range w.TLS.Certificates {
		p.certificate(strconv.Itoa(i), node)
	}
	for name, node := range sorted(w.TLS.Options) {
		p.tlsOptions(name, node)
	}
	return p.out, p.problems
}

// objects are the fields of a section of named objects, undecoded.
type objects []Field

// sorted goes through the objects in the order of their names; the last of a
// name holds.
func (o objects) sorted() func(yield func(string, *Node) bool) {
	byName := func(a, b Field) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(o, byName) {
		o = slices.Clone(o)
		slices.SortStableFunc(o, byName)
	}
	return func(yield func(string, *Node) bool) {
		for i := range o {
			again := i+1 < len(o) && o[i+1].Name == o[i].Name
			if !again && !yield(o[i].Name, o[i].Node) {
				return
			}
		}
	}
}

// sorted goes through a map in the order of its keys.
func sorted[V any](m map[string]V) func(yield func(string, V) bool) {
	return func(yield func(string, V) bool) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}

type routingParser struct {
	provider    string
	weak, nanos bool
	schema      schema
	path        []string // room for a decoder
	transports  map[string]ServersTransport
	out         Routing
	problems    []Problem
}

func (p *routingParser) origin(n *Node) Origin {
	o := n.Origin
	o.Provider = p.provider
	return o
}

func (p *routingParser) bad(n *Node, kind, name, message, allowed string) {
	p.problems = append(p.problems, Problem{
		Origin: p.origin(n), Object: kind + " " + name + "@" + p.provider, Message: message, Allowed: allowed,
	})
}

// inherit gives a part what held for the whole tree.
func (p *routingParser) inherit(n *Node) *Node {
	if n.Weak == (n.Weak || p.weak) && n.Nanos == (n.Nanos || p.nanos) {
		return n
	}
	c := *n
	c.Weak, c.Nanos = c.Weak || p.weak, c.Nanos || p.nanos
	return &c
}

// decode decodes one object; false if it has to be left out.
func (p *routingParser) decode(kind, name string, n *Node, into any) bool {
	n = p.inherit(n)
	if n.Kind != Map && !(n.Weak && n.Value == "") {
		p.bad(n, kind, name, describeNode(n)+" where a section is wanted", "")
		return false
	}
	d := decoder{schema: p.schema, path: p.path[:0]}
	problems := d.run(n, into)
	p.path = d.path
	for _, problem := range problems {
		problem.Origin.Provider = p.provider
		problem.Message = strings.TrimPrefix(problem.Object+": "+problem.Message, ": ")
		problem.Object = kind + " " + name + "@" + p.provider
		p.problems = append(p.problems, problem)
	}
	return !Failed(problems)
}

func (p *routingParser) router(name string, n *Node) {
	var w writtenRouter
	if !p.decode("router", name, n, &w) {
		return
	}
	switch {
	case w.Rule == "":
		p.bad(n, "router", name, "no rule", "rule = \"Host(`example.com`)\"")
		return
	case w.Service == "":
		p.bad(n, "router", name, "no service", "service = \"name\"")
		return
	}
	r := Router{
		Origin: p.origin(n), EntryPoints: w.EntryPoints, Rule: w.Rule, Priority: w.Priority,
		Middlewares: w.Middlewares, Service: w.Service, PassHostHeader: w.PassHostHeader,
	}
	if w.TLS != nil {
		for i, d := range w.TLS.Domains {
			for _, host := range d.Names() {
				if !validName(host) {
					p.bad(n, "router", name, fmt.Sprintf("tls.domains.%d: not a domain name: %q", i, host), "example.com or *.example.com")
					return
				}
			}
		}
		r.TLS = &RouterTLS{CertResolver: w.TLS.CertResolver, Domains: w.TLS.Domains, Options: w.TLS.Options}
	}
	p.out.Routers[name] = r
}

// tlsOptions leaves bad options out: the hosts that demand them are refused.
func (p *routingParser) tlsOptions(name string, n *Node) {
	var w writtenTLSOptions
	if !p.decode("TLS options", name, n, &w) {
		return
	}
	o := TLSOptions{
		Origin: p.origin(n), Profile: w.Profile, MinVersion: w.MinVersion, CipherSuites: w.CipherSuites, ClientCAs: w.ClientAuth.CAFiles,
	}
	switch {
	case o.Profile != "" && !slices.Contains(tlsProfiles, o.Profile):
		p.bad(n, "TLS options", name, fmt.Sprintf("no such profile: %q", o.Profile), strings.Join(tlsProfiles, ", "))
		return
	case o.Profile != "" && (o.MinVersion != "" || len(o.CipherSuites) > 0):
		p.bad(n, "TLS options", name, "a profile says versions and suites itself", "either profile, or minVersion and cipherSuites")
		return
	case o.MinVersion != "" && !slices.Contains(tlsVersions, o.MinVersion):
		p.bad(n, "TLS options", name, fmt.Sprintf("no such TLS version: %q", o.MinVersion), strings.Join(tlsVersions, ", "))
		return
	}
	switch w.ClientAuth.Type {
	case "":
	case "NoClientCert":
		o.ClientCAs, o.NoClientCert = nil, true
	case "RequireAndVerifyClientCert", "VerifyClientCertIfGiven":
		o.ClientOptional = w.ClientAuth.Type == "VerifyClientCertIfGiven"
		if len(o.ClientCAs) == 0 {
			p.bad(n, "TLS options", name, "clientAuth: "+w.ClientAuth.Type+" without an authority to verify by", "caFiles = [\"clients.pem\"]")
			return
		}
	default:
		p.bad(n, "TLS options", name, fmt.Sprintf("clientAuth.clientAuthType: %q is none that verifies", w.ClientAuth.Type),
			"RequireAndVerifyClientCert, VerifyClientCertIfGiven, NoClientCert")
		return
	}
	if p.out.TLSOptions == nil {
		p.out.TLSOptions = map[string]TLSOptions{}
	}
	p.out.TLSOptions[name] = o
}

// middleware keeps the parameters undecoded: the middleware itself knows them.
func (p *routingParser) middleware(name string, n *Node) {
	n = p.inherit(n)
	if n.Kind != Map || len(n.Fields) != 1 {
		var kinds []string
		for _, f := range n.Fields {
			kinds = append(kinds, f.Name)
		}
		message := "no kind"
		if len(kinds) > 1 {
			message = "more than one kind: " + strings.Join(kinds, ", ")
		}
		p.bad(n, "middleware", name, message, "exactly one, such as [http.middlewares."+name+".stripPrefix]")
		return
	}
	f := n.Fields[0]
	m := Middleware{Origin: p.origin(n), Kind: f.Name}
	params := f.Node
	on, isBool := params.Value.(bool)
	if s, isText := params.Value.(string); isText && n.Weak {
		on, isBool = weakBool(s)
		on, isBool = on || s == "", isBool || s == ""
	}
	switch {
	case params.Kind == Map:
		c := *params
		c.Weak, c.Nanos = c.Weak || n.Weak, c.Nanos || n.Nanos
		m.Params = &c
	case params.Kind == Scalar && (params.Value == nil || isBool && on):
	default:
		p.bad(params, "middleware", name, describeNode(params)+" where the parameters of "+f.Name+" are wanted", "a section, or true")
		return
	}
	p.out.Middlewares[name] = m
}

func (p *routingParser) service(name string, n *Node) {
	var w writtenService
	if !p.decode("service", name, n, &w) {
		return
	}
	s := Service{Origin: p.origin(n)}
	ok := false
	switch {
	case w.LoadBalancer != nil && w.Weighted == nil:
		s.LoadBalancer, ok = p.loadBalancer(name, n, w.LoadBalancer)
	case w.Weighted != nil && w.LoadBalancer == nil:
		s.Weighted, ok = p.weighted(name, n, w.Weighted)
	default:
		p.bad(n, "service", name, "not exactly one form", "loadBalancer or weighted")
	}
	if ok {
		p.out.Services[name] = s
	}
}

func (p *routingParser) weighted(name string, n *Node, w *writtenWeighted) (*Weighted, bool) {
	out := &Weighted{Sticky: w.Sticky.cookie()}
	for i, share := range w.Services {
		if share.Name == "" {
			p.bad(n, "service", name, fmt.Sprintf("weighted.services.%d has no name", i), "name of a service")
			return nil, false
		}
		out.Services = append(out.Services, WeightedService{Name: share.Name, Weight: weight(share.Weight)})
	}
	return out, true
}

func (s *writtenStick) cookie() *Sticky {
	if s == nil {
		return nil
	}
	return &s.Cookie
}

// weight is 1 where none is given; 0 gets nothing.
func weight(w *int) int {
	if w == nil {
		return 1
	}
	return *w
}

func (p *routingParser) loadBalancer(name string, n *Node, w *writtenLoadBalancer) (*LoadBalancer, bool) {
	out := &LoadBalancer{
		Sticky:             w.Sticky.cookie(),
		HealthCheck:        w.HealthCheck,
		PassHostHeader:     w.PassHostHeader,
		MaxConn:            w.MaxConn,
		ResponseForwarding: w.ResponseForwarding.FlushInterval,
	}
	if t := w.ServersTransport; t != nil && !p.transport(name, t, out) {
		return nil, false
	}
	for i, node := range w.Servers {
		if s, ok := p.server(name, strconv.Itoa(i), node, out.Servers); ok {
			out.Servers = append(out.Servers, s)
		}
	}
	return out, true
}

// transport is a name under http.serversTransports, or the section itself.
func (p *routingParser) transport(service string, n *Node, lb *LoadBalancer) bool {
	if n.Kind == Map {
		return p.decode("service", service, n, &lb.ServersTransport)
	}
	ref, ok := n.Value.(string)
	if !ok {
		p.bad(n, "service", service, describeNode(n)+" where a servers transport is wanted", "its name, or a section")
		return false
	}
	ref = strings.TrimSuffix(ref, "@"+p.provider)
	if lb.ServersTransport, ok = p.transports[ref]; !ok {
		p.bad(n, "service", service, fmt.Sprintf("no such servers transport: %q", ref),
			suggest(ref, slices.Sorted(maps.Keys(p.transports))))
	}
	return ok
}

// server reads one server; its name is its URL unless it has one. A bad server
// is left out, the others of the service stay.
func (p *routingParser) server(service, at string, n *Node, before []Server) (Server, bool) {
	var w writtenServer
	object := service + " server " + at
	if !p.decode("service", object, n, &w) {
		return Server{}, false
	}
	if w.Name == "" {
		w.Name = w.URL
	}
	s := Server{Origin: p.origin(n), Name: w.Name, URL: w.URL, Weight: weight(w.Weight)}
	switch {
	case s.URL == "":
		p.bad(n, "service", object, "no url", `url = "http://10.0.0.1:8080"`)
		return Server{}, false
	case s.Weight < 0:
		p.bad(n, "service", object, fmt.Sprintf("weight %d is negative", s.Weight), "0 or more")
		return Server{}, false
	}
	for _, b := range before {
		if b.Name == s.Name {
			p.bad(n, "service", object, fmt.Sprintf("%s is there already, at %s", s.Name, b.Origin), "servers of different names or URLs")
			return Server{}, false
		}
	}
	return s, true
}

func (p *routingParser) certificate(at string, n *Node) {
	var w writtenCertificate
	if !p.decode("certificate", at, n, &w) {
		return
	}
	if w.CertFile == "" || w.KeyFile == "" {
		p.bad(n, "certificate", at, "half a certificate", "certFile and keyFile")
		return
	}
	p.out.Certificates = append(p.out.Certificates, Certificate{
		Origin: p.origin(n), CertFile: w.CertFile, KeyFile: w.KeyFile, EntryPoints: w.EntryPoints,
	})
}
