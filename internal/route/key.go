package route

import "strings"

type hostKind uint8

const (
	hostAny   hostKind = iota
	hostExact          // name: a.example.com
	hostWild           // name: .example.com, one label before it
)

// hostKey is a set of hosts the table can look up.
type hostKey struct {
	kind hostKind
	name string
}

func (k hostKey) matches(host string) bool {
	switch k.kind {
	case hostExact:
		return k.name == host
	case hostWild:
		return k.name == wildOf(host)
	}
	return true
}

// wildOf gives the part of a host a wildcard is looked up by: all from its
// first dot; "" where no wildcard can match.
func wildOf(host string) string {
	if dot := strings.IndexByte(host, '.'); dot > 0 {
		return host[dot:]
	}
	return ""
}

// meet is the set of hosts in both; ok is false where there is none.
func (k hostKey) meet(o hostKey) (both hostKey, ok bool) {
	switch {
	case o.kind == hostAny:
		return k, true
	case k.kind == hostAny:
		return o, true
	case k.kind == o.kind:
		return k, k.name == o.name
	case k.kind == hostExact:
		return k, o.matches(k.name)
	}
	return o, k.matches(o.name)
}

// pathKey is a set of paths the table can look up: one, or all with a prefix
// (the empty prefix: any path).
type pathKey struct {
	exact bool
	text  string
}

func (k pathKey) meet(o pathKey) (both pathKey, ok bool) {
	switch {
	case k.exact:
		return k, o.exact && o.text == k.text || !o.exact && strings.HasPrefix(k.text, o.text)
	case o.exact || len(o.text) > len(k.text):
		return o, strings.HasPrefix(o.text, k.text)
	}
	return k, strings.HasPrefix(k.text, o.text)
}

// key is where in the table a rule is entered. A rule's keys together cover
// every head it matches; a key that is whole needs no look at the rule itself.
type key struct {
	host  hostKey
	path  pathKey
	whole bool
}

// maxKeys bounds what a product of alternatives may grow to.
const maxKeys = 1 << 14

// keys derives the keys of a rule.
func (n *node) keys() []key {
	switch n.op {
	case opLeaf:
		return n.leaf.keys()
	case opOr:
		var all []key
		for _, kid := range n.kids {
			all = append(all, kid.keys()...)
		}
		return unique(all)
	case opAnd:
		all := n.kids[0].keys()
		for _, kid := range n.kids[1:] {
			all = product(all, kid.keys())
		}
		return all
	}
	return []key{{}}
}

// product crosses the keys of two expressions that must both hold.
func product(a, b []key) []key {
	if len(a)*len(b) > maxKeys {
		// Too many to enter one by one: enter the shorter list, and look at
		// the whole rule for each.
		if len(b) < len(a) {
			a = b
		}
		coarse := make([]key, len(a))
		for i, k := range a {
			coarse[i] = key{host: k.host, path: k.path}
		}
		return unique(coarse)
	}
	all := make([]key, 0, max(len(a), len(b)))
	for _, x := range a {
		for _, y := range b {
			host, ok := x.host.meet(y.host)
			if !ok {
				continue
			}
			if path, ok := x.path.meet(y.path); ok {
				all = append(all, key{host, path, x.whole && y.whole})
			}
		}
	}
	return unique(all)
}

// unique drops repeats; of two that differ in whole, the whole one stays.
func unique(keys []key) []key {
	if len(keys) < 2 {
		return keys
	}
	type place struct {
		host hostKey
		path pathKey
	}
	at := make(map[place]int, len(keys))
	out := keys[:0:0]
	for _, k := range keys {
		p := place{k.host, k.path}
		if i, ok := at[p]; ok {
			out[i].whole = out[i].whole || k.whole
			continue
		}
		at[p] = len(out)
		out = append(out, k)
	}
	return out
}

func (l *leaf) keys() []key {
	var keys []key
	switch l.kind {
	case kindHost:
		for _, h := range l.hosts {
			keys = append(keys, key{host: h, whole: true})
		}
	case kindPath, kindPathPrefix:
		for _, p := range l.args {
			keys = append(keys, key{path: pathKey{l.kind == kindPath, p}, whole: true})
		}
	default:
		return []key{{}}
	}
	return unique(keys)
}
