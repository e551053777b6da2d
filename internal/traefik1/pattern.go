package traefik1

import (
	"fmt"
	"regexp"
	"strings"
)

// maxRegexp bounds one regular expression, in bytes, before it is anchored:
// package route takes 1 KiB.
const maxRegexp = 1024 - len(`(?i)^$`)

// What a variable without a pattern of its own stands for.
const (
	anyLabel   = `[^.]+`
	anySegment = `[^/]+`
	anyValue   = `.*`
)

// pattern is a 1.x template such as "/b/{id:[0-9]+}" as a regular expression
// without anchors. plain is true if the template has no variable at all.
func pattern(template, standIn string) (expr string, plain bool, err error) {
	var b strings.Builder
	plain = true
	rest := template
	for {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			if strings.IndexByte(rest, '}') >= 0 {
				return "", false, fmt.Errorf("%q has a } without a {", template)
			}
			b.WriteString(regexp.QuoteMeta(rest))
			break
		}
		if i := strings.IndexByte(rest[:open], '}'); i >= 0 {
			return "", false, fmt.Errorf("%q has a } without a {", template)
		}
		plain = false
		b.WriteString(regexp.QuoteMeta(rest[:open]))
		end := closing(rest[open:])
		if end < 0 {
			return "", false, fmt.Errorf("%q has a { without a }", template)
		}
		variable, err := variable(rest[open+1:open+end], standIn)
		if err != nil {
			return "", false, err
		}
		b.WriteString(variable)
		rest = rest[open+end+1:]
	}
	if plain {
		return template, true, nil
	}
	return b.String(), false, checkRegexp(b.String())
}

// variable is "name" or "name:expression", without the braces.
func variable(text, standIn string) (string, error) {
	name, expr, given := strings.Cut(text, ":")
	switch {
	case !given && name == "":
		return "", fmt.Errorf("{} needs a name: {name} or {name:expression}")
	case !given:
		expr = standIn
	case expr == "":
		return "", fmt.Errorf("{%s} has no expression after the colon", text)
	}
	return "(?:" + expr + ")", nil
}

// closing gives the index of the brace that closes the one text starts with,
// or -1. A backslash takes the meaning from the byte after it.
func closing(text string) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

func checkRegexp(expr string) error {
	if len(expr) > maxRegexp {
		return fmt.Errorf("regular expression of %d bytes, %d are allowed", len(expr), maxRegexp)
	}
	if _, err := regexp.Compile(expr); err != nil {
		return fmt.Errorf("not a regular expression: %w", err)
	}
	return nil
}
