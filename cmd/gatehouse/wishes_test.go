package main

import (
	"slices"
	"testing"

	"gatehouse/internal/acme"
	"gatehouse/internal/config"
	"gatehouse/internal/localca"
)

// A wish may name who of the two issues; the local CA keeps to its own names.
func TestWishNamesItsResolver(t *testing.T) {
	c := &certificates{
		static: &config.Static{ACME: &config.ACME{}, LocalCA: &config.LocalCA{Domains: []string{"*.example.com"}}},
		acme:   new(acme.Issuer), local: localca.New(localca.Options{}),
	}
	if got := c.resolvers(); !slices.Equal(got, []string{"acme", "local"}) {
		t.Errorf("resolvers %q", got)
	}
	for _, w := range []struct {
		resolver, name string
		local          bool
		problems       int
	}{
		{"", "a.example.com", true, 0}, {"", "a.example.org", false, 0}, {"local", "a.example.com", true, 0},
		{"acme", "a.example.com", false, 0}, {"local", "a.example.org", false, 1},
	} {
		wants, problems := c.wished([]config.Wish{{Domain: config.Domain{Main: w.name}, Resolver: w.resolver}})
		if len(wants) != 1 || (wants[0].Issuer == c.local.ID()) != w.local || len(problems) != w.problems {
			t.Errorf("%+v: %+v, %v", w, wants, problems)
		}
	}
}
