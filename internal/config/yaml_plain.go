package config

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// parsePlainYAML reads the part of YAML that configuration is mostly written
// in, ten times as fast as the library reads all of it: keys with values in
// blocks or on one line in {} and [], texts on one line, numbers, comments. Of
// what it reads it makes exactly what ParseYAML makes with the library. For
// anything else, every mistake among it, ok is false: the library reads that,
// and says what is wrong.
func parsePlainYAML(source string, text []byte) (_ *Node, ok bool) {
	if !plainText(text) {
		return nil, false
	}
	p := plainYAML{source: source, text: string(text), indent: -1}
	p.line, p.at = 1, 0
	if !p.firstLine() || p.indent < 0 || p.isDash() {
		return nil, false
	}
	root := p.mapping("", 0)
	if root == nil || p.indent >= 0 {
		return nil, false
	}
	return root, true
}

// plainDepth is how deep parts may be nested here; the library's way goes on
// to maxDepth.
const plainDepth = 32

// plainYAML is a text being read. What reads a part gives nil where it does
// not understand it.
type plainYAML struct {
	source string
	text   string
	at     int // offset of what is next
	line   int // its line, from 1
	start  int // offset of that line's first byte
	indent int // column of the line's first part, from 0; -1: the text has ended

	fields []Field // of the mappings that are open
	items  []*Node // of the lists that are open
	room   nodeRoom
}

// plainText says whether there is nothing in the text that ends or joins lines
// in YAML's own ways, or is forbidden in it.
func plainText(text []byte) bool {
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c < ' ' && c != '\n' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(text[i:])
		if r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r == 0xfffe || r == 0xffff || r == utf8.RuneError {
			return false
		}
		i += size
	}
	return true
}

// firstLine goes to the first part, behind a line of three dashes.
func (p *plainYAML) firstLine() bool {
	p.newLines(0)
	if strings.HasPrefix(p.text[p.at:], "---") {
		p.at += 3
		return p.endLine()
	}
	return true
}

// endLine takes blanks and a comment, and goes to the next line that says
// something.
func (p *plainYAML) endLine() bool {
	i := p.at
	for i < len(p.text) && p.text[i] == ' ' {
		i++
	}
	if i < len(p.text) && p.text[i] == '#' && i > p.at {
		i = p.lineEnd(i)
	}
	if i < len(p.text) && p.text[i] != '\n' {
		return false
	}
	if i == len(p.text) {
		p.at, p.indent = i, -1
		return true
	}
	p.line++
	p.newLines(i + 1)
	return true
}

func (p *plainYAML) lineEnd(i int) int {
	if n := strings.IndexByte(p.text[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(p.text)
}

// newLines skips empty lines and comments from the line that starts at i.
func (p *plainYAML) newLines(i int) {
	for {
		p.start = i
		for i < len(p.text) && p.text[i] == ' ' {
			i++
		}
		if i < len(p.text) && p.text[i] == '#' {
			i = p.lineEnd(i)
		}
		if i == len(p.text) {
			p.at, p.indent = i, -1
			return
		}
		if p.text[i] != '\n' {
			p.at, p.indent = i, i-p.start
			return
		}
		p.line++
		i++
	}
}

func (p *plainYAML) origin(at int, key string) Origin {
	return Origin{Provider: "file", Source: p.source, Line: p.line, Column: at - p.start + 1, Key: key}
}

// closeMap makes the fields from first on those of n.
func (p *plainYAML) closeMap(n *Node, first int) *Node {
	n.Fields = append(p.room.fields(len(p.fields)-first), p.fields[first:]...)
	clear(p.fields[first:])
	p.fields = p.fields[:first]
	return n
}

func (p *plainYAML) closeList(n *Node, first int) *Node {
	n.Items = append(make([]*Node, 0, len(p.items)-first), p.items[first:]...)
	p.items = p.items[:first]
	return n
}

// seenKeys finds keys given twice.
type seenKeys struct {
	first   int
	jumbled bool                // not every key was higher than the one before
	many    map[string]struct{} // of mappings that are jumbled and not small
}

func (p *plainYAML) isTwice(s *seenKeys, name string) bool {
	open := p.fields[s.first:]
	if !s.jumbled && (len(open) == 0 || name > open[len(open)-1].Name) {
		return false
	}
	s.jumbled = true
	if len(open) < 16 {
		for i := range open {
			if open[i].Name == name {
				return true
			}
		}
		return false
	}
	if s.many == nil {
		s.many = make(map[string]struct{}, 256)
		for i := range open {
			s.many[open[i].Name] = struct{}{}
		}
	}
	before := len(s.many)
	s.many[name] = struct{}{}
	return len(s.many) == before
}

// mapping reads keys and values in lines of one indent.
func (p *plainYAML) mapping(key string, depth int) *Node {
	indent := p.at - p.start
	n := p.room.node(Map, nil, p.origin(p.at, key))
	seen := seenKeys{first: len(p.fields)}
	for depth <= plainDepth {
		at := p.at
		name, ok := p.key(false)
		if !ok || p.isTwice(&seen, name) {
			return nil
		}
		o := p.origin(at, joinKey(key, name))
		value := p.value(o.Key, indent, depth+1, false)
		if value == nil {
			return nil
		}
		p.fields = append(p.fields, Field{Name: name, Origin: o, Node: value})
		if p.indent < indent {
			return p.closeMap(n, seen.first)
		}
		if p.indent > indent || p.isDash() {
			return nil
		}
	}
	return nil
}

// isDash says whether an item of a list is next.
func (p *plainYAML) isDash() bool {
	return p.at < len(p.text) && p.text[p.at] == '-' &&
		(p.at+1 == len(p.text) || p.text[p.at+1] == ' ' || p.text[p.at+1] == '\n')
}

// sequence reads items in lines of one indent. Where flat, it is the indent of
// the mapping around as well, and the mapping's next key ends it.
func (p *plainYAML) sequence(key string, flat bool, depth int) *Node {
	indent := p.at - p.start
	n := p.room.node(List, nil, p.origin(p.at, key))
	first := len(p.items)
	for depth <= plainDepth {
		p.at++
		item := p.value(joinKey(key, strconv.Itoa(len(p.items)-first)), indent, depth+1, true)
		if item == nil {
			return nil
		}
		p.items = append(p.items, item)
		switch {
		case p.indent < indent || flat && p.indent == indent && !p.isDash():
			return p.closeList(n, first)
		case p.indent > indent || !p.isDash():
			return nil
		}
	}
	return nil
}

// value reads what follows a key's colon or an item's dash, and goes to the
// next line. indent is that of the key or dash.
func (p *plainYAML) value(key string, indent, depth int, item bool) *Node {
	none := p.origin(p.at, key)
	behind := p.at
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
	if p.at == len(p.text) || p.text[p.at] == '\n' || p.text[p.at] == '#' {
		p.at = behind
		if !p.endLine() {
			return nil
		}
		switch {
		case p.indent > indent && p.isDash():
			return p.sequence(key, false, depth)
		case p.indent > indent:
			return p.mapping(key, depth)
		case !item && p.indent == indent && p.isDash():
			return p.sequence(key, true, depth)
		}
		return p.room.node(Scalar, nil, none)
	}
	if item {
		if p.isDash() {
			return p.sequence(key, false, depth)
		}
		at := p.at
		_, isKey := p.key(false)
		if p.at = at; isKey {
			return p.mapping(key, depth)
		}
	}
	n := p.inline(key, depth, false)
	if n == nil || !p.endLine() || p.indent > indent {
		return nil
	}
	return n
}

// inline reads a value that ends on its line.
func (p *plainYAML) inline(key string, depth int, flow bool) *Node {
	if p.at == len(p.text) || depth > plainDepth {
		return nil
	}
	o := p.origin(p.at, key)
	switch p.text[p.at] {
	case '{':
		return p.flowMapping(o, depth)
	case '[':
		return p.flowSequence(o, depth)
	case '"', '\'':
		s, ok := p.quoted()
		if !ok {
			return nil
		}
		return p.room.node(Scalar, s, o)
	}
	s, ok := p.plain(flow)
	if !ok || p.at < len(p.text) && p.text[p.at] == ':' {
		return nil
	}
	value, ok := plainScalar(s)
	if !ok {
		return nil
	}
	return p.room.node(Scalar, value, o)
}

func (p *plainYAML) flowMapping(o Origin, depth int) *Node {
	n := p.room.node(Map, nil, o)
	seen := seenKeys{first: len(p.fields)}
	p.at++
	for !p.closes('}') {
		at := p.at
		name, ok := p.key(true)
		if !ok || p.isTwice(&seen, name) {
			return nil
		}
		field := p.origin(at, joinKey(o.Key, name))
		p.blanks()
		value := p.inline(field.Key, depth+1, true)
		if value == nil || !p.separated('}') {
			return nil
		}
		p.fields = append(p.fields, Field{Name: name, Origin: field, Node: value})
	}
	return p.closeMap(n, seen.first)
}

func (p *plainYAML) flowSequence(o Origin, depth int) *Node {
	n := p.room.node(List, nil, o)
	first := len(p.items)
	p.at++
	for !p.closes(']') {
		item := p.inline(joinKey(o.Key, strconv.Itoa(len(p.items)-first)), depth+1, true)
		if item == nil || !p.separated(']') {
			return nil
		}
		p.items = append(p.items, item)
	}
	return p.closeList(n, first)
}

func (p *plainYAML) blanks() {
	for p.at < len(p.text) && p.text[p.at] == ' ' {
		p.at++
	}
}

// closes takes the closing bracket, if it is next.
func (p *plainYAML) closes(bracket byte) bool {
	p.blanks()
	if p.at < len(p.text) && p.text[p.at] == bracket {
		p.at++
		return true
	}
	return false
}

// separated takes a comma; it need not stand before the closing bracket.
func (p *plainYAML) separated(bracket byte) bool {
	p.blanks()
	if p.at == len(p.text) {
		return false
	}
	if p.text[p.at] == ',' {
		p.at++
		return true
	}
	return p.text[p.at] == bracket
}

// key reads a key and its colon.
func (p *plainYAML) key(flow bool) (name string, ok bool) {
	const most = 1000 // bytes; YAML's own bound is a little higher
	at := p.at
	if p.at == len(p.text) {
		return "", false
	}
	if c := p.text[p.at]; c == '"' || c == '\'' {
		name, ok = p.quoted()
	} else {
		name, ok = p.plain(flow)
		ok = ok && p.text[p.at-1] != ' '
	}
	if !ok || p.at-at > most || p.at == len(p.text) || p.text[p.at] != ':' {
		return "", false
	}
	p.at++
	return name, p.at == len(p.text) || p.text[p.at] == ' ' || p.text[p.at] == '\n'
}

// quoted reads a text in quotes, without escapes but those of quote and
// backslash.
func (p *plainYAML) quoted() (string, bool) {
	quote := p.text[p.at]
	p.at++
	from := p.at
	var b []byte // only if something is escaped
	for ; p.at < len(p.text) && p.text[p.at] != '\n'; p.at++ {
		c := p.text[p.at]
		next := byte(0)
		if p.at+1 < len(p.text) {
			next = p.text[p.at+1]
		}
		switch {
		case quote == '"' && c == '\\' && (next == '"' || next == '\\') || quote == '\'' && c == '\'' && next == '\'':
			b = append(append(b, p.text[from:p.at]...), next)
			p.at++
			from = p.at + 1
		case quote == '"' && c == '\\':
			return "", false
		case c == quote:
			s := p.text[from:p.at]
			if b != nil {
				s = string(append(b, s...))
			}
			p.at++
			return s, true
		}
	}
	return "", false
}

// plain reads a text without quotes. It ends before a comment, a colon that
// ends a key, and in brackets before what ends a value there.
func (p *plainYAML) plain(flow bool) (string, bool) {
	from := p.at
	if p.at == len(p.text) || !beginsPlain(p.text[p.at]) {
		return "", false
	}
scan:
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case '\n':
			break scan
		case '#':
			if p.text[p.at-1] == ' ' {
				break scan
			}
		case ':':
			if p.at+1 == len(p.text) {
				break scan
			}
			switch next := p.text[p.at+1]; {
			case next == ' ' || next == '\n':
				break scan
			case flow && strings.IndexByte(",?[]{}", next) >= 0:
				return "", false
			}
		case ',', '[', ']', '{', '}':
			if flow {
				break scan
			}
		case '?':
			if flow {
				return "", false
			}
		}
	}
	end := p.at
	for p.text[end-1] == ' ' {
		end--
	}
	if p.at == len(p.text) || p.text[p.at] != ':' {
		p.at = end // a comment wants its blank
	}
	return p.text[from:end], true
}

// beginsPlain is true for bytes a text without quotes may begin with, and does
// in configuration.
func beginsPlain(c byte) bool {
	return c >= utf8.RuneSelf || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		strings.IndexByte("_/$^(", c) >= 0
}

// plainScalar gives a text without quotes its type. What might be of a type
// written in an unusual way is not understood.
func plainScalar(s string) (value any, ok bool) {
	if c := s[0]; c < '0' || c > '9' {
		switch s {
		case "true":
			return true, true
		case "false":
			return false, true
		}
		const longest = len("false")
		if len(s) <= longest && isWord(s) {
			return nil, false
		}
		return s, true
	}
	dots, odd := 0, len(s) > 1 && s[0] == '0'
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
		case c == '.':
			dots++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', strings.IndexByte("xXoO_+-:tTzZpP ", c) >= 0:
			odd = true // it may be a number or a time
		default:
			return s, true // 10s, 10.0.0.0/8
		}
	}
	switch {
	case dots > 1 && !odd:
		return s, true // 10.0.0.1
	case dots > 0 || odd:
		return nil, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// isWord finds what is, or once was, a word for yes, no or nothing.
func isWord(s string) bool {
	for _, word := range [...]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n"} {
		if strings.EqualFold(s, word) {
			return true
		}
	}
	return false
}
