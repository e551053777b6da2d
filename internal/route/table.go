package route

import (
	"cmp"
	"slices"

	"gatehouse/internal/http1"
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
	order  []int            // entries in match order
	rules  []Rule           // of the entries
	exact  map[string]int32 // by host: a place
	wild   map[string]int32 // by what follows a host's first label
	places []place          // the first: rules that name no host
}

// candidate is an entry at one place of the table.
type candidate struct {
	rank int32 // position in the match order
	rule *node // nil: being here is enough
}

// NewTable compiles entries. Indexes in its answers are those of entries.
func NewTable(entries []Entry) *Table {
	t := &Table{order: matchOrder(entries), exact: make(map[string]int32, len(entries)), wild: map[string]int32{}}
	// All seats are found first, so that one piece of memory holds those of
	// all places.
	type found struct {
		place int32
		seat  seat
	}
	all := make([]found, 0, len(entries))
	sizes := []int32{0}
	enter := func(k key, rank int, root *node) {
		at := t.place(k.host, int32(len(sizes)))
		if int(at) == len(sizes) {
			sizes = append(sizes, 0)
		}
		sizes[at]++
		if k.whole {
			root = nil
		}
		all = append(all, found{at, seat{path: k.path, candidate: candidate{rank: int32(rank), rule: root}}})
	}
	t.rules = make([]Rule, len(entries))
	for rank, i := range t.order {
		t.rules[i] = entries[i].Rule
		root := entries[i].Rule.root
		if root == nil {
			continue
		}
		if k, ok := root.only(); ok {
			enter(k, rank, root)
			continue
		}
		for _, k := range root.keys() {
			enter(k, rank, root)
		}
	}
	seats := make([]seat, len(all))
	t.places = make([]place, len(sizes))
	for i, n := range sizes {
		t.places[i].seats, seats = seats[:0:n], seats[n:]
	}
	// In match order, so that every list is born sorted.
	for i := range all {
		p := &t.places[all[i].place]
		p.seats = append(p.seats, all[i].seat)
	}
	for i := range t.places {
		t.places[i].grow()
	}
	return t
}

// matchOrder gives the indexes of entries, best first.
func matchOrder(entries []Entry) []int {
	order := make([]int, len(entries))
	for i := range order {
		order[i] = i
	}
	byName := slices.IsSortedFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(order, func(a, b int) int {
		if c := cmp.Compare(entries[b].Priority, entries[a].Priority); c != 0 {
			return c
		}
		if !byName {
			if c := cmp.Compare(entries[a].Name, entries[b].Name); c != 0 {
				return c
			}
		}
		return a - b
	})
	return order
}

// place gives the number of a host's place; next, where it is a new one.
func (t *Table) place(k hostKey, next int32) int32 {
	byName := t.exact
	switch k.kind {
	case hostAny:
		return 0
	case hostWild:
		byName = t.wild
	}
	at, ok := byName[k.name]
	if !ok {
		at = next
		byName[k.name] = at
	}
	return at
}

// Order gives the entries' indexes in match order. The slice is the caller's.
func (t *Table) Order() []int { return slices.Clone(t.order) }

// Hosts gives the names of Rule.Hosts of all entries, sorted, without repeats.
func (t *Table) Hosts() []string {
	var names []string
	for _, r := range t.rules {
		names = append(names, r.Hosts()...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Match gives the index of the entry a request belongs to, -1 for none. It
// allocates nothing, unless the host has upper-case letters or a rule looks
// into an escaped query.
func (t *Table) Match(h *Head) int {
	h.host = http1.HostName(h.Host)
	best := int32(len(t.order))
	if at, ok := t.exact[h.host]; ok {
		best = t.places[at].match(h, best)
	}
	if len(t.wild) > 0 {
		if suffix := wildOf(h.host); suffix != "" {
			if at, ok := t.wild[suffix]; ok {
				best = t.places[at].match(h, best)
			}
		}
	}
	best = t.places[0].match(h, best)
	if int(best) == len(t.order) {
		return -1
	}
	return t.order[best]
}

// place holds the candidates of one host.
type place struct {
	seats []seat // sorted by rank; nil: they are in the tree
	tree  *tree
}

// seat is a candidate with the paths it is for.
type seat struct {
	path pathKey
	candidate
}

// fewSeats is how many are looked at one by one: most hosts have one or two,
// for which a tree would be much memory and no gain.
const fewSeats = 8

// grow makes a tree of many seats.
func (p *place) grow() {
	if len(p.seats) <= fewSeats {
		return
	}
	p.tree = new(tree)
	for _, s := range p.seats {
		p.tree.add(s.path, s.candidate)
	}
	p.seats = nil
}

// match gives the best rank below best among the candidates for h, else best.
func (p *place) match(h *Head, best int32) int32 {
	if p.tree != nil {
		return p.tree.match(h, best)
	}
	for i := range p.seats {
		s := &p.seats[i]
		if s.rank >= best {
			return best
		}
		if s.path.matches(h.Path) && (s.rule == nil || s.rule.match(h)) {
			return s.rank
		}
	}
	return best
}
