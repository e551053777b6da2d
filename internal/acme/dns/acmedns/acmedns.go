// Package acmedns writes challenge records to an acme-dns server, to whose
// names the challenge names are CNAMEs. Each name has its own account there,
// kept in a file in the form other tools use.
package acmedns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// Provider is a dns.Provider. Safe for concurrent use.
type Provider struct {
	client *rest.Client
	base   string
	file   string
}

// New makes a provider; nothing is asked or read yet.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	base := s.Need("URL of the acme-dns server", "ACME_DNS_API_BASE")
	file := s.Need("JSON file with the accounts", "ACME_DNS_STORAGE_PATH")
	s.Refuse("put the accounts into a file (ACME_DNS_STORAGE_PATH)", "ACME_DNS_STORAGE_BASE_URL")
	s.Ignored("ACME_DNS_ALLOWLIST") // given at registration
	s.Tuning("ACME_DNS_")
	if u, err := url.Parse(base); base != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		s.Complain(errors.New("ACME_DNS_API_BASE: must be a URL, http or https"))
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	return &Provider{client: &rest.Client{Name: "acme-dns", HTTP: rest.NewHTTP(), Explain: explain}, base: strings.TrimSuffix(base, "/"), file: file}, nil
}

// account is what acme-dns gave at registration.
type account struct {
	FullDomain string `json:"fulldomain"`
	SubDomain  string `json:"subdomain"`
	Username   string `json:"username"`
	Password   string `json:"password"`
	ServerURL  string `json:"server_url"`
}

// Present sets the value. acme-dns keeps the last two of a name, as many as
// an apex and its wildcard need.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	a, err := p.account(rec)
	if err != nil {
		return err
	}
	base := p.base
	if a.ServerURL != "" {
		base = strings.TrimSuffix(a.ServerURL, "/")
	}
	var out struct{ TXT string }
	err = p.client.Do(ctx, rest.Request{
		Method: http.MethodPost, Path: base + "/update", Header: map[string]string{"X-Api-User": a.Username, "X-Api-Key": a.Password},
		Body: map[string]string{"subdomain": a.SubDomain, "txt": rec.Value}, Into: &out,
	})
	if err == nil && out.TXT != rec.Value {
		return fmt.Errorf("acme-dns: POST %s/update: it was given the value %q and says that it set %q", base, rec.Value, out.TXT)
	}
	return err
}

// CleanUp does nothing: acme-dns cannot delete, and drops old values itself.
func (*Provider) CleanUp(context.Context, dns.Record) error { return nil }

// account finds the account of the record's name. The file is read each time,
// so that an account added to it counts at once.
func (p *Provider) account(rec dns.Record) (account, error) {
	raw, err := os.ReadFile(p.file)
	if err != nil {
		return account{}, fmt.Errorf("acme-dns: read the accounts: %w", err)
	}
	var accounts map[string]account
	if err := json.Unmarshal(raw, &accounts); err != nil {
		return account{}, fmt.Errorf("acme-dns: read the accounts in %s: %w", p.file, err)
	}
	for _, a := range accounts {
		if strings.EqualFold(strings.TrimSuffix(a.FullDomain, "."), rec.Name) {
			return a, nil
		}
	}
	if a, ok := accounts[rec.Domain]; ok {
		return account{}, fmt.Errorf("acme-dns: _acme-challenge.%s leads to %s, and the account is for %s: make the first a CNAME to the last",
			rec.Domain, rec.Name, a.FullDomain)
	}
	return account{}, fmt.Errorf("acme-dns: no account for %s in %s: register one by POST %s/register, add what it says to the file under %q, "+
		"and make _acme-challenge.%[4]s a CNAME to its fulldomain", rec.Name, p.file, p.base, rec.Domain)
}

func explain(body []byte) string {
	var r struct{ Error string }
	_ = json.Unmarshal(body, &r)
	return r.Error
}
