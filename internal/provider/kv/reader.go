package kv

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

// reader turns states of the store into routing, and knows what it made of the
// last one.
type reader struct {
	prefix string
	read   func(ctx context.Context, prefix string) ([]store.Entry, error)

	alias   store.Entry   // the alias in force; no key: none
	aliased []store.Entry // what stood where it points when it was written
	from    string        // prefix the routing is from
	last    []store.Entry // what the last routing was made of
	known   bool          // anything has been published

	routing  config.Routing
	problems []config.Problem
}

// take looks at a state of the store. changed says that routing or problems
// differ from what they were; an error that the alias cannot be followed.
func (r *reader) take(ctx context.Context, entries []store.Entry) (changed bool, err error) {
	own := entries
	entries, err = r.follow(ctx, entries)
	if err != nil {
		return false, err
	}
	relevant := traefik1.RoutingEntries(entries, r.from)
	for _, e := range own {
		if e.Key == traefik1.AllowEmpty {
			relevant = append(relevant, e)
		}
	}
	if r.known && slices.EqualFunc(relevant, r.last, sameEntry) {
		return false, nil
	}
	r.last = relevant
	routing, problems := r.parse(relevant)
	changed = !r.known || !reflect.DeepEqual(routing, r.routing) || !slices.Equal(problems, r.problems)
	r.known, r.routing, r.problems = true, routing, problems
	return changed, nil
}

func sameEntry(a, b store.Entry) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }

func (r *reader) aliasOf(entries []store.Entry) string {
	return strings.TrimRight(strings.TrimSpace(string(find(entries, traefik1.Alias).Value)), "/")
}

func find(entries []store.Entry, key string) store.Entry {
	for _, e := range entries {
		if e.Key == key {
			return e
		}
	}
	return store.Entry{}
}

// follow gives the entries the alias points to, read when it was written last:
// changes there count only once the alias is written again, which is how a
// whole tree is switched at once. Without alias the entries are as given.
func (r *reader) follow(ctx context.Context, entries []store.Entry) ([]store.Entry, error) {
	to := r.aliasOf(entries)
	if to == "" {
		r.alias, r.aliased, r.from = store.Entry{}, nil, r.prefix
		return entries, nil
	}
	alias := find(entries, traefik1.Alias)
	if alias.Revision == r.alias.Revision && sameEntry(alias, r.alias) {
		return r.aliased, nil
	}
	aliased, err := r.read(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("read %s, where alias points: %w", to, err)
	}
	r.alias, r.aliased, r.from = alias, aliased, to
	return aliased, nil
}

// parse makes routing of entries. If there is none left, or too much, the last
// one stays.
func (r *reader) parse(entries []store.Entry) (config.Routing, []config.Problem) {
	confirmed := false
	var rest []store.Entry
	for _, e := range entries {
		if e.Key == traefik1.AllowEmpty {
			confirmed, _ = strconv.ParseBool(strings.TrimSpace(string(e.Value)))
			continue
		}
		rest = append(rest, e)
	}
	if len(rest) == 0 && !confirmed && !isEmpty(r.routing) {
		return r.routing, []config.Problem{{
			Origin:  config.Origin{Provider: name, Source: r.from},
			Message: "holds no routing any more: what it held last stays in force",
			Allowed: fmt.Sprintf("to confirm that nothing is meant, write true to %s/%s", r.prefix, traefik1.AllowEmpty),
			Warning: true,
		}}
	}
	n, problems := traefik1.Tree(rest, traefik1.TreeSource{Provider: name, Prefix: r.from})
	if n == nil {
		return r.routing, problems
	}
	problems = append(problems, strays(n)...)
	routing, more := traefik1.Parse(n, name)
	problems = append(problems, more...)
	return routing, append(problems, refuseFiles(&routing)...)
}

func isEmpty(r config.Routing) bool {
	return len(r.Routers) == 0 && len(r.Services) == 0 && len(r.Middlewares) == 0 && len(r.Certificates) == 0 && len(r.TLSOptions) == 0
}

// strays reports folders at the top that nobody reads.
func strays(n *config.Node) []config.Problem {
	var problems []config.Problem
	for _, f := range traefik1.Rest(n) {
		problems = append(problems, config.Problem{
			Origin: f.Origin, Object: "key " + f.Name, Message: "is not known and is left aside",
			Allowed: traefik1.SuggestRoot(f.Name), Warning: true,
		})
	}
	return problems
}

// refuseFiles takes out what names a file of this machine: who may write
// routes may not therefore read files, nor lift what the entry point demands of
// clients. Hosts that want TLS options that were taken out are refused.
func refuseFiles(r *config.Routing) []config.Problem {
	var problems []config.Problem
	refuse := func(o config.Origin, object, what, instead string) {
		problems = append(problems, config.Problem{Origin: o, Object: object,
			Message: what + " in a store may not name a file", Allowed: instead})
	}
	r.Certificates = slices.DeleteFunc(r.Certificates, func(c config.Certificate) bool {
		bad := !isPEM(c.CertFile) || !isPEM(c.KeyFile)
		if bad {
			refuse(c.Origin, "certificate", "a certificate", "PEM text")
		}
		return bad
	})
	for _, name := range sortedKeys(r.TLSOptions) {
		o := r.TLSOptions[name]
		switch {
		case slices.ContainsFunc(o.ClientCAs, func(ca string) bool { return !isPEM(ca) }):
			delete(r.TLSOptions, name)
			refuse(o.Origin, "TLS options "+name, "clientAuth.caFiles", "PEM text")
		case o.NoClientCert:
			delete(r.TLSOptions, name)
			problems = append(problems, config.Problem{Origin: o.Origin, Object: "TLS options " + name,
				Message: "a store may not lift the client certificates that an entry point demands", Allowed: "NoClientCert in a file"})
		}
	}
	for _, service := range sortedKeys(r.Services) {
		s := r.Services[service]
		if s.LoadBalancer == nil {
			continue
		}
		t := s.LoadBalancer.ServersTransport
		switch {
		case slices.ContainsFunc(t.RootCAs, func(ca string) bool { return !isPEM(ca) }):
			delete(r.Services, service)
			refuse(s.Origin, "service "+service, "a root CA", "PEM text")
		case slices.ContainsFunc(t.Certificates, func(k config.KeyPair) bool { return !isPEM(k.CertFile) || !isPEM(k.KeyFile.Reveal()) }):
			delete(r.Services, service)
			refuse(s.Origin, "service "+service, "a client certificate", "PEM text")
		}
	}
	for _, middleware := range sortedKeys(r.Middlewares) {
		m := r.Middlewares[middleware]
		if file := m.Params.Get("usersFile"); file != nil && (file.Kind != config.Scalar || file.Value != "") {
			delete(r.Middlewares, middleware) // routers that name it answer 503
			refuse(m.Origin, "middleware "+middleware, "usersFile", "users")
		}
	}
	return problems
}

func isPEM(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), "-----BEGIN ") }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
