package etcd2store

import (
	"encoding/base64"
	"strings"
	"unicode/utf8"
)

const (
	marker    = "gatehouse:" // values that begin so are encoded
	encoded   = marker + "base64:"
	tombstone = marker + "absent"
)

// encode makes a value fit for JSON: text as it is, the rest as base64.
func encode(value []byte) string {
	if text := string(value); utf8.ValidString(text) && !strings.HasPrefix(text, marker) {
		return text
	}
	return encoded + base64.RawURLEncoding.EncodeToString(value)
}

// decode is the reverse. What others wrote is taken as it is.
func decode(raw string) []byte {
	if text, ok := strings.CutPrefix(raw, encoded); ok {
		if value, err := base64.RawURLEncoding.DecodeString(text); err == nil {
			return value
		}
	}
	return []byte(raw)
}
