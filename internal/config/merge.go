package config

import (
	"fmt"
	"maps"
	"reflect"
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
func Merge(sources map[string]Routing) (Routing, []Problem) { return new(Merger).Merge(sources) }

// Merger merges again and again: what a provider publishes as it was (the same
// map) is not merged anew. The result is that of Merge; its maps may be those
// of the last result, and are not to be changed. The zero value is ready; one
// goroutine may merge at a time.
type Merger struct {
	sources  map[string]Routing
	merged   Routing
	problems []Problem // of routers
}

// Merge is Merge, quicker.
func (k *Merger) Merge(sources map[string]Routing) (Routing, []Problem) {
	m := merger{sources: sources, providers: slices.Sorted(maps.Keys(sources))}
	known := k.sources != nil && maps.EqualFunc(k.sources, sources, func(Routing, Routing) bool { return true })
	unchanged := func(same func(a, b Routing) bool) bool { return known && maps.EqualFunc(k.sources, sources, same) }
	m.tlsOptions()
	named := sameNames(k.merged.TLSOptions, m.out.TLSOptions) // and middlewares, and services: they are what they were
	if unchanged(func(a, b Routing) bool { return sameMap(a.Middlewares, b.Middlewares) }) {
		m.out.Middlewares = k.merged.Middlewares
	} else {
		m.middlewares()
		named = named && sameNames(k.merged.Middlewares, m.out.Middlewares)
	}
	switch {
	case unchanged(func(a, b Routing) bool { return sameMap(a.Services, b.Services) }):
		m.out.Services = k.merged.Services
	case known && m.patchServices(k):
	default:
		m.services()
		named = named && sameNames(k.merged.Services, m.out.Services)
	}
	if named && unchanged(func(a, b Routing) bool { return sameMap(a.Routers, b.Routers) }) {
		m.out.Routers, m.problems = k.merged.Routers, k.problems
	} else {
		m.routers()
	}
	for _, provider := range m.providers {
		m.out.Certificates = append(m.out.Certificates, sources[provider].Certificates...)
		m.out.Wishes = append(m.out.Wishes, sources[provider].Wishes...)
	}
	*k = Merger{sources: maps.Clone(sources), merged: m.out, problems: m.problems}
	return m.out, slices.Clone(m.problems)
}

// sameMap reports whether a and b are one map: what is published does not
// change.
func sameMap[V any](a, b map[string]V) bool {
	return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

func sameNames[V any](a, b map[string]V) bool {
	return maps.EqualFunc(a, b, func(V, V) bool { return true })
}

func qualify(name, provider string) string { return name + "@" + provider }

// merger makes one result.
type merger struct {
	sources   map[string]Routing
	providers []string // sorted
	out       Routing
	problems  []Problem
}

func (m *merger) tlsOptions() {
	for _, provider := range m.providers {
		for name, o := range m.sources[provider].TLSOptions {
			if m.out.TLSOptions == nil {
				m.out.TLSOptions = map[string]TLSOptions{}
			}
			m.out.TLSOptions[qualify(name, provider)] = o
		}
	}
}

func (m *merger) middlewares() {
	m.out.Middlewares = map[string]Middleware{}
	for _, provider := range m.providers {
		for name, mw := range m.sources[provider].Middlewares {
			m.out.Middlewares[qualify(name, provider)] = mw
		}
	}
}

func (m *merger) services() {
	n := 0
	for _, r := range m.sources {
		n += len(r.Services)
	}
	m.out.Services = make(map[string]Service, n)
	type weighted struct{ name, provider string }
	var later []weighted // until all names are known
	for _, provider := range m.providers {
		for name, s := range m.sources[provider].Services {
			name = qualify(name, provider)
			m.out.Services[name] = s
			if s.Weighted != nil {
				later = append(later, weighted{name, provider})
			}
		}
	}
	for _, w := range later {
		m.out.Services[w.name] = m.service(m.out.Services[w.name], w.provider)
	}
}

// patchServices makes the services of those before and what has changed; false:
// their names have changed.
func (m *merger) patchServices(k *Merger) bool {
	for provider, r := range m.sources {
		if !sameMap(r.Services, k.sources[provider].Services) && !sameNames(r.Services, k.sources[provider].Services) {
			return false
		}
	}
	m.out.Services = maps.Clone(k.merged.Services)
	for provider, r := range m.sources {
		before := k.sources[provider].Services
		if sameMap(r.Services, before) {
			continue
		}
		for name, s := range r.Services {
			if s != before[name] {
				m.out.Services[qualify(name, provider)] = m.service(s, provider)
			}
		}
	}
	return true
}

func (m *merger) routers() {
	n := 0
	for _, r := range m.sources {
		n += len(r.Routers)
	}
	m.out.Routers = make(map[string]Router, n)
	for _, provider := range m.providers {
		before := len(m.problems)
		for name, router := range m.sources[provider].Routers {
			m.router(name, router, provider)
		}
		suffix := qualify("", provider)
		slices.SortStableFunc(m.problems[before:], func(a, b Problem) int {
			return strings.Compare(strings.TrimSuffix(a.Object, suffix), strings.TrimSuffix(b.Object, suffix))
		})
	}
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
	qualified := qualify(name, provider)
	r.Middlewares = slices.Clone(r.Middlewares)
	for i, mw := range r.Middlewares {
		full, ok := reference(m.out.Middlewares, mw, provider)
		if !ok {
			m.problems = append(m.problems, Problem{
				Origin:  r.Origin,
				Object:  "router " + qualified,
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
			Object:  "router " + qualified,
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
	m.out.Routers[qualified] = r
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
