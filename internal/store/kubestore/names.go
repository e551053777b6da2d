package kubestore

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const maxReadable = 150 // bytes of a name that says its key

// objectName is the name of a key's object: the key itself with dots for
// slashes where its segments are made of lower-case letters, digits and inner
// hyphens, else what can be read of it, two hyphens and a hash. A segment with
// two hyphens is never taken as it is, so the two kinds cannot meet.
func (s *Store) objectName(key string) string { return s.o.Prefix + "." + nameOf(key) }

func nameOf(key string) string {
	segments := strings.Split(key, "/")
	plain := len(key) <= maxReadable
	for i, segment := range segments {
		if len(validation.IsDNS1123Label(segment)) > 0 || strings.Contains(segment, "--") {
			plain = false
			segments[i] = readable(segment)
		}
	}
	name := strings.Join(segments, ".")
	if plain {
		return name
	}
	if len(name) > maxReadable {
		name = name[:maxReadable]
	}
	return strings.TrimRight(name, ".-") + "--" + hash(key)
}

// readable is a segment with what names do not allow left out.
func readable(segment string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(segment) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if name := strings.Trim(b.String(), "-"); name != "" {
		return name
	}
	return "x"
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
}

// kindOf is the label by which a watch of the keys with the same first segment
// selects.
func kindOf(key string) string {
	first, _, _ := strings.Cut(key, "/")
	if len(first) < 64 && len(validation.IsDNS1123Label(first)) == 0 && !strings.Contains(first, "--") {
		return first
	}
	return "x--" + hash(first)
}
