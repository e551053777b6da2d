package entrypoint

import (
	"net/url"
	"strings"
	"testing"

	"gatehouse/internal/http1"
)

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"example.com": true, "Example.com:443": true, "a_b.internal": true, "10.0.0.1:80": true,
		"[::1]": true, "[2001:db8::1]:8443": true, "example.com.": true, "localhost": true, "example.com:": true,
		"": false, ":80": false, "a b": false, "a,b": false, "user@example.com": false, "example.com:80:81": false,
		"[::1": false, "::1": false, "[10.0.0.1]": false, "[fe80::1%eth0]": false, "example.com:65536": false,
		"example.com/x": false, "example..com": false, "a\\b": false, "exämple.com": false, ".a": false,
		"example.com:+80": false, "example.com:8o": false, "a;b": false, "[::1]x": false, "[]": false,
	} {
		if got := http1.ValidHost(host); got != want {
			t.Errorf("validHost(%q) = %v, want %v", host, got, want)
		}
	}
}

// FuzzValidHost: what is taken for a host means the same to a URL parser, and
// cannot break out of a header or a quoted text.
func FuzzValidHost(f *testing.F) {
	for _, h := range []string{"a.com", "a.com:80", "[::1]:80", "a@b", "a:b:c", "[::1", "a,b", "a b", "%41"} {
		f.Add(h)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if !http1.ValidHost(host) {
			return
		}
		u, err := url.Parse("http://" + host + "/x")
		if err != nil || u.Host != host || u.Path != "/x" || u.User != nil {
			t.Errorf("%q is %+v to a URL parser (%v)", host, u, err)
		}
		if strings.ContainsAny(host, "\"\\ ,;@/?#\r\n\x00%") {
			t.Errorf("%q was taken", host)
		}
	})
}
