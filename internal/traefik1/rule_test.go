package traefik1

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
)

// describe writes a middleware as "kind(name=value ...)".
func describe(m config.Middleware) string {
	return m.Kind + describeNode(m.Params)
}

func describeNode(n *config.Node) string {
	if n == nil {
		return ""
	}
	var parts []string
	switch n.Kind {
	case config.Scalar:
		return scalarText(n)
	case config.List:
		for _, item := range n.Items {
			parts = append(parts, describeNode(item))
		}
		return "[" + strings.Join(parts, " ") + "]"
	}
	for _, f := range n.Fields {
		parts = append(parts, f.Name+"="+describeNode(f.Node))
	}
	return "(" + strings.Join(parts, " ") + ")"
}

func TestParseRule(t *testing.T) {
	for _, c := range []struct {
		rules string // several: separated by " + "
		want  string // rule, then modifiers, separated by " | "
	}{
		{"Host:A.example.com", "Host(`a.example.com`)"},
		{"Host: a.example.com , b.example.com.", "Host(`a.example.com`, `b.example.com`)"},
		{"Host:a.example.com;PathPrefix:/x", "Host(`a.example.com`) && PathPrefix(`/x`)"},
		{"Host:a.example.com ; Method:get,POST;", "Host(`a.example.com`) && Method(`GET`, `POST`)"},
		{"HostRegexp:{sub:[a-z]+}.Example.com", "HostRegexp(`(?i)^(?:[a-z]+)\\.Example\\.com$`)"},
		{"HostRegexp:{sub}.x.com,y.com", "(HostRegexp(`(?i)^(?:[^.]+)\\.x\\.com$`) || Host(`y.com`))"},
		{"Path:/a,/b/{id:[0-9]+}", "(Path(`/a`) || PathRegexp(`^/b/(?:[0-9]+)$`))"},
		{"Path:/b/{id:[0-9]{1,3}}", "PathRegexp(`^/b/(?:[0-9]{1,3})$`)"},
		{"PathPrefix:/b/{id}", "PathRegexp(`^/b/(?:[^/]+)`)"},
		{"Path::/a", "Path(`/a`)"},
		{"PathStrip:/a,/b", "Path(`/a`, `/b`) | stripPrefix(prefixes=[/a /b])"},
		{"PathPrefixStrip:/a/{id}", "PathRegexp(`^/a/(?:[^/]+)`) | stripPrefixRegex(regex=[^/a/(?:[^/]+)])"},
		{"PathPrefixStripRegex:/a.b", "PathPrefix(`/a.b`) | stripPrefixRegex(regex=[^/a\\.b])"},
		{"Headers:X-A,1,X-B,", "Header(`X-A`, `1`) && HeaderRegexp(`X-B`, `.*`)"},
		{"HeadersRegexp:X-A,^a{1,3}$", "HeaderRegexp(`X-A`, `^a{1,3}$`)"},
		{`HeadersRegexp:X-A,"^(a,b;c)$"`, "HeaderRegexp(`X-A`, `^(a,b;c)$`)"},
		{"Headers:X-A,a`b", "Header(`X-A`, \"a`b\")"},
		{"Query:a=1,b={n:[0-9]+},c=", "Query(`a`, `1`) && QueryRegexp(`b`, `^(?:[0-9]+)$`) && Query(`c`)"},
		{"AddPrefix:/x", "PathPrefix(`/`) | addPrefix(prefix=/x)"},
		{"", "PathPrefix(`/`)"},
		{"ReplacePath:/z;PathPrefixStrip:/a;AddPrefix:/x;ReplacePathRegex:^/(.*) /r/$1;PathStripRegex:/q/{id}",
			"PathPrefix(`/a`) && PathRegexp(`^/q/(?:[^/]+)$`) | stripPrefixRegex(regex=[^/q/(?:[^/]+)$]) | stripPrefix(prefixes=[/a])" +
				" | addPrefix(prefix=/x) | replacePathRegex(regex=^/(.*) replacement=/r/$1) | replacePath(path=/z)"},
		{"ReplacePathRegex:nothing", "PathPrefix(`/`) | warning"},
		{"Host:a.com + PathPrefixStrip:/x + PathPrefixStrip:/x/y",
			"Host(`a.com`) && PathPrefix(`/x`) && PathPrefix(`/x/y`) | stripPrefix(prefixes=[/x /x/y])"},
	} {
		r, err := ParseRule(strings.Split(c.rules, " + ")...)
		if err != nil {
			t.Errorf("%s: %v", c.rules, err)
			continue
		}
		got := []string{r.Text}
		for _, m := range r.Middlewares {
			got = append(got, describe(m))
		}
		if len(r.Warnings) > 0 {
			got = append(got, "warning")
		}
		if diff := cmp.Diff(c.want, strings.Join(got, " | ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.rules, diff)
		}
	}
}

func TestParseRuleTellsWhereItIsWrong(t *testing.T) {
	for _, c := range []struct {
		rule    string
		column  int
		message string
	}{
		{"host:a.com", 1, `unknown matcher "host" (did you mean Host?)`},
		{"Host:a.com;PathPrefx:/x", 12, `unknown matcher "PathPrefx" (did you mean PathPrefix?)`},
		{"Host:a.com;  Zzz:/x", 14, "unknown matcher \"Zzz\" (known: AddPrefix"},
		{"Host", 1, "Host needs an argument"},
		{"Host:", 6, "empty argument"},
		{"Host:a.com,,b.com", 12, "empty argument"},
		{"Host:a.com;Path:x", 17, "does not start with a slash"},
		{"Path:/a/{id:[", 9, "{ without a }"},
		{"Path:/a/{id:[}", 6, "not a regular expression"},
		{"Path:/a}", 6, "} without a {"},
		{"Path:/{}", 6, "needs a name"},
		{"Headers:X-A", 9, "has no value"},
		{"HeadersRegexp:X-A,(", 19, "not a regular expression"},
		{`HeadersRegexp:X-A,"(`, 19, "quote that does not end"},
		{"Query:a", 7, "is not key=value"},
		{"HeadersRegexp:X-A," + strings.Repeat("a", 1100), 19, "1100 bytes"},
		{"AddPrefix:x", 11, "does not start with a slash"},
	} {
		_, err := ParseRule(c.rule)
		var re *RuleError
		if !errors.As(err, &re) {
			t.Errorf("%s: got %v, want a RuleError", c.rule, err)
			continue
		}
		if re.Column != c.column || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: got column %d: %v\nwant column %d: ... %s", c.rule, re.Column, err, c.column, c.message)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	for _, seed := range []string{"Host:a.com;Path:/b/{id:[0-9]{1,2}}", `HeadersRegexp:A,"b,c"`, "Query:a={b:c}", "ReplacePathRegex:a b", "Path:/{a:\\}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		r, err := ParseRule(rule)
		var re *RuleError
		switch {
		case err == nil && r.Text == "":
			t.Errorf("%q: no error and no rule", rule)
		case err == nil:
			again, err := ParseRule(rule, "")
			if err != nil || again.Text != r.Text {
				t.Errorf("%q: with an empty rule beside it: %q, %v; want %q", rule, again.Text, err, r.Text)
			}
		case !errors.As(err, &re) || re.Column < 1 || re.Column > len(rule)+1:
			t.Errorf("%q: error %v", rule, err)
		}
	})
}
