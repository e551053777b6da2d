package providers

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"gatehouse/internal/acme/dns"
)

func TestBuild(t *testing.T) {
	vars := map[string]string{
		"DNSUPDATE_SERVER": "127.0.0.1:5353", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "ap-southeast-2",
	}
	getenv := func(n string) string { return vars[n] }
	for _, name := range append(Names(), "Route53") {
		p, err := Build(name, Options{Getenv: getenv})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, ok := p.(dns.ZoneLister); !ok {
			t.Errorf("%s cannot list its zones", name)
		}
	}
	for name, says := range map[string]string{
		"rout53":    `unknown DNS provider "rout53" (known: dnsupdate, rfc2136, route53)`,
		"":          "unknown DNS provider",
		"dnsupdate": "DNS provider dnsupdate: DNSUPDATE_SERVER is not set",
	} {
		p, err := Build(name, Options{Getenv: func(string) string { return "" }})
		if p != nil || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%q: %v, %v; want %q", name, p, err, says)
		}
	}
}

// TestEveryProviderHasItsPage keeps the docs complete.
func TestEveryProviderHasItsPage(t *testing.T) {
	aliases := map[string]string{"rfc2136": "dnsupdate"}
	var pages []string
	for _, name := range Names() {
		if a := aliases[name]; a != "" {
			name = a
		}
		pages = append(pages, name+".md")
		text, err := os.ReadFile("../../../../docs/dns/" + name + ".md")
		if err != nil {
			t.Error(err)
		}
		for _, want := range []string{"## Settings", "## Example"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("docs/dns/%s.md has no %q", name, want)
			}
		}
	}
	entries, err := os.ReadDir("../../../../docs/dns")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(pages, e.Name()) {
			t.Errorf("docs/dns/%s is of no provider", e.Name())
		}
	}
}
