package acmedns

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/dnstest"
	"gatehouse/internal/acme/dns/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const accounts = `{
  "example.org": {"fulldomain": "d420.auth.example.net", "subdomain": "d420", "username": "user", "password": "secret", "server_url": "$"},
  "example.com": {"fulldomain": "e531.auth.example.net", "subdomain": "e531", "username": "user2", "password": "secret2"}
}`

func build(t *testing.T, url, text string) *Provider {
	t.Helper()
	file := filepath.Join(t.TempDir(), "accounts.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := New(setting.Source{Given: map[string]string{"ACME_DNS_API_BASE": url + "/", "ACME_DNS_STORAGE_PATH": file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.client.HTTP.CloseIdleConnections)
	return p
}

func at(name, domain string) dns.Record {
	return dns.Record{Zone: "auth.example.net", Name: name, Value: "v", Domain: domain}
}

func TestRequests(t *testing.T) {
	r := dnstest.Record(t, dnstest.Script(t, `200 {"txt":"v"}`, `200 {"txt":"v"}`), "X-Api-User", "X-Api-Key")
	p := build(t, r.URL, strings.ReplaceAll(accounts, "$", r.URL+"/own/"))
	for _, rec := range []dns.Record{at("d420.auth.example.net", "example.org"), at("e531.auth.example.net", "www.example.com")} {
		if err := p.Present(t.Context(), rec); err != nil {
			t.Error(err)
		}
		if err := p.CleanUp(t.Context(), rec); err != nil {
			t.Error(err)
		}
	}
	want := []string{
		`POST /own/update | X-Api-User: user | X-Api-Key: secret | {"subdomain":"d420","txt":"v"}`,
		`POST /update | X-Api-User: user2 | X-Api-Key: secret2 | {"subdomain":"e531","txt":"v"}`,
	}
	if diff := cmp.Diff(want, r.Take()); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	r := dnstest.Record(t, dnstest.Script(t, `401 {"error":"forbidden"}`, `200 {"txt":"w"}`))
	p := build(t, r.URL, accounts)
	for _, c := range []struct {
		rec  dns.Record
		p    *Provider
		says string
	}{
		{at("e531.auth.example.net", "example.com"), p, "acme-dns: POST " + r.URL + "/update: 401 Unauthorized: forbidden"},
		{at("e531.auth.example.net", "example.com"), p, `/update: it was given the value "v" and says that it set "w"`},
		{at("_acme-challenge.example.com", "example.com"), p, "_acme-challenge.example.com leads to _acme-challenge.example.com, and the account is for e531.auth.example.net: make the first a CNAME to the last"},
		{at("_acme-challenge.other.test", "other.test"), p, "no account for _acme-challenge.other.test in " + p.file + ": register one by POST " + r.URL + `/register, add what it says to the file under "other.test", and make _acme-challenge.other.test a CNAME`},
		{at("x", "x"), build(t, r.URL, "{"), "read the accounts in "},
		{at("x", "x"), &Provider{file: p.file + "x"}, "read the accounts: open "},
	} {
		if err := c.p.Present(t.Context(), c.rec); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("error %v, want %q", err, c.says)
		}
	}
	for says, given := range map[string]map[string]string{
		"ACME_DNS_API_BASE is not set: URL":                                                      {},
		"ACME_DNS_STORAGE_PATH is not set: JSON file":                                            {"ACME_DNS_API_BASE": "https://a"},
		"ACME_DNS_API_BASE: must be a URL":                                                       {"ACME_DNS_API_BASE": "auth.acme-dns.io", "ACME_DNS_STORAGE_PATH": "f"},
		"ACME_DNS_STORAGE_BASE_URL is set, which is not supported: put the accounts into a file": {"ACME_DNS_API_BASE": "https://a", "ACME_DNS_STORAGE_PATH": "f", "ACME_DNS_STORAGE_BASE_URL": "u"},
		`unknown setting "ACME_DNS_BASE"`:                                                        {"ACME_DNS_API_BASE": "https://a", "ACME_DNS_STORAGE_PATH": "f", "ACME_DNS_BASE": "u"},
	} {
		if _, err := New(setting.Source{Given: given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
