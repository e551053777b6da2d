// Package config holds what people wrote: Static (read once at start) and
// Routing (changes while running), with the origin of every object, and the
// one strict decoder both go through. It knows no provider, no store and no
// running object.
package config

import (
	"fmt"
	"strings"
)

// Origin says where something was written. It travels with every declared
// object, so that a Problem can always name the place to mend.
type Origin struct {
	Provider string `json:"provider,omitempty"` // "file", "etcd", "kubernetes", "flag", "environment"
	Source   string `json:"source,omitempty"`   // file path, store prefix, object name
	Line     int    `json:"line,omitempty"`     // 1-based; 0: the source has no lines
	Column   int    `json:"column,omitempty"`   // 1-based, in bytes
	Key      string `json:"key,omitempty"`      // dotted key in a file, or the key in a store
}

// String gives "file:line:col" where the source has lines, else "source key".
func (o Origin) String() string {
	switch {
	case o.Line > 0 && o.Column > 0:
		return fmt.Sprintf("%s:%d:%d", o.Source, o.Line, o.Column)
	case o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Source, o.Line)
	}
	var parts []string
	for _, s := range []string{o.Source, o.Key} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return o.Provider
	}
	return strings.Join(parts, " ")
}

// Problem is a user's mistake: never only a log line, never the end of a
// running process. The object it names is left out; the rest is served.
type Problem struct {
	Origin  Origin `json:"origin"`
	Object  string `json:"object,omitempty"`  // "router web@file", "key entryPoints.http.addres"
	Message string `json:"message"`           // what is wrong
	Allowed string `json:"allowed,omitempty"` // what would be right: values, nearest known key
	Warning bool   `json:"warning,omitempty"` // the object is kept; something about it deserves attention
}

// Error makes a Problem usable where an error is wanted.
func (p Problem) Error() string { return p.String() }

// String is "origin: object: message (allowed)".
func (p Problem) String() string {
	var b strings.Builder
	if o := p.Origin.String(); o != "" {
		b.WriteString(o)
		b.WriteString(": ")
	}
	if p.Object != "" {
		b.WriteString(p.Object)
		b.WriteString(": ")
	}
	b.WriteString(p.Message)
	if p.Allowed != "" {
		b.WriteString(" (")
		b.WriteString(p.Allowed)
		b.WriteString(")")
	}
	return b.String()
}
