package http1

// What a byte may be part of.
const (
	inToken  uint8 = 1 << iota // method or field name (RFC 9110, section 5.6.2)
	isOdd                      // '_' or '.': aliases of '-' to lenient readers
	inTarget                   // request target: visible ASCII but '#'
	inValue                    // field value: SP, HT, visible, obs-text
	inPath                     // stands for itself in a normal path ('/' and '%' too)
	inHost                     // letter, digit, '-', '_', '.'
	isAlnum
	inURL // path byte that net/url neither escapes nor decodes
)

// class is a constant table.
var class = func() (t [256]uint8) {
	for c := range 256 {
		b := byte(c)
		alnum := 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9'
		if alnum {
			t[c] |= inToken | inPath | inHost | isAlnum | inURL
		}
		if b > ' ' && b < 0x7f && b != '#' {
			t[c] |= inTarget
		}
		if b == '\t' || b >= ' ' && b != 0x7f {
			t[c] |= inValue
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= inToken
	}
	for _, c := range []byte("-._~!$&'()*+,;=:@/%[]") {
		t[c] |= inPath
	}
	for _, c := range []byte("-_.") {
		t[c] |= inHost
	}
	for _, c := range []byte("-_.~$&+,/:;=@") {
		t[c] |= inURL
	}
	t['_'] |= isOdd
	t['.'] |= isOdd
	return t
}()

// unhex is the value of a hexadecimal digit, or a value above 15.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// lower folds an ASCII letter.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFold compares with a lower-case text, ASCII letters without case.
func equalFold[T ~[]byte | ~string](b T, text string) bool {
	if len(b) != len(text) {
		return false
	}
	for i := range len(text) {
		if lower(b[i]) != text[i] {
			return false
		}
	}
	return true
}

// trim takes spaces and tabs off both ends (OWS).
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
