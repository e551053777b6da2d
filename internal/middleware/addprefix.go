package middleware

import (
	"strings"

	"gatehouse/internal/config"
)

// AddPrefix puts a prefix before the path.
type AddPrefix struct {
	Prefix string `key:"prefix"`
}

// Build makes the middleware.
func (p AddPrefix) Build(env Env) (Middleware, []config.Problem) {
	prefix, ok := escapePath(strings.TrimRight(p.Prefix, "/"))
	if !ok || !strings.HasPrefix(prefix, "/") || hasDots(prefix) {
		return Middleware{}, []config.Problem{env.problem("prefix", "is no path", `a path that begins with a slash, such as "/app"`)}
	}
	return editPath(teller{}, func(escaped string) (path, told string, ok bool) {
		return prefix + escaped, "", true
	}), nil
}
