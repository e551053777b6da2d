package route

import (
	"net/http"
	"net/netip"
	"regexp"
	"sort"
	"strings"

	"gatehouse/internal/http1"
)

type kind uint8

const (
	kindHost kind = iota
	kindHostRegexp
	kindPath
	kindPathPrefix
	kindPathRegexp
	kindMethod
	kindHeader
	kindHeaderRegexp
	kindQuery
	kindQueryRegexp
	kindClientIP
)

// spec is what a matcher is called and what it takes.
type spec struct {
	kind        kind
	name        string
	usage       string
	least, most int // arguments; most 0: any number
}

// matchers is constant: by kind.
var matchers = [...]spec{
	kindHost:         {kindHost, "Host", "Host(`a.example.com`, `*.b.example.com`)", 1, 0},
	kindHostRegexp:   {kindHostRegexp, "HostRegexp", "HostRegexp(`^[a-z]+\\.example\\.com$`)", 1, 0},
	kindPath:         {kindPath, "Path", "Path(`/a`, `/b`)", 1, 0},
	kindPathPrefix:   {kindPathPrefix, "PathPrefix", "PathPrefix(`/a`, `/b`)", 1, 0},
	kindPathRegexp:   {kindPathRegexp, "PathRegexp", "PathRegexp(`^/a/[0-9]+$`)", 1, 0},
	kindMethod:       {kindMethod, "Method", "Method(`GET`, `HEAD`)", 1, 0},
	kindHeader:       {kindHeader, "Header", "Header(`Name`, `value`)", 2, 2},
	kindHeaderRegexp: {kindHeaderRegexp, "HeaderRegexp", "HeaderRegexp(`Name`, `expression`)", 2, 2},
	kindQuery:        {kindQuery, "Query", "Query(`key`) or Query(`key`, `value`)", 1, 2},
	kindQueryRegexp:  {kindQueryRegexp, "QueryRegexp", "QueryRegexp(`key`, `expression`)", 2, 2},
	kindClientIP:     {kindClientIP, "ClientIP", "ClientIP(`10.0.0.0/8`, `::1`)", 1, 0},
}

// findMatcher gives the matcher of a name in any case.
func findMatcher(name string) (s spec, ok bool) {
	for i := range matchers {
		if strings.EqualFold(matchers[i].name, name) {
			return matchers[i], true
		}
	}
	return spec{}, false
}

// leaf is one matcher with its arguments compiled.
type leaf struct {
	kind     kind
	args     []string  // canonical
	compiled *compiled // nil: the arguments say all
}

// compiled is what arguments mean, where that is not seen at a glance.
type compiled struct {
	exprs []*regexp.Regexp // *Regexp
	nets  []netip.Prefix   // ClientIP
}

func (l *leaf) name() string { return matchers[l.kind].name }

func (l *leaf) write(b *strings.Builder) {
	b.WriteString(l.name())
	for i, a := range l.args {
		b.WriteString([2]string{", ", "("}[btoi(i == 0)])
		b.WriteString(quote(a))
	}
	b.WriteByte(')')
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// leaf makes the node of a matcher.
func (p *parser) leaf(s spec, args []token) (*node, *Error) {
	both := &struct {
		node
		leaf
	}{leaf: leaf{kind: s.kind}}
	n, l := &both.node, &both.leaf
	n.leaf = l
	from := len(p.args)
	for i, arg := range args {
		text, err := l.add(i, arg.text)
		if err != nil {
			return nil, errorAt(arg.column, err.Allowed, "%s: %s", s.name, err.Message)
		}
		p.args = append(p.args, text)
	}
	l.args = p.args[from:len(p.args):len(p.args)]
	return n, nil
}

// extra makes room for what the arguments mean.
func (l *leaf) extra() *compiled {
	if l.compiled == nil {
		l.compiled = new(compiled)
	}
	return l.compiled
}

// add checks and compiles argument i and gives its canonical form.
func (l *leaf) add(i int, arg string) (string, *Error) {
	switch l.kind {
	case kindHost:
		return l.addHost(arg)
	case kindHostRegexp, kindPathRegexp:
		return l.addRegexp(arg)
	case kindPath, kindPathPrefix:
		if !strings.HasPrefix(arg, "/") {
			return "", errorAt(0, "a path that starts with /", "%s is not a path", quote(arg))
		}
	case kindMethod:
		if !isToken(arg) {
			return "", errorAt(0, "GET, POST, ...", "%s is not a method", quote(arg))
		}
		return strings.ToUpper(arg), nil
	case kindHeader, kindHeaderRegexp:
		if i == 0 {
			return addHeaderName(arg)
		}
		if l.kind == kindHeaderRegexp {
			return l.addRegexp(arg)
		}
	case kindQueryRegexp:
		if i == 1 {
			return l.addRegexp(arg)
		}
	case kindClientIP:
		return l.addNet(arg)
	}
	return arg, nil
}

func addHeaderName(arg string) (string, *Error) {
	if !isToken(arg) {
		return "", errorAt(0, "letters, digits and -", "%s is not a header name", quote(arg))
	}
	if name := http.CanonicalHeaderKey(arg); name != "Host" {
		return name, nil
	}
	return "", errorAt(0, "Host(...) or HostRegexp(...)", "the host is not matched as a header")
}

func (l *leaf) addHost(arg string) (string, *Error) {
	name := http1.HostName(arg)
	rest, wild := strings.CutPrefix(name, "*")
	if wild {
		var ok bool
		if rest, ok = strings.CutPrefix(rest, "."); !ok {
			return "", errorAt(0, "*.example.com: the star is the whole first label", "%s is not a host name", quote(arg))
		}
	}
	isAddr := !wild && isAddress(rest)
	if !isAddr && (!isHostName(rest) || strings.Contains(arg, ":")) {
		return "", errorAt(0, "a name without scheme, port or path, in ASCII (xn-- form); one leading *. may stand for one label; else HostRegexp",
			"%s is not a host name", quote(arg))
	}
	return name, nil
}

// isAddress looks closer only at what may be one: a refusal costs an error.
func isAddress(s string) bool {
	if s == "" || strings.IndexByte(s, ':') < 0 && (s[len(s)-1] < '0' || s[len(s)-1] > '9') {
		return false
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isHostName is lenient about what names people use inside (underscores), and
// strict about what could never arrive.
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

func (l *leaf) addRegexp(arg string) (string, *Error) {
	if len(arg) > MaxRegexp {
		return "", errorAt(0, "at most 1024 bytes", "the regular expression has %d bytes", len(arg))
	}
	re, err := regexp.Compile(arg)
	if err != nil {
		return "", errorAt(0, "RE2 syntax", "%s: %s", quote(arg), strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	l.extra().exprs = append(l.extra().exprs, re)
	return arg, nil
}

func (l *leaf) addNet(arg string) (string, *Error) {
	if addr, err := netip.ParseAddr(arg); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		l.extra().nets = append(l.extra().nets, netip.PrefixFrom(addr, addr.BitLen()))
		return addr.String(), nil
	}
	net, err := netip.ParsePrefix(arg)
	if err != nil || net.Addr().Is4In6() {
		return "", errorAt(0, "10.1.2.3, 10.0.0.0/8, 2001:db8::/32", "%s is neither an address nor a network", quote(arg))
	}
	l.extra().nets = append(l.extra().nets, net.Masked())
	return net.Masked().String(), nil
}

// isToken is the token of RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isLetter(c) && !('0' <= c && c <= '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// suggestMatcher names the matcher nearest to what was written, else all.
func suggestMatcher(name string) string {
	all := make([]string, 0, len(matchers))
	best, least := "", 4
	for _, s := range matchers {
		all = append(all, s.name)
		d := distance(strings.ToLower(name), strings.ToLower(s.name))
		if d < least || d == least && best != "" && s.name < best {
			best, least = s.name, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	sort.Strings(all)
	return "one of " + strings.Join(all, ", ")
}

// distance is the number of single-byte edits between a and b; names longer
// than any matcher are simply far.
func distance(a, b string) int {
	if len(a) > 32 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal + btoi(a[i] != b[j])
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
