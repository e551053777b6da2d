package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Decode gives a Node its meaning: it writes what n names into the struct (or
// map) that into points to, on top of what is there, so that later layers
// override only what they name. It is strict: an unknown key, a wrong type and
// a key given twice are Problems with the place, and the rest is decoded.
//
// Fields take part by their tag `key:"name"`, matched case-insensitively;
// embedded structs are flattened. A pointer to a struct is a section that can
// be off: true, an empty section or null switch it on and keep what is there,
// false switches it off. A section, map entry or list item that comes into
// being is given its SetDefaults values first, if it has that method. Weak
// nodes parse texts as the target demands. Fields of type *Node keep the
// undecoded node; types with UnmarshalText take texts.
//
// Decode keeps no state and may be called from any goroutine. A nil n is
// nothing to do. It panics if into is not a pointer.
func Decode(n *Node, into any) []Problem {
	d := decoder{}
	return d.run(n, into)
}

// decoder is one run of Decode.
type decoder struct {
	origins  map[string]Origin // where each key was written; nil: nobody asks
	lenient  string            // unknown keys from this provider are only warnings
	base     string            // dotted key of the root node in its file
	path     []string
	problems []Problem
	schema   schema // may be shared by runs one after another
}

// mode is what a node hands down to those below it.
type mode struct{ weak, nanos bool }

// textTaker is a struct that can also be written as one text by sources
// without types: "main.com,san1.com".
type textTaker interface{ takeText(string) error }

var (
	typeNode       = reflect.TypeFor[*Node]()
	typeObjects    = reflect.TypeFor[objects]()
	typeString     = reflect.TypeFor[string]()
	typeBool       = reflect.TypeFor[bool]()
	typeDuration   = reflect.TypeFor[Duration]()
	typeStd        = reflect.TypeFor[time.Duration]()
	typeSecret     = reflect.TypeFor[Secret]()
	typeTextTaker  = reflect.TypeFor[textTaker]()
	typeUnmarshal  = reflect.TypeFor[encoding.TextUnmarshaler]()
	typeSetDefault = reflect.TypeFor[interface{ SetDefaults() }]()
)

func (d *decoder) run(n *Node, into any) []Problem {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		panic(fmt.Sprintf("config.Decode into %T, want a pointer", into))
	}
	if n == nil {
		return nil
	}
	if d.schema == nil {
		d.schema = make(schema)
	}
	if n.Origin.Line > 0 {
		d.base = n.Origin.Key
	}
	d.value(n, v.Elem(), mode{})
	return d.problems
}

// problem reports something about the key the decoder stands at.
func (d *decoder) problem(o Origin, message, allowed string) {
	key := strings.Join(d.path, ".")
	if d.base != "" {
		key = strings.TrimSuffix(d.base+"."+key, ".")
	}
	object := ""
	if key != "" {
		object = "key " + key
	}
	d.problems = append(d.problems, Problem{Origin: o, Object: object, Message: message, Allowed: allowed})
}

// enter decodes a part under its name.
func (d *decoder) enter(name string, n *Node, v reflect.Value, m mode) {
	d.path = append(d.path, name)
	if d.origins != nil {
		d.origins[strings.ToLower(strings.Join(d.path, "."))] = n.Origin
	}
	d.value(n, v, m)
	d.path = d.path[:len(d.path)-1]
}

// value decodes n into v, whatever v is.
func (d *decoder) value(n *Node, v reflect.Value, m mode) {
	m.weak, m.nanos = m.weak || n.Weak, m.nanos || n.Nanos
	t := v.Type()
	if t == typeNode {
		v.Set(reflect.ValueOf(n))
		return
	}
	if t.Kind() == reflect.Pointer {
		d.pointer(n, v, m)
		return
	}
	if n.Kind == Scalar && (n.Value == nil || d.same(n, v, t, m) || d.text(n, v, m)) {
		return // null: what is there stays
	}
	if t == typeObjects {
		d.objects(n, v, m)
		return
	}
	switch t.Kind() {
	case reflect.Struct:
		d.section(n, v, m)
	case reflect.Map:
		d.table(n, v, m)
	case reflect.Slice:
		d.list(n, v, m)
	default:
		if n.Kind != Scalar {
			d.wrong(n, t)
			return
		}
		d.scalar(n, v, m)
	}
}

// pointer decodes what may be absent.
func (d *decoder) pointer(n *Node, v reflect.Value, m mode) {
	elem := v.Type().Elem()
	if n.Kind == Scalar && elem.Kind() == reflect.Struct && !d.schema.of(elem).takesText(m) {
		on, ok := n.Value.(bool)
		if n.Value == nil {
			on, ok = true, true
		}
		if s, isText := n.Value.(string); isText && m.weak {
			on, ok = weakBool(s)
			on, ok = on || s == "", ok || s == ""
		}
		switch {
		case !ok:
			d.wrong(n, v.Type())
		case !on:
			v.SetZero()
		case v.IsNil():
			v.Set(d.schema.fresh(elem))
		}
		return
	}
	if n.Kind == Scalar && n.Value == nil {
		return
	}
	if v.IsNil() {
		p := d.schema.fresh(elem)
		before := len(d.problems)
		d.value(n, p.Elem(), m)
		if len(d.problems) == before || elem.Kind() == reflect.Struct {
			v.Set(p) // a wrong scalar leaves "not set"
		}
		return
	}
	d.value(n, v.Elem(), m)
}

// fresh makes a value with its defaults.
func (s schema) fresh(t reflect.Type) reflect.Value {
	p := reflect.New(t)
	if s.of(t).hasDefaults {
		p.Interface().(interface{ SetDefaults() }).SetDefaults()
	}
	return p
}

// same stores what is of the target's very type, as most values in files are;
// false if it is not.
func (d *decoder) same(n *Node, v reflect.Value, t reflect.Type, m mode) bool {
	if m.weak {
		return false
	}
	switch x := n.Value.(type) {
	case string:
		if t == typeString {
			v.SetString(x)
			return true
		}
	case bool:
		if t == typeBool {
			v.SetBool(x)
			return true
		}
	}
	return false
}

// text hands a text to a type that reads texts itself; false if it is none.
func (d *decoder) text(n *Node, v reflect.Value, m mode) bool {
	if !v.CanAddr() || !d.schema.of(v.Type()).takesText(m) {
		return false
	}
	s, ok := n.Value.(string)
	if !ok {
		d.wrong(n, v.Type())
		return true
	}
	var err error
	switch u := v.Addr().Interface().(type) {
	case encoding.TextUnmarshaler:
		err = u.UnmarshalText([]byte(s))
	case textTaker:
		err = u.takeText(s)
	}
	if err != nil {
		d.problem(n.Origin, err.Error(), "")
	}
	return true
}

// section decodes a Map into a struct.
func (d *decoder) section(n *Node, v reflect.Value, m mode) {
	if n.Kind == Scalar && m.weak && n.Value == "" {
		return // an empty folder in a store
	}
	if n.Kind != Map {
		d.wrong(n, v.Type())
		return
	}
	list := d.schema.of(v.Type()).fields
	var few [16]*Field
	seen := few[:]
	if len(list) > len(few) {
		seen = make([]*Field, len(list))
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		at := findField(list, f.Name)
		if at < 0 {
			d.unknown(f, list)
			continue
		}
		if first := seen[at]; first != nil {
			d.path = append(d.path, f.Name)
			d.problem(f.Origin, "given twice, first as "+first.Name+" at "+first.Origin.String(), "keys differ only in case")
			d.path = d.path[:len(d.path)-1]
			continue
		}
		seen[at] = f
		d.enter(list[at].name, f.Node, list[at].of(v), m)
	}
}

func (d *decoder) unknown(f *Field, list []field) {
	d.path = append(d.path, f.Name)
	d.problem(f.Origin, "unknown key", suggest(f.Name, names(list)))
	if d.lenient != "" && f.Origin.Provider == d.lenient {
		d.problems[len(d.problems)-1].Warning = true
	}
	d.path = d.path[:len(d.path)-1]
}

// table decodes a Map into a map; entries that are there are decoded on top.
func (d *decoder) table(n *Node, v reflect.Value, m mode) {
	if n.Kind == Scalar && m.weak && n.Value == "" {
		return
	}
	if n.Kind != Map || v.Type().Key().Kind() != reflect.String {
		d.wrong(n, v.Type())
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(n.Fields)))
	}
	elem := v.Type().Elem()
	var before []reflect.Value
	if m.weak {
		before = v.MapKeys()
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		name := sameName(before, f.Name)
		key := reflect.ValueOf(name).Convert(v.Type().Key())
		slot := reflect.New(elem).Elem()
		if old := v.MapIndex(key); old.IsValid() {
			slot.Set(old)
		} else if elem.Kind() == reflect.Struct {
			slot.Set(d.schema.fresh(elem).Elem())
		}
		d.enter(name, f.Node, slot, m)
		if elem.Kind() == reflect.Pointer && slot.IsNil() {
			v.SetMapIndex(key, reflect.Value{})
			continue
		}
		v.SetMapIndex(key, slot)
	}
}

// objects keeps the named parts of a Map undecoded.
func (d *decoder) objects(n *Node, v reflect.Value, m mode) {
	if n.Kind == Scalar && m.weak && n.Value == "" {
		return
	}
	if n.Kind != Map {
		d.wrong(n, reflect.TypeFor[map[string]*Node]())
		return
	}
	v.Set(reflect.ValueOf(objects(n.Fields)))
}

// sameName gives an earlier layer's spelling of a name: sources without case
// (the environment) must not make a second entry.
func sameName(before []reflect.Value, name string) string {
	for _, k := range before {
		if k.String() == name {
			return name
		}
	}
	for _, k := range before {
		if strings.EqualFold(k.String(), name) {
			return k.String()
		}
	}
	return name
}

// list decodes into a slice, replacing what is there.
func (d *decoder) list(n *Node, v reflect.Value, m mode) {
	items, ok := d.items(n, v.Type(), m)
	if !ok {
		d.wrong(n, v.Type())
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(items))
	for i, item := range items {
		slot := d.schema.fresh(v.Type().Elem()).Elem()
		d.enter(strconv.Itoa(i), item, slot, m)
		out = reflect.Append(out, slot)
	}
	v.Set(out)
}

// items gives the parts of a list, in whichever way it was written.
func (d *decoder) items(n *Node, t reflect.Type, m mode) ([]*Node, bool) {
	switch {
	case n.Kind == List:
		if !m.weak {
			return n.Items, true
		}
		var all []*Node
		for _, item := range n.Items {
			if _, isText := item.Value.(string); isText && item.Kind == Scalar {
				all = append(all, splitItem(item, separator(t))...)
				continue
			}
			all = append(all, item)
		}
		return all, true
	case n.Kind == Map && m.weak:
		return indexed(n)
	case n.Kind == Scalar && m.weak:
		if _, isText := n.Value.(string); !isText {
			return nil, false
		}
		return splitItem(n, separator(t)), true
	}
	return nil, false
}

// separator is what stands between the items of a list written as one text: a
// comma, but a semicolon where an item has commas of its own.
func separator(list reflect.Type) string {
	if list.Elem().Kind() == reflect.Struct {
		return ";"
	}
	return ","
}

// splitItem cuts a text into list items.
func splitItem(n *Node, sep string) []*Node {
	var items []*Node
	for part := range strings.SplitSeq(n.Value.(string), sep) {
		if part = unquote(part); part != "" {
			items = append(items, &Node{Value: part, Origin: n.Origin, Weak: true})
		}
	}
	return items
}

// indexed gives the parts of a list kept as a folder of numbers, in the order
// of the numbers.
func indexed(n *Node) ([]*Node, bool) {
	byIndex := make(map[int]*Node, len(n.Fields))
	most := -1
	for _, f := range n.Fields {
		i, ok := listIndex(f.Name)
		if !ok || byIndex[i] != nil {
			return nil, false
		}
		byIndex[i] = f.Node
		most = max(most, i)
	}
	items := make([]*Node, 0, len(byIndex))
	for i := 0; i <= most && len(items) < len(byIndex); i++ {
		if item := byIndex[i]; item != nil {
			items = append(items, item)
		}
	}
	return items, true
}

// listIndex reads a small decimal number.
func listIndex(s string) (int, bool) {
	i, err := strconv.ParseUint(s, 10, 20)
	return int(i), err == nil
}
