package config

import (
	"reflect"
	"slices"
	"strings"
)

// tree collects single settings, each under its dotted path, into one Node:
// what flags and the environment are turned into.
type tree struct{ root *Node }

func newTree(o Origin) tree {
	return tree{root: &Node{Kind: Map, Origin: o, Weak: true}}
}

// set puts a leaf under a path. A section that is switched on and has keys set
// is both; a list given twice grows; of other values the last one holds.
func (t tree) set(path []string, leaf *Node, grows bool) {
	n := t.root
	for i, name := range path {
		f := n.Get(name)
		last := i == len(path)-1
		if f == nil {
			f = &Node{Kind: Map, Origin: leaf.Origin, Weak: true}
			if last {
				f = leaf
			}
			n.Fields = append(n.Fields, Field{Name: name, Origin: leaf.Origin, Node: f})
			n = f
			continue
		}
		switch {
		case !last && f.Kind != Map:
			*f = Node{Kind: Map, Origin: leaf.Origin, Weak: true}
		case last && leaf.Kind == Map && f.Kind == Map:
			for _, inner := range leaf.Fields {
				t.set(append(slices.Clone(path), inner.Name), inner.Node, false)
			}
			return
		case last && f.Kind == Map && isTrue(leaf):
			return // --etcd.endpoint=x --etcd
		case last && grows && f.Kind == List:
			f.Items = append(f.Items, leaf)
		case last && grows:
			first := *f
			*f = Node{Kind: List, Origin: first.Origin, Items: []*Node{&first, leaf}, Weak: true}
		case last:
			*f = *leaf
		}
		n = f
	}
}

func isTrue(n *Node) bool {
	s, ok := n.Value.(string)
	on, known := weakBool(s)
	return n.Kind == Scalar && ok && known && on
}

// target is what a path of keys leads to in the schema.
type target struct {
	path []string // the schema's own spelling
	typ  reflect.Type
}

// resolve follows a path through the schema. Where it leaves the schema, known
// are the names that could have stood at position at.
func resolve(t reflect.Type, path []string) (to target, at int, known []string) {
	to.path = make([]string, 0, len(path))
	for i, name := range path {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Struct:
			list := fieldsOf(t)
			at := findField(list, name)
			if at < 0 {
				return to, i, names(list)
			}
			name, t = list[at].name, list[at].typ
		case reflect.Map:
			if name == "" {
				return to, i, nil
			}
			t = t.Elem()
		case reflect.Slice:
			if _, ok := listIndex(name); !ok || t.Elem().Kind() != reflect.Struct {
				return to, i, nil
			}
			t = t.Elem()
		default:
			return to, i, nil
		}
		to.path = append(to.path, name)
	}
	to.typ = t
	return to, -1, nil
}

// isSwitch says whether the key's bare name means true.
func (t target) isSwitch() bool {
	k := t.typ.Kind()
	return k == reflect.Bool || k == reflect.Struct || k == reflect.Pointer && t.typ.Elem().Kind() == reflect.Struct
}

// grows says whether giving the key again adds to it.
func (t target) grows() bool { return t.typ.Kind() == reflect.Slice }

// leaf makes the node for a text, without one matching pair of quotes around
// it; the problem is the note about those, if any.
func leaf(text string, o Origin) (*Node, []Problem) {
	var notes []Problem
	if bare := unquote(text); len(bare) < len(strings.TrimSpace(text)) {
		text = bare
		notes = []Problem{{
			Origin:  o,
			Message: "quotes around the value are taken away",
			Allowed: "a list of arguments in YAML keeps quotes that a shell removes",
			Warning: true,
		}}
	}
	return &Node{Value: text, Origin: o, Weak: true}, notes
}
