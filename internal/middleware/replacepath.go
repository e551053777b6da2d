package middleware

import (
	"strings"

	"gatehouse/internal/config"
)

// replacedPath tells the server what its path was.
const replacedPath = "X-Replaced-Path"

// ReplacePath puts one path in the place of every other.
type ReplacePath struct {
	Path string `key:"path"`
}

// Build makes the middleware.
func (p ReplacePath) Build(env Env) (Middleware, []config.Problem) {
	path, ok := escapePath(p.Path)
	if !ok || !strings.HasPrefix(path, "/") || hasDots(path) {
		return Middleware{}, []config.Problem{env.problem("path", "is no path", `a path that begins with a slash, such as "/index.html"`)}
	}
	return editPath(teller{name: replacedPath}, func(escaped string) (string, string, bool) {
		return path, escaped, true
	}), nil
}
