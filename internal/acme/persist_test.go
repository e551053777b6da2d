package acme

import (
	"testing"
	"time"
)

func TestPersisted(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	const issuer, account = "ca.example", "https://ca.example/acct/1"
	plain, wild := persistValue(issuer, account, false), persistValue(issuer, account, true)
	for _, c := range []struct {
		value, want string
		holds       bool
	}{
		{plain, plain, true},
		{wild, plain, true}, // it permits more
		{plain, wild, false},
		{wild, wild, true},
		{"CA.example. ;accounturi = https://ca.example/acct/1 ; PersistUntil=1000001", plain, true},
		{plain + "; persistUntil=999999", plain, false},
		{plain + "; persistUntil=soon", plain, false},
		{persistValue(issuer, account+"2", false), plain, false},
		{persistValue("other.example", account, false), plain, false},
		{"", plain, false},
		{issuer, plain, false},
	} {
		if got := Persisted([]string{"something else", c.value}, c.want, now); got != c.holds {
			t.Errorf("%q for %q: %v", c.value, c.want, got)
		}
	}
	if got := persistName("*.a.example.com"); got != "_validation-persist.a.example.com" {
		t.Error(got)
	}
}
