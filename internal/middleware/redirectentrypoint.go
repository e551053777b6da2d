package middleware

import (
	"fmt"
	"net"
	"net/http"

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
		return nil, []config.Problem{env.problem("entryPoint", fmt.Sprintf("there is no entry point %q", p.EntryPoint), "the name of an entry point")}
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, []config.Problem{env.problem("entryPoint",
			fmt.Sprintf("entry point %q has no port in its address %q", p.EntryPoint, address), "an entry point at host:port")}
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// A trusted proxy in front that ended TLS has done it already.
			if schemeOf(r) == "https" && scheme == "https" && r.TLS == nil {
				next.ServeHTTP(w, r)
				return
			}
			location, ok := moved(r, scheme, port)
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			redirect(w, r, location, p.Permanent)
		})
	}, nil
}
