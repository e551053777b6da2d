package middleware

import (
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
	return editPath(teller{name: replacedPath}, func(escaped string) (path, told string, ok bool) {
		if !re.MatchString(escaped) {
			return "", "", false
		}
		path, ok = escapePath(re.ReplaceAllString(escaped, p.Replacement))
		if !ok {
			path = "/%" // cannot be decoded: refused
		}
		return path, escaped, true
	}), problems
}
