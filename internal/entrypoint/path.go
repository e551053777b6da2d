package entrypoint

import "strings"

// normalPath brings an escaped path to the one form that routing, middlewares
// and servers all see: unreserved characters decoded, other escapes in upper
// case, double slashes merged, dot segments resolved (RFC 3986, section 6.2.2).
// It refuses what servers are known to read in different ways: encoded slashes
// and backslashes (unless allowed), NUL, raw backslashes, control and
// non-ASCII bytes.
func normalPath(escaped string, allowEncodedSlash bool) (string, bool) {
	if escaped == "" {
		return "/", true
	}
	if isPlain(escaped) {
		return escaped, true
	}
	if escaped == "*" {
		return escaped, true
	}
	if escaped[0] != '/' {
		return "", false
	}
	out, ok := decodeUnreserved(escaped, allowEncodedSlash)
	if !ok {
		return "", false
	}
	return resolveDots(out), true
}

// isPlain: nothing to decode, encode, merge or resolve. Nearly every path is.
func isPlain(p string) bool {
	if p[0] != '/' {
		return false
	}
	for i := range len(p) {
		c := p[i]
		if !pathByte[c] || c == '%' {
			return false
		}
		if i > 0 && p[i-1] == '/' && (c == '/' || c == '.') {
			return false
		}
	}
	return true
}

// pathByte marks what RFC 3986 lets stand raw in a path (pchar and '/'), '%'
// included, and the brackets that browsers leave raw.
var pathByte = func() (ok [256]bool) {
	for c := range 256 {
		ok[c] = isAlnum(byte(c))
	}
	for _, c := range []byte("-._~!$&'()*+,;=:@/%[]") {
		ok[c] = true
	}
	return ok
}()

func decodeUnreserved(p string, allowEncodedSlash bool) (string, bool) {
	const upper = "0123456789ABCDEF"
	var out strings.Builder
	out.Grow(len(p) + 8)
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '%':
			if i+2 >= len(p) {
				return "", false
			}
			hi, lo := unhex(p[i+1]), unhex(p[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			i += 2
			d := byte(hi<<4 | lo)
			switch {
			case d == 0, (d == '/' || d == '\\') && !allowEncodedSlash:
				return "", false
			case isAlnum(d), d == '-', d == '.', d == '_', d == '~':
				out.WriteByte(d)
			default:
				out.WriteByte('%')
				out.WriteByte(upper[hi])
				out.WriteByte(upper[lo])
			}
		case c < 0x20, c >= 0x7f, c == '\\':
			return "", false
		case pathByte[c]:
			out.WriteByte(c)
		default: // blanks, quotes, braces: no reading of them is in dispute
			out.WriteByte('%')
			out.WriteByte(upper[c>>4])
			out.WriteByte(upper[c&15])
		}
	}
	return out.String(), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// resolveDots merges slashes and removes dot segments; it never climbs above
// the root. A path that ends in a dot segment keeps its final slash.
func resolveDots(p string) string {
	segments := strings.Split(p[1:], "/")
	kept := make([]string, 0, len(segments))
	directory := false
	for _, s := range segments {
		directory = s == "" || s == "." || s == ".."
		switch {
		case s == ".." && len(kept) > 0:
			kept = kept[:len(kept)-1]
		case !directory:
			kept = append(kept, s)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if directory && len(kept) > 0 {
		out += "/"
	}
	return out
}
