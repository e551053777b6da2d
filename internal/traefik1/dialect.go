package traefik1

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// AllowEmpty is the key, below the routing prefix, whose value true confirms
// that a tree without routing is meant: see package provider/kv.
const AllowEmpty = "allowempty"

// Alias is the key, below the routing prefix, whose value is the prefix that
// routing is read from instead.
const Alias = "alias"

// routingRoots are the keys at the top of a file or tree below which routing
// stands, in our form and in 1.x's.
var routingRoots = []string{"http", "tls", "backends", "frontends", "tlsConfiguration"}

func isRoutingRoot(name string) bool {
	return slices.ContainsFunc(routingRoots, func(r string) bool { return strings.EqualFold(r, name) })
}

// Parse reads a routing configuration in which our own form (http.routers and
// so on) and 1.x's (frontends, backends) may stand side by side: a file, or a
// tree made by Tree. Keys at the top that are neither belong to the caller,
// see Rest. A name that both forms declare keeps our form's object.
func Parse(n *config.Node, provider string) (config.Routing, []config.Problem) {
	ours, theirs := splitForms(n)
	routing, problems := config.ParseRouting(ours, provider)
	if len(theirs.Fields) > 0 {
		translated, more := Translate(theirs)
		problems = append(problems, more...)
		problems = append(problems, Join(&routing, translated)...)
	}
	return routing, problems
}

// Rest gives the fields at the top of n that are no routing.
func Rest(n *config.Node) []config.Field {
	var rest []config.Field
	for _, f := range n.Fields {
		if !isRoutingRoot(f.Name) {
			rest = append(rest, f)
		}
	}
	return rest
}

// splitForms parts the two forms. They share the word tls: a list, or in a
// store a folder of named or numbered entries, is 1.x's.
func splitForms(n *config.Node) (ours, theirs *config.Node) {
	o, t := *n, *n
	o.Fields, t.Fields = nil, nil
	for _, f := range n.Fields {
		switch {
		case strings.EqualFold(f.Name, "http"):
			o.Fields = append(o.Fields, f)
		case strings.EqualFold(f.Name, "tls") && f.Node.Kind == config.Map:
			mine, old := splitTLS(f.Node)
			if len(mine.Fields) > 0 {
				o.Fields = append(o.Fields, config.Field{Name: f.Name, Origin: f.Origin, Node: mine})
			}
			if len(old.Fields) > 0 {
				t.Fields = append(t.Fields, config.Field{Name: f.Name, Origin: f.Origin, Node: old})
			}
		case isRoutingRoot(f.Name):
			t.Fields = append(t.Fields, f)
		}
	}
	return &o, &t
}

func splitTLS(n *config.Node) (ours, theirs *config.Node) {
	o, t := *n, *n
	o.Fields, t.Fields = nil, nil
	for _, f := range n.Fields {
		own := slices.ContainsFunc([]string{"certificates", "options", "stores"}, func(name string) bool {
			return strings.EqualFold(name, f.Name)
		})
		if own || !n.Weak {
			o.Fields = append(o.Fields, f)
		} else {
			t.Fields = append(t.Fields, f)
		}
	}
	return &o, &t
}

// Join adds what add declares to into. Of two objects of one kind with the
// same name the one that is there stays; a problem names both places.
func Join(into *config.Routing, add config.Routing) []config.Problem {
	var problems []config.Problem
	problems = append(problems, join(&into.Routers, add.Routers, "router", func(r config.Router) config.Origin { return r.Origin })...)
	problems = append(problems, join(&into.Middlewares, add.Middlewares, "middleware", func(m config.Middleware) config.Origin { return m.Origin })...)
	problems = append(problems, join(&into.Services, add.Services, "service", func(s config.Service) config.Origin { return s.Origin })...)
	if len(add.TLSOptions) > 0 {
		problems = append(problems, join(&into.TLSOptions, add.TLSOptions, "TLS options", func(o config.TLSOptions) config.Origin { return o.Origin })...)
	}
	into.Certificates = append(into.Certificates, add.Certificates...)
	return problems
}

func join[T any](into *map[string]T, add map[string]T, kind string, origin func(T) config.Origin) []config.Problem {
	if len(*into) == 0 && len(add) > 0 {
		*into = maps.Clone(add)
		return nil
	}
	var twice []string
	for name, object := range add {
		if _, taken := (*into)[name]; taken {
			twice = append(twice, name)
			continue
		}
		(*into)[name] = object
	}
	slices.Sort(twice)
	var problems []config.Problem
	for _, name := range twice {
		problems = append(problems, config.Problem{
			Origin: origin(add[name]), Object: kind + " " + name,
			Message: fmt.Sprintf("is declared twice: the one at %s is used", origin((*into)[name])),
			Allowed: "one " + kind + " of a name",
		})
	}
	return problems
}

// SuggestRoot says what a key at the top might have been meant to be.
func SuggestRoot(name string) string {
	if near := nearest(name, routingRoots); near != "" {
		return "did you mean " + near + "?"
	}
	return "known: " + strings.Join(routingRoots, ", ")
}
