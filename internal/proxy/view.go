package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/upstream"
)

// View is a snapshot as the API shows it, with the live state of services.
// Secrets are redacted; nothing in it is shared with what is served.
type View struct {
	EntryPoints []EntryPointView       `json:"entryPoints"`
	Routers     []RouterView           `json:"routers"`
	Middlewares []MiddlewareView       `json:"middlewares"`
	Services    []upstream.ServiceView `json:"services"`
	Problems    []config.Problem       `json:"problems"`
}

// EntryPointView is an entry point with its routes in match order.
type EntryPointView struct {
	Name        string   `json:"name"`
	Address     string   `json:"address"`
	TLS         bool     `json:"tls"`
	Middlewares []string `json:"middlewares"` // kinds, outermost first
	Routes      []string `json:"routes"`      // names of routers
}

// RouterView is a router that is served.
type RouterView struct {
	Name        string         `json:"name"`
	Origin      config.Origin  `json:"origin"`
	EntryPoints []string       `json:"entryPoints"`
	Rule        string         `json:"rule"` // canonical
	Priority    int            `json:"priority"`
	Middlewares []string       `json:"middlewares"`
	Service     string         `json:"service"`
	TLS         *RouterTLSView `json:"tls,omitempty"`
	Refusal     string         `json:"refusal,omitempty"` // why it answers 503
}

// RouterTLSView is what a router asks of TLS.
type RouterTLSView struct {
	CertResolver string          `json:"certResolver,omitempty"`
	Domains      []config.Domain `json:"domains,omitempty"`
	Options      string          `json:"options,omitempty"`
}

// MiddlewareView is a declared middleware.
type MiddlewareView struct {
	Name     string        `json:"name"`
	Origin   config.Origin `json:"origin"`
	Kind     string        `json:"kind"`
	Params   any           `json:"params,omitempty"` // secrets redacted
	Problems []string      `json:"problems,omitempty"`
}

// View shows the snapshot.
func (s *Snapshot) View() View {
	v := View{
		EntryPoints: []EntryPointView{}, Routers: []RouterView{}, Middlewares: slices.Clone(s.middlewares),
		Services: s.services.View(), Problems: append([]config.Problem{}, s.problems...),
	}
	if v.Middlewares == nil {
		v.Middlewares = []MiddlewareView{}
	}
	for _, p := range s.points {
		ep := EntryPointView{Name: p.Name, Address: p.Address, TLS: p.TLS, Middlewares: []string{}, Routes: []string{}}
		for _, m := range p.Middlewares {
			ep.Middlewares = append(ep.Middlewares, m.Kind)
		}
		for _, i := range p.table.Order() {
			ep.Routes = append(ep.Routes, p.routes[i].router)
		}
		v.EntryPoints = append(v.EntryPoints, ep)
	}
	for _, r := range s.routers {
		rv := RouterView{
			Name: r.name, Origin: r.declared.Origin, Rule: r.rule.String(), Priority: r.priority,
			Middlewares: append([]string{}, r.declared.Middlewares...), Service: r.declared.Service, Refusal: r.why,
		}
		for _, at := range r.at {
			rv.EntryPoints = append(rv.EntryPoints, s.points[at.point].Name)
		}
		if tls := r.declared.TLS; tls != nil {
			rv.TLS = &RouterTLSView{CertResolver: tls.CertResolver, Domains: slices.Clone(tls.Domains), Options: tls.Options}
		}
		v.Routers = append(v.Routers, rv)
	}
	return v
}

const redacted = "(secret)"

// secretWords mark a key whose value is not shown; secretSigns a value.
var (
	secretWords = []string{"user", "password", "passwd", "secret", "token", "auth", "credential", "cookie", "apikey", "api-key", "private", "signature"}
	secretSigns = []string{"-----BEGIN", ":$", ":{SHA}", "Bearer ", "Basic "}
)

// redact gives parameters as plain values (map[string]any, []any, scalars)
// without what may be a secret. A middleware may be unknown to us, or written
// wrongly, so that this cannot go by its types: it goes by words.
func redact(n *config.Node) any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case config.Map:
		m := make(map[string]any, len(n.Fields))
		for _, f := range n.Fields {
			if isSecretKey(f.Name) {
				m[f.Name] = redacted
			} else {
				m[f.Name] = redact(f.Node)
			}
		}
		return m
	case config.List:
		list := make([]any, len(n.Items))
		for i, item := range n.Items {
			list[i] = redact(item)
		}
		return list
	}
	if text := fmt.Sprint(n.Value); slices.ContainsFunc(secretSigns, func(s string) bool { return strings.Contains(text, s) }) {
		return redacted
	}
	return n.Value
}

func isSecretKey(name string) bool {
	name = strings.ToLower(name)
	if strings.HasSuffix(name, "file") {
		return false // says where, not what
	}
	return name == "key" || slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(name, w) })
}

// String is the snapshot's canonical text: the same routing gives the same
// text, whatever the order it was declared in. Live state is not part of it.
func (s *Snapshot) String() string {
	v := s.View()
	var b strings.Builder
	byName := map[string]RouterView{}
	for _, r := range v.Routers {
		byName[r.Name] = r
	}
	for _, ep := range v.EntryPoints {
		ep.write(&b, byName)
	}
	for _, m := range v.Middlewares {
		fmt.Fprintf(&b, "middleware %s\n  kind %s\n", m.Name, m.Kind)
		writeParams(&b, "", m.Params)
	}
	for _, service := range v.Services {
		writeService(&b, service)
	}
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "%s %s\n", map[bool]string{false: "problem", true: "warning"}[p.Warning], p)
	}
	return b.String()
}

func (ep EntryPointView) write(b *strings.Builder, routers map[string]RouterView) {
	fmt.Fprintf(b, "entry point %s %s", ep.Name, ep.Address)
	if ep.TLS {
		b.WriteString(" tls")
	}
	b.WriteByte('\n')
	if len(ep.Middlewares) > 0 {
		fmt.Fprintf(b, "  middlewares %s\n", strings.Join(ep.Middlewares, ", "))
	}
	for _, name := range ep.Routes {
		r := routers[name]
		fmt.Fprintf(b, "  route %s\n    rule %s\n    priority %d\n", r.Name, r.Rule, r.Priority)
		if len(r.Middlewares) > 0 {
			fmt.Fprintf(b, "    middlewares %s\n", strings.Join(r.Middlewares, ", "))
		}
		fmt.Fprintf(b, "    service %s\n", r.Service)
		if r.TLS != nil {
			fmt.Fprintf(b, "    tls %s\n", r.TLS)
		}
		if r.Refusal != "" {
			fmt.Fprintf(b, "    answers 503: %s\n", r.Refusal)
		}
	}
}

// String is "resolver NAME, domains a b; c".
func (t *RouterTLSView) String() string {
	var parts []string
	if t.CertResolver != "" {
		parts = append(parts, "resolver "+t.CertResolver)
	}
	if t.Options != "" {
		parts = append(parts, "options "+t.Options)
	}
	var domains []string
	for _, d := range t.Domains {
		domains = append(domains, strings.Join(d.Names(), " "))
	}
	if len(domains) > 0 {
		parts = append(parts, "domains "+strings.Join(domains, "; "))
	}
	return cmp.Or(strings.Join(parts, ", "), "required")
}

// writeParams writes redacted parameters, one per line, keys sorted.
func writeParams(b *strings.Builder, key string, value any) {
	switch value := value.(type) {
	case nil:
	case map[string]any:
		if key != "" {
			key += "."
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			writeParams(b, key+name, value[name])
		}
	case []any:
		for i, v := range value {
			writeParams(b, fmt.Sprintf("%s[%d]", key, i), v)
		}
	default:
		fmt.Fprintf(b, "  %s = %v\n", key, value)
	}
}

func writeService(b *strings.Builder, s upstream.ServiceView) {
	fmt.Fprintf(b, "service %s\n", s.Name)
	for _, srv := range s.Servers {
		fmt.Fprintf(b, "  server %s\n", strings.TrimSpace(fmt.Sprintf("%s %s weight %d", srv.Name, srv.URL, srv.Weight)))
	}
	for _, share := range s.Services {
		fmt.Fprintf(b, "  share %s weight %d\n", share.Name, share.Weight)
	}
	if s.StickyCookie != "" {
		fmt.Fprintf(b, "  sticky cookie %s\n", s.StickyCookie)
	}
	if s.HealthCheck != "" {
		fmt.Fprintf(b, "  health check %s\n", s.HealthCheck)
	}
	if s.MaxConn > 0 {
		fmt.Fprintf(b, "  at most %d requests\n", s.MaxConn)
	}
	if len(s.Servers) > 0 && !s.PassHostHeader {
		b.WriteString("  servers see their own host\n")
	}
}
