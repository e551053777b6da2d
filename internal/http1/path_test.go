package http1

import (
	"net/url"
	"strings"
	"testing"
)

func TestNormalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "//": "/", "/.": "/", "/..": "/", "/./": "/", "/../": "/", "/../..": "/", "/../../a": "/a",
		"/a": "/a", "/a/": "/a/", "/a//": "/a/", "/a///b": "/a/b", "//a": "/a", "///a//": "/a/",
		"/a/.": "/a/", "/a/./": "/a/", "/a/./b": "/a/b", "/a/..": "/", "/a/../": "/", "/a/../b": "/b",
		"/a/b/..": "/a/", "/a/b/../": "/a/", "/a/b/../c": "/a/c", "/a/b/../../c": "/c", "/a/b/../../../c": "/c",
		"//a//..//b": "/b", "/a//../b": "/b", "/a/.//../b": "/b",
		"/...": "/...", "/.a/..b/c./d..": "/.a/..b/c./d..", "/.well-known/x": "/.well-known/x",
		"/%2e": "/", "/%2E%2e/x": "/x", "/a/%2e%2E/b": "/b", "/a/.%2e/b": "/b", "/a/%2e./b": "/b", "/a/b/%2e": "/a/b/",
		"/%61%7e%2D%5f": "/a~-_", "/%c3%a9": "/%C3%A9", "/%C3%A9": "/%C3%A9", "/a%20b": "/a%20b",
		"/%25%32%65": "/%252e", "/%252e%252e/a": "/%252e%252e/a", "/%2525": "/%2525",
		"/a b|c": "/a%20b%7Cc", `/"<>^{}` + "`": "/%22%3C%3E%5E%7B%7D%60", "/a?": "/a%3F", "/a#": "/a%23",
		"/a;b=c,d@e": "/a;b=c,d@e", "/a(b)[c]!$&'*+": "/a(b)[c]!$&'*+", "/%3B%3b": "/%3B%3B",
	} {
		got, why := NormalPath(in, false)
		if got != want || why != 0 {
			t.Errorf("%s: %s, %v, want %s", in, got, why, want)
		}
		room := append(make([]byte, 0, 64), "kept"...)
		if b, why := AppendNormalPath(room, []byte(in), false); string(b) != want || why != 0 {
			t.Errorf("%s appended: %s, %v, want %s", in, b, why, want)
		}
	}
	for _, in := range []string{"", "a", "*", "%2f", "/%2f", "/%2F", "/%5c", "/%5C", `/\`, "/%00", "/%0a", "/%1F", "/%7f", "/\x00", "/\n", "/\x7f",
		"/\x80", "/é", "/%", "/%4", "/%zz", "/%4g", "/%%32f", "/a/%", "/..%2f", "/..%5c.."} {
		if got, why := NormalPath(in, false); got != "" || why != BadPath {
			t.Errorf("%q: %q, %v", in, got, why)
		}
	}
	for in, want := range map[string]string{"/a%2fb%5c/%2e%2e/c": "/c", "/a%2fb": "/a%2Fb", "/..%5cb": "/..%5Cb", "/a/%2F/..": "/a/"} {
		if got, why := NormalPath(in, true); got != want || why != 0 {
			t.Errorf("%s with encoded slashes: %s, %v, want %s", in, got, why, want)
		}
	}
}

// FuzzNormalPath: a normal path is its own normal form, has one reading, and
// net/url decodes it to what the segments of the input mean.
func FuzzNormalPath(f *testing.F) {
	for _, p := range []string{"/", "", "*", "/a//b", "/%2e%2e/x", "/a/..", "/%2F", "/%", "/%zz", "/é", "/a%2525", "/a/.//../b?c"} {
		f.Add(p, true)
		f.Add(p, false)
	}
	f.Fuzz(func(t *testing.T, path string, encodedSlash bool) {
		got, why := NormalPath(path, encodedSlash)
		if why != 0 {
			if got != "" {
				t.Fatalf("%q refused, yet %q", path, got)
			}
			return
		}
		again, why := NormalPath(got, encodedSlash)
		if again != got || why != 0 {
			t.Fatalf("%q: %q, then %q, %v", path, got, again, why)
		}
		if isNormal(path) != (path == got) && !strings.Contains(path, "%") {
			t.Fatalf("%q: isNormal is %v, the normal form %q", path, isNormal(path), got)
		}
		for _, bad := range []string{"//", "/./", "/../", "\\", "%00", "\x00"} {
			if strings.Contains(got+"/end", bad) && !(bad == "//" && strings.HasSuffix(got, "/")) {
				t.Fatalf("%q: %q holds %q", path, got, bad)
			}
		}
		decoded, err := url.PathUnescape(got)
		if err != nil || got[0] != '/' {
			t.Fatalf("%q: %q: %v", path, got, err)
		}
		if !encodedSlash && strings.Count(decoded, "/") != strings.Count(got, "/") {
			t.Fatalf("%q: %q decodes to %q", path, got, decoded)
		}
		if want := meaning(t, path); decoded != want && !encodedSlash {
			t.Fatalf("%q: %q decodes to %q, but means %q", path, got, decoded, want)
		}
	})
}

// meaning decodes first and resolves segments then, by another way.
func meaning(t *testing.T, path string) string {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	segments := strings.Split(decoded, "/")[1:]
	for _, s := range segments {
		switch s {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, s)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if last := segments[len(segments)-1]; (last == "" || last == "." || last == "..") && len(kept) > 0 {
		out += "/"
	}
	return out
}
