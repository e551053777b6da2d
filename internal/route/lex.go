package route

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenString
	tokenOpen
	tokenClose
	tokenComma
	tokenAnd
	tokenOr
	tokenNot
)

// token is one word of a rule; text is a name, or a string without its quotes.
type token struct {
	kind   tokenKind
	text   string
	column int
}

// String names the token as an error message shows it.
func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the rule"
	case tokenString:
		return "the string " + quote(t.text)
	}
	return strconv.Quote(t.text)
}

type lexer struct {
	text string
	at   int // bytes consumed
}

func (l *lexer) next() (token, *Error) {
	for l.at < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.at]) >= 0 {
		l.at++
	}
	column := l.at + 1
	if l.at >= len(l.text) {
		return token{kind: tokenEnd, column: column}, nil
	}
	rest := l.text[l.at:]
	take := func(kind tokenKind, n int) (token, *Error) {
		l.at += n
		return token{kind, rest[:n], column}, nil
	}
	switch c := rest[0]; {
	case c == '(':
		return take(tokenOpen, 1)
	case c == ')':
		return take(tokenClose, 1)
	case c == ',':
		return take(tokenComma, 1)
	case c == '!':
		return take(tokenNot, 1)
	case strings.HasPrefix(rest, "&&"):
		return take(tokenAnd, 2)
	case strings.HasPrefix(rest, "||"):
		return take(tokenOr, 2)
	case c == '`' || c == '"':
		return l.quoted(rest, column)
	case isLetter(c):
		n := 1
		for n < len(rest) && (isLetter(rest[n]) || '0' <= rest[n] && rest[n] <= '9' || rest[n] == '_') {
			n++
		}
		return take(tokenName, n)
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return token{}, errorAt(column, "matchers, strings in ` or \", && || ! ( ) ,", "unexpected character %q", r)
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// quoted reads a string that starts at the head of rest.
func (l *lexer) quoted(rest string, column int) (token, *Error) {
	mark, n := rest[0], 1
	for ; n < len(rest) && rest[n] != mark; n++ {
		if mark == '"' && rest[n] == '\\' {
			n++
		}
	}
	if n >= len(rest) {
		return token{}, errorAt(column, "close it with the same quote", "the string is not closed")
	}
	l.at += n + 1
	if mark == '`' {
		return token{tokenString, rest[1:n], column}, nil
	}
	text, err := strconv.Unquote(rest[:n+1])
	if err != nil || !utf8.ValidString(text) {
		return token{}, errorAt(column, "Go's escapes in \"...\", or backticks for a string without escapes", "the string is not well formed")
	}
	return token{tokenString, text, column}, nil
}
