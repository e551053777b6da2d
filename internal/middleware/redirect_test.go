package middleware

import (
	"crypto/tls"
	"net/http/httptest"
	"testing"
)

func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		kind, params string
		method, url  string
		proto        string // X-Forwarded-Proto, as the gate sets it; "": as the connection
		status       int    // 200: passed on
		location     string
	}{
		{"redirectScheme", `scheme = "https"`, "GET", "http://a.com/x?y=1", "", 302, "https://a.com/x?y=1"},
		{"redirectScheme", "scheme = \"https\"\npermanent = true", "GET", "http://a.com:8080/", "", 301, "https://a.com/"},
		{"redirectScheme", "scheme = \"https\"\npermanent = true", "POST", "http://a.com/", "", 308, "https://a.com/"},
		{"redirectScheme", "scheme = \"https\"\nport = \"8443\"", "POST", "http://[::1]:80/", "", 307, "https://[::1]:8443/"},
		{"redirectScheme", "scheme = \"https\"\nport = \"8443\"", "GET", "https://a.com:8443/", "", 200, ""},
		{"redirectScheme", "scheme = \"https\"\nport = \"8443\"", "GET", "https://a.com/", "", 302, "https://a.com:8443/"},
		{"redirectScheme", `scheme = "https"`, "GET", "https://a.com:444/", "", 200, ""},
		{"redirectScheme", `scheme = "https"`, "GET", "http://a.com/", "https", 200, ""},
		{"redirectScheme", `scheme = "http"`, "GET", "https://a.com/", "", 302, "http://a.com/"},
		{"redirectEntryPoint", `entryPoint = "https"`, "GET", "http://a.com/x%2Fy?z", "", 302, "https://a.com/x%2Fy?z"},
		{"redirectEntryPoint", `entryPoint = "https"`, "HEAD", "http://[::1]/", "", 302, "https://[::1]/"},
		{"redirectEntryPoint", "entryPoint = \"alt\"\npermanent = true", "GET", "http://a.com/", "", 301, "https://a.com:8443/"},
		{"redirectEntryPoint", `entryPoint = "https"`, "GET", "http://a.com/", "https", 200, ""},
		{"redirectEntryPoint", `entryPoint = "https"`, "GET", "https://a.com/", "", 200, ""},
		{"redirectEntryPoint", `entryPoint = "https"`, "GET", "https://a.com:8443/", "", 302, "https://a.com/"},
		{"redirectEntryPoint", `entryPoint = "http"`, "GET", "http://a.com/", "", 200, ""},
		{"redirectRegex", "regex = \"^http://([^/]+)/(.*)\"\nreplacement = \"https://www.$1/${2}\"", "GET", "http://a.com/x?y", "", 302, "https://www.a.com/x?y"},
		{"redirectRegex", "regex = \"^https://\"\nreplacement = \"http://\"", "GET", "http://a.com/", "", 200, ""},
		{"redirectRegex", "regex = \"^(.*)$\"\nreplacement = \"$1\"", "GET", "http://a.com/", "", 200, ""},
		{"redirectRegex", "regex = \"^.*$\"\nreplacement = \"http://[\"", "GET", "http://a.com/", "", 500, ""},
	} {
		r := httptest.NewRequest(c.method, c.url, nil)
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
			r.TLS = nil
		}
		w, seen := serve(mustDeclare(t, c.kind, c.params), r, nil)
		if w.Code != c.status || w.Header().Get("Location") != c.location || (seen != nil) != (c.status == 200) {
			t.Errorf("%s %q %s %s: %d %q, want %d %q", c.kind, c.params, c.method, c.url,
				w.Code, w.Header().Get("Location"), c.status, c.location)
		}
	}
	// The connection itself, without any header.
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = new(tls.ConnectionState)
	if (*viewed)(r).scheme() != "https" {
		t.Error("a TLS connection is not https")
	}
}
