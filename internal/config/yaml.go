package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// ParseYAML turns YAML text (one document) into a Node with the position of
// every part. source names the text in origins. Anchors and aliases work;
// merge keys (<<) and tags other than the core ones are refused. Keys given
// twice are Problems, the first one holds.
func ParseYAML(source string, text []byte) (*Node, []Problem) {
	if problems := checkText(source, text); problems != nil {
		return nil, problems
	}
	p := yamlParser{pos: newPositions(source, text), text: text, anchors: map[string]yamlAnchor{}}
	root := p.parse()
	if root == nil {
		root = &Node{Kind: Map, Origin: p.pos.at(0, "")}
	}
	return root, p.problems
}

// yamlParser turns go-yaml's tree into Nodes.
type yamlParser struct {
	pos      positions
	text     []byte
	anchors  map[string]yamlAnchor
	parts    int // nodes so far, aliases counted as what they stand for
	problems []Problem
}

type yamlAnchor struct {
	node         *Node
	parts, depth int
}

func (p *yamlParser) report(o Origin, message, allowed string) {
	object := ""
	if o.Key != "" {
		object = "key " + o.Key
	}
	p.problems = append(p.problems, Problem{Origin: o, Object: object, Message: message, Allowed: allowed})
}

// origin gives a token's place; go-yaml counts columns in characters.
func (p *yamlParser) origin(tk *token.Token, key string) Origin {
	if tk == nil || tk.Position == nil {
		return p.pos.at(0, key)
	}
	line := min(max(tk.Position.Line, 1), len(p.pos.lines))
	offset := p.pos.lines[line-1]
	for i := 1; i < tk.Position.Column && offset < len(p.text) && p.text[offset] != '\n'; i++ {
		_, size := utf8.DecodeRune(p.text[offset:])
		offset += size
	}
	return p.pos.at(offset, key)
}

func (p *yamlParser) parse() (root *Node) {
	defer func() {
		// go-yaml is not ours: where it stumbles, the file is refused and
		// the process lives.
		if r := recover(); r != nil {
			p.report(Origin{Provider: "file", Source: p.pos.source}, fmt.Sprintf("syntax: the YAML parser gave up: %v", r), "")
			root = nil
		}
	}()
	tokens := lexer.Tokenize(string(p.text))
	if !p.bounded(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		p.syntax(err)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if body != nil {
			p.report(p.origin(doc.Body.GetToken(), ""), "a second document", "one document per file")
			break
		}
		body = doc.Body
	}
	if body == nil {
		return nil
	}
	n, _ := p.node(body, "", 0)
	if n == nil || n.Kind == Scalar && n.Value == nil {
		return nil
	}
	if n.Kind != Map {
		p.report(n.Origin, describeNode(n)+" where keys are wanted", "key: value")
		return nil
	}
	return n
}

// bounded refuses nesting that would exhaust the stack of go-yaml's recursive
// parser, before it starts: flow style by its brackets, block style by the
// column its marks stand in.
func (p *yamlParser) bounded(tokens token.Tokens) bool {
	const widest = 4096
	depth := 0
	for _, tk := range tokens {
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.TagType, token.AnchorType:
			if tk.Position.Column > widest && depth == 0 {
				p.report(p.origin(tk, ""), "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
				return false
			}
		}
		if depth > maxDepth {
			p.report(p.origin(tk, ""), "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
			return false
		}
	}
	return true
}

func (p *yamlParser) syntax(err error) {
	var ye yaml.Error
	if errors.As(err, &ye) {
		p.report(p.origin(ye.GetToken(), ""), "syntax: "+ye.GetMessage(), "")
		return
	}
	p.report(Origin{Provider: "file", Source: p.pos.source}, "syntax: "+err.Error(), "")
}

// node turns one part into a Node; depth is also that of its deepest part.
func (p *yamlParser) node(a ast.Node, key string, depth int) (_ *Node, deepest int) {
	o := p.origin(a.GetToken(), key)
	if depth > maxDepth {
		p.report(o, "nested too deeply", fmt.Sprintf("at most %d levels", maxDepth))
		return nil, depth
	}
	if p.parts++; p.parts > maxParts {
		if p.parts == maxParts+1 {
			p.report(o, "too many parts", fmt.Sprintf("at most %d, aliases counted as what they stand for", maxParts))
		}
		return nil, depth
	}
	switch x := a.(type) {
	case *ast.MappingNode:
		return p.mapping(x.Values, o, depth)
	case *ast.MappingValueNode:
		return p.mapping([]*ast.MappingValueNode{x}, o, depth)
	case *ast.SequenceNode:
		return p.sequence(x, o, depth)
	case *ast.AnchorNode:
		return p.anchor(x, key, depth)
	case *ast.AliasNode:
		return p.alias(x, o, depth)
	case *ast.TagNode:
		switch tag := x.GetToken().Value; tag {
		case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
			if x.Value != nil {
				return p.node(x.Value, key, depth+1)
			}
		default:
			p.report(o, "tag "+tag+" is not known", "plain values")
		}
		return nil, depth
	}
	value, err := yamlScalar(a)
	if err != nil {
		p.report(o, err.Error(), "")
		return nil, depth
	}
	return &Node{Value: value, Origin: o}, depth
}

func (p *yamlParser) mapping(values []*ast.MappingValueNode, o Origin, depth int) (*Node, int) {
	n := &Node{Kind: Map, Origin: o, Fields: make([]Field, 0, len(values))}
	if len(values) > 0 && values[0].Key != nil && o.Line > 0 {
		// A block mapping starts at its first key; go-yaml says the colon.
		if tk := values[0].Key.GetToken(); tk != nil && string(p.text[p.offset(o):min(p.offset(o)+1, len(p.text))]) != "{" {
			n.Origin = p.origin(tk, o.Key)
		}
	}
	seen := make(map[string]Origin, len(values))
	deepest := depth
	for _, v := range values {
		if v.Key == nil {
			continue
		}
		tk := v.Key.GetToken()
		if _, isMerge := v.Key.(*ast.MergeKeyNode); isMerge {
			p.report(p.origin(tk, o.Key), "merge keys (<<) are not supported", "write the keys out, or use an alias as a value")
			continue
		}
		name, ok := keyText(v.Key)
		if !ok {
			p.report(p.origin(tk, o.Key), "not a plain key", "key: value")
			continue
		}
		at := p.origin(tk, joinKey(o.Key, name))
		if first, twice := seen[name]; twice {
			p.report(at, "given twice, first at "+first.String(), "remove one of them")
			continue
		}
		seen[name] = at
		value, deep := p.node(v.Value, at.Key, depth+1)
		deepest = max(deepest, deep)
		if value != nil {
			n.Fields = append(n.Fields, Field{Name: name, Origin: at, Node: value})
		}
	}
	return n, deepest
}

// offset is the inverse of positions.at.
func (p *yamlParser) offset(o Origin) int { return p.pos.lines[o.Line-1] + o.Column - 1 }

// keyText gives a key's name; numbers and words like true are names here.
func keyText(k ast.MapKeyNode) (string, bool) {
	switch x := k.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.MappingKeyNode:
		if s, ok := x.Value.(*ast.StringNode); ok {
			return s.Value, true
		}
		return "", false
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return k.GetToken().Value, true
	}
	return "", false
}

func (p *yamlParser) sequence(x *ast.SequenceNode, o Origin, depth int) (*Node, int) {
	n := &Node{Kind: List, Origin: o, Items: make([]*Node, 0, len(x.Values))}
	deepest := depth
	for i, v := range x.Values {
		item, deep := p.node(v, joinKey(o.Key, strconv.Itoa(i)), depth+1)
		deepest = max(deepest, deep)
		if item != nil {
			n.Items = append(n.Items, item)
		}
	}
	return n, deepest
}

func (p *yamlParser) anchor(x *ast.AnchorNode, key string, depth int) (*Node, int) {
	before := p.parts
	n, deepest := p.node(x.Value, key, depth)
	if n != nil && x.Name != nil {
		p.anchors[x.Name.GetToken().Value] = yamlAnchor{node: n, parts: p.parts - before, depth: deepest - depth}
	}
	return n, deepest
}

// alias shares the anchor's Node: it is immutable. What it stands for is
// counted, so that aliases of aliases cannot grow without bound.
func (p *yamlParser) alias(x *ast.AliasNode, o Origin, depth int) (*Node, int) {
	name := ""
	if x.Value != nil {
		name = x.Value.GetToken().Value
	}
	a, ok := p.anchors[name]
	if !ok {
		p.report(o, "alias *"+name+" without an anchor before it", "&"+name+" marks the value")
		return nil, depth
	}
	if depth+a.depth > maxDepth || p.parts+a.parts > maxParts {
		p.report(o, "alias *"+name+" makes the file too large or too deep", "")
		return nil, depth
	}
	p.parts += a.parts
	return a.node, depth + a.depth
}

// yamlScalar reads a single value.
func yamlScalar(a ast.Node) (any, error) {
	switch x := a.(type) {
	case *ast.NullNode:
		return nil, nil
	case *ast.BoolNode:
		return x.Value, nil
	case *ast.StringNode:
		return x.Value, nil
	case *ast.LiteralNode:
		return x.Value.Value, nil
	case *ast.FloatNode:
		return x.Value, nil
	case *ast.IntegerNode:
		switch i := x.Value.(type) {
		case int64:
			return i, nil
		case uint64:
			if i <= math.MaxInt64 {
				return int64(i), nil
			}
		}
		return nil, fmt.Errorf("number %s is out of range", x.GetToken().Value)
	}
	return nil, fmt.Errorf("%s is no value that configuration can have", strings.ToLower(a.Type().String()))
}
