// Package cloudflare writes challenge records by Cloudflare's API, version 4.
// Records are single objects there, so values of others at a name are never
// touched.
package cloudflare

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// minTTL is the least Cloudflare takes.
const minTTL = time.Minute

// Provider is a dns.Provider and a dns.ZoneLister. Safe for concurrent use.
type Provider struct {
	records *rest.Client // with the token that edits records
	reader  *rest.Client // with the token that sees zones
	zones   *rest.Zones
}

// New makes a provider; nothing is asked yet.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	base := s.Text("CLOUDFLARE_BASE_URL", "CF_BASE_URL")
	token := s.Text("CF_DNS_API_TOKEN", "CLOUDFLARE_DNS_API_TOKEN")
	zoneToken := s.Text("CF_ZONE_API_TOKEN", "CLOUDFLARE_ZONE_API_TOKEN")
	email := s.Text("CF_API_EMAIL", "CLOUDFLARE_EMAIL")
	key := s.Text("CF_API_KEY", "CLOUDFLARE_API_KEY")
	s.Tuning("CLOUDFLARE_", "CF_")
	switch {
	case (email == "") != (key == ""):
		s.Complain(errors.New("CF_API_EMAIL and CF_API_KEY: set both or none"))
	case token != "" && key != "":
		s.Complain(errors.New("CF_DNS_API_TOKEN and CF_API_KEY are both set: keep one"))
	case token == "" && key == "":
		s.Need("a token with the permissions Zone:Read and DNS:Edit", "CF_DNS_API_TOKEN", "CLOUDFLARE_DNS_API_TOKEN")
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if base == "" {
		base = "https://api.cloudflare.com/client/v4"
	}
	if zoneToken == "" {
		zoneToken = token
	}
	client := func(token string) *rest.Client {
		return &rest.Client{
			Name: "cloudflare", Base: strings.TrimSuffix(base, "/"), HTTP: rest.NewHTTP(), Explain: explain,
			Authorize: func(_ context.Context, r *http.Request) error {
				if token != "" {
					r.Header.Set("Authorization", "Bearer "+token)
				} else {
					r.Header.Set("X-Auth-Email", email)
					r.Header.Set("X-Auth-Key", key)
				}
				return nil
			},
		}
	}
	p := &Provider{records: client(token), reader: client(zoneToken)}
	p.zones = rest.NewZones("cloudflare", p.readZones)
	return p, nil
}

// FindZone names the zone the credentials see that holds name.
func (p *Provider) FindZone(ctx context.Context, name string) (string, error) {
	z, err := p.zones.Find(ctx, name)
	return z.Name, err
}

func (p *Provider) readZones(ctx context.Context) ([]rest.Zone, error) {
	var zones []rest.Zone
	for page := 1; ; page++ {
		var out struct {
			Result []rest.Zone
			Info   struct {
				Pages int `json:"total_pages"`
			} `json:"result_info"`
		}
		err := p.reader.Do(ctx, rest.Request{Method: http.MethodGet, Path: fmt.Sprintf("/zones?page=%d&per_page=50", page), Into: &out})
		if rest.Status(err) == http.StatusForbidden {
			return nil, fmt.Errorf("%w; the token needs Zone:Read (CF_ZONE_API_TOKEN can be one for that alone)", err)
		}
		if err != nil {
			return nil, err
		}
		zones = append(zones, out.Result...)
		if page >= out.Info.Pages {
			return zones, nil
		}
	}
}

// record is a DNS record as the API has it.
type record struct {
	ID      string `json:"id,omitempty"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Content string `json:"content"`
	TTL     int    `json:"ttl"`
}

// Present makes one record.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	zone, err := p.zones.Named(ctx, rec.Zone)
	if err != nil {
		return err
	}
	err = p.records.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/zones/" + zone.ID + "/dns_records", Body: record{
		Type: "TXT", Name: rec.Name, Content: `"` + rec.Value + `"`, TTL: int(max(rec.TTL, minTTL) / time.Second),
	}})
	const identical = 81058
	if says(err, identical) {
		return nil
	}
	return err
}

// CleanUp deletes the records with this value.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	zone, err := p.zones.Named(ctx, rec.Zone)
	if err != nil {
		return err
	}
	var out struct{ Result []record }
	path := "/zones/" + zone.ID + "/dns_records"
	query := url.Values{"type": {"TXT"}, "name": {rec.Name}, "per_page": {"100"}}
	if err := p.records.Do(ctx, rest.Request{Method: http.MethodGet, Path: path + "?" + query.Encode(), Into: &out}); err != nil {
		return err
	}
	for _, have := range out.Result {
		if strings.Trim(have.Content, `"`) != rec.Value {
			continue
		}
		err := p.records.Do(ctx, rest.Request{Method: http.MethodDelete, Path: path + "/" + have.ID})
		if err != nil && rest.Status(err) != http.StatusNotFound {
			return err
		}
	}
	return nil
}

// refusal is the body of an error.
type refusal struct {
	Errors []struct {
		Code    int
		Message string
		Chain   []struct {
			Code    int
			Message string
		} `json:"error_chain"`
	}
}

func explain(body []byte) string {
	var r refusal
	_ = json.Unmarshal(body, &r)
	var parts []string
	for _, e := range r.Errors {
		parts = append(parts, fmt.Sprintf("%s (%d)", e.Message, e.Code))
		for _, c := range e.Chain {
			parts = append(parts, fmt.Sprintf("%s (%d)", c.Message, c.Code))
		}
	}
	return strings.Join(parts, ", ")
}

// says reports whether the API gave this code as its reason.
func says(err error, code int) bool {
	var e *rest.Error
	if !errors.As(err, &e) {
		return false
	}
	var r refusal
	_ = json.Unmarshal(e.Body, &r)
	for _, e := range r.Errors {
		if e.Code == code {
			return true
		}
	}
	return false
}
