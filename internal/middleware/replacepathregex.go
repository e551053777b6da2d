package middleware

import (
	"net/http"

	"gatehouse/internal/config"
)

// ReplacePathRegex rewrites the path where an expression matches it.
type ReplacePathRegex struct {
	Regex       string `key:"regex"`
	Replacement string `key:"replacement"`
}

// Build makes the middleware.
func (p ReplacePathRegex) Build(env Env) (Middleware, []config.Problem) {
	re, problems := env.pattern("regex", -1, p.Regex)
	return editPath(func(r *http.Request, escaped string) (string, bool) {
		if !re.MatchString(escaped) {
			return "", false
		}
		path, ok := escapePath(re.ReplaceAllString(escaped, p.Replacement))
		if !ok {
			path = "/%" // cannot be decoded: refused
		}
		r.Header.Set(replacedPath, escaped)
		return path, true
	}), problems
}
