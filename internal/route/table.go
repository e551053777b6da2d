package route

import (
	"cmp"
	"slices"
)

// Entry is one route of a table.
type Entry struct {
	Name     string // breaks ties between equal priorities
	Rule     Rule
	Priority int // higher wins
}

// Table finds the route of a request. The result is that of trying all
// entries from the highest priority down, ties by name; the way there is a
// look-up by host, then by path, then only those rules that ask for more.
// A Table is immutable and safe for any goroutine.
type Table struct {
	order []int            // entries in match order
	exact map[string]*tree // by host
	wild  map[string]*tree // by what follows a host's first label
	any   *tree            // rules that name no host
}

// candidate is an entry at one place of the table.
type candidate struct {
	rank int32 // position in the match order
	rule *node // nil: being here is enough
}

// NewTable compiles entries. Indexes in its answers are those of entries.
func NewTable(entries []Entry) *Table {
	t := &Table{
		order: make([]int, len(entries)),
		exact: map[string]*tree{},
		wild:  map[string]*tree{},
		any:   new(tree),
	}
	for i := range t.order {
		t.order[i] = i
	}
	slices.SortStableFunc(t.order, func(a, b int) int {
		return cmp.Or(cmp.Compare(entries[b].Priority, entries[a].Priority), cmp.Compare(entries[a].Name, entries[b].Name))
	})
	// In match order, so that every list of candidates is born sorted.
	for rank, i := range t.order {
		root := entries[i].Rule.root
		if root == nil {
			continue
		}
		for _, k := range root.keys() {
			c := candidate{rank: int32(rank), rule: root}
			if k.whole {
				c.rule = nil
			}
			t.tree(k.host).add(k.path, c)
		}
	}
	return t
}

func (t *Table) tree(k hostKey) *tree {
	byName := t.exact
	switch k.kind {
	case hostAny:
		return t.any
	case hostWild:
		byName = t.wild
	}
	found := byName[k.name]
	if found == nil {
		found = new(tree)
		byName[k.name] = found
	}
	return found
}

// Order gives the entries' indexes in match order. The slice is the caller's.
func (t *Table) Order() []int { return slices.Clone(t.order) }

// Match gives the index of the entry a request belongs to, -1 for none. It
// allocates nothing, unless the host has upper-case letters or a rule looks
// into an escaped query.
func (t *Table) Match(h *Head) int {
	h.host = cleanHost(h.Host)
	best := int32(len(t.order))
	if tr := t.exact[h.host]; tr != nil {
		best = tr.match(h, best)
	}
	if len(t.wild) > 0 {
		if suffix := wildOf(h.host); suffix != "" {
			if tr := t.wild[suffix]; tr != nil {
				best = tr.match(h, best)
			}
		}
	}
	best = t.any.match(h, best)
	if int(best) == len(t.order) {
		return -1
	}
	return t.order[best]
}
