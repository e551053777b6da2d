package traefik1

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// Bounds of a key-value tree. What is in a store was written by others.
const (
	MaxTreeKeys  = 10_000
	MaxTreeBytes = 16 << 20
	MaxTreeValue = 1 << 20
	MaxTreeDepth = 8
)

// TreeSource says where the entries of a tree come from.
type TreeSource struct {
	Provider string // "etcd"
	Prefix   string // of the keys, for messages: "/traefik"
}

func (s TreeSource) origin(key string) config.Origin {
	return config.Origin{Provider: s.Provider, Source: s.Prefix, Key: key}
}

// Tree makes a Map node of the entries of a store, keys relative to its
// prefix: one level for each part of a key, sorted, every value a text. A key
// that is too long or too deep is left out with a problem; a tree that is too
// large as a whole is nil, and the problem says what the bound is. Where a key
// is a value and a folder at once, the folder counts.
func Tree(entries []store.Entry, from TreeSource) (*config.Node, []config.Problem) {
	size := 0
	for _, e := range entries {
		size += len(e.Key) + len(e.Value)
	}
	if len(entries) > MaxTreeKeys || size > MaxTreeBytes {
		return nil, []config.Problem{{
			Origin:  from.origin(""),
			Message: fmt.Sprintf("%d keys with %d bytes are too much for a routing configuration: none of it is taken", len(entries), size),
			Allowed: fmt.Sprintf("at most %d keys and %d bytes", MaxTreeKeys, MaxTreeBytes),
		}}
	}
	var problems []config.Problem
	refuse := func(key, message, allowed string) {
		problems = append(problems, config.Problem{Origin: from.origin(key), Object: "key", Message: message, Allowed: allowed, Warning: true})
	}
	paths := make([]path, 0, len(entries))
	for _, e := range entries {
		parts := strings.FieldsFunc(e.Key, func(r rune) bool { return r == '/' })
		switch {
		case len(parts) == 0:
		case len(parts) > MaxTreeDepth:
			refuse(shorten(e.Key), fmt.Sprintf("is %d levels deep and is left out", len(parts)), fmt.Sprintf("at most %d", MaxTreeDepth))
		case len(e.Value) > MaxTreeValue:
			refuse(shorten(e.Key), fmt.Sprintf("has a value of %d bytes and is left out", len(e.Value)), fmt.Sprintf("at most %d", MaxTreeValue))
		default:
			paths = append(paths, path{parts, e})
		}
	}
	slices.SortStableFunc(paths, func(a, b path) int { return slices.CompareFunc(a.parts, b.parts, cmp.Compare) })
	return folder(paths, 0, "", from), problems
}

// path is an entry whose key is cut into its parts.
type path struct {
	parts []string
	store.Entry
}

// folder makes the node of paths that are sorted and alike up to depth.
func folder(paths []path, depth int, at string, from TreeSource) *config.Node {
	n := &config.Node{Kind: config.Map, Weak: true, Origin: from.origin(at)}
	names := 0
	for i := range paths {
		if i == 0 || paths[i].parts[depth] != paths[i-1].parts[depth] {
			names++
		}
	}
	n.Fields = make([]config.Field, 0, names)
	for len(paths) > 0 {
		name := paths[0].parts[depth]
		end := 1
		for end < len(paths) && paths[end].parts[depth] == name {
			end++
		}
		below := paths[:end]
		paths = paths[end:]
		for len(below) > 1 && len(below[0].parts) == depth+1 {
			below = below[1:] // the folder counts; of two equal keys, the last
		}
		key := name
		if at != "" {
			key = at + "/" + name
		}
		f := config.Field{Name: name, Origin: from.origin(key)}
		if first := below[0]; len(first.parts) == depth+1 {
			f.Node = &config.Node{Kind: config.Scalar, Value: string(first.Value), Weak: true, Origin: f.Origin}
		} else {
			f.Node = folder(below, depth+1, key, from)
		}
		n.Fields = append(n.Fields, f)
	}
	return n
}

func shorten(key string) string {
	if len(key) > 200 {
		return strings.ToValidUTF8(key[:200], "") + "..."
	}
	return key
}
