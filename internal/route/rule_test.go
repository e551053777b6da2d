package route

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, rule string) Rule {
	t.Helper()
	r, err := Parse(rule)
	if err != nil {
		t.Fatalf("Parse(%s): %v", rule, err)
	}
	return r
}

func TestCanonicalForm(t *testing.T) {
	for _, tc := range []struct{ rule, want string }{
		{"Host(`a.example.com`)", "Host(`a.example.com`)"},
		{"host( `A.Example.COM.` ,\"b\" )", "Host(`a.example.com`, `b`)"},
		{"HOST(`*.Example.com`)", "Host(`*.example.com`)"},
		{"Host(`[::1]`)", "Host(`::1`)"},
		{"Host(`a`,`b`) && (PathPrefix(`/x`) || !Method(`get`))", "Host(`a`, `b`) && (PathPrefix(`/x`) || !Method(`GET`))"},
		{"Path(`/a`) || Path(`/b`) && Path(`/c`)", "Path(`/a`) || Path(`/b`) && Path(`/c`)"},
		{"(Path(`/a`) || Path(`/b`)) && Path(`/c`)", "(Path(`/a`) || Path(`/b`)) && Path(`/c`)"},
		{"((Path(`/a`) && Path(`/b`)) && ((Path(`/c`))))", "Path(`/a`) && Path(`/b`) && Path(`/c`)"},
		{"!!Path(`/a`)", "Path(`/a`)"},
		{"!(!(Path(`/a`) && Path(`/b`)))", "Path(`/a`) && Path(`/b`)"},
		{"!(Path(`/a`) && Path(`/b`))", "!(Path(`/a`) && Path(`/b`))"},
		{"Header(`x-a`,\"b`c\")", "Header(`X-A`, \"b`c\")"},
		{"Query(`k`) && Query(`k`,`v`) && QueryRegexp(`k`,`^v`)", "Query(`k`) && Query(`k`, `v`) && QueryRegexp(`k`, `^v`)"},
		{"ClientIP(`10.1.2.3/8`,`::1`,`::ffff:1.2.3.4`)", "ClientIP(`10.0.0.0/8`, `::1`, `1.2.3.4`)"},
		{"PathRegexp(`^/a{1,3};$`)", "PathRegexp(`^/a{1,3};$`)"},
	} {
		if got := mustParse(t, tc.rule).String(); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.rule, got, tc.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	deep := strings.Repeat("(", MaxDepth+1)
	for _, tc := range []struct{ rule, want string }{
		{"", "column 1: the rule is empty (for example Host(`example.com`), or PathPrefix(`/`) for everything)"},
		{"Hst(`a`)", "column 1: unknown matcher Hst (did you mean Host?)"},
		{"Host(`a`) && Headers(`a`,`b`)", "column 14: unknown matcher Headers (did you mean Header?)"},
		{"Elephant(`a`)", "column 1: unknown matcher Elephant (one of ClientIP, Header, HeaderRegexp, Host, HostRegexp, Method, Path, PathPrefix, PathRegexp, Query, QueryRegexp)"},
		{"Host", "column 5: unexpected the end of the rule after Host (Host(`a.example.com`, `*.b.example.com`))"},
		{"Host()", "column 6: Host wants a string, not \")\" (Host(`a.example.com`, `*.b.example.com`))"},
		{"Host(`a` `b`)", "column 10: unexpected the string `b` among the arguments of Host (, or ))"},
		{"Host(`a`) Path(`/`)", "column 11: unexpected \"Path\" after a complete expression (&&, || or the end)"},
		{"Host(`a`) &&", "column 13: unexpected the end of the rule (a matcher, ! or ()"},
		{"Host(`a`) & Path(`/`)", "column 11: unexpected character '&' (matchers, strings in ` or \", && || ! ( ) ,)"},
		{"(Host(`a`)", "column 11: unexpected the end of the rule, the parenthesis of column 1 is open (&&, || or ))"},
		{"Host(`a", "column 6: the string is not closed (close it with the same quote)"},
		{`Path("/\q")`, "column 6: the string is not well formed (Go's escapes in \"...\", or backticks for a string without escapes)"},
		{"Host(`http://a`)", "column 6: Host: `http://a` is not a host name (a name without scheme, port or path, in ASCII (xn-- form); one leading *. may stand for one label; else HostRegexp)"},
		{"Host(`a:80`)", "column 6: Host: `a:80` is not a host name (a name without scheme, port or path, in ASCII (xn-- form); one leading *. may stand for one label; else HostRegexp)"},
		{"Host(`a.*.b`)", "column 6: Host: `a.*.b` is not a host name (a name without scheme, port or path, in ASCII (xn-- form); one leading *. may stand for one label; else HostRegexp)"},
		{"Host(`*b`)", "column 6: Host: `*b` is not a host name (*.example.com: the star is the whole first label)"},
		{"Path(`/a`,`b`)", "column 11: Path: `b` is not a path (a path that starts with /)"},
		{"Method(`A B`)", "column 8: Method: `A B` is not a method (GET, POST, ...)"},
		{"Header(`a`)", "column 1: Header has 1 arguments (Header(`Name`, `value`))"},
		{"Header(`host`,`a`)", "column 8: Header: the host is not matched as a header (Host(...) or HostRegexp(...))"},
		{"PathRegexp(`a(`)", "column 12: PathRegexp: `a(`: missing closing ): `a(` (RE2 syntax)"},
		{"ClientIP(`10.0.0.0/33`)", "column 10: ClientIP: `10.0.0.0/33` is neither an address nor a network (10.1.2.3, 10.0.0.0/8, 2001:db8::/32)"},
		{"PathRegexp(`" + strings.Repeat("a", MaxRegexp+1) + "`)", "column 12: PathRegexp: the regular expression has 1025 bytes (at most 1024 bytes)"},
		{deep + "Host(`a`)", "column 33: the rule is nested too deeply (at most 32 levels)"},
		{strings.Repeat("!", MaxDepth+1) + "Host(`a`)", "column 33: the rule is nested too deeply (at most 32 levels)"},
		{strings.Repeat(" ", MaxRule+1), "column 65537: the rule has 65537 bytes (at most 65536 bytes)"},
		{"Path(`/\xff`)", "column 1: the rule is not valid UTF-8 (UTF-8)"},
	} {
		_, err := Parse(tc.rule)
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.40q: no *Error but %v", tc.rule, err)
			continue
		}
		if diff := cmp.Diff(tc.want, e.Error()); diff != "" {
			t.Errorf("%.40q: %s", tc.rule, diff)
		}
	}
}

func TestHosts(t *testing.T) {
	r := mustParse(t, "Host(`b`,`a`) && !Host(`c`) || !(!Host(`d`) || Path(`/`)) || HostRegexp(`e`) || Host(`*.f.org`,`a`)")
	if diff := cmp.Diff([]string{"b", "a", "d", "*.f.org"}, r.Hosts()); diff != "" {
		t.Error(diff)
	}
}

func TestRuleMatch(t *testing.T) {
	head := Head{
		Method: "GET", Host: "A.example.com:8080", Path: "/foobar", RawQuery: "a=1&b=x%20y&bad=%zz&c;d=1",
		Header: map[string][]string{"X-A": {"one", "two"}}, RemoteAddr: "[::ffff:10.1.2.3]:99",
	}
	for rule, want := range map[string]bool{
		"Host(`a.example.com`)":          true,
		"Host(`*.example.com`)":          true,
		"Host(`*.com`)":                  false,
		"HostRegexp(`^a\\.`)":            true,
		"PathPrefix(`/foo`)":             true, // a string prefix, as people know it
		"PathPrefix(`/foo/`)":            false,
		"Path(`/foo`)":                   false,
		"PathRegexp(`bar$`)":             true,
		"Method(`get`)":                  true,
		"Header(`x-a`,`two`)":            true,
		"Header(`x-a`,`t`)":              false,
		"HeaderRegexp(`x-a`,`^t`)":       true,
		"Query(`a`)":                     true,
		"Query(`a`,`1`)":                 true,
		"Query(`a`,`2`)":                 false,
		"Query(`b`,`x y`)":               true,
		"Query(`bad`)":                   false,
		"Query(`d`)":                     false,
		"QueryRegexp(`b`,`^x`)":          true,
		"ClientIP(`10.0.0.0/8`)":         true,
		"ClientIP(`::1`,`192.0.2.0/24`)": false,
	} {
		if got := mustParse(t, rule).Match(&head); got != want {
			t.Errorf("%s: %v", rule, got)
		}
	}
	if (Rule{}).Match(&head) {
		t.Error("the zero rule matched")
	}
}

// FuzzParse: no input panics, and the canonical form is a fixed point.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"Host(`a`,`b`) && (PathPrefix(`/x`) || !Method(`GET`))", "!(Path(\"/\\x60\"))", "ClientIP(`::/0`)",
		"HeaderRegexp(`a`,`(`)", "Host(`*.a.b`)||QueryRegexp(`k`,`v{2,3}`)", "((((", "!!!", "Host(`[::1]`)",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := Parse(s)
		if err != nil {
			return
		}
		text := r.String()
		if len(text) > MaxRule {
			return
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%q became %q: %v", s, text, err)
		}
		if got := again.String(); got != text {
			t.Fatalf("%q became %q, then %q", s, text, got)
		}
		if diff := cmp.Diff(r.Hosts(), again.Hosts()); diff != "" {
			t.Fatal(diff)
		}
	})
}
