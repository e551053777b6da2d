package config

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// scalar decodes a single value into a single value.
func (d *decoder) scalar(n *Node, v reflect.Value, m mode) {
	t := v.Type()
	if t == typeDuration || t == typeStd {
		d.duration(n, v, m)
		return
	}
	raw := n.Value
	if s, isText := raw.(string); isText && m.weak && t.Kind() != reflect.String {
		if s == "" && m.nanos {
			v.SetZero()
			return
		}
		raw = weakScalar(strings.TrimSpace(s), t.Kind())
	}
	switch x := raw.(type) {
	case string:
		if t.Kind() == reflect.String {
			v.SetString(x)
			return
		}
	case bool:
		if t.Kind() == reflect.Bool {
			v.SetBool(x)
			return
		}
	case int64:
		if d.integer(n, x, v) {
			return
		}
	case float64:
		if v.CanFloat() {
			v.SetFloat(x)
			return
		}
	}
	d.wrong(n, t)
}

// integer stores a whole number; false if the target is no number.
func (d *decoder) integer(n *Node, x int64, v reflect.Value) bool {
	switch {
	case v.CanInt():
		if v.OverflowInt(x) {
			d.problem(n.Origin, fmt.Sprintf("%d is too large or too small", x), "")
			return true
		}
		v.SetInt(x)
	case v.CanUint():
		if x < 0 || v.OverflowUint(uint64(x)) {
			d.problem(n.Origin, fmt.Sprintf("%d is too large or too small", x), "")
			return true
		}
		v.SetUint(uint64(x))
	case v.CanFloat():
		v.SetFloat(float64(x))
	default:
		return false
	}
	return true
}

// weakScalar parses a text as the kind demands; what it cannot parse stays a
// text, and is then a wrong type.
func weakScalar(s string, k reflect.Kind) any {
	switch k {
	case reflect.Bool:
		if b, ok := weakBool(s); ok {
			return b
		}
	case reflect.Float32, reflect.Float64:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return f
		}
	default:
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return i
		}
	}
	return s
}

// weakBool reads the words for yes and no that flags, the environment and 1.x
// entry point strings use.
func weakBool(s string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "t", "on", "yes", "enable", "enabled":
		return true, true
	case "false", "0", "f", "off", "no", "disable", "disabled":
		return false, true
	}
	return false, false
}

// duration reads Go's notation, or an integer in the unit of the source.
func (d *decoder) duration(n *Node, v reflect.Value, m mode) {
	unit := time.Second
	if m.nanos {
		unit = time.Nanosecond
	}
	var number int64
	switch x := n.Value.(type) {
	case int64:
		number = x
	case string:
		x = strings.TrimSpace(x)
		if x == "" && m.nanos {
			x = "0"
		}
		i, err := strconv.ParseInt(x, 10, 64)
		if err != nil {
			span, err := time.ParseDuration(x)
			if err != nil {
				d.wrong(n, v.Type())
				return
			}
			v.SetInt(int64(span))
			return
		}
		number = i
	default:
		d.wrong(n, v.Type())
		return
	}
	if number > math.MaxInt64/int64(unit) || number < math.MinInt64/int64(unit) {
		d.problem(n.Origin, fmt.Sprintf("%d is too long a time", number), "")
		return
	}
	v.SetInt(number * int64(unit))
}

// wrong reports that a value does not fit its key.
func (d *decoder) wrong(n *Node, t reflect.Type) {
	given := describeNode(n)
	if t == typeSecret && n.Kind == Scalar {
		given = "another type"
	}
	d.problem(n.Origin, given+" where "+describeType(t)+" is wanted", example(t))
}

// describeNode says what was given.
func describeNode(n *Node) string {
	switch n.Kind {
	case Map:
		return "a section"
	case List:
		return "a list"
	}
	switch x := n.Value.(type) {
	case nil:
		return "nothing"
	case string:
		const most = 60 // somebody may have given a whole certificate
		if len(x) > most {
			x = strings.ToValidUTF8(x[:most], "") + "..."
		}
		return "the text " + strconv.Quote(x)
	case bool:
		return strconv.FormatBool(x)
	default:
		return fmt.Sprintf("the number %v", x)
	}
}

// describeType says what is wanted.
func describeType(t reflect.Type) string {
	switch {
	case t == typeDuration || t == typeStd:
		return "a duration"
	case t.Kind() == reflect.Pointer:
		return describeType(t.Elem())
	case reflect.PointerTo(t).Implements(typeUnmarshal):
		return "a text"
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "a section"
	case reflect.Slice:
		return "a list"
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Float32, reflect.Float64:
		return "a number"
	default:
		return "a whole number"
	}
}

// example shows a right value where the description may not be enough.
func example(t reflect.Type) string {
	switch {
	case t == typeDuration || t == typeStd:
		return "500ms, 10s, 1h30m, or whole seconds"
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return "a section of keys, or true or false"
	case t.Kind() == reflect.Slice:
		switch t.Elem().Kind() {
		case reflect.String:
			return `["a", "b"]`
		case reflect.Struct:
			return "a list of sections"
		}
	case t.Kind() == reflect.String:
		return `write it in quotes: "..."`
	}
	return ""
}
