package middleware

import (
	"net/http"
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
		return nil, []config.Problem{env.problem("scheme", "is no scheme to redirect to", "http, https")}
	}
	if p.Port != "" {
		if n, err := strconv.ParseUint(p.Port, 10, 16); err != nil || n == 0 {
			return nil, []config.Problem{env.problem("port", "is no port", "1 to 65535")}
		}
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Without a port asked for, the scheme alone decides: behind a
			// port mapping the client's port is not ours.
			if p.Port == "" && schemeOf(r) == p.Scheme {
				next.ServeHTTP(w, r)
				return
			}
			location, ok := moved(r, p.Scheme, p.Port)
			if !ok {
				next.ServeHTTP(w, r)
				return
			}
			redirect(w, r, location, p.Permanent)
		})
	}, nil
}
