package config

import (
	"reflect"
	"strings"
)

// field is one key of a section: a tagged struct field, with those of embedded
// structs among its own.
type field struct {
	name       string
	help       string
	deprecated bool
	index      []int
	typ        reflect.Type
}

// of gives the field in a section.
func (f *field) of(section reflect.Value) reflect.Value {
	if len(f.index) == 1 {
		return section.Field(f.index[0])
	}
	return section.FieldByIndex(f.index)
}

// schema remembers what is known of types: asking reflection is slow.
type schema map[reflect.Type]*typeInfo

type typeInfo struct {
	fields      []field // of a section
	hasDefaults bool
	text        bool // can be written as one text
	weakText    bool // the same by sources without types
}

func (s schema) of(t reflect.Type) *typeInfo {
	if info := s[t]; info != nil {
		return info
	}
	p := reflect.PointerTo(t)
	info := &typeInfo{
		hasDefaults: p.Implements(typeSetDefault),
		text:        p.Implements(typeUnmarshal),
		weakText:    p.Implements(typeTextTaker),
	}
	if t.Kind() == reflect.Struct {
		info.fields = fieldsOf(t)
	}
	s[t] = info
	return info
}

// takesText says whether the type can be written as one text.
func (i *typeInfo) takesText(m mode) bool { return i.text || m.weak && i.weakText }

// fieldsOf lists the keys of a section in the order declared. Only fields with
// a key tag are part of the schema.
func fieldsOf(t reflect.Type) []field {
	var list []field
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				list = append(list, inner)
			}
			continue
		}
		name := f.Tag.Get("key")
		if name == "" {
			continue
		}
		list = append(list, field{
			name:       name,
			help:       f.Tag.Get("help"),
			deprecated: f.Tag.Get("note") == "deprecated",
			index:      f.Index,
			typ:        f.Type,
		})
	}
	return list
}

// findField gives the position of a key in the list, or -1.
func findField(list []field, name string) int {
	for i := range list {
		if strings.EqualFold(list[i].name, name) {
			return i
		}
	}
	return -1
}

// names lists the keys to suggest: all but the deprecated ones.
func names(list []field) []string {
	var out []string
	for _, f := range list {
		if !f.deprecated {
			out = append(out, f.name)
		}
	}
	return out
}

// lookup finds a value by its path of keys. ok is false where the path leaves
// the schema or a section on the way is off.
func lookup(v reflect.Value, path []string) (_ reflect.Value, ok bool) {
	for _, part := range path {
		for v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		switch v.Kind() {
		case reflect.Struct:
			list := fieldsOf(v.Type())
			i := findField(list, part)
			if i < 0 {
				return reflect.Value{}, false
			}
			v = v.FieldByIndex(list[i].index)
		case reflect.Map:
			v = mapValue(v, part)
			if !v.IsValid() {
				return reflect.Value{}, false
			}
		case reflect.Slice:
			i, isIndex := listIndex(part)
			if !isIndex || i >= v.Len() {
				return reflect.Value{}, false
			}
			v = v.Index(i)
		default:
			return reflect.Value{}, false
		}
	}
	return v, true
}

// mapValue finds a map entry by its name: as written, else in any case.
func mapValue(m reflect.Value, name string) reflect.Value {
	if v := m.MapIndex(reflect.ValueOf(name)); v.IsValid() {
		return v
	}
	for it := m.MapRange(); it.Next(); {
		if strings.EqualFold(it.Key().String(), name) {
			return it.Value()
		}
	}
	return reflect.Value{}
}

// nearest gives the candidate closest to name by edit distance, or "" if none
// is close enough to be what was meant.
func nearest(name string, candidates []string) string {
	lower := strings.ToLower(name)
	best, bestAt := "", 1+max(1, len(name)/3)
	for _, c := range candidates {
		d := distance(lower, strings.ToLower(c), bestAt)
		if d < bestAt {
			best, bestAt = c, d
		}
	}
	return best
}

// distance is the edit distance with swaps of neighbours counted once (optimal
// string alignment); limit or more is reported as limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return min(prev[len(b)], limit)
}

// suggest is the Allowed text for an unknown name: the nearest known one, and
// the others if they are few.
func suggest(name string, known []string) string {
	near := nearest(name, known)
	const most = 16
	all := "known: " + strings.Join(known[:min(len(known), most)], ", ")
	switch {
	case near == "" && len(known) > most:
		return all + ", ..."
	case near == "":
		return all
	case len(known) > most:
		return "did you mean " + near + "?"
	}
	return "did you mean " + near + "? " + all
}
