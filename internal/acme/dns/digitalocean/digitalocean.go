// Package digitalocean writes challenge records by DigitalOcean's API,
// version 2. Records are single objects there, so values of others at a name
// are never touched.
package digitalocean

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// minTTL is the least DigitalOcean takes.
const minTTL = 30 * time.Second

// Provider is a dns.Provider and a dns.ZoneLister. Safe for concurrent use.
type Provider struct {
	client *rest.Client
	zones  *rest.Zones
}

// New makes a provider; nothing is asked yet.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	base := s.Text("DO_API_URL")
	token := s.Need("a personal access token that may read and write domains", "DO_AUTH_TOKEN")
	s.Tuning("DO_")
	if err := s.Err(); err != nil {
		return nil, err
	}
	if base == "" {
		base = "https://api.digitalocean.com"
	}
	p := &Provider{client: &rest.Client{
		Name: "digitalocean", Base: strings.TrimSuffix(base, "/"), HTTP: rest.NewHTTP(), Explain: explain,
		Authorize: func(_ context.Context, r *http.Request) error {
			r.Header.Set("Authorization", "Bearer "+token)
			return nil
		},
	}}
	p.zones = rest.NewZones("digitalocean", p.readZones)
	return p, nil
}

// FindZone names the domain of the account that holds name.
func (p *Provider) FindZone(ctx context.Context, name string) (string, error) {
	z, err := p.zones.Find(ctx, name)
	return z.Name, err
}

func (p *Provider) readZones(ctx context.Context) ([]rest.Zone, error) {
	var zones []rest.Zone
	for page := 1; ; page++ {
		var out struct {
			Domains []struct{ Name string }
			Links   struct{ Pages struct{ Next string } }
		}
		err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: fmt.Sprintf("/v2/domains?page=%d&per_page=200", page), Into: &out})
		if err != nil {
			return nil, err
		}
		for _, d := range out.Domains {
			zones = append(zones, rest.Zone{ID: d.Name, Name: strings.ToLower(d.Name)})
		}
		if out.Links.Pages.Next == "" {
			return zones, nil
		}
	}
}

// record is a DNS record as the API has it.
type record struct {
	ID   int64  `json:"id,omitempty"`
	Type string `json:"type"`
	Name string `json:"name"` // within the domain
	Data string `json:"data"`
	TTL  int    `json:"ttl"`
}

func path(rec dns.Record) string { return "/v2/domains/" + rec.Zone + "/records" }

// Present makes one record. The service would take the same value twice, so
// it is asked first.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	have, err := p.find(ctx, rec)
	if err != nil || len(have) > 0 {
		return err
	}
	name := strings.TrimSuffix(rec.Name, "."+rec.Zone)
	if rec.Name == rec.Zone {
		name = "@"
	}
	return p.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: path(rec), Body: record{
		Type: "TXT", Name: name, Data: rec.Value, TTL: int(max(rec.TTL, minTTL) / time.Second),
	}})
}

// CleanUp deletes the records with this value.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	have, err := p.find(ctx, rec)
	if err != nil {
		return err
	}
	for _, id := range have {
		err := p.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: fmt.Sprintf("%s/%d", path(rec), id)})
		if err != nil && rest.Status(err) != http.StatusNotFound {
			return err
		}
	}
	return nil
}

// find gives the IDs of the records with this value.
func (p *Provider) find(ctx context.Context, rec dns.Record) ([]int64, error) {
	var out struct {
		Records []record `json:"domain_records"`
	}
	query := url.Values{"type": {"TXT"}, "name": {rec.Name}, "per_page": {"200"}}
	if err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: path(rec) + "?" + query.Encode(), Into: &out}); err != nil {
		return nil, err
	}
	var ids []int64
	for _, have := range out.Records {
		if have.Data == rec.Value {
			ids = append(ids, have.ID)
		}
	}
	return ids, nil
}

func explain(body []byte) string {
	var r struct{ ID, Message string }
	if json.Unmarshal(body, &r) != nil || r.Message == "" {
		return ""
	}
	return fmt.Sprintf("%s (%s)", r.Message, r.ID)
}
