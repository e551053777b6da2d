package kubestore

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

func TestNames(t *testing.T) {
	for key, want := range map[string]string{
		"orders/le/3f2a":        "orders.le.3f2a",
		"a-b":                   "a-b",
		"a/b":                   "a.b",
		"a.b":                   "a-b--",
		"a--b":                  "a-b--",
		"A":                     "a--",
		"challenges/http-01/_x": "challenges.http-01.x--",
		"a/*.example.com":       "a.example-com--",
		"ä":                     "x--",
	} {
		got := nameOf(key)
		if strings.HasSuffix(want, "--") {
			got = got[:max(0, len(got)-26)]
		}
		if got != want {
			t.Errorf("%s is named %s, want %s", key, got, want)
		}
	}
}

// FuzzNames: every key has a name Kubernetes takes, and no two the same.
func FuzzNames(f *testing.F) {
	f.Add("a/b", "a.b")
	f.Add("a--b", "a/-b")
	f.Add(strings.Repeat("a", 200), strings.Repeat("a", 199))
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, key := range []string{a, b} {
			if name := "p." + nameOf(key); len(validation.IsDNS1123Subdomain(name)) > 0 {
				t.Errorf("%q is named %q", key, name)
			}
			if len(validation.IsValidLabelValue(kindOf(key))) > 0 {
				t.Errorf("%q is of kind %q", key, kindOf(key))
			}
		}
		if a != b && nameOf(a) == nameOf(b) {
			t.Errorf("%q and %q are both named %q", a, b, nameOf(a))
		}
	})
}
