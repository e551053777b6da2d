package middleware

import (
	"net/http"
	"net/url"

	"gatehouse/internal/config"
)

// RedirectRegex sends clients elsewhere where an expression matches the whole
// URL, as the client wrote it: scheme, host, path and query.
type RedirectRegex struct {
	Regex       string `key:"regex"`
	Replacement string `key:"replacement"`
	Permanent   bool   `key:"permanent"`
}

// Build makes the middleware.
func (p RedirectRegex) Build(env Env) (Middleware, []config.Problem) {
	re, problems := env.pattern("regex", -1, p.Regex)
	if p.Replacement == "" {
		problems = append(problems, env.problem("replacement", "is missing or empty", `a URL, such as "https://www.example.com/${1}"`))
	}
	return Middleware{Wrap: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			old := (*viewed)(r).scheme() + "://" + r.Host + r.URL.RequestURI()
			if !re.MatchString(old) {
				next.ServeHTTP(w, r)
				return
			}
			location := re.ReplaceAllString(old, p.Replacement)
			if location == old {
				next.ServeHTTP(w, r)
				return
			}
			u, err := url.Parse(location)
			if err != nil {
				http.Error(w, "500 redirect leads to no URL", http.StatusInternalServerError)
				return
			}
			redirect(w, r, u.String(), p.Permanent)
		})
	}}, problems
}
