package route

import (
	"slices"
	"strings"

	"gatehouse/internal/http1"
)

// Match reports whether the rule alone matches the head.
func (r Rule) Match(h *Head) bool {
	h.host = http1.HostName(h.Host)
	return r.root != nil && r.root.match(h)
}

// match wants h.host set.
func (n *node) match(h *Head) bool {
	switch n.op {
	case opNot:
		return !n.kids[0].match(h)
	case opAnd:
		for _, kid := range n.kids {
			if !kid.match(h) {
				return false
			}
		}
		return true
	case opOr:
		for _, kid := range n.kids {
			if kid.match(h) {
				return true
			}
		}
		return false
	}
	return n.leaf.match(h)
}

func (l *leaf) match(h *Head) bool {
	switch l.kind {
	case kindHost:
		for _, arg := range l.args {
			if hostOf(arg).matches(h.host) {
				return true
			}
		}
	case kindHostRegexp:
		return l.anyRegexp(h.host)
	case kindPath:
		return slices.Contains(l.args, h.Path)
	case kindPathPrefix:
		for _, prefix := range l.args {
			if strings.HasPrefix(h.Path, prefix) {
				return true
			}
		}
	case kindPathRegexp:
		return l.anyRegexp(h.Path)
	case kindMethod:
		return slices.Contains(l.args, h.Method)
	case kindHeader:
		return h.header(l.args[0], func(v string) bool { return v == l.args[1] })
	case kindHeaderRegexp:
		return h.header(l.args[0], l.compiled.exprs[0].MatchString)
	case kindQuery, kindQueryRegexp:
		return h.query(l.args[0], l.value)
	case kindClientIP:
		if ip, ok := h.clientIP(); ok {
			for _, net := range l.compiled.nets {
				if net.Contains(ip) {
					return true
				}
			}
		}
	}
	return false
}

func (l *leaf) anyRegexp(s string) bool {
	for _, re := range l.compiled.exprs {
		if re.MatchString(s) {
			return true
		}
	}
	return false
}

// value judges one query value.
func (l *leaf) value(v string) bool {
	if l.kind == kindQueryRegexp {
		return l.compiled.exprs[0].MatchString(v)
	}
	return len(l.args) == 1 || l.args[1] == v
}
