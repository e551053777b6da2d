package entrypoint

import "testing"

func TestValidHost(t *testing.T) {
	for host, want := range map[string]bool{
		"example.com": true, "Example.com:443": true, "a_b.internal": true, "10.0.0.1:80": true,
		"[::1]": true, "[2001:db8::1]:8443": true, "example.com.": true, "localhost": true, "example.com:": true,
		"": false, ":80": false, "a b": false, "a,b": false, "user@example.com": false, "example.com:80:81": false,
		"[::1": false, "::1": false, "[10.0.0.1]": false, "[fe80::1%eth0]": false, "example.com:65536": false,
		"example.com/x": false, "example..com": false, "a\\b": false, "exämple.com": false, ".a": false,
		"example.com:+80": false, "example.com:8o": false, "a;b": false, "[::1]x": false, "[]": false,
	} {
		if got := validHost(host); got != want {
			t.Errorf("validHost(%q) = %v, want %v", host, got, want)
		}
	}
}
