package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Merge joins what all providers publish (by the provider's name) into one
// Routing. It is pure, and the order of the providers does not matter.
//
// Every name becomes name@provider. A reference is looked for in its own
// provider first, then as it stands (already qualified). A router whose
// middleware or service nobody declares is kept with the name qualified, so
// that it answers 503 instead of letting another router take its requests.
// Both are Problems. Names inside a weighted service are qualified too; a missing one
// is left for package upstream to report, which knows more reasons.
func Merge(sources map[string]Routing) (Routing, []Problem) {
	m := merger{out: Routing{
		Routers:     map[string]Router{},
		Middlewares: map[string]Middleware{},
		Services:    map[string]Service{},
	}}
	for provider, r := range sorted(sources) {
		for name, mw := range r.Middlewares {
			m.out.Middlewares[qualify(name, provider)] = mw
		}
		for name := range r.Services {
			m.out.Services[qualify(name, provider)] = Service{}
		}
		for name, o := range r.TLSOptions {
			if m.out.TLSOptions == nil {
				m.out.TLSOptions = map[string]TLSOptions{}
			}
			m.out.TLSOptions[qualify(name, provider)] = o
		}
		m.out.Certificates = append(m.out.Certificates, r.Certificates...)
		m.out.Wishes = append(m.out.Wishes, r.Wishes...)
	}
	for provider, r := range sorted(sources) {
		for name, s := range r.Services {
			m.out.Services[qualify(name, provider)] = m.service(s, provider)
		}
		for name, router := range sorted(r.Routers) {
			m.router(name, router, provider)
		}
	}
	return m.out, m.problems
}

func qualify(name, provider string) string { return name + "@" + provider }

type merger struct {
	out      Routing
	problems []Problem
}

// reference finds what a name in one provider means.
func reference[V any](in map[string]V, name, provider string) (string, bool) {
	local := qualify(name, provider)
	if _, ok := in[local]; ok {
		return local, true
	}
	if _, ok := in[name]; ok {
		return name, true
	}
	if strings.Contains(name, "@") {
		return name, false
	}
	return local, false
}

func (m *merger) service(s Service, provider string) Service {
	if s.Weighted == nil {
		return s
	}
	w := *s.Weighted
	w.Services = slices.Clone(w.Services)
	for i := range w.Services {
		w.Services[i].Name, _ = reference(m.out.Services, w.Services[i].Name, provider)
	}
	s.Weighted = &w
	return s
}

func (m *merger) router(name string, r Router, provider string) {
	object := "router " + qualify(name, provider)
	r.Middlewares = slices.Clone(r.Middlewares)
	for i, mw := range r.Middlewares {
		full, ok := reference(m.out.Middlewares, mw, provider)
		if !ok {
			m.problems = append(m.problems, Problem{
				Origin:  r.Origin,
				Object:  object,
				Message: fmt.Sprintf("no such middleware: %s; the router answers 503", full),
				Allowed: among(full, m.out.Middlewares),
			})
		}
		r.Middlewares[i] = full
	}
	full, ok := reference(m.out.Services, r.Service, provider)
	if r.Closed {
		full, ok = "", true
	}
	if !ok {
		m.problems = append(m.problems, Problem{
			Origin:  r.Origin,
			Object:  object,
			Message: fmt.Sprintf("no such service: %s; the router answers 503", full),
			Allowed: among(full, m.out.Services),
		})
	}
	r.Service = full
	if r.TLS != nil && r.TLS.Options != "" {
		tls := *r.TLS // one that is missing is for package proxy to report
		tls.Options, _ = reference(m.out.TLSOptions, tls.Options, provider)
		r.TLS = &tls
	}
	m.out.Routers[qualify(name, provider)] = r
}

// among suggests a name; with nothing near it says nothing, since the list of
// all names may be endless. With very many names it does not look: thousands
// of broken references must not hold up a merge.
func among[V any](name string, in map[string]V) string {
	if len(in) > 500 {
		return ""
	}
	if near := nearest(name, slices.Sorted(maps.Keys(in))); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}
