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
	p := tomlParser{pos: newPositions(source, text), text: text}
	p.root = p.newTable(Origin{Provider: "file", Source: source, Line: 1, Column: 1})
	p.current = p.root
	p.parse()
	return p.root.build(), p.problems
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
}

// tomlTable is a table being built.
type tomlTable struct {
	origin  Origin
	fields  []tomlField
	index   map[string]int
	defined bool // by its own header, or as a value
	dotted  bool // by dotted keys of another table
	closed  bool // inline: nothing may be added
}

// tomlField is one key of it: a table, an array of tables, or a plain value.
type tomlField struct {
	name   string
	origin Origin
	table  *tomlTable
	tables []*tomlTable
	value  *Node
	listAt Origin
}

func (p *tomlParser) newTable(o Origin) *tomlTable {
	return &tomlTable{origin: o, index: map[string]int{}}
}

// get finds a key's field, or adds one.
func (t *tomlTable) get(name string, o Origin) (f *tomlField, isNew bool) {
	if i, ok := t.index[name]; ok {
		return &t.fields[i], false
	}
	t.index[name] = len(t.fields)
	t.fields = append(t.fields, tomlField{name: name, origin: o})
	return &t.fields[len(t.fields)-1], true
}

func (t *tomlTable) build() *Node {
	n := &Node{Kind: Map, Origin: t.origin, Fields: make([]Field, 0, len(t.fields))}
	for i := range t.fields {
		f := &t.fields[i]
		node := f.value
		switch {
		case f.table != nil:
			node = f.table.build()
		case f.tables != nil:
			node = &Node{Kind: List, Origin: f.listAt}
			for _, item := range f.tables {
				node.Items = append(node.Items, item.build())
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

// keys gives the parts of an expression's key with their origins.
func (p *tomlParser) keys(e *unstable.Node, parent string) (parts []string, origins []Origin, end int) {
	for it := e.Key(); it.Next(); {
		k := it.Node()
		name := string(k.Data)
		parent = joinKey(parent, name)
		parts = append(parts, name)
		origins = append(origins, p.pos.at(int(k.Raw.Offset), parent))
		end = int(k.Raw.Offset + k.Raw.Length)
	}
	return parts, origins, end
}

// header opens the table that [a.b] or [[a.b]] names. After a problem the
// lines below it belong to no table and are skipped.
func (p *tomlParser) header(e *unstable.Node) {
	parts, origins, _ := p.keys(e, "")
	p.current, p.depth = nil, len(parts)
	if len(parts) > maxDepth {
		p.report(origins[maxDepth], "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
		return
	}
	t := p.root
	last := len(parts) - 1
	for i, name := range parts[:last] {
		if t = p.step(t, name, origins[i]); t == nil {
			return
		}
	}
	f, isNew := t.get(parts[last], origins[last])
	if e.Kind == unstable.ArrayTable {
		if !isNew && f.tables == nil {
			p.twice(origins[last], f)
			return
		}
		if isNew {
			f.listAt = origins[last]
		}
		item := p.newTable(origins[last])
		item.defined = true
		f.tables = append(f.tables, item)
		p.current = item
		return
	}
	switch {
	case isNew:
		f.table = p.newTable(origins[last])
	case f.table == nil || f.table.defined || f.table.dotted || f.table.closed:
		p.twice(origins[last], f)
		return
	}
	f.table.defined = true
	p.current = f.table
}

func (p *tomlParser) twice(o Origin, first *tomlField) {
	p.report(o, "given twice, first at "+first.origin.String(), "remove one of them")
}

// step goes into a table on the way to a header's last part.
func (p *tomlParser) step(t *tomlTable, name string, o Origin) *tomlTable {
	f, isNew := t.get(name, o)
	if isNew {
		f.table = p.newTable(o)
	}
	switch {
	case f.tables != nil:
		return f.tables[len(f.tables)-1]
	case f.table == nil || f.table.closed:
		p.twice(o, f)
		return nil
	}
	return f.table
}

// keyValue stores one "key = value" line, or part of an inline table.
func (p *tomlParser) keyValue(t *tomlTable, e *unstable.Node, depth int) {
	parts, origins, end := p.keys(e, t.origin.Key)
	if depth += len(parts); depth > maxDepth {
		p.report(origins[len(parts)-1], "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
		return
	}
	last := len(parts) - 1
	for i, name := range parts[:last] {
		f, isNew := t.get(name, origins[i])
		if isNew {
			f.table = p.newTable(origins[i])
			f.table.dotted = true
		}
		if f.table == nil || !f.table.dotted || f.table.closed {
			p.twice(origins[i], f)
			return
		}
		t = f.table
	}
	f, isNew := t.get(parts[last], origins[last])
	if !isNew {
		p.twice(origins[last], f)
		return
	}
	v := p.value(e.Value(), p.pos.at(p.valueStart(end), origins[last].Key), depth)
	t.fields[t.index[parts[last]]].value = v
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
	n := &Node{Origin: o}
	switch v.Kind {
	case unstable.Array:
		n.Kind = List
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
	case unstable.InlineTable:
		t := p.newTable(o)
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				p.keyValue(t, it.Node(), depth)
			}
		}
		return t.build()
	default:
		value, err := tomlScalar(v)
		if err != nil {
			p.report(o, err.Error(), "")
			return nil
		}
		n.Value = value
	}
	return n
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
