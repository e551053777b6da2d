package upstream

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// address is where a server is: as declared, canonical.
type address struct {
	Scheme string // http, https or h2c
	Host   string // host:port, in lower case
}

// wire is the scheme on the wire.
func (a address) wire() string {
	if a.Scheme == "h2c" {
		return "http"
	}
	return a.Scheme
}

// serverURL is a server's URL, read.
type serverURL struct {
	address
	text string // scheme://host:port
	path bool   // there is a path, which is not used
}

// readAddress reads the URL of a server; wrong says what is wrong with it.
func readAddress(text, name string) (at serverURL, wrong string) {
	if at, ok := canonicalAddress(text); ok {
		return at, ""
	}
	return readSlowly(text, name)
}

func readSlowly(text, name string) (at serverURL, wrong string) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return at, fmt.Sprintf("the URL of server %q cannot be read", name)
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "h2c",
		u.Hostname() == "", u.RawQuery != "", u.Fragment != "", u.User != nil, u.Opaque != "":
		return at, fmt.Sprintf("the URL of server %q is %q", name, u.Redacted())
	}
	at.path = u.Path != "" && u.Path != "/"
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443", "h2c": "80"}[u.Scheme])
	}
	at.address = address{Scheme: u.Scheme, Host: strings.ToLower(u.Host)}
	at.text = (&url.URL{Scheme: at.Scheme, Host: at.Host}).String()
	return at, ""
}

// canonicalAddress reads the form nearly all have, without an allocation.
func canonicalAddress(text string) (at serverURL, ok bool) {
	scheme, host, ok := strings.Cut(text, "://")
	if !ok || scheme != "http" && scheme != "https" && scheme != "h2c" {
		return at, false
	}
	host = strings.TrimSuffix(host, "/")
	colon := strings.IndexByte(host, ':')
	if colon <= 0 || colon == len(host)-1 {
		return at, false
	}
	for i := range len(host) {
		c := host[i]
		if !('0' <= c && c <= '9' || i == colon || i < colon && ('a' <= c && c <= 'z' || c == '.' || c == '-')) {
			return at, false
		}
	}
	return serverURL{address: address{scheme, host}, text: text[:len(scheme)+len("://")+len(host)]}, true
}
