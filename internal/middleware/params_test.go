package middleware

import (
	"strings"
	"testing"
)

func TestMistakesAreProblemsWithTheirPlace(t *testing.T) {
	for _, c := range []struct{ kind, params, want string }{
		{"addPrefix", `prefx = "/a"`, `routes.toml:1:1: middleware m@file: key prefx: unknown key (did you mean prefix?`},
		{"addPrefix", ``, `routes.toml:1: middleware m@file: key prefix: is no path`},
		{"addPrefix", `prefix = "a"`, `routes.toml:1:1: middleware m@file: key prefix: is no path`},
		{"addPrefix", `prefix = "/a/../b"`, `is no path`},
		{"stripPrefix", ``, `key prefixes: is missing or empty`},
		{"stripPrefix", "prefixes = [\n  \"/a\",\n  \"b\",\n]", `routes.toml:3:3: middleware m@file: key prefixes.1: is no path`},
		{"stripPrefixRegex", `regex = ["("]`, `key regex.0: error parsing regexp`},
		{"replacePath", `path = "%zz"`, `key path: is no path`},
		{"replacePathRegex", `replacement = "/a"`, `key regex: is missing or empty`},
		{"replacePathRegex", `regex = "` + strings.Repeat("a", 2000) + `"`, `regular expression too long`},
		{"redirectScheme", `scheme = "ftp"`, `key scheme: is no scheme`},
		{"redirectScheme", "scheme = \"https\"\nport = \"0\"", `routes.toml:2:1: middleware m@file: key port: is no port`},
		{"redirectRegex", `regex = "a"`, `key replacement: is missing`},
		{"redirectEntryPoint", `entryPoint = "nope"`, `there is no entry point "nope"`},
		{"redirectEntryPoint", `entryPoint = "broken"`, `no port in its address "nowhere"`},
		{"redirectEntryPoint", ``, `key entryPoint: is missing`},
		{"ipAllowList", ``, `key sourceRange: is missing`},
		{"ipAllowList", `sourceRange = ["10.0.0.0/8", "10.0.0"]`, `key sourceRange.1: "10.0.0" is no address or network`},
		{"ipWhiteList", "sourceRange = [\"::1\"]\nrejectStatusCode = 200", `is no status of a refusal`},
		{"ipAllowList", "sourceRange = [\"::1\"]\nipStrategy = {depth = 1, excludedIPs = [\"::1\"]}", `exclude each other`},
		{"rateLimit", "average = 1\nperiod = \"0s\"", `key period: is out of range`},
		{"rateLimit", "average = 1\nperiod = \"24h\"\nburst = 1000000", `too long to fill`},
		{"rateLimit", "average = -1", `key average: is out of range`},
		{"rateLimit", "average = 1\nsourceCriterion = {requestHost = true, requestHeaderName = \"X\"}", `more than one criterion`},
		{"inFlightReq", ``, `key amount: is missing`},
		{"basicAuth", ``, `no user is given`},
		{"basicAuth", `users = ["u:plain"]`, `user "u": the hash is of no known kind; passwords in plain text are not accepted`},
		{"basicAuth", `users = ["u"]`, `user line without a colon`},
		{"basicAuth", `users = ["u:{SHA}x:y"]`, `more than one colon`},
		{"basicAuth", `usersFile = "/nonexistent/users"`, `key usersFile: cannot be read`},
		{"compress", `encodings = ["zip"]`, `"zip" is no encoding`},
		{"compress", `encodings = []`, `key encodings: is missing`},
		{"compress", "includedContentTypes = [\"a/b\"]\nexcludedContentTypes = [\"c/d\"]", `one of the two`},
		{"headers", `customRequestHeaders = {"X Y" = "a"}`, `cannot be sent`},
		{"headers", `customResponseHeaders = {"Content-Length" = "1"}`, `belongs to the connection`},
	} {
		m, problems := declare(t, c.kind, c.params)
		if m.Wrap != nil {
			t.Errorf("%s %s: was built", c.kind, c.params)
		}
		if len(problems) == 0 || !strings.Contains(problems[0].String(), c.want) {
			t.Errorf("%s %s:\n got %v\nwant %s", c.kind, c.params, problems, c.want)
		}
		for _, p := range problems {
			if strings.Contains(p.String(), ":plain") {
				t.Errorf("problem shows a password: %v", p)
			}
		}
	}
}
