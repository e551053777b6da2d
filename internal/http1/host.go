package http1

import (
	"net/netip"
	"strings"
)

// ValidHost accepts a registered name, an IPv4 address or an IPv6 address in
// brackets, with or without a port (RFC 9110, section 7.2), in the letters that
// host names have in practice: letters, digits, '-', '_' and '.'.
func ValidHost[T ~[]byte | ~string](host T) bool {
	if len(host) > 0 && host[0] == '[' {
		return validBracketed(string(host))
	}
	i := 0
	for i < len(host) && class[host[i]]&inHost != 0 {
		if host[i] == '.' && (i == 0 || host[i-1] == '.') {
			return false
		}
		i++
	}
	if i == 0 || i > 255 {
		return false
	}
	return i == len(host) || validPort(host[i:])
}

// validPort accepts a colon and a port, which may be empty.
func validPort[T ~[]byte | ~string](s T) bool {
	if s[0] != ':' || len(s) > len(":65535") {
		return false
	}
	n := 0
	for i := 1; i < len(s); i++ {
		d := s[i] - '0'
		if d > 9 {
			return false
		}
		n = n*10 + int(d)
	}
	return n <= 65535
}

// validBracketed is for an IPv6 address in brackets; zones have no meaning to
// others.
func validBracketed(host string) bool {
	for end := 1; end < len(host); end++ {
		if host[end] != ']' {
			continue
		}
		addr, err := netip.ParseAddr(host[1:end])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		rest := host[end+1:]
		return rest == "" || validPort(rest)
	}
	return false
}

// HostName gives the comparable form of a host: without port, brackets and
// trailing dot, in lower case. It allocates only where a letter is upper case.
func HostName(host string) string {
	if strings.HasPrefix(host, "[") {
		if end := strings.IndexByte(host, ']'); end > 0 {
			host = host[1:end]
		}
	} else if colon := strings.IndexByte(host, ':'); colon >= 0 && strings.IndexByte(host[colon+1:], ':') < 0 {
		host = host[:colon]
	}
	host = strings.TrimSuffix(host, ".")
	for i := range len(host) {
		if c := host[i]; 'A' <= c && c <= 'Z' {
			return lowerASCII(host)
		}
	}
	return host
}

// lowerASCII leaves other alphabets alone: the Kelvin sign is not a k.
func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c | 0x20
		}
	}
	return string(b)
}
