package middleware

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHeaders(t *testing.T) {
	const everything = `
sslRedirect = true
sslHost = "www.a.com"
stsSeconds = 31536000
stsIncludeSubdomains = true
stsPreload = true
frameDeny = true
contentTypeNosniff = true
browserXssFilter = true
contentSecurityPolicy = "default-src 'self'"
referrerPolicy = "no-referrer"
permissionsPolicy = "camera=()"
allowedHosts = ["a.com", "www.a.com"]
`
	for _, c := range []struct {
		name, params, url string
		request           http.Header
		status            int
		want              http.Header // of the answer; nil values: must be absent
		seen              http.Header // by the server
		host              string      // seen by the server
	}{
		{name: "custom", params: `customRequestHeaders = {"x-new" = "1", "X-Gone" = "", Host = "inner"}
customResponseHeaders = {"X-A" = "ours", "Server" = ""}`, url: "http://a.com/",
			request: http.Header{"X-Gone": {"x"}}, status: 200,
			want: http.Header{"X-A": {"ours"}, "Server": nil, "X-Kept": {"k"}},
			seen: http.Header{"X-New": {"1"}, "X-Gone": nil}, host: "inner"},
		{name: "security over TLS", params: everything, url: "https://a.com/", status: 200, want: http.Header{
			"Strict-Transport-Security": {"max-age=31536000; includeSubDomains; preload"},
			"X-Frame-Options":           {"DENY"}, "X-Content-Type-Options": {"nosniff"}, "X-Xss-Protection": {"1; mode=block"},
			"Content-Security-Policy": {"default-src 'self'"}, "Referrer-Policy": {"no-referrer"}, "Permissions-Policy": {"camera=()"},
		}},
		{name: "redirect", params: everything, url: "http://a.com/x?y", status: 301,
			want: http.Header{"Location": {"https://www.a.com/x?y"}, "Strict-Transport-Security": nil, "X-Frame-Options": {"DENY"}}},
		{name: "temporary", params: "sslRedirect = true\nsslTemporaryRedirect = true", url: "http://a.com:80/", status: 302,
			want: http.Header{"Location": {"https://a.com/"}}},
		{name: "force host", params: "sslRedirect = true\nsslForceHost = true\nsslHost = \"www.a.com\"", url: "https://a.com/", status: 301,
			want: http.Header{"Location": {"https://www.a.com/"}}},
		{name: "host not allowed", params: everything, url: "https://b.com/", status: 421},
		{name: "allowed by the proxy's word", params: "allowedHosts = [\"a.com\"]\nhostsProxyHeaders = [\"X-Forwarded-Host\"]",
			url: "https://inner/", request: http.Header{"X-Forwarded-Host": {"A.com:443"}}, status: 200},
		{name: "development", params: everything + "isDevelopment = true", url: "http://b.com/", status: 200,
			want: http.Header{"Strict-Transport-Security": nil, "X-Frame-Options": {"DENY"}}},
		{name: "proxied TLS", params: "sslRedirect = true\nstsSeconds = 1\nsslProxyHeaders = {\"X-Tls\" = \"on\"}", url: "http://a.com/",
			request: http.Header{"X-Tls": {"ON"}}, status: 200, want: http.Header{"Strict-Transport-Security": {"max-age=1"}}},
		{name: "forced sts", params: "stsSeconds = 1\nforceSTSHeader = true", url: "http://a.com/", status: 200,
			want: http.Header{"Strict-Transport-Security": {"max-age=1"}}},
		{name: "own value wins", params: "frameDeny = true\ncustomFrameOptionsValue = \"SAMEORIGIN\"\ncustomBrowserXSSValue = \"0\"",
			url: "http://a.com/", status: 200, want: http.Header{"X-Frame-Options": {"SAMEORIGIN"}, "X-Xss-Protection": {"0"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", c.url, nil)
			for name, values := range c.request {
				r.Header[name] = values
			}
			w, seen := serve(mustDeclare(t, "headers", c.params), r, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-A", "theirs")
				w.Header().Set("Server", "theirs")
				w.Header().Set("X-Kept", "k")
				w.Header().Set("X-Frame-Options", "theirs")
			})
			if w.Code != c.status || (seen != nil) != (c.status == 200) {
				t.Fatalf("status %d, want %d", w.Code, c.status)
			}
			for name, values := range c.want {
				if diff := cmp.Diff(values, w.Result().Header[name]); diff != "" {
					t.Errorf("answer's %s (-want +got):\n%s", name, diff)
				}
			}
			for name, values := range c.seen {
				if diff := cmp.Diff(values, seen.Header[name]); diff != "" {
					t.Errorf("server's %s (-want +got):\n%s", name, diff)
				}
			}
			if c.host != "" && seen.Host != c.host {
				t.Errorf("server saw host %s, want %s", seen.Host, c.host)
			}
		})
	}
}

// TestHeadHookKeepsWhatWritersCan: interim answers pass, streams flush,
// connections can be taken over, through every wrapper of this package.
func TestHeadHookKeepsWhatWritersCan(t *testing.T) {
	log := openTestLog(t, AccessLogOptions{FilePath: t.TempDir() + "/log"})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			conn, buf, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			buf.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntaken")
			buf.Flush()
			return
		}
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "one")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	chain := log.Handler("web", mustDeclare(t, "headers", `customResponseHeaders = {"X-A" = "1"}`).Wrap(
		mustDeclare(t, "compress", "").Wrap(handler)))
	server := httptest.NewServer(chain)
	defer server.Close()
	res, err := http.Get(server.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 3)
	if _, err := io.ReadFull(res.Body, b); err != nil || string(b) != "one" || res.Header.Get("X-A") != "1" {
		t.Errorf("stream gave %q, %v, %v", b, err, res.Header)
	}
	res.Body.Close()
	res, err = http.Get(server.URL + "/hijack")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if string(body) != "taken" {
		t.Errorf("taken over connection gave %q", body)
	}
	http.DefaultClient.CloseIdleConnections()
}
