package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// ParseTOML turns TOML text into a Node with the position of every part.
// source names the text in origins. Syntax errors end the parse: the Node
// holds what came before. Keys given twice are Problems, the first one holds.
func ParseTOML(source string, text []byte) (*Node, []Problem) {
	if problems := checkText(source, text); problems != nil {
		return nil, problems
	}
	p := tomlParser{pos: newPositions(source, text), text: text, names: map[string]string{}}
	p.root = &tomlTable{origin: Origin{Provider: "file", Source: source, Line: 1, Column: 1}}
	p.current = p.root
	p.parse()
	return p.build(p.root), p.problems
}

// tomlParser builds the tree from go-toml's stream of expressions and keeps
// TOML's rules about what may be defined where.
type tomlParser struct {
	pos      positions
	text     []byte
	lib      unstable.Parser
	root     *tomlTable
	current  *tomlTable // the one the last header opened
	depth    int        // of the header
	problems []Problem
	keys     []tomlKey         // of the expressions that are being read
	names    map[string]string // one text for keys that come often
	room     nodeRoom
}

// tomlKey is one part of a dotted key.
type tomlKey struct {
	name   string
	offset int
}

// tomlTable is a table being built.
type tomlTable struct {
	origin  Origin
	fields  []tomlField
	index   map[string]int // of a table that is not small
	defined bool           // by its own header, or as a value
	dotted  bool           // by dotted keys of another table
	closed  bool           // inline: nothing may be added
}

// tomlField is one key of it: a table, an array of tables, or a plain value.
type tomlField struct {
	name   string
	origin Origin
	table  *tomlTable
	tables []*tomlTable
	value  *Node
}

// mostNames is how many names of keys are remembered, before all are forgotten:
// those that come again and again soon come again.
const mostNames = 256

// smallTable is up to how many keys are searched one after the other.
const smallTable = 8

// find gives the position of a key's field, or -1.
func (t *tomlTable) find(name string) int {
	if t.index != nil {
		if i, ok := t.index[name]; ok {
			return i
		}
		return -1
	}
	for i := range t.fields {
		if t.fields[i].name == name {
			return i
		}
	}
	return -1
}

func (t *tomlTable) add(name string, o Origin) *tomlField {
	if len(t.fields) == smallTable {
		t.index = make(map[string]int, 4*smallTable)
		for i := range t.fields {
			t.index[t.fields[i].name] = i
		}
	}
	if t.index != nil {
		t.index[name] = len(t.fields)
	}
	if t.fields == nil {
		t.fields = make([]tomlField, 0, 2)
	}
	t.fields = append(t.fields, tomlField{name: name, origin: o})
	return &t.fields[len(t.fields)-1]
}

// get finds a key's field, or adds one.
func (p *tomlParser) get(t *tomlTable, k tomlKey) (f *tomlField, isNew bool) {
	if i := t.find(k.name); i >= 0 {
		return &t.fields[i], false
	}
	return t.add(k.name, p.origin(t, k)), true
}

// origin is where a key of a table stands.
func (p *tomlParser) origin(t *tomlTable, k tomlKey) Origin {
	return p.pos.at(k.offset, joinKey(t.origin.Key, k.name))
}

func (p *tomlParser) build(t *tomlTable) *Node {
	n := p.room.node(Map, nil, t.origin)
	n.Fields = p.room.fields(len(t.fields))
	for i := range t.fields {
		f := &t.fields[i]
		node := f.value
		switch {
		case f.table != nil:
			node = p.build(f.table)
		case f.tables != nil:
			node = p.room.node(List, nil, f.origin)
			node.Items = make([]*Node, 0, len(f.tables))
			for _, item := range f.tables {
				node.Items = append(node.Items, p.build(item))
			}
		}
		if node != nil {
			n.Fields = append(n.Fields, Field{Name: f.name, Origin: f.origin, Node: node})
		}
	}
	return n
}

func (p *tomlParser) parse() {
	p.lib.Reset(p.text)
	for p.lib.NextExpression() {
		e := p.lib.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			p.header(e)
		case unstable.KeyValue:
			if p.current != nil {
				p.keyValue(p.current, e, p.depth)
			}
		}
	}
	if err := p.lib.Error(); err != nil {
		p.syntax(err)
	}
}

// syntax reports a syntax error where the library saw it.
func (p *tomlParser) syntax(err error) {
	offset := len(p.text)
	var pe *unstable.ParserError
	if errors.As(err, &pe) && len(pe.Highlight) > 0 {
		offset = int(p.lib.Range(pe.Highlight).Offset)
	}
	p.report(p.pos.at(offset, ""), "syntax: "+err.Error(), "")
}

func (p *tomlParser) report(o Origin, message, allowed string) {
	object := ""
	if o.Key != "" {
		object = "key " + o.Key
	}
	p.problems = append(p.problems, Problem{Origin: o, Object: object, Message: message, Allowed: allowed})
}

// path takes the parts of an expression's key; they are the last of p.keys,
// until they are dropped. end is the offset behind them.
func (p *tomlParser) path(e *unstable.Node) (first, end int) {
	first = len(p.keys)
	for it := e.Key(); it.Next(); {
		k := it.Node()
		name, known := p.names[string(k.Data)]
		if !known {
			name = string(k.Data)
			if len(p.names) == mostNames {
				clear(p.names)
			}
			p.names[name] = name
		}
		p.keys = append(p.keys, tomlKey{name, int(k.Raw.Offset)})
		end = int(k.Raw.Offset + k.Raw.Length)
	}
	return first, end
}

// tooDeep reports a key that goes below the bound; at is the part that does.
func (p *tomlParser) tooDeep(t *tomlTable, parts []tomlKey, at int) {
	o := p.pos.at(parts[at].offset, t.origin.Key)
	for _, k := range parts[:at+1] {
		o.Key = joinKey(o.Key, k.name)
	}
	p.report(o, "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
}

// header opens the table that [a.b] or [[a.b]] names. After a problem the
// lines below it belong to no table and are skipped.
func (p *tomlParser) header(e *unstable.Node) {
	first, _ := p.path(e)
	parts := p.keys[first:]
	defer func() { p.keys = p.keys[:first] }()
	p.current, p.depth = nil, len(parts)
	if len(parts) > maxDepth {
		p.tooDeep(p.root, parts, maxDepth)
		return
	}
	t := p.root
	last := parts[len(parts)-1]
	for _, k := range parts[:len(parts)-1] {
		if t = p.step(t, k); t == nil {
			return
		}
	}
	f, isNew := p.get(t, last)
	if e.Kind == unstable.ArrayTable {
		if !isNew && f.tables == nil {
			p.twice(t, last, f)
			return
		}
		item := &tomlTable{origin: p.origin(t, last), defined: true}
		f.tables = append(f.tables, item)
		p.current = item
		return
	}
	switch {
	case isNew:
		f.table = &tomlTable{origin: f.origin}
	case f.table == nil || f.table.defined || f.table.dotted || f.table.closed:
		p.twice(t, last, f)
		return
	}
	f.table.defined = true
	p.current = f.table
}

func (p *tomlParser) twice(t *tomlTable, k tomlKey, first *tomlField) {
	p.report(p.origin(t, k), "given twice, first at "+first.origin.String(), "remove one of them")
}

// step goes into a table on the way to a header's last part.
func (p *tomlParser) step(t *tomlTable, k tomlKey) *tomlTable {
	f, isNew := p.get(t, k)
	if isNew {
		f.table = &tomlTable{origin: f.origin}
	}
	switch {
	case f.tables != nil:
		return f.tables[len(f.tables)-1]
	case f.table == nil || f.table.closed:
		p.twice(t, k, f)
		return nil
	}
	return f.table
}

// keyValue stores one "key = value" line, or part of an inline table.
func (p *tomlParser) keyValue(t *tomlTable, e *unstable.Node, depth int) {
	first, end := p.path(e)
	parts := p.keys[first:]
	defer func() { p.keys = p.keys[:first] }()
	if depth += len(parts); depth > maxDepth {
		p.tooDeep(t, parts, len(parts)-1)
		return
	}
	last := parts[len(parts)-1]
	for _, k := range parts[:len(parts)-1] {
		f, isNew := p.get(t, k)
		if isNew {
			f.table = &tomlTable{origin: f.origin, dotted: true}
		}
		if f.table == nil || !f.table.dotted || f.table.closed {
			p.twice(t, k, f)
			return
		}
		t = f.table
	}
	f, isNew := p.get(t, last)
	if !isNew {
		p.twice(t, last, f)
		return
	}
	f.value = p.value(e.Value(), p.pos.at(p.valueStart(end), f.origin.Key), depth)
}

// valueStart finds where a value begins: behind the equals sign.
func (p *tomlParser) valueStart(keyEnd int) int {
	i := keyEnd
	for i < len(p.text) && p.text[i] != '=' {
		i++
	}
	for i++; i < len(p.text) && (p.text[i] == ' ' || p.text[i] == '\t'); i++ {
	}
	return i
}

// value turns a value of go-toml's into a Node; o is where it starts.
func (p *tomlParser) value(v *unstable.Node, o Origin, depth int) *Node {
	if v.Raw.Length > 0 {
		o = p.pos.at(int(v.Raw.Offset), o.Key)
	}
	if depth > maxDepth {
		p.report(o, "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
		return nil
	}
	switch v.Kind {
	case unstable.Array:
		n := p.room.node(List, nil, o)
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.Comment {
				continue
			}
			at := o
			at.Key = joinKey(o.Key, strconv.Itoa(len(n.Items)))
			if item := p.value(it.Node(), at, depth+1); item != nil {
				n.Items = append(n.Items, item)
			}
		}
		return n
	case unstable.InlineTable:
		t := &tomlTable{origin: o}
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				p.keyValue(t, it.Node(), depth)
			}
		}
		return p.build(t)
	}
	value, err := tomlScalar(v)
	if err != nil {
		p.report(o, err.Error(), "")
		return nil
	}
	return p.room.node(Scalar, value, o)
}

// tomlScalar reads a single value. Dates and times stay texts: no key is one.
func tomlScalar(v *unstable.Node) (any, error) {
	text := string(v.Data)
	switch v.Kind {
	case unstable.Bool:
		return text == "true", nil
	case unstable.Integer:
		digits := strings.TrimLeft(text, "+-")
		if len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
			return nil, fmt.Errorf("number %s begins with a zero", text)
		}
		i, err := strconv.ParseInt(text, 0, 64)
		if err != nil {
			return nil, fmt.Errorf("number %s is out of range", text)
		}
		return i, nil
	case unstable.Float:
		f, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("number %s is out of range", text)
		}
		return f, nil
	}
	return text, nil
}
