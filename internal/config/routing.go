package config

import (
	"errors"
	"strings"
	"time"
)

// Routing is the part of the configuration that changes while running: what a
// provider publishes, always whole. Map keys are names local to the provider;
// Merge qualifies them as name@provider. Values are immutable once published.
type Routing struct {
	Routers      map[string]Router
	Middlewares  map[string]Middleware
	Services     map[string]Service
	Certificates []Certificate // certificates from files or PEM, for the handshake
	Wishes       []Wish        // certificates asked for beside those of routers
	TLSOptions   map[string]TLSOptions
}

// Router joins a rule to a service through middlewares.
type Router struct {
	Origin      Origin
	EntryPoints []string // empty: the default entry points
	Rule        string   // our rule language; see package route
	Priority    int      // > 0: this; else the length of the rule
	Middlewares []string // names, in order, outermost first
	Service     string
	// Closed: what it matches is answered 404, as if nothing did, and so kept
	// from less specific routers. It has no service.
	Closed bool
	// PassHostHeader overrides the service's setting; nil: the service decides.
	PassHostHeader *bool
	// TLS nil: served with and without TLS alike, as the entry point is.
	TLS *RouterTLS
}

// RouterTLS restricts a router to TLS and may ask for certificates.
type RouterTLS struct {
	CertResolver string
	Domains      []Domain
	Options      string // the name of TLSOptions for the hosts of the rule; "": the entry point's hold
}

// TLSOptions are what TLS is like for the hosts of the routers that name them.
// What they leave out is as the entry point has it.
type TLSOptions struct {
	Origin         Origin
	Profile        string // "modern", "intermediate"
	MinVersion     string
	CipherSuites   []string
	ClientCAs      []string // paths or PEM text of whom client certificates are asked
	ClientOptional bool     // a client may have none
	NoClientCert   bool     // none is asked for, though the entry point does
}

// Domain is one certificate's set of names.
type Domain struct {
	Main string   `key:"main" json:"main"`
	SANs []string `key:"sans" json:"sans,omitempty"`
}

// Names gives Main and SANs in order, without repeats.
func (d Domain) Names() []string {
	names := make([]string, 0, 1+len(d.SANs))
	seen := map[string]bool{"": true}
	for _, n := range append([]string{d.Main}, d.SANs...) {
		if !seen[n] {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// takeText reads "main.com,san1.com", the form of flags.
func (d *Domain) takeText(s string) error {
	d.Main, d.SANs = "", nil
	for name := range strings.SplitSeq(s, ",") {
		switch name = unquote(name); {
		case name == "":
		case d.Main == "":
			d.Main = name
		default:
			d.SANs = append(d.SANs, name)
		}
	}
	if d.Main == "" {
		return errors.New("no name: main.com,san1.com")
	}
	return nil
}

// Middleware is declared by kind and undecoded parameters: the middleware
// decodes them itself, strictly (package middleware).
type Middleware struct {
	Origin Origin
	Kind   string // "stripPrefix", "basicAuth", ...
	Params *Node  // a Map node; nil: no parameters
}

// Service is where requests go: exactly one of its forms is set.
type Service struct {
	Origin       Origin
	LoadBalancer *LoadBalancer
	Weighted     *Weighted
}

// Weighted spreads requests over other services.
type Weighted struct {
	Services []WeightedService
	Sticky   *Sticky
}

// WeightedService is a share of a Weighted service. Weight 0 gets nothing.
type WeightedService struct {
	Name   string
	Weight int
}

// LoadBalancer is a set of servers that answer alike.
type LoadBalancer struct {
	Servers            []Server
	Sticky             *Sticky
	HealthCheck        *HealthCheck
	PassHostHeader     *bool // nil: true
	MaxConn            int   // 0: no bound
	ResponseForwarding time.Duration
	ServersTransport   ServersTransport
}

// Server is one origin.
type Server struct {
	Origin Origin
	Name   string // stable within the service; the identity state is kept under
	URL    string // http, https or h2c, host and port, no query
	Weight int    // 0: gets nothing
}

// Sticky keeps a client on one server by a cookie.
type Sticky struct {
	CookieName string `key:"name"` // "": derived from the service's name
	Secure     bool   `key:"secure"`
	HTTPOnly   bool   `key:"httpOnly"`
	SameSite   string `key:"sameSite"` // "", "lax", "strict", "none"
}

// HealthCheck is an active probe of each server.
type HealthCheck struct {
	Scheme   string            `key:"scheme"`
	Path     string            `key:"path"`
	Port     int               `key:"port"`
	Hostname string            `key:"hostname"`
	Headers  map[string]string `key:"headers"`
	Interval time.Duration     `key:"interval"` // 0: 30 s
	Timeout  time.Duration     `key:"timeout"`  // 0: 5 s
}

// ServersTransport says how servers are reached.
type ServersTransport struct {
	ServerName         string   `key:"serverName"`
	InsecureSkipVerify bool     `key:"insecureSkipVerify"`
	RootCAs            []string `key:"rootCAs"` // path or PEM
	// Certificates are shown to servers that ask for one: the first that fits.
	Certificates []KeyPair `key:"certificates"`
	DisableHTTP2 bool      `key:"disableHTTP2"` // over TLS, not even where the server speaks it
}

// Certificate is a certificate somebody else keeps: paths or PEM text.
type Certificate struct {
	Origin      Origin
	CertFile    string
	KeyFile     string
	EntryPoints []string // empty: all with TLS
	// Hosts are the names it may be served for, of those it carries; empty: all.
	Hosts []string
}

// Wish asks for a certificate for names that are served, if anybody issues.
type Wish struct {
	Origin   Origin
	Domain   Domain
	Resolver string     // who shall issue, as in RouterTLS; "": whoever would anyway
	Secret   SecretName // of Kubernetes, where it shall stand as well; no name: nowhere
}

// SecretName names a Secret of Kubernetes.
type SecretName struct{ Namespace, Name string }
