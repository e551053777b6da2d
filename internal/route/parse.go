package route

import (
	"strings"
	"unicode/utf8"
)

// parser reads a rule by recursive descent with one token of look-ahead.
type parser struct {
	lexer
	ahead token
	depth int
	args  []string // of all matchers: one piece of memory
}

func (p *parser) rule() (*node, error) {
	if len(p.text) > MaxRule {
		return nil, errorAt(MaxRule+1, "at most 65536 bytes", "the rule has %d bytes", len(p.text))
	}
	if !utf8.ValidString(p.text) {
		return nil, errorAt(1, "UTF-8", "the rule is not valid UTF-8")
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.ahead.kind == tokenEnd {
		return nil, errorAt(1, "for example Host(`example.com`), or PathPrefix(`/`) for everything", "the rule is empty")
	}
	p.args = make([]string, 0, strings.Count(p.text, "`")/2)
	root, err := p.list(opOr)
	if err != nil {
		return nil, err
	}
	if p.ahead.kind != tokenEnd {
		return nil, errorAt(p.ahead.column, "&&, || or the end", "unexpected %s after a complete expression", p.ahead)
	}
	return root, nil
}

func (p *parser) advance() *Error {
	t, err := p.next()
	p.ahead = t
	return err
}

// list reads one or more operands and flattens operands of the same kind.
func (p *parser) list(kind op) (*node, *Error) {
	sign := tokenOr
	if kind == opAnd {
		sign = tokenAnd
	}
	first, err := p.operand(kind)
	if err != nil || p.ahead.kind != sign {
		return first, err
	}
	kids := first.in(kind, make([]*node, 0, 2))
	for p.ahead.kind == sign {
		if err := p.advance(); err != nil {
			return nil, err
		}
		kid, err := p.operand(kind)
		if err != nil {
			return nil, err
		}
		kids = kid.in(kind, kids)
	}
	return &node{op: kind, kids: kids}, nil
}

// operand reads what binds closer than kind.
func (p *parser) operand(kind op) (*node, *Error) {
	if kind == opOr {
		return p.list(opAnd)
	}
	return p.unary()
}

// in adds n to the operands of a kind.
func (n *node) in(kind op, kids []*node) []*node {
	if n.op == kind {
		return append(kids, n.kids...)
	}
	return append(kids, n)
}

func (p *parser) unary() (*node, *Error) {
	start := p.ahead
	if start.kind == tokenName {
		return p.matcher()
	}
	if start.kind != tokenNot && start.kind != tokenOpen {
		return nil, errorAt(start.column, "a matcher, ! or (", "unexpected %s", start)
	}
	if p.depth++; p.depth > MaxDepth {
		return nil, errorAt(start.column, "at most 32 levels", "the rule is nested too deeply")
	}
	defer func() { p.depth-- }()
	if err := p.advance(); err != nil {
		return nil, err
	}
	if start.kind == tokenNot {
		kid, err := p.unary()
		if err != nil {
			return nil, err
		}
		if kid.op == opNot {
			return kid.kids[0], nil
		}
		return &node{op: opNot, kids: []*node{kid}}, nil
	}
	inner, err := p.list(opOr)
	if err != nil {
		return nil, err
	}
	if p.ahead.kind != tokenClose {
		return nil, errorAt(p.ahead.column, "&&, || or )", "unexpected %s, the parenthesis of column %d is open", p.ahead, start.column)
	}
	return inner, p.advance()
}

// matcher reads Name(`argument`, ...).
func (p *parser) matcher() (*node, *Error) {
	name := p.ahead
	spec, ok := findMatcher(name.text)
	if !ok {
		return nil, errorAt(name.column, suggestMatcher(name.text), "unknown matcher %s", name.text)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if p.ahead.kind != tokenOpen {
		return nil, errorAt(p.ahead.column, spec.usage, "unexpected %s after %s", p.ahead, spec.name)
	}
	var room [4]token
	args := room[:0]
	for {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.ahead.kind != tokenString {
			return nil, errorAt(p.ahead.column, spec.usage, "%s wants a string, not %s", spec.name, p.ahead)
		}
		args = append(args, p.ahead)
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.ahead.kind == tokenClose {
			break
		}
		if p.ahead.kind != tokenComma {
			return nil, errorAt(p.ahead.column, ", or )", "unexpected %s among the arguments of %s", p.ahead, spec.name)
		}
	}
	if len(args) < spec.least || spec.most > 0 && len(args) > spec.most {
		return nil, errorAt(name.column, spec.usage, "%s has %d arguments", spec.name, len(args))
	}
	n, err := p.leaf(spec, args)
	if err != nil {
		return nil, err
	}
	return n, p.advance()
}
