package cert

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/store"
)

func TestCleanNames(t *testing.T) {
	tests := []struct {
		in   []string
		want []string
		err  string
	}{
		{in: []string{"Example.COM.", "example.com", "*.Example.com"}, want: []string{"example.com", "*.example.com"}},
		{in: []string{"bücher.example"}, want: []string{"xn--bcher-kva.example"}},
		{in: []string{"localhost", "*.localhost", "127.0.0.1", "::1", "::ffff:10.0.0.1"},
			want: []string{"localhost", "*.localhost", "127.0.0.1", "::1", "10.0.0.1"}},
		{in: []string{"_acme.example.com"}, want: []string{"_acme.example.com"}},
		{in: nil, err: "no names given"},
		{in: []string{""}, err: "empty label"},
		{in: []string{"a..example.com"}, err: "empty label"},
		{in: []string{"a.*.example.com"}, err: "only the first label may be *"},
		{in: []string{"*"}, err: "only the first label may be *"},
		{in: []string{"*.*.example.com"}, err: "only the first label may be *"},
		{in: []string{"-a.example.com"}, err: "hyphen"},
		{in: []string{"a/b"}, err: "'/' is not allowed"},
		{in: []string{"a b"}, err: "not allowed"},
		{in: []string{"fe80::1%eth0"}, err: "not allowed"},
		{in: []string{strings.Repeat("a", 64) + ".com"}, err: "63 bytes"},
		{in: []string{strings.Repeat("a.", 127) + "com"}, err: "253 bytes"},
	}
	for _, tt := range tests {
		got, err := CleanNames(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want %q", tt.in, err, tt.err)
			}
			continue
		}
		if d := cmp.Diff(tt.want, got); err != nil || d != "" {
			t.Errorf("%q: %v\n%s", tt.in, err, d)
		}
	}
}

// The IDs stand in stores: they must never change.
func TestID(t *testing.T) {
	for want, names := range map[string][]string{
		"example.com-45dbf17ce98c":        {"example.com", "*.example.com"},
		"wildcard.localhost-f34f1b4f2112": {"*.localhost"},
		"1-eff8e7ca5066":                  {"::1"},
	} {
		got := ID(names)
		if got != want {
			t.Errorf("ID(%q) = %q, want %q", names, got, want)
		}
	}
	same := ID([]string{"b.example.com", "a.example.com"})
	for _, names := range [][]string{{"a.example.com", "b.example.com"}, {"A.example.com.", "b.example.com", "a.example.com"}} {
		if ID(names) != same {
			t.Errorf("ID(%q) differs", names)
		}
	}
	if ID([]string{"a.example.com"}) == ID([]string{"a.example.com", "b.example.com"}) {
		t.Error("two sets, one ID")
	}
	for _, names := range [][]string{nil, {""}, {"../../etc/passwd"}, {"a\x00b"}, {strings.Repeat("ü", 300)}, {"..."}} {
		if err := store.CheckKey("certificates/ca/" + ID(names)); err != nil {
			t.Errorf("ID(%q): %v", names, err)
		}
	}
}

func TestCovers(t *testing.T) {
	tests := []struct {
		have []string
		name string
		want bool
	}{
		{[]string{"a.example.com"}, "a.example.com", true},
		{[]string{"*.example.com"}, "a.example.com", true},
		{[]string{"*.example.com"}, "*.example.com", true},
		{[]string{"*.example.com"}, "example.com", false},
		{[]string{"*.example.com"}, "x.a.example.com", false},
		{[]string{"*.example.com"}, "*.a.example.com", false},
		{[]string{"*.com"}, "*.com", true},
		{[]string{"*.0.0.1"}, "10.0.0.1", false},
	}
	for _, tt := range tests {
		if got := covers(tt.have, tt.name); got != tt.want {
			t.Errorf("covers(%q, %q) = %v", tt.have, tt.name, got)
		}
	}
}

func FuzzID(f *testing.F) {
	for _, s := range []string{"example.com", "*.a", "::1", "ü", "a b", "."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if err := store.CheckKey("orders/ca/" + ID([]string{s})); err != nil {
			t.Error(err)
		}
		names, err := CleanNames([]string{s})
		if err != nil {
			return
		}
		again, err := CleanNames(names)
		if err != nil || again[0] != names[0] {
			t.Errorf("%q cleaned is %q, cleaned again %q, %v", s, names, again, err)
		}
	})
}
