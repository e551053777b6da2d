package config

import "strings"

// Kind is the shape of a Node.
type Kind uint8

// The three shapes.
const (
	Scalar Kind = iota
	Map
	List
)

// Node is configuration text after parsing and before meaning: the one form
// that TOML, YAML, flags, the environment and key-value trees are turned into,
// with the position of every part. Decode gives it meaning, strictly.
//
// A Node is immutable once built.
type Node struct {
	Kind   Kind
	Value  any     // Scalar: string, bool, int64, float64 or nil (YAML null)
	Fields []Field // Map, in the order written
	Items  []*Node // List
	Origin Origin  // where the value starts
	// Weak marks a source without types (flags, environment, store): scalars
	// are strings to be parsed as the target demands ("true", "10s", "a,b").
	// It holds for everything below the node.
	Weak bool
	// Nanos marks a tree written by storeconfig, where a bare integer is a
	// duration in nanoseconds instead of seconds and an empty text is the zero
	// value. It holds for everything below the node.
	Nanos bool
}

// Get gives the value of a Map's key, matched case-insensitively; nil if there
// is none, or n is nil or no Map.
func (n *Node) Get(name string) *Node {
	if n == nil {
		return nil
	}
	for i := range n.Fields {
		if strings.EqualFold(n.Fields[i].Name, name) {
			return n.Fields[i].Node
		}
	}
	return nil
}

// Field is one key of a Map node.
type Field struct {
	Name   string // as written; matched case-insensitively
	Origin Origin // where the key stands
	Node   *Node
}

// nodeRoom makes Nodes and their Fields, many with one allocation.
type nodeRoom struct {
	nodes []Node
	spare []Field
}

func (r *nodeRoom) node(kind Kind, value any, o Origin) *Node {
	if len(r.nodes) == 0 {
		r.nodes = make([]Node, 128)
	}
	n := &r.nodes[0]
	r.nodes = r.nodes[1:]
	n.Kind, n.Value, n.Origin = kind, value, o
	return n
}

// fields gives room for n fields; it is empty and not nil.
func (r *nodeRoom) fields(n int) []Field {
	if n > len(r.spare) || r.spare == nil {
		r.spare = make([]Field, max(128, n))
	}
	room := r.spare[:0:n]
	r.spare = r.spare[n:]
	return room
}
