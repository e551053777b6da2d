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

// hostOf gives the key of a canonical argument of Host.
func hostOf(arg string) hostKey {
	if strings.HasPrefix(arg, "*") {
		return hostKey{hostWild, arg[1:]}
	}
	return hostKey{hostExact, arg}
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

func (k pathKey) matches(path string) bool {
	if k.exact {
		return k.text == path
	}
	return strings.HasPrefix(path, k.text)
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

// only gives the key of a rule that has but one, as most have; ok is false
// where keys must be asked.
func (n *node) only() (k key, ok bool) {
	switch n.op {
	case opNot:
		return key{}, true
	case opOr:
		return key{}, false
	case opLeaf:
		l := n.leaf
		switch {
		case l.kind != kindHost && l.kind != kindPath && l.kind != kindPathPrefix:
			return key{}, true
		case len(l.args) > 1:
			return key{}, false
		case l.kind == kindHost:
			return key{host: hostOf(l.args[0]), whole: true}, true
		}
		return key{path: pathKey{l.kind == kindPath, l.args[0]}, whole: true}, true
	}
	k.whole = true
	for _, kid := range n.kids {
		other, ok := kid.only()
		if !ok {
			return key{}, false
		}
		if k, ok = k.meet(other); !ok {
			return key{}, false // it matches nothing
		}
	}
	return k, true
}

// meet is where both hold; ok is false where that is nowhere.
func (k key) meet(o key) (both key, ok bool) {
	if both.host, ok = k.host.meet(o.host); !ok {
		return key{}, false
	}
	both.path, ok = k.path.meet(o.path)
	both.whole = k.whole && o.whole
	return both, ok
}

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
			if k, ok := x.meet(y); ok {
				all = append(all, k)
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
		for _, arg := range l.args {
			keys = append(keys, key{host: hostOf(arg), whole: true})
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
