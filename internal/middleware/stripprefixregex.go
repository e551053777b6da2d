package middleware

import (
	"net/url"
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
	return editPath(teller{forwardedPrefix, true}, func(escaped string) (path, told string, ok bool) {
		decoded, err := url.PathUnescape(escaped)
		if err != nil { // no path has a broken escape
			return "", "", false
		}
		for _, re := range patterns {
			at := re.FindStringIndex(decoded)
			if at == nil || at[0] != 0 || at[1] == 0 {
				continue
			}
			if rest, ok := cutPath(escaped, decoded[:at[1]]); ok {
				return rest, escaped[:len(escaped)-len(rest)], true
			}
		}
		return "", "", false
	}), problems
}
