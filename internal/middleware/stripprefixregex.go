package middleware

import (
	"net/http"
	"regexp"

	"gatehouse/internal/config"
)

// StripPrefixRegex takes off the path what the first fitting expression
// matches at its start.
type StripPrefixRegex struct {
	Regex []string `key:"regex"`
}

// Build makes the middleware.
func (p StripPrefixRegex) Build(env Env) (Middleware, []config.Problem) {
	if len(p.Regex) == 0 {
		return env.missing("regex", `a list of regular expressions, such as ["^/v[0-9]+/"]`)
	}
	var problems []config.Problem
	var patterns []*regexp.Regexp
	for i, text := range p.Regex {
		re, more := env.pattern("regex", i, text)
		problems = append(problems, more...)
		patterns = append(patterns, re)
	}
	return editPath(func(r *http.Request, escaped string) (string, bool) {
		for _, re := range patterns {
			at := re.FindStringIndex(r.URL.Path)
			if at == nil || at[0] != 0 || at[1] == 0 {
				continue
			}
			if rest, ok := cutPath(escaped, r.URL.Path[:at[1]]); ok {
				r.Header.Add(forwardedPrefix, escaped[:len(escaped)-len(rest)])
				return rest, true
			}
		}
		return "", false
	}), problems
}
