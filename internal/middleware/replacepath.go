package middleware

import (
	"net/http"
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
		return nil, []config.Problem{env.problem("path", "is no path", `a path that begins with a slash, such as "/index.html"`)}
	}
	return editPath(func(r *http.Request, escaped string) (string, bool) {
		r.Header.Set(replacedPath, escaped)
		return path, true
	}), nil
}
