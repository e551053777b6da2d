package store

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxKey     = 1024 // bytes of a whole key
	maxSegment = 200  // bytes of one segment: it is a file's name in filestore
)

// CheckKey says whether every store takes key; if not, the error says why and
// wraps ErrInvalidKey. A key is one or more non-empty segments between single
// slashes: UTF-8 without control characters, at most 200 bytes a segment and
// 1024 in all. "." and ".." are no segments, and first segments that begin
// with a dot are for the stores' own bookkeeping.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: empty", ErrInvalidKey)
	case len(key) > maxKey:
		return fmt.Errorf("%w %.40q...: %d bytes, at most %d are allowed", ErrInvalidKey, key, len(key), maxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w %q: not UTF-8", ErrInvalidKey, key)
	case key[0] == '.':
		return fmt.Errorf("%w %q: begins with a dot", ErrInvalidKey, key)
	}
	for i := range len(key) {
		if key[i] < 0x20 || key[i] == 0x7f {
			return fmt.Errorf("%w %q: has a control character", ErrInvalidKey, key)
		}
	}
	for segment := range strings.SplitSeq(key, "/") {
		switch {
		case segment == "":
			return fmt.Errorf("%w %q: has an empty segment", ErrInvalidKey, key)
		case segment == "." || segment == "..":
			return fmt.Errorf("%w %q: %q is no segment", ErrInvalidKey, key, segment)
		case len(segment) > maxSegment:
			return fmt.Errorf("%w %q: a segment of %d bytes, at most %d are allowed", ErrInvalidKey, key, len(segment), maxSegment)
		}
	}
	return nil
}

// CheckPrefix is CheckKey for the prefix of a watch, which may be empty.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckKey(prefix)
}

// CheckWrite is CheckKey for a key to be written, and the size of its value.
func CheckWrite(key string, value []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return fmt.Errorf("%w: %s: %d bytes, at most %d are allowed", ErrTooLarge, key, len(value), MaxValue)
	}
	return nil
}

// Under says whether a watch of prefix yields key.
func Under(key, prefix string) bool {
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && (prefix == "" || rest == "" || rest[0] == '/')
}

// LeaseKey is the key that exists while the lease name is held.
func LeaseKey(name string) string { return "leases/" + name }
