package traefik1

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// matcher is one word of the 1.x rule language. apply adds its meaning to t;
// with an error it also says which argument is to blame.
type matcher struct {
	usage      string
	whole      bool // one argument, commas and all
	mayBeEmpty bool
	apply      func(t *translation, args []piece) (piece, error)
}

// matchers are all 1.x words, whose names are case-sensitive.
var matchers = map[string]matcher{
	"Host":                 {usage: "Host:a.example.com,b.example.com", apply: applyHost},
	"HostRegexp":           {usage: "HostRegexp:{sub:[a-z]+}.example.com", apply: applyHostRegexp},
	"Path":                 {usage: "Path:/a,/b/{id:[0-9]+}", apply: pathMatcher("Path", "$", nil)},
	"PathPrefix":           {usage: "PathPrefix:/a", apply: pathMatcher("PathPrefix", "", nil)},
	"PathStrip":            {usage: "PathStrip:/a", apply: pathMatcher("Path", "$", strip)},
	"PathPrefixStrip":      {usage: "PathPrefixStrip:/a", apply: pathMatcher("PathPrefix", "", strip)},
	"PathStripRegex":       {usage: "PathStripRegex:/a/{id:[0-9]+}", apply: pathMatcher("Path", "$", stripRegex)},
	"PathPrefixStripRegex": {usage: "PathPrefixStripRegex:/a/{id:[0-9]+}", apply: pathMatcher("PathPrefix", "", stripRegex)},
	"Method":               {usage: "Method:GET,POST", apply: applyMethod},
	"Headers":              {usage: "Headers:Name,value[,Name2,value2]", mayBeEmpty: true, apply: headerMatcher(header)},
	"HeadersRegexp":        {usage: "HeadersRegexp:Name,expression[,Name2,expression2]", mayBeEmpty: true, apply: headerMatcher(headerRegexp)},
	"Query":                {usage: "Query:key=value,key2=value2", apply: applyQuery},
	"AddPrefix":            {usage: "AddPrefix:/x", whole: true, apply: applyAddPrefix},
	"ReplacePath":          {usage: "ReplacePath:/x", whole: true, apply: applyReplacePath},
	"ReplacePathRegex":     {usage: "ReplacePathRegex:expression replacement", whole: true, apply: applyReplacePathRegex},
}

func applyHost(t *translation, args []piece) (piece, error) {
	var alternatives []alternative
	for _, arg := range args {
		host := strings.TrimSuffix(strings.ToLower(arg.text), ".")
		if host == "" || strings.ContainsAny(host, "/{}() \t") {
			return arg, fmt.Errorf("%q is not a host name", arg.text)
		}
		alternatives = append(alternatives, alternative{"Host", host})
	}
	t.any(alternatives)
	return piece{}, nil
}

func applyHostRegexp(t *translation, args []piece) (piece, error) {
	var alternatives []alternative
	for _, arg := range args {
		expr, plain, err := pattern(arg.text, anyLabel)
		switch {
		case err != nil:
			return arg, err
		case plain:
			alternatives = append(alternatives, alternative{"Host", strings.ToLower(expr)})
		default:
			alternatives = append(alternatives, alternative{"HostRegexp", "(?i)^" + expr + "$"})
		}
	}
	t.any(alternatives)
	return piece{}, nil
}

// pathMatcher matches paths by plain text or template; also is told each
// path, to strip it.
func pathMatcher(plainName, end string, also func(t *translation, path, expr string, plain bool)) func(*translation, []piece) (piece, error) {
	return func(t *translation, args []piece) (piece, error) {
		var alternatives []alternative
		for _, arg := range args {
			if !strings.HasPrefix(arg.text, "/") && !strings.HasPrefix(arg.text, "{") {
				return arg, fmt.Errorf("path %q does not start with a slash", arg.text)
			}
			expr, plain, err := pattern(arg.text, anySegment)
			if err != nil {
				return arg, err
			}
			if plain {
				alternatives = append(alternatives, alternative{plainName, expr})
			} else {
				expr = "^" + expr + end
				alternatives = append(alternatives, alternative{"PathRegexp", expr})
			}
			if also != nil {
				also(t, arg.text, expr, plain)
			}
		}
		t.any(alternatives)
		return piece{}, nil
	}
}

// strip takes a plain path away. 1.x took templates literally here and then
// answered 404; they are stripped as what they match.
func strip(t *translation, path, expr string, plain bool) {
	if plain {
		t.strips = append(t.strips, path)
		return
	}
	t.stripRegexes = append(t.stripRegexes, expr)
}

func stripRegex(t *translation, path, expr string, plain bool) {
	if plain {
		expr = "^" + regexp.QuoteMeta(path)
	}
	t.stripRegexes = append(t.stripRegexes, expr)
}

func applyMethod(t *translation, args []piece) (piece, error) {
	var alternatives []alternative
	for _, arg := range args {
		if strings.ContainsAny(arg.text, " \t/:(){}`\"") {
			return arg, fmt.Errorf("%q is not a method", arg.text)
		}
		alternatives = append(alternatives, alternative{"Method", strings.ToUpper(arg.text)})
	}
	t.any(alternatives)
	return piece{}, nil
}

func headerMatcher(one func(name, value string) (string, error)) func(*translation, []piece) (piece, error) {
	return func(t *translation, args []piece) (piece, error) {
		if len(args)%2 != 0 {
			return args[len(args)-1], fmt.Errorf("header %q has no value", args[len(args)-1].text)
		}
		for i := 0; i < len(args); i += 2 {
			if args[i].text == "" || strings.ContainsAny(args[i].text, " \t:/(){}`\"") {
				return args[i], fmt.Errorf("%q is not a header name", args[i].text)
			}
			condition, err := one(args[i].text, args[i+1].text)
			if err != nil {
				return args[i+1], err
			}
			t.conditions = append(t.conditions, condition)
		}
		return piece{}, nil
	}
}

// header without a value asks only that the header is there.
func header(name, value string) (string, error) {
	if value == "" {
		return call("HeaderRegexp", name, ".*"), nil
	}
	return call("Header", name, value), nil
}

func headerRegexp(name, expr string) (string, error) {
	if err := checkRegexp(expr); err != nil {
		return "", err
	}
	return call("HeaderRegexp", name, expr), nil
}

func applyQuery(t *translation, args []piece) (piece, error) {
	for _, arg := range args {
		key, value, found := strings.Cut(arg.text, "=")
		if !found || key == "" {
			return arg, fmt.Errorf("%q is not key=value", arg.text)
		}
		expr, plain, err := pattern(value, anyValue)
		switch {
		case err != nil:
			return arg, err
		case value == "": // the key alone, whatever its value
			t.conditions = append(t.conditions, call("Query", key))
		case plain:
			t.conditions = append(t.conditions, call("Query", key, value))
		default:
			t.conditions = append(t.conditions, call("QueryRegexp", key, "^"+expr+"$"))
		}
	}
	return piece{}, nil
}

func applyAddPrefix(t *translation, args []piece) (piece, error) {
	if !strings.HasPrefix(args[0].text, "/") {
		return args[0], fmt.Errorf("prefix %q does not start with a slash", args[0].text)
	}
	t.addPrefix = args[0].text
	return piece{}, nil
}

func applyReplacePath(t *translation, args []piece) (piece, error) {
	if !strings.HasPrefix(args[0].text, "/") {
		return args[0], fmt.Errorf("path %q does not start with a slash", args[0].text)
	}
	t.replacePath = args[0].text
	return piece{}, nil
}

func applyReplacePathRegex(t *translation, args []piece) (piece, error) {
	expr, replacement, found := strings.Cut(args[0].text, " ")
	if !found || strings.Contains(replacement, " ") {
		t.warnings = append(t.warnings, fmt.Sprintf(
			"ReplacePathRegex:%s has no effect: it takes an expression, one blank and a replacement", args[0].text))
		return piece{}, nil
	}
	if err := checkRegexp(expr); err != nil {
		return args[0], err
	}
	if expr == "" {
		return args[0], errors.New("empty expression")
	}
	t.replaceRegex = [2]string{expr, replacement}
	return piece{}, nil
}
