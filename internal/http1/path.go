package http1

// AppendNormalPath brings an escaped path to the one form that routing,
// middlewares and servers all see (RFC 3986, section 6.2.2): unreserved
// characters decoded, other escapes in upper case, bytes that must not stand raw
// escaped, double slashes merged, dot segments resolved without climbing above
// the root. A path that ends in a dot segment or in slashes keeps one final
// slash. Where path is normal already it is returned itself; else the normal
// form is appended to dst and that part of dst returned.
//
// Refused is what servers are known to read in different ways: encoded slashes
// and backslashes (unless encodedSlash), raw backslashes, raw or encoded control
// bytes, raw non-ASCII bytes, broken escapes, a path without a leading slash.
//
// Normal paths are their own normal form.
func AppendNormalPath(dst, path []byte, encodedSlash bool) ([]byte, Reason) {
	if isNormal(path) {
		return path, 0
	}
	return appendNormal(dst, path, encodedSlash)
}

// NormalPath is AppendNormalPath for strings.
func NormalPath(path string, encodedSlash bool) (string, Reason) {
	if isNormal(path) {
		return path, 0
	}
	out, why := appendNormal(make([]byte, 0, len(path)+16), []byte(path), encodedSlash)
	return string(out), why
}

// normal is AppendNormalPath into the request's own room.
func (r *Request) normal(path []byte, encodedSlash bool) ([]byte, Reason) {
	if isNormal(path) {
		return path, 0
	}
	out, why := appendNormal(r.norm[:0], path, encodedSlash)
	if why == 0 {
		r.norm = out
	}
	return out, why
}

// isNormal: nothing to decode, encode, merge or resolve. It may say no to a
// normal path with escapes; nearly every path has none.
func isNormal[T ~[]byte | ~string](p T) bool {
	if len(p) == 0 || p[0] != '/' {
		return false
	}
	for i := 1; i < len(p); i++ {
		c := p[i]
		if class[c]&inPath == 0 || c == '%' && !keptEscape(p, i) {
			return false
		}
		if p[i-1] == '/' && (c == '/' || c == '.' && isDots(p, i)) {
			return false
		}
	}
	return true
}

// keptEscape tells whether the escape at i stays as it is, whatever the rules.
func keptEscape[T ~[]byte | ~string](p T, i int) bool {
	if i+2 >= len(p) || lowerHex(p[i+1]) || lowerHex(p[i+2]) {
		return false
	}
	hi, lo := unhex(p[i+1]), unhex(p[i+2])
	if hi > 15 || lo > 15 {
		return false
	}
	d := hi<<4 | lo
	return d > ' '-1 && d != 0x7f && d != '/' && d != '\\' && !isUnreserved(d)
}

func lowerHex(c byte) bool { return 'a' <= c && c <= 'f' }

func isUnreserved(c byte) bool {
	return class[c]&isAlnum != 0 || c == '-' || c == '.' || c == '_' || c == '~'
}

// isDots tells whether the segment at i is "." or "..".
func isDots[T ~[]byte | ~string](p T, i int) bool {
	i++
	if i < len(p) && p[i] == '.' {
		i++
	}
	return i == len(p) || p[i] == '/'
}

func appendNormal(dst, p []byte, encodedSlash bool) ([]byte, Reason) {
	const upper = "0123456789ABCDEF"
	if len(p) == 0 || p[0] != '/' {
		return nil, BadPath
	}
	base := len(dst)
	dst = append(dst, '/')
	segment := len(dst)
	for i := 1; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '/':
			if dst, segment = endSegment(dst, base, segment); len(dst) > segment {
				dst = append(dst, '/')
				segment = len(dst)
			}
		case c == '%':
			if i+2 >= len(p) {
				return nil, BadPath
			}
			hi, lo := unhex(p[i+1]), unhex(p[i+2])
			if hi > 15 || lo > 15 {
				return nil, BadPath
			}
			i += 2
			d := hi<<4 | lo
			switch {
			case d < ' ', d == 0x7f, (d == '/' || d == '\\') && !encodedSlash:
				return nil, BadPath
			case isUnreserved(d):
				dst = append(dst, d)
			default:
				dst = append(dst, '%', upper[hi], upper[lo])
			}
		case c < 0x20, c >= 0x7f, c == '\\':
			return nil, BadPath
		case class[c]&inPath != 0:
			dst = append(dst, c)
		default: // blanks, quotes, braces: no reading of them is in dispute
			dst = append(dst, '%', upper[c>>4], upper[c&15])
		}
	}
	dst, _ = endSegment(dst, base, segment)
	return dst[base:], 0
}

// endSegment resolves the segment that begins at segment and ends dst. After a
// dot segment, or an empty one, dst ends with the slash before it, and the next
// segment begins there.
func endSegment(dst []byte, base, segment int) ([]byte, int) {
	switch string(dst[segment:]) {
	case ".":
		dst = dst[:segment]
	case "..":
		dst = dst[:segment]
		if segment > base+1 { // one up: to behind the slash before
			segment--
			for dst[segment-1] != '/' {
				segment--
			}
			dst = dst[:segment]
		}
	}
	return dst, segment
}
