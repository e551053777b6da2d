package middleware

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// forwardedPrefix tells the server what was taken off its path.
const forwardedPrefix = "X-Forwarded-Prefix"

// StripPrefix takes the longest of the prefixes that fits off the path.
type StripPrefix struct {
	Prefixes   []string `key:"prefixes"`
	ForceSlash bool     `key:"forceSlash"` // accepted: a path always begins with a slash
}

// Build makes the middleware.
func (p StripPrefix) Build(env Env) (Middleware, []config.Problem) {
	if len(p.Prefixes) == 0 {
		return env.missing("prefixes", `a list of paths, such as ["/api"]`)
	}
	var problems []config.Problem
	prefixes := make([]string, 0, len(p.Prefixes))
	for i, prefix := range p.Prefixes {
		decoded, err := url.PathUnescape(prefix)
		if err != nil || !strings.HasPrefix(decoded, "/") {
			problems = append(problems, env.problemAt("prefixes", i, "is no path", `a path that begins with a slash, such as "/api"`))
			continue
		}
		prefixes = append(prefixes, decoded)
	}
	slices.SortStableFunc(prefixes, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return editPath(teller{forwardedPrefix, true}, func(escaped string) (path, told string, ok bool) {
		for _, prefix := range prefixes {
			if rest, ok := cutPath(escaped, prefix); ok {
				return rest, escaped[:len(escaped)-len(rest)], true
			}
		}
		return "", "", false
	}), problems
}
