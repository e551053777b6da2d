package middleware

import (
	"strconv"

	"gatehouse/internal/config"
)

// RedirectScheme sends clients to the same URL under another scheme.
type RedirectScheme struct {
	Scheme    string `key:"scheme"`
	Port      string `key:"port"`
	Permanent bool   `key:"permanent"`
}

// Build makes the middleware.
func (p RedirectScheme) Build(env Env) (Middleware, []config.Problem) {
	if p.Scheme != "http" && p.Scheme != "https" {
		return Middleware{}, []config.Problem{env.problem("scheme", "is no scheme to redirect to", "http, https")}
	}
	if p.Port != "" {
		if n, err := strconv.ParseUint(p.Port, 10, 16); err != nil || n == 0 {
			return Middleware{}, []config.Problem{env.problem("port", "is no port", "1 to 65535")}
		}
	}
	return redirector(func(q asked) bool {
		// Without a port asked for, the scheme alone decides: behind a port
		// mapping the client's port is not ours.
		return p.Port == "" && q.scheme() == p.Scheme || isAt(q, p.Scheme, p.Port)
	}, p.Scheme, p.Port, p.Permanent), nil
}
