// Package route owns the rule language and the compiled routing table: which
// of many rules a request's head matches, found without trying them one by
// one. It knows neither services nor middlewares, and does no I/O.
//
// A rule is an expression over matchers:
//
//	Host(`a.example.com`, `*.b.example.com`) && (PathPrefix(`/x`) || !Method(`GET`))
//
// Strings stand in backticks (taken as they are) or double quotes (with Go's
// escapes). Matchers: Host, HostRegexp, Path, PathPrefix, PathRegexp, Method,
// Header, HeaderRegexp, Query, QueryRegexp, ClientIP; their names are matched
// case-insensitively. `!` binds closest, then `&&`, then `||`.
package route

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Bounds on what a rule may cost; rules are written by tenants.
const (
	MaxRule   = 64 << 10 // bytes of a whole rule
	MaxRegexp = 1 << 10  // bytes of one regular expression
	MaxDepth  = 32       // parentheses and negations inside each other
)

// Rule is a parsed rule. It is immutable and safe for any goroutine; the zero
// Rule matches nothing.
type Rule struct {
	root *node
}

// Error says what is wrong with a rule, and where.
type Error struct {
	Column  int    // 1-based, in bytes
	Message string // what is wrong
	Allowed string // what would be right
}

// Error is "column N: message (allowed)".
func (e *Error) Error() string {
	s := "column " + strconv.Itoa(e.Column) + ": " + e.Message
	if e.Allowed != "" {
		s += " (" + e.Allowed + ")"
	}
	return s
}

// Parse reads a rule. Its error is always an *Error.
func Parse(rule string) (Rule, error) {
	p := parser{lexer: lexer{text: rule}}
	root, err := p.rule()
	if err != nil {
		return Rule{}, err
	}
	return Rule{root: root}, nil
}

type op uint8

const (
	opLeaf op = iota
	opNot
	opAnd
	opOr
)

// node is one part of a rule: a matcher, or an operation on other nodes.
// opNot has one kid, opAnd and opOr have two or more.
type node struct {
	op   op
	kids []*node
	leaf *leaf
}

// String is the rule in canonical form: parsing it gives the same rule, and
// rules that differ only in spelling give the same text.
func (r Rule) String() string {
	if r.root == nil {
		return ""
	}
	var b strings.Builder
	r.root.write(&b, opOr)
	return b.String()
}

// write adds the node's text; around is the operation it stands in.
func (n *node) write(b *strings.Builder, around op) {
	switch n.op {
	case opLeaf:
		n.leaf.write(b)
	case opNot:
		b.WriteByte('!')
		n.kids[0].write(b, opNot)
	default:
		sign, open := " && ", n.op == opOr && around != opOr || around == opNot
		if n.op == opOr {
			sign = " || "
		}
		if open {
			b.WriteByte('(')
		}
		for i, kid := range n.kids {
			if i > 0 {
				b.WriteString(sign)
			}
			kid.write(b, n.op)
		}
		if open {
			b.WriteByte(')')
		}
	}
}

// quote prefers backticks, the form people write.
func quote(s string) string {
	for _, c := range s {
		if c == '`' || c < ' ' || c == 0x7f {
			return strconv.Quote(s)
		}
	}
	return "`" + s + "`"
}

// Hosts gives the names a certificate can be wanted for: those of Host
// matchers that are not negated, in the order written, without repeats.
func (r Rule) Hosts() []string {
	if r.root == nil {
		return nil
	}
	names := r.root.hosts(nil, true)
	if len(names) < 2 {
		return names
	}
	seen := make(map[string]bool, len(names))
	return slices.DeleteFunc(names, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}

// Bound gives the names, of wildcards too, of which every request the rule
// matches is for one; ok is false where it may match others.
func (r Rule) Bound() (hosts []string, ok bool) {
	if r.root == nil {
		return nil, false
	}
	for _, k := range r.root.keys() {
		switch k.host.kind {
		case hostExact:
			hosts = append(hosts, k.host.name)
		case hostWild:
			hosts = append(hosts, "*"+k.host.name)
		default:
			return nil, false
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), true
}

func (n *node) hosts(names []string, positive bool) []string {
	switch {
	case n.op == opNot:
		positive = !positive
	case n.op == opLeaf && n.leaf.kind == kindHost && positive:
		return append(names, n.leaf.args...)
	}
	for _, kid := range n.kids {
		names = kid.hosts(names, positive)
	}
	return names
}

func errorAt(column int, allowed, format string, args ...any) *Error {
	return &Error{Column: column, Message: fmt.Sprintf(format, args...), Allowed: allowed}
}
