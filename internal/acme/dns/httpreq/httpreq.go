// Package httpreq hands challenge records to a server of the operator's own,
// by the small HTTP protocol other tools know under this name: POST
// ENDPOINT/present and ENDPOINT/cleanup.
package httpreq

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// Provider is a dns.Provider. Safe for concurrent use.
type Provider struct {
	client *rest.Client
	raw    bool
}

// New makes a provider; nothing is asked yet.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	endpoint := s.Need("URL of the server that writes the records", "HTTPREQ_ENDPOINT")
	mode := strings.ToUpper(s.Text("HTTPREQ_MODE"))
	user, password := s.Text("HTTPREQ_USERNAME"), s.Text("HTTPREQ_PASSWORD")
	s.Tuning("HTTPREQ_")
	if mode != "" && mode != "RAW" {
		s.Complain(fmt.Errorf("HTTPREQ_MODE=%q: must be RAW or not set", mode))
	}
	if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
		s.Complain(errors.New("HTTPREQ_ENDPOINT: must be a URL, http or https"))
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	p := &Provider{raw: mode == "RAW", client: &rest.Client{Name: "httpreq", Base: strings.TrimSuffix(endpoint, "/"), HTTP: rest.NewHTTP()}}
	if user != "" || password != "" {
		p.client.Authorize = func(_ context.Context, r *http.Request) error {
			r.SetBasicAuth(user, password)
			return nil
		}
	}
	return p, nil
}

// Present has the server add the value; other values at the name are its duty.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	return p.post(ctx, "/present", rec)
}

// CleanUp has the server remove the value.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	return p.post(ctx, "/cleanup", rec)
}

func (p *Provider) post(ctx context.Context, path string, rec dns.Record) error {
	var body any = struct {
		FQDN  string `json:"fqdn"`
		Value string `json:"value"`
	}{rec.Name + ".", rec.Value}
	if p.raw {
		if rec.KeyAuth == "" {
			return errors.New("httpreq: HTTPREQ_MODE=RAW needs the key authorization, which the record of an older version does not have")
		}
		token, _, _ := strings.Cut(rec.KeyAuth, ".")
		body = struct {
			Domain  string `json:"domain"`
			Token   string `json:"token"`
			KeyAuth string `json:"keyAuth"`
		}{rec.Domain, token, rec.KeyAuth}
	}
	return p.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: path, Body: body})
}
