package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"go.yaml.in/yaml/v4/plugin/loaderlimits"
)

// ParseYAML turns YAML text (one document) into a Node with the position of
// every part. source names the text in origins. Anchors and aliases work;
// merge keys (<<) and tags other than the core ones are refused. Keys given
// twice are Problems, the first one holds.
func ParseYAML(source string, text []byte) (*Node, []Problem) {
	if problems := checkText(source, text); problems != nil {
		return nil, problems
	}
	if n, ok := parsePlainYAML(source, text); ok {
		return n, nil
	}
	return parseAnyYAML(source, text)
}

// parseAnyYAML is ParseYAML with the library, of text that checkText passes.
func parseAnyYAML(source string, text []byte) (*Node, []Problem) {
	p := yamlParser{pos: newPositions(source, text), text: text, anchors: map[*yaml.Node]yamlAnchor{}}
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
	anchors  map[*yaml.Node]yamlAnchor // those that are read to their end
	parts    int                       // nodes so far, aliases counted as what they stand for
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

// origin gives a place; go-yaml counts columns in characters.
func (p *yamlParser) origin(line, column int, key string) Origin {
	if line < 1 {
		return p.pos.at(0, key)
	}
	offset := p.pos.lines[min(line, len(p.pos.lines))-1]
	for i := 1; i < column && offset < len(p.text) && p.text[offset] != '\n'; i++ {
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
	// Nesting without bound is refused while it is read: go-yaml recurses.
	limits := loaderlimits.New(loaderlimits.AliasNone(), loaderlimits.DepthFunc(func(depth int, _ *yaml.DepthContext) error {
		if depth > 2*maxDepth {
			return fmt.Errorf("nested too deeply (at most %d levels)", maxDepth)
		}
		return nil
	}))
	docs, err := yaml.NewLoader(bytes.NewReader(p.text), yaml.WithPlugin(limits))
	if err != nil {
		p.syntax(err)
		return nil
	}
	var body *yaml.Node
	for {
		var doc yaml.Node
		if err := docs.Load(&doc); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			p.syntax(err)
			return nil
		}
		if doc.Kind != yaml.DocumentNode || len(doc.Content) == 0 || doc.Content[0].ShortTag() == "!!null" {
			continue
		}
		if body != nil {
			p.report(p.origin(doc.Content[0].Line, doc.Content[0].Column, ""), "a second document", "one document per file")
			break
		}
		body = doc.Content[0]
	}
	if body == nil {
		return nil
	}
	n, _ := p.node(body, "", 0)
	if n == nil {
		return nil
	}
	if n.Kind != Map {
		p.report(n.Origin, describeNode(n)+" where keys are wanted", "key: value")
		return nil
	}
	return n
}

func (p *yamlParser) syntax(err error) {
	var le *yaml.LoadError
	if errors.As(err, &le) {
		message := le.Message
		if le.ContextMsg != "" {
			message = le.ContextMsg + ": " + message
		}
		p.report(p.origin(le.Mark.Line, le.Mark.Column, ""), "syntax: "+message, "")
		return
	}
	p.report(Origin{Provider: "file", Source: p.pos.source}, "syntax: "+err.Error(), "")
}

// node turns one part into a Node; depth is also that of its deepest part.
func (p *yamlParser) node(a *yaml.Node, key string, depth int) (_ *Node, deepest int) {
	o := p.origin(a.Line, a.Column, key)
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
	if a.Kind == yaml.AliasNode {
		return p.alias(a, o, depth)
	}
	if a.Style&yaml.TaggedStyle != 0 && !coreTag(a.ShortTag()) {
		p.report(o, "tag "+a.ShortTag()+" is not known", "plain values")
		return nil, depth
	}
	before := p.parts
	n, deepest := p.value(a, o, depth)
	if n != nil && a.Anchor != "" {
		p.anchors[a] = yamlAnchor{node: n, parts: p.parts - before + 1, depth: deepest - depth}
	}
	return n, deepest
}

func coreTag(tag string) bool {
	switch tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!null", "!!map", "!!seq":
		return true
	}
	return false
}

func (p *yamlParser) value(a *yaml.Node, o Origin, depth int) (*Node, int) {
	switch a.Kind {
	case yaml.MappingNode:
		return p.mapping(a, o, depth)
	case yaml.SequenceNode:
		return p.sequence(a, o, depth)
	}
	value, err := yamlScalar(a)
	if err != nil {
		p.report(o, err.Error(), "")
		return nil, depth
	}
	return &Node{Value: value, Origin: o}, depth
}

func (p *yamlParser) mapping(a *yaml.Node, o Origin, depth int) (*Node, int) {
	n := &Node{Kind: Map, Origin: o, Fields: make([]Field, 0, len(a.Content)/2)}
	seen := make(map[string]Origin, len(a.Content)/2)
	deepest := depth
	for i := 0; i+1 < len(a.Content); i += 2 {
		k := a.Content[i]
		if k.Kind != yaml.ScalarNode {
			p.report(p.origin(k.Line, k.Column, o.Key), "not a plain key", "key: value")
			continue
		}
		if k.ShortTag() == "!!merge" {
			p.report(p.origin(k.Line, k.Column, o.Key), "merge keys (<<) are not supported", "write the keys out, or use an alias as a value")
			continue
		}
		name := k.Value // numbers and words like true are names here
		at := p.origin(k.Line, k.Column, joinKey(o.Key, name))
		if first, twice := seen[name]; twice {
			p.report(at, "given twice, first at "+first.String(), "remove one of them")
			continue
		}
		seen[name] = at
		value, deep := p.node(a.Content[i+1], at.Key, depth+1)
		deepest = max(deepest, deep)
		if value != nil {
			n.Fields = append(n.Fields, Field{Name: name, Origin: at, Node: value})
		}
	}
	return n, deepest
}

func (p *yamlParser) sequence(a *yaml.Node, o Origin, depth int) (*Node, int) {
	n := &Node{Kind: List, Origin: o, Items: make([]*Node, 0, len(a.Content))}
	deepest := depth
	for i, v := range a.Content {
		item, deep := p.node(v, joinKey(o.Key, strconv.Itoa(i)), depth+1)
		deepest = max(deepest, deep)
		if item != nil {
			n.Items = append(n.Items, item)
		}
	}
	return n, deepest
}

// alias shares the anchor's Node: it is immutable. What it stands for is
// counted, so that aliases of aliases cannot grow without bound.
func (p *yamlParser) alias(x *yaml.Node, o Origin, depth int) (*Node, int) {
	a, ok := p.anchors[x.Alias]
	if !ok {
		p.report(o, "alias *"+x.Value+" without an anchor before it", "&"+x.Value+" marks the value")
		return nil, depth
	}
	if depth+a.depth > maxDepth || p.parts+a.parts > maxParts {
		p.report(o, "alias *"+x.Value+" makes the file too large or too deep", "")
		return nil, depth
	}
	p.parts += a.parts
	return a.node, depth + a.depth
}

// yamlScalar reads a single value. Dates and times are text here.
func yamlScalar(a *yaml.Node) (any, error) {
	switch tag := a.ShortTag(); tag {
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(a.Value, "true"), nil
	case "!!str", "!!timestamp", "!!merge":
		return a.Value, nil
	case "!!float":
		var f float64
		if err := a.Decode(&f); err != nil {
			return nil, fmt.Errorf("%q is no number", a.Value)
		}
		return f, nil
	case "!!int":
		var i int64
		if err := a.Decode(&i); err != nil {
			return nil, fmt.Errorf("number %s is out of range %d to %d", a.Value, math.MinInt64, math.MaxInt64)
		}
		return i, nil
	default:
		return nil, fmt.Errorf("%s is no value that configuration can have", tag)
	}
}
