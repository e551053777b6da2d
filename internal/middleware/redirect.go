package middleware

import (
	"net"
	"net/http"
	"strings"

	"gatehouse/internal/wire"
)

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

// isAt tells whether the client is at a scheme and port already; port "" is the
// scheme's own.
func isAt(q asked, scheme, port string) bool {
	if port == "" {
		port = defaultPort(scheme)
	}
	_, oldPort := splitHost(q.host())
	oldScheme := q.scheme()
	if oldPort == "" {
		oldPort = defaultPort(oldScheme)
	}
	return oldScheme == scheme && oldPort == port
}

// moved is the same URL at another scheme and port; the scheme's own port is
// left out.
func moved(r *http.Request, scheme, port string) (location string) {
	host, _ := splitHost(r.Host)
	if port != "" && port != defaultPort(scheme) {
		host = net.JoinHostPort(strings.Trim(host, "[]"), port)
	}
	return scheme + "://" + host + r.URL.RequestURI()
}

// redirector makes the middleware that moves clients who do not stay.
func redirector(stays func(asked) bool, scheme, port string, permanent bool) Middleware {
	return Middleware{
		Stage: Stage{Pass: func(x *wire.Exchange) bool { return stays((*staged)(x)) }},
		Wrap: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if stays((*viewed)(r)) {
					next.ServeHTTP(w, r)
					return
				}
				redirect(w, r, moved(r, scheme, port), permanent)
			})
		},
	}
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
