package middleware

import (
	"net"
	"net/http"
	"strings"
)

// schemeOf is the scheme the client used: the entry point's gate has set
// X-Forwarded-Proto, or believed a trusted peer's.
func schemeOf(r *http.Request) string {
	switch proto := r.Header.Get("X-Forwarded-Proto"); {
	case proto == "https" || proto == "wss":
		return "https"
	case proto == "http" || proto == "ws":
		return "http"
	case r.TLS != nil:
		return "https"
	}
	return "http"
}

// splitHost parts a Host header; the port is "" where none is given. IPv6
// addresses keep their brackets.
func splitHost(host string) (name, port string) {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i], host[i+1:]
	}
	return host, ""
}

// defaultPort is the port that goes without saying.
func defaultPort(scheme string) string {
	if scheme == "https" {
		return "443"
	}
	return "80"
}

// moved builds the same URL at another scheme and port; the scheme's own port
// is left out. ok is false where the client is there already.
func moved(r *http.Request, scheme, port string) (location string, ok bool) {
	if port == "" {
		port = defaultPort(scheme)
	}
	name, oldPort := splitHost(r.Host)
	oldScheme := schemeOf(r)
	if oldPort == "" {
		oldPort = defaultPort(oldScheme)
	}
	if oldScheme == scheme && oldPort == port {
		return "", false
	}
	host := name
	if port != defaultPort(scheme) {
		host = net.JoinHostPort(strings.Trim(name, "[]"), port)
	}
	return scheme + "://" + host + r.URL.RequestURI(), true
}

// redirect answers with a Location. Methods other than GET and HEAD keep
// method and body (307, 308); for these two the older codes do the same.
func redirect(w http.ResponseWriter, r *http.Request, location string, permanent bool) {
	keep := r.Method != http.MethodGet && r.Method != http.MethodHead
	status := http.StatusFound
	switch {
	case permanent && keep:
		status = http.StatusPermanentRedirect
	case permanent:
		status = http.StatusMovedPermanently
	case keep:
		status = http.StatusTemporaryRedirect
	}
	w.Header().Set("Location", location)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(status)
}
