package providers

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"gatehouse/internal/acme/dns"
)

// aliases are second names; the page is that of the first.
var aliases = map[string]string{"rfc2136": "dnsupdate", "azure": "azuredns", "acmedns": "acme-dns"}

// settings are the least each provider needs.
var settings = map[string]map[string]string{
	"acme-dns":     {"ACME_DNS_API_BASE": "https://auth.example.net", "ACME_DNS_STORAGE_PATH": "accounts.json"},
	"azuredns":     {"AZURE_SUBSCRIPTION_ID": "s"},
	"cloudflare":   {"CLOUDFLARE_EMAIL": "me@example.org", "CLOUDFLARE_API_KEY": "k"}, // as in Traefik 1.x
	"digitalocean": {"DO_AUTH_TOKEN": "t"},
	"dnsupdate":    {"DNSUPDATE_SERVER": "127.0.0.1:5353"},
	"exec":         {"EXEC_PATH": "/bin/sh"},
	"gcloud":       {"GCE_PROJECT": "p"},
	"httpreq":      {"HTTPREQ_ENDPOINT": "http://127.0.0.1"},
	"route53":      {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "ap-southeast-2"},
}

func proper(name string) string {
	if a := aliases[name]; a != "" {
		return a
	}
	return name
}

func nothing(string) string { return "" }

// TestBuild makes each provider from the environment and from settings, and
// refuses a setting nobody knows.
func TestBuild(t *testing.T) {
	unlisted := []string{"acme-dns", "exec", "httpreq"} // their services do not tell zones
	for _, name := range append(slices.Sorted(maps.Keys(byName)), "Route53") {
		need := settings[proper(strings.ToLower(name))]
		p, err := Build(name, Options{Getenv: func(n string) string { return need[n] }})
		if err != nil {
			t.Errorf("%s from the environment: %v", name, err)
			continue
		}
		if _, lists := p.(dns.ZoneLister); lists == slices.Contains(unlisted, proper(name)) {
			t.Errorf("%s lists zones: %v", name, lists)
		}
		if _, err := Build(name, Options{Getenv: nothing, Settings: need}); err != nil {
			t.Errorf("%s from settings: %v", name, err)
		}
		odd := map[string]string{"NO_SUCH_THING": "x"}
		for k, v := range need {
			odd[k] = v
		}
		if _, err := Build(name, Options{Getenv: nothing, Settings: odd}); err == nil || !strings.Contains(err.Error(), `unknown setting "NO_SUCH_THING"`) {
			t.Errorf("%s with an unknown setting: %v", name, err)
		}
	}
	for name, says := range map[string]string{
		"rout53":    `unknown DNS provider "rout53" (known: acme-dns, acmedns, azure, azuredns, cloudflare,`,
		"":          "unknown DNS provider",
		"dnsupdate": "DNS provider dnsupdate: DNSUPDATE_SERVER (or DNSUPDATE_NAMESERVER, RFC2136_NAMESERVER) is not set",
	} {
		p, err := Build(name, Options{Getenv: nothing})
		if p != nil || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%q: %v, %v; want %q", name, p, err, says)
		}
	}
}

const pages = "../../../../docs/dns/"

var example = regexp.MustCompile("(?s)```toml\n(.*?)```")

// TestEveryProviderHasItsPage keeps the docs complete and their examples true.
func TestEveryProviderHasItsPage(t *testing.T) {
	known := []string{"lego.md"} // of a build with lego, see package lego
	for name := range byName {
		name = proper(name)
		known = append(known, name+".md")
		raw, err := os.ReadFile(pages + name + ".md")
		if err != nil {
			t.Error(err)
		}
		text := string(raw)
		for _, want := range []string{"## Settings", "## How it works", "## Example"} {
			if !strings.Contains(text, want) {
				t.Errorf("docs/dns/%s.md has no %q", name, want)
			}
		}
		for n := range settings[name] {
			if !strings.Contains(text, "`"+n+"`") {
				t.Errorf("docs/dns/%s.md does not tell of %s", name, n)
			}
		}
		found := example.FindStringSubmatch(text)
		if found == nil {
			t.Errorf("docs/dns/%s.md has no example in TOML", name)
			continue
		}
		var file struct {
			ACME struct {
				DNSChallenge struct {
					Provider string
					Settings map[string]string
				}
			}
		}
		if err := toml.Unmarshal([]byte(found[1]), &file); err != nil {
			t.Errorf("docs/dns/%s.md: %v", name, err)
		}
		given := file.ACME.DNSChallenge.Settings
		if given == nil {
			given = settings[name]
		}
		if _, err := Build(file.ACME.DNSChallenge.Provider, Options{Getenv: nothing, Settings: given}); err != nil {
			t.Errorf("the example of docs/dns/%s.md: %v", name, err)
		}
	}
	files, err := filepath.Glob(pages + "*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(known, filepath.Base(f)) {
			t.Errorf("docs/dns/%s is of no provider", filepath.Base(f))
		}
	}
}

// TestLegoIsDocumented: the page lists each name of the table, also in builds
// that do not have it.
func TestLegoIsDocumented(t *testing.T) {
	code, err := os.ReadFile("../lego/table.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(pages + "lego.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\t"([a-z0-9-]+)": +of\(`).FindAllStringSubmatch(string(code), -1)
	if len(rows) < 100 {
		t.Errorf("%d rows in the table", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(string(page), "`"+row[1]+"`") {
			t.Errorf("docs/dns/lego.md does not list %s", row[1])
		}
		if byName[row[1]] != nil {
			t.Errorf("%s: ours would hide lego's", row[1])
		}
	}
	if want := fmt.Sprintf("%d names", len(rows)); !strings.Contains(string(page), want) {
		t.Errorf("docs/dns/lego.md does not say %q", want)
	}
}
