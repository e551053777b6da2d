package storeconfig

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

type kind byte

const (
	added   kind = '+'
	changed kind = '~'
	removed kind = '-'
)

// change is one difference between the store and what it should be.
type change struct {
	kind  kind
	key   string // relative to the root
	name  string // whole
	dir   bool
	value string
	text  string // what people see behind the name
	have  store.Revision
}

// String is a line of the difference: "+ traefik/loglevel = "DEBUG"".
func (c change) String() string {
	if c.dir {
		return fmt.Sprintf("%c %s/", c.kind, c.name)
	}
	return fmt.Sprintf("%c %s %s", c.kind, c.name, c.text)
}

// plan is what to do: removals first, deepest first, then writes in the order
// of keys.
type plan struct {
	changes []change
	report  Report
}

// compare decides. Pure.
func compare(want wanted, present []store.Entry, owned manifest, folders bool) plan {
	there := make(map[string]store.Entry, len(present))
	used := map[string]bool{} // folders that have something in them
	for _, e := range present {
		there[e.Key] = e
		for at := parent(e.Key); at != ""; at = parent(at) {
			used[at] = true
		}
	}
	var p plan
	values, dirs := map[string]bool{}, map[string]bool{}
	var writes []change
	for _, pair := range want.pairs {
		if pair.Dir && !folders {
			continue
		}
		if pair.Dir {
			dirs[pair.Key] = true
		} else {
			values[pair.Key] = true
		}
		p.report.Entries++
		c := change{kind: added, key: pair.Key, name: want.root + "/" + pair.Key, dir: pair.Dir, value: pair.Value, text: "= " + show(pair)}
		entry, isThere := there[pair.Key]
		switch {
		case pair.Dir && used[pair.Key]:
			continue
		case pair.Dir:
		case isThere && (pair.Keep || string(entry.Value) == pair.Value):
			continue
		case isThere:
			before := pair
			before.Value = string(entry.Value)
			c.kind, c.have = changed, entry.Revision
			c.text = "= " + show(before) + " -> " + show(pair)
		}
		writes = append(writes, c)
	}
	gone := removals{want: want, there: there, used: used, owned: owned, values: values, dirs: dirs}
	p.changes = append(gone.list(folders), writes...)
	for _, c := range p.changes {
		switch c.kind {
		case added:
			p.report.Added++
		case changed:
			p.report.Changed++
		case removed:
			p.report.Removed++
		}
	}
	return p
}

// removals finds the keys and folders of ours that nobody wants any more.
// ACME's data is never ours.
type removals struct {
	want         wanted
	there        map[string]store.Entry
	used         map[string]bool
	owned        manifest
	values, dirs map[string]bool // wanted
}

func (r removals) list(folders bool) []change {
	var list []change
	for _, key := range r.owned.Keys {
		key, dir := strings.CutSuffix(key, "/")
		entry, isThere := r.there[key]
		goes := isThere && !r.values[key]
		if dir {
			goes = folders && r.used[key] && !r.dirs[key] && r.emptied(key)
		}
		if goes && !r.want.isACME(key) {
			list = append(list, change{
				kind: removed, key: key, name: r.want.root + "/" + key, dir: dir, have: entry.Revision,
				text: "= " + show(traefik1.Pair{Key: key, Value: string(entry.Value)}),
			})
		}
	}
	slices.SortFunc(list, func(a, b change) int { return cmp.Compare(b.key, a.key) })
	return list
}

// emptied tells whether all that is in a folder goes.
func (r removals) emptied(folder string) bool {
	for key := range r.there {
		if store.Under(key, folder) && (r.values[key] || !r.owned.has(key)) {
			return false
		}
	}
	return true
}

func parent(key string) string {
	return key[:max(strings.LastIndexByte(key, '/'), 0)]
}
