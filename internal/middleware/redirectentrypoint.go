package middleware

import (
	"fmt"
	"net"

	"gatehouse/internal/config"
)

// RedirectEntryPoint sends clients to the same URL at another entry point: its
// scheme, and the port of its address.
type RedirectEntryPoint struct {
	EntryPoint string `key:"entryPoint"`
	Permanent  bool   `key:"permanent"`
}

// Build makes the middleware.
func (p RedirectEntryPoint) Build(env Env) (Middleware, []config.Problem) {
	if p.EntryPoint == "" || env.EntryPoint == nil {
		return env.missing("entryPoint", "the name of an entry point")
	}
	address, tls, ok := env.EntryPoint(p.EntryPoint)
	if !ok {
		return Middleware{}, []config.Problem{env.problem("entryPoint", fmt.Sprintf("there is no entry point %q", p.EntryPoint), "the name of an entry point")}
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return Middleware{}, []config.Problem{env.problem("entryPoint",
			fmt.Sprintf("entry point %q has no port in its address %q", p.EntryPoint, address), "an entry point at host:port")}
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return redirector(func(q asked) bool {
		// A trusted proxy in front that ended TLS has done it already.
		return scheme == "https" && q.scheme() == "https" && !q.tls() || isAt(q, scheme, port)
	}, scheme, port, p.Permanent), nil
}
