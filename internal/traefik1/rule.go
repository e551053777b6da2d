package traefik1

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/config"
)

// maxRule bounds a rule, in bytes.
const maxRule = 32 << 10

// Rule is a 1.x rule in our words.
type Rule struct {
	// Text is the condition in our rule language.
	Text string
	// Middlewares are the rule's path modifiers in the order they run, which
	// is 1.x's: strip by expression, strip, add, replace by expression,
	// replace. Their origin is for the caller to fill.
	Middlewares []config.Middleware
	// Warnings are parts of the rule that have no effect.
	Warnings []string
}

// RuleError is a mistake in a 1.x rule.
type RuleError struct {
	Rule    string
	Column  int // 1-based, in bytes
	Message string
	Allowed string // what would be right, if that can be said
}

func (e *RuleError) Error() string {
	text := fmt.Sprintf("rule %q, column %d: %s", e.Rule, e.Column, e.Message)
	if e.Allowed != "" {
		text += " (" + e.Allowed + ")"
	}
	return text
}

// ParseRule translates one or more 1.x rules, all of which must match, as
// those of a frontend with several routes. An error is a *RuleError. Commas
// and semicolons within {} or within quotes belong to the argument, which 1.x
// could not do. No rule, or rules of modifiers only, match everything.
func ParseRule(rules ...string) (Rule, error) {
	var t translation
	for _, rule := range rules {
		if err := t.add(rule); err != nil {
			return Rule{}, err
		}
	}
	return t.rule(), nil
}

// translation gathers what the matchers of a frontend's rules amount to.
type translation struct {
	conditions   []string
	stripRegexes []string
	strips       []string
	addPrefix    string
	replaceRegex [2]string
	replacePath  string
	warnings     []string
}

func (t *translation) add(rule string) error {
	fail := func(column int, message, allowed string) error {
		return &RuleError{Rule: rule, Column: column + 1, Message: message, Allowed: allowed}
	}
	if len(rule) > maxRule {
		return &RuleError{Rule: rule[:40] + "...", Column: 1, Message: fmt.Sprintf("%d bytes are too long for a rule", len(rule)), Allowed: fmt.Sprintf("at most %d", maxRule)}
	}
	parts, at, message := split(piece{rule, 0}, ';')
	if message != "" {
		return fail(at, message, "")
	}
	for _, part := range parts {
		if part.text == "" {
			continue // "Host:a;" was accepted by 1.x
		}
		name, rest, found := strings.Cut(part.text, ":")
		known, ok := matchers[strings.TrimSpace(name)]
		if !ok {
			return fail(part.at, fmt.Sprintf("unknown matcher %q", strings.TrimSpace(name)), suggestMatcher(name))
		}
		if !found {
			return fail(part.at, name+" needs an argument", name+":argument")
		}
		rest = strings.TrimLeft(rest, ":") // 1.x took "::" for ":"
		arguments := piece{rest, part.at + len(part.text) - len(rest)}.trim()
		if err := t.matcher(known, arguments, fail); err != nil {
			return err
		}
	}
	return nil
}

func (t *translation) matcher(m matcher, arguments piece, fail func(int, string, string) error) error {
	var args []piece
	if m.whole {
		args = []piece{arguments}
	} else {
		var at int
		var message string
		if args, at, message = split(arguments, ','); message != "" {
			return fail(at, message, "")
		}
	}
	for _, arg := range args {
		if arg.text == "" && !m.mayBeEmpty {
			return fail(arg.at, "empty argument", "")
		}
	}
	if arg, err := m.apply(t, args); err != nil {
		return fail(arg.at, err.Error(), m.usage)
	}
	return nil
}

// rule puts the parts together.
func (t *translation) rule() Rule {
	r := Rule{Text: strings.Join(t.conditions, " && "), Warnings: t.warnings}
	if r.Text == "" {
		r.Text = "PathPrefix(`/`)"
	}
	add := func(kind string, fields ...config.Field) {
		r.Middlewares = append(r.Middlewares, config.Middleware{Kind: kind, Params: params(fields...)})
	}
	if len(t.stripRegexes) > 0 {
		add("stripPrefixRegex", texts("regex", t.stripRegexes))
	}
	if len(t.strips) > 0 {
		add("stripPrefix", texts("prefixes", t.strips))
	}
	if t.addPrefix != "" {
		add("addPrefix", value("prefix", t.addPrefix))
	}
	if t.replaceRegex[0] != "" {
		add("replacePathRegex", value("regex", t.replaceRegex[0]), value("replacement", t.replaceRegex[1]))
	}
	if t.replacePath != "" {
		add("replacePath", value("path", t.replacePath))
	}
	return r
}

// alternative is one way to match: a matcher of our language and its argument.
type alternative struct{ name, argument string }

// any adds a condition of alternatives.
func (t *translation) any(alternatives []alternative) {
	var order []string
	args := map[string][]string{}
	for _, a := range alternatives {
		if args[a.name] == nil {
			order = append(order, a.name)
		}
		args[a.name] = append(args[a.name], a.argument)
	}
	for i, name := range order {
		order[i] = call(name, args[name]...)
	}
	condition := strings.Join(order, " || ")
	if len(order) > 1 {
		condition = "(" + condition + ")"
	}
	t.conditions = append(t.conditions, condition)
}

// call is a matcher of our rule language.
func call(name string, args ...string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if strings.ContainsAny(a, "`\n\r") {
			quoted[i] = strconv.Quote(a)
		} else {
			quoted[i] = "`" + a + "`"
		}
	}
	return name + "(" + strings.Join(quoted, ", ") + ")"
}

// piece is a part of a rule and where it starts in it.
type piece struct {
	text string
	at   int
}

func (p piece) trim() piece {
	text := strings.TrimLeft(p.text, " \t\r\n")
	return piece{strings.TrimRight(text, " \t\r\n"), p.at + len(p.text) - len(text)}
}

// split cuts p at each sep outside braces and quotes, trims the parts and
// takes their quotes off. A quote counts only where a part starts. Trouble is
// told by a message and where it is.
func split(p piece, sep byte) (parts []piece, at int, message string) {
	start := 0
	take := func(end int) {
		parts = append(parts, unquote(piece{p.text[start:end], p.at + start}.trim(), sep))
		start = end + 1
	}
	for i := 0; i < len(p.text); i++ {
		switch c := p.text[i]; c {
		case sep:
			take(i)
		case '\\':
			i++
		case '{':
			end := closing(p.text[i:])
			if end < 0 {
				return nil, p.at + i, "{ without a }"
			}
			i += end
		case '"', '`':
			if !startsPart(p.text[start:i]) {
				continue
			}
			end := strings.IndexByte(p.text[i+1:], c)
			if end < 0 {
				return nil, p.at + i, "quote that does not end"
			}
			i += end + 1
		}
	}
	take(len(p.text))
	return parts, 0, ""
}

// startsPart tells whether nothing but blanks, or a matcher's name and a
// comma-separated list, stands before a quote.
func startsPart(before string) bool {
	before = strings.TrimRight(before, " \t")
	return before == "" || strings.HasSuffix(before, ":") || strings.HasSuffix(before, ",")
}

// unquote takes the quotes off an argument; whole matchers keep theirs.
func unquote(p piece, sep byte) piece {
	if n := len(p.text); sep == ',' && n >= 2 && (p.text[0] == '"' || p.text[0] == '`') && p.text[n-1] == p.text[0] {
		return piece{p.text[1 : n-1], p.at + 1}
	}
	return p
}

func suggestMatcher(name string) string {
	names := make([]string, 0, len(matchers))
	for n := range matchers {
		names = append(names, n)
	}
	slices.Sort(names)
	if near := nearest(strings.TrimSpace(name), names); near != "" {
		return "did you mean " + near + "?"
	}
	return "known: " + strings.Join(names, ", ")
}
