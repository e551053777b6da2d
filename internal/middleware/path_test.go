package middleware

import (
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestPathEdits(t *testing.T) {
	for _, c := range []struct{ kind, params, in, want, header, value string }{
		{"addPrefix", `prefix = "/app"`, "/x?q=1", "/app/x?q=1", "", ""},
		{"addPrefix", `prefix = "/app/"`, "/", "/app/", "", ""},
		{"addPrefix", `prefix = "/a b"`, "/c%20d%2Fe", "/a%20b/c%20d%2Fe", "", ""},
		{"stripPrefix", `prefixes = ["/api"]`, "/api/x", "/x", "X-Forwarded-Prefix", "/api"},
		{"stripPrefix", `prefixes = ["/api"]`, "/api", "/", "X-Forwarded-Prefix", "/api"},
		{"stripPrefix", `prefixes = ["/api"]`, "/apix/y", "/x/y", "X-Forwarded-Prefix", "/api"},
		{"stripPrefix", `prefixes = ["/api", "/api/v1"]`, "/api/v1/x", "/x", "X-Forwarded-Prefix", "/api/v1"},
		{"stripPrefix", `prefixes = ["/api"]`, "/other", "/other", "X-Forwarded-Prefix", ""},
		{"stripPrefix", `prefixes = ["/a(b)"]`, "/a%28b)/c", "/c", "X-Forwarded-Prefix", "/a%28b)"},
		{"stripPrefix", `prefixes = ["/a"]`, "/a/b%2Fc", "/b%2Fc", "X-Forwarded-Prefix", "/a"},
		{"stripPrefix", `prefixes = ["/a/b"]`, "/a%2Fb/c", "/a%2Fb/c", "X-Forwarded-Prefix", ""},
		{"stripPrefix", `prefixes = ["/é"]`, "/%C3%A9/x", "/x", "X-Forwarded-Prefix", "/%C3%A9"},
		{"stripPrefix", `prefixes = ["/a"]`, "/a../secret", "refused", "", ""},
		{"stripPrefix", `prefixes = ["/a"]`, "/a./secret", "refused", "", ""},
		{"stripPrefixRegex", `regex = ["^/v[0-9]+"]`, "/v12/x", "/x", "X-Forwarded-Prefix", "/v12"},
		{"stripPrefixRegex", `regex = ["/b"]`, "/a/b/x", "/a/b/x", "X-Forwarded-Prefix", ""},
		{"stripPrefixRegex", `regex = ["^/[a-z ]+/"]`, "/a%20b/x", "/x", "X-Forwarded-Prefix", "/a%20b/"},
		{"replacePath", `path = "/new"`, "/old/x?q=%2F", "/new?q=%2F", "X-Replaced-Path", "/old/x"},
		{"replacePathRegex", "regex = \"^/old/(.*)\"\nreplacement = \"/new/$1\"", "/old/a%2Fb?x", "/new/a%2Fb?x", "X-Replaced-Path", "/old/a%2Fb"},
		{"replacePathRegex", "regex = \"^/old\"\nreplacement = \"\"", "/old", "/", "X-Replaced-Path", "/old"},
		{"replacePathRegex", "regex = \"^/old\"\nreplacement = \"/new\"", "/other", "/other", "X-Replaced-Path", ""},
		{"replacePathRegex", "regex = \"^/x(.*)\"\nreplacement = \"/%$1\"", "/xzz", "refused", "", ""},
		{"replacePathRegex", "regex = \"^/x(.*)\"\nreplacement = \"/.$1/y\"", "/x.", "refused", "", ""},
	} {
		r := httptest.NewRequest("GET", c.in, nil)
		before := *r.URL
		w, seen := serve(mustDeclare(t, c.kind, c.params), r, nil)
		if c.want == "refused" {
			if seen != nil || w.Code != 400 {
				t.Errorf("%s %s %s: got through with %d, want 400", c.kind, c.params, c.in, w.Code)
			}
			continue
		}
		if seen == nil || seen.URL.RequestURI() != c.want || seen.RequestURI != c.want {
			t.Errorf("%s %s %s: next saw %+v, want %s", c.kind, c.params, c.in, seen, c.want)
			continue
		}
		if decoded, err := url.PathUnescape(seen.URL.EscapedPath()); err != nil || decoded != seen.URL.Path {
			t.Errorf("%s %s: Path %q and RawPath %q disagree", c.kind, c.in, seen.URL.Path, seen.URL.RawPath)
		}
		if c.header != "" && seen.Header.Get(c.header) != c.value {
			t.Errorf("%s %s %s: %s is %q, want %q", c.kind, c.params, c.in, c.header, seen.Header.Get(c.header), c.value)
		}
		if *r.URL != before {
			t.Errorf("%s %s: the caller's URL was changed", c.kind, c.in)
		}
	}
}

// FuzzCutPath: what is cut off and what is left are the whole, and the cut
// part means the prefix.
func FuzzCutPath(f *testing.F) {
	f.Add("/a%20b/c", "/a b")
	f.Add("/a%2Fb", "/a/b")
	f.Add("/a%", "/a%")
	f.Fuzz(func(t *testing.T, escaped, prefix string) {
		if _, err := url.PathUnescape(escaped); err != nil {
			return
		}
		rest, ok := cutPath(escaped, prefix)
		if !ok {
			return
		}
		cut, err := url.PathUnescape(escaped[:len(escaped)-len(rest)])
		if err != nil || cut != prefix {
			t.Errorf("cutPath(%q, %q) cut %q (%v)", escaped, prefix, cut, err)
		}
	})
}
