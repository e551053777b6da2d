package cert

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// maxNames bounds one certificate: no public CA takes more.
const maxNames = 100

// ID is the stable name of a certificate for a set of names: a readable main
// name and a hash of the sorted set. It is a valid key segment and does not
// depend on the order, case or repetition of the names.
func ID(names []string) string {
	set, err := CleanNames(names)
	if err != nil { // an invalid name never reaches the store; it still needs a name to be shown under
		set = slices.Clone(names)
	}
	slices.Sort(set)
	set = slices.Compact(set)
	sum := sha256.Sum256([]byte(strings.Join(set, "\n")))
	return readable(set) + "-" + hex.EncodeToString(sum[:6])
}

// readable picks the shortest name of the sorted set and writes it so that
// every store, file system and Kubernetes takes it as one segment.
func readable(set []string) string {
	if len(set) == 0 {
		return "none"
	}
	main := set[0]
	for _, n := range set[1:] {
		if len(n) < len(main) {
			main = n
		}
	}
	main = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, strings.Replace(strings.ToLower(main), "*", "wildcard", 1))
	main = strings.Trim(main[:min(len(main), 60)], ".-")
	if main == "" {
		return "name"
	}
	return main
}

// CleanNames gives the names as certificates carry them: lower case, ASCII
// (IDNA), IP addresses in their canonical form, no repeats, the order kept.
// The first name that no certificate can carry is an error that names it.
func CleanNames(names []string) ([]string, error) {
	out := make([]string, 0, len(names))
	for _, raw := range names {
		n, err := cleanName(raw)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	switch {
	case len(out) == 0:
		return nil, errors.New("no names given")
	case len(out) > maxNames:
		return nil, fmt.Errorf("%d names in one certificate (at most %d)", len(out), maxNames)
	}
	return out, nil
}

func cleanName(raw string) (string, error) {
	if ip, err := netip.ParseAddr(raw); err == nil && ip.Zone() == "" {
		return ip.Unmap().String(), nil
	}
	bare, wildcard := strings.CutPrefix(strings.TrimSuffix(raw, "."), "*.")
	if !isASCII(bare) {
		ascii, err := idna.Lookup.ToASCII(bare)
		if err != nil {
			return "", fmt.Errorf("name %q is not a host name: %w", raw, err)
		}
		bare = ascii
	}
	bare = strings.ToLower(bare)
	if why := notHostName(bare); why != "" {
		return "", fmt.Errorf("name %q is not a host name: %s", raw, why)
	}
	if wildcard {
		return "*." + bare, nil
	}
	return bare, nil
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

func notHostName(name string) string {
	if len(name) > 253 {
		return "longer than 253 bytes"
	}
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return "it has an empty label"
		case len(label) > 63:
			return "a label is longer than 63 bytes"
		case label[0] == '-' || label[len(label)-1] == '-':
			return "a label begins or ends with a hyphen"
		case label == "*":
			return "only the first label may be *"
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fmt.Sprintf("%q is not allowed", c)
			}
		}
	}
	return ""
}

// parent gives example.com for a.example.com; "" if there is none.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// covers tells whether a certificate for have serves name: the same name, or
// a wildcard for exactly its first label.
func covers(have []string, name string) bool {
	for _, h := range have {
		if h == name {
			return true
		}
		if base, ok := strings.CutPrefix(h, "*."); ok && base == parent(name) && !strings.HasPrefix(name, "*.") && !isIP(name) {
			return true
		}
	}
	return false
}

func isIP(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil
}

func coversAll(have, names []string) bool {
	for _, n := range names {
		if !covers(have, n) {
			return false
		}
	}
	return true
}
