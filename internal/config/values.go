package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Duration is a time span as people write it: Go syntax ("500ms"), or a bare
// integer, which means seconds. In a key-value tree written by storeconfig a
// bare integer means nanoseconds (see Node.Nanos).
type Duration time.Duration

// Std gives the span as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String is Go's notation.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes Go's notation, which Decode reads back.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Secret is a text that must not be shown: passwords, tokens, keys, hashes.
// Every way of printing it (fmt, slog, JSON) writes a stand-in; only Reveal
// gives the text.
type Secret string

const redacted = "(secret)"

// Reveal gives the text itself.
func (s Secret) Reveal() string { return string(s) }

// String tells only whether there is something.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format redacts whatever the verb.
func (s Secret) Format(f fmt.State, verb rune) {
	switch {
	case verb == 'q' || verb == 'v' && f.Flag('#'):
		fmt.Fprintf(f, "%q", s.String())
	default:
		io.WriteString(f, s.String())
	}
}

// LogValue redacts for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON redacts for the API.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// unquote removes blanks around a value and then one matching pair of quotes:
// a list of arguments in YAML hands over quote characters that a shell would
// have taken away. A value with the same quote inside is left alone: it may be
// a list of quoted parts.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	n := len(s)
	if n < 2 || (s[0] != '"' && s[0] != '\'') || s[n-1] != s[0] {
		return s
	}
	if inner := s[1 : n-1]; strings.IndexByte(inner, s[0]) < 0 {
		return strings.TrimSpace(inner)
	}
	return s
}
