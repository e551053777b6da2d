package traefik1

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/config"
)

// object reads one thing of the dialect, such as a frontend, out of a Map
// node: by name in any case, from typed files and from stores where all is
// text, and knows in the end which keys nobody asked for.
type object struct {
	report *report
	node   *config.Node
	name   string   // "frontend web", for problems
	known  []string // what has been asked for, to suggest
	others []string // the same under older names
	// broken is set by a mistake that may not be overlooked.
	broken *bool
	// lenient: what cannot be read is as if it were not written. It is for
	// settings of running services that a store's typing error must not stop.
	lenient bool
}

// report gathers the problems of one translation.
type report struct {
	problems []config.Problem
	searched int // suggestions looked for
}

// maxSearches bounds the suggestions of one translation: a hostile tree may
// be nothing but wrong names.
const maxSearches = 100

// suggest says what a name might have been meant to be.
func (r *report) suggest(name string, names []string) string {
	if r.searched++; r.searched > maxSearches {
		return ""
	}
	if near := nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "known: " + strings.Join(names, ", ")
}

func (r *report) warn(o config.Origin, object, message, allowed string) {
	r.problems = append(r.problems, config.Problem{Origin: o, Object: object, Message: message, Allowed: allowed, Warning: true})
}

func (r *report) fail(o config.Origin, object, message, allowed string) {
	r.problems = append(r.problems, config.Problem{Origin: o, Object: object, Message: message, Allowed: allowed})
}

// open starts reading n, which may be nil: then it is empty.
func (r *report) open(n *config.Node, name string) *object {
	o := &object{report: r, node: n, name: name, broken: new(bool)}
	if n != nil && n.Kind != config.Map && !isEmpty(n) {
		o.fail(n.Origin, "is not a section with keys", "")
	}
	return o
}

func isEmpty(n *config.Node) bool {
	return n.Kind == config.Scalar && (n.Value == nil || n.Value == "")
}

// fail reports a mistake that costs the object.
func (o *object) fail(at config.Origin, message, allowed string) {
	if o.lenient {
		o.warn(at, message+": ignored", allowed)
		return
	}
	*o.broken = true
	o.report.fail(at, o.name, message, allowed)
}

// warn reports a mistake the object survives.
func (o *object) warn(at config.Origin, message, allowed string) {
	o.report.warn(at, o.name, message, allowed)
}

// field finds a key, spelt in any case, under any of its names. A key written
// twice, in two cases or under two names, is a mistake: which one was meant?
func (o *object) field(names ...string) *config.Node {
	if o.node == nil {
		return nil
	}
	o.known = append(o.known, names[0])
	o.others = append(o.others, names[1:]...)
	var found *config.Field
	for i := range o.node.Fields {
		f := &o.node.Fields[i]
		if !containsFold(names, f.Name) {
			continue
		}
		if found != nil {
			o.fail(f.Origin, fmt.Sprintf("%q is written twice, the other at %s", f.Name, found.Origin), "one of them")
			return nil
		}
		found = f
	}
	if found == nil {
		return nil
	}
	return found.Node
}

func containsFold(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// section opens a key that has keys of its own; nil if it is not there. What
// breaks it breaks the object.
func (o *object) section(names ...string) *object {
	n := o.field(names...)
	if n == nil {
		return nil
	}
	s := o.report.open(n, o.name)
	if *s.broken {
		*o.broken = true
	}
	s.broken, s.lenient = o.broken, o.lenient
	return s
}

// tuning opens a section of settings that a server can do without.
func (o *object) tuning(name string) *object {
	s := o.section(name)
	if s != nil {
		s.lenient = s.node.Weak
	}
	return s
}

// child is a named part: servers/S, routes/R.
type child struct {
	name string
	node *config.Node
}

// children gives the parts below n by name, sorted: integers by value before
// all other names.
func children(n *config.Node) []child {
	if n == nil {
		return nil
	}
	list := make([]child, 0, len(n.Fields)+len(n.Items))
	for _, f := range n.Fields {
		list = append(list, child{f.Name, f.Node})
	}
	for i, item := range n.Items {
		list = append(list, child{strconv.Itoa(i), item})
	}
	slices.SortStableFunc(list, func(a, b child) int { return compareNames(a.name, b.name) })
	return list
}

// compareNames puts "2" before "10" before "a".
func compareNames(a, b string) int {
	x, aIsNumber := number(a)
	y, bIsNumber := number(b)
	switch {
	case aIsNumber && bIsNumber && x != y:
		return cmp.Compare(x, y)
	case aIsNumber && !bIsNumber:
		return -1
	case !aIsNumber && bIsNumber:
		return 1
	}
	return strings.Compare(a, b)
}

func number(name string) (n uint64, ok bool) {
	if name == "" || name[0] < '0' || name[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(name, 10, 32)
	return n, err == nil
}

// text gives a scalar as text; ok is false if there is none.
func (o *object) text(names ...string) (string, *config.Node) {
	n := o.field(names...)
	if n == nil {
		return "", nil
	}
	if n.Kind != config.Scalar {
		o.fail(n.Origin, fmt.Sprintf("%s must be one value", names[0]), "")
		return "", nil
	}
	return scalarText(n), n
}

func scalarText(n *config.Node) string {
	switch v := n.Value.(type) {
	case nil:
		return ""
	case string:
		if n.Weak {
			return strings.TrimSpace(v)
		}
		return v
	default:
		return fmt.Sprint(v)
	}
}

// boolean gives a switch; not there or empty: the value otherwise.
func (o *object) boolean(otherwise bool, names ...string) bool {
	s, n := o.text(names...)
	if n == nil || s == "" {
		return otherwise
	}
	b, err := strconv.ParseBool(strings.ToLower(s))
	if err != nil {
		o.fail(n.Origin, fmt.Sprintf("%s is %q", names[0], s), "true or false")
		return otherwise
	}
	return b
}

// integer gives a number between low and high.
func (o *object) integer(otherwise, low, high int64, names ...string) int64 {
	s, n := o.text(names...)
	if n == nil || s == "" {
		return otherwise
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil || i < low || i > high {
		o.fail(n.Origin, fmt.Sprintf("%s is %q", names[0], s), fmt.Sprintf("an integer from %d to %d", low, high))
		return otherwise
	}
	return i
}

// maxSpan bounds every duration.
const maxSpan = 365 * 24 * time.Hour

// duration gives a time span: Go syntax, or seconds.
func (o *object) duration(names ...string) time.Duration {
	s, n := o.text(names...)
	if n == nil || s == "" {
		return 0
	}
	d, err := time.ParseDuration(s)
	if seconds, e := strconv.ParseInt(s, 10, 32); e == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxSpan {
		o.fail(n.Origin, fmt.Sprintf("%s is %q", names[0], s), "a duration such as 30s, at most a year")
		return 0
	}
	return d
}

// list gives a list: of a file, as comma-separated text, or as indexed keys.
func (o *object) list(names ...string) []string {
	n := o.field(names...)
	if n == nil {
		return nil
	}
	if n.Kind == config.Scalar {
		return splitList(scalarText(n))
	}
	var values []string
	for _, c := range children(n) {
		if c.node.Kind != config.Scalar {
			o.fail(c.node.Origin, fmt.Sprintf("%s must be a list of values", names[0]), "")
			return nil
		}
		if v := scalarText(c.node); v != "" {
			values = append(values, v)
		}
	}
	return values
}

func splitList(text string) []string {
	var values []string
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			values = append(values, part)
		}
	}
	return values
}

// texts gives a map of names to values, such as headers, as a parameter.
func (o *object) texts(names ...string) []config.Field {
	n := o.field(names...)
	if n == nil {
		return nil
	}
	if n.Kind == config.List || n.Kind == config.Scalar && !isEmpty(n) {
		o.fail(n.Origin, fmt.Sprintf("%s must be names with values", names[0]), "")
		return nil
	}
	var fields []config.Field
	seen := map[string]bool{}
	for _, c := range children(n) {
		lower := strings.ToLower(c.name)
		if c.node.Kind != config.Scalar || seen[lower] {
			o.fail(c.node.Origin, fmt.Sprintf("%s: %q must have one value", names[0], c.name), "")
			return nil
		}
		seen[lower] = true
		fields = append(fields, config.Field{Name: c.name, Origin: c.node.Origin,
			Node: &config.Node{Kind: config.Scalar, Value: scalarText(c.node), Origin: c.node.Origin}})
	}
	return fields
}

// done reports the keys nobody asked for. In a file they cost the object; in
// a store, where others may keep keys of theirs, they are shown.
func (o *object) done() {
	if o == nil || o.node == nil {
		return
	}
	for _, f := range o.node.Fields {
		if containsFold(o.known, f.Name) || containsFold(o.others, f.Name) {
			continue
		}
		message, allowed := fmt.Sprintf("unknown key %q", f.Name), o.report.suggest(f.Name, o.known)
		if o.node.Weak {
			o.warn(f.Origin, message, allowed)
		} else {
			o.fail(f.Origin, message, allowed)
		}
	}
}
