package route

import (
	"strings"
)

// tree is a radix tree over the bytes of paths. The way from the root to a
// node spells a path: prefix holds the candidates for all paths that start so,
// exact those for this path alone. Lists are sorted by rank.
type tree struct {
	label  string // bytes between the parent and this node
	first  []byte // first byte of each kid's label
	kids   []*tree
	prefix []candidate
	exact  []candidate
}

// add enters a candidate; candidates come in the order of their rank.
func (t *tree) add(k pathKey, c candidate) {
	at := t.reach(k.text)
	if k.exact {
		at.exact = append(at.exact, c)
	} else {
		at.prefix = append(at.prefix, c)
	}
}

// reach finds or makes the node that spells path below t.
func (t *tree) reach(path string) *tree {
	for path != "" {
		i := strings.IndexByte(string(t.first), path[0])
		if i < 0 {
			kid := &tree{label: path}
			t.first = append(t.first, path[0])
			t.kids = append(t.kids, kid)
			return kid
		}
		kid := t.kids[i]
		n := common(path, kid.label)
		if n < len(kid.label) {
			upper := &tree{label: kid.label[:n], first: []byte{kid.label[n]}, kids: []*tree{kid}}
			kid.label = kid.label[n:]
			t.kids[i], kid = upper, upper
		}
		t, path = kid, path[n:]
	}
	return t
}

func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// match gives the best rank below best among the candidates for h, else best.
func (t *tree) match(h *Head, best int32) int32 {
	path := h.Path
	for {
		best = first(t.prefix, h, best)
		if path == "" {
			return first(t.exact, h, best)
		}
		kid := t.kid(path[0])
		if kid == nil || !strings.HasPrefix(path, kid.label) {
			return best
		}
		t, path = kid, path[len(kid.label):]
	}
}

func (t *tree) kid(c byte) *tree {
	for i, f := range t.first {
		if f == c {
			return t.kids[i]
		}
	}
	return nil
}

// first gives the rank of the first candidate that matches and beats best.
func first(list []candidate, h *Head, best int32) int32 {
	for _, c := range list {
		if c.rank >= best {
			return best
		}
		if c.rule == nil || c.rule.match(h) {
			return c.rank
		}
	}
	return best
}
