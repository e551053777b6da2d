// Package azuredns writes challenge records to Azure DNS, public or private
// zones, by its REST API.
//
// Azure DNS changes whole record sets, each with an ETag. A write names the
// ETag it replaces, or that there must be none, and is tried again until
// nobody else's change came between: values of others survive.
package azuredns

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// cloud is one of Azure's worlds.
type cloud struct{ authority, api string }

func clouds(name string) (cloud, bool) {
	switch strings.ToLower(name) {
	case "", "public", "azurepubliccloud":
		return cloud{"https://login.microsoftonline.com", "https://management.azure.com"}, true
	case "usgovernment", "azureusgovernmentcloud":
		return cloud{"https://login.microsoftonline.us", "https://management.usgovcloudapi.net"}, true
	case "china", "azurechinacloud":
		return cloud{"https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn"}, true
	}
	return cloud{}, false
}

// Provider is a dns.Provider and a dns.ZoneLister. Safe for concurrent use.
type Provider struct {
	client       *rest.Client
	id           *identity
	zones        *rest.Zones
	subscription string
	group        string // empty: all of the subscription
	zone         string // AZURE_ZONE_NAME
	kind         kind
	pace         time.Duration // before a lost race is run again
}

// kind is public or private zones.
type kind struct{ path, version string }

// New makes a provider; nothing is asked yet.
func New(src setting.Source) (*Provider, error) {
	s := setting.Read(src)
	world, known := clouds(s.Text("AZURE_ENVIRONMENT"))
	if !known {
		s.Complain(fmt.Errorf("AZURE_ENVIRONMENT=%q: must be public, usgovernment or china", s.Text("AZURE_ENVIRONMENT")))
	}
	p := &Provider{
		id:           readIdentity(s, world.authority),
		subscription: s.Need("the subscription of the DNS zones", "AZURE_SUBSCRIPTION_ID"),
		group:        s.Text("AZURE_RESOURCE_GROUP"), zone: strings.ToLower(strings.TrimSuffix(s.Text("AZURE_ZONE_NAME"), ".")),
		kind: kind{"dnsZones", "2018-05-01"}, pace: time.Second,
	}
	if s.Bool("AZURE_PRIVATE_ZONE") {
		p.kind = kind{"privateDnsZones", "2020-06-01"}
	}
	if p.zone != "" && p.group == "" {
		s.Complain(fmt.Errorf("AZURE_ZONE_NAME needs AZURE_RESOURCE_GROUP too"))
	}
	s.Ignored("AZURE_SERVICEDISCOVERY_FILTER", "AZURE_METADATA_ENDPOINT")
	s.Tuning("AZURE_")
	if err := s.Err(); err != nil {
		return nil, err
	}
	p.id.http, p.id.resource = rest.NewHTTP(), world.api
	token := rest.NewToken(p.id.fetch)
	p.client = &rest.Client{Name: "azuredns", Base: world.api, HTTP: p.id.http, Explain: explain, Authorize: token.Authorize, Forget: token.Forget}
	p.zones = rest.NewZones("azuredns", p.readZones)
	return p, nil
}

// FindZone names the zone of the subscription, or of the resource group, that
// holds name; or that of AZURE_ZONE_NAME.
func (p *Provider) FindZone(ctx context.Context, name string) (string, error) {
	z, err := p.zones.Find(ctx, name)
	return z.Name, err
}

func (p *Provider) readZones(ctx context.Context) ([]rest.Zone, error) {
	path := "/subscriptions/" + url.PathEscape(p.subscription)
	if p.group != "" {
		path += "/resourceGroups/" + url.PathEscape(p.group)
	}
	path += "/providers/Microsoft.Network/" + p.kind.path
	if p.zone != "" {
		return []rest.Zone{{ID: path + "/" + p.zone, Name: p.zone}}, nil // no right to list is needed
	}
	var zones []rest.Zone
	for path += "?api-version=" + p.kind.version; path != ""; {
		var out struct {
			Value    []struct{ ID, Name string }
			NextLink string
		}
		if err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Into: &out}); err != nil {
			if rest.Status(err) == http.StatusForbidden {
				err = fmt.Errorf("%w; set AZURE_RESOURCE_GROUP and AZURE_ZONE_NAME, or allow the identity to read there", err)
			}
			return nil, err
		}
		for _, z := range out.Value {
			zones = append(zones, rest.Zone{ID: z.ID, Name: strings.ToLower(z.Name)})
		}
		path = out.NextLink
		if path != "" && !strings.HasPrefix(path, p.client.Base+"/") {
			return nil, fmt.Errorf("azuredns: the list goes on at %q, which is not the API: the token is not sent there", path)
		}
	}
	return zones, nil
}

// rrset is a record set as the API has it. Public and private zones differ in
// the case of names, which does not matter to either.
type rrset struct {
	ETag       string     `json:"etag,omitempty"`
	Properties properties `json:"properties"`
}

type properties struct {
	TTL        int   `json:"TTL"`
	TXTRecords []txt `json:"TXTRecords"`
}

// txt is one record: its value in pieces of up to 255 bytes.
type txt struct {
	Value []string `json:"value"`
}

// Present adds the value.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	return p.write(ctx, rec, func(have []txt) []txt {
		if slices.ContainsFunc(have, holds(rec.Value)) {
			return have
		}
		return append(slices.Clone(have), txt{[]string{rec.Value}})
	})
}

// CleanUp removes the value, and the set with its last one.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	return p.write(ctx, rec, func(have []txt) []txt { return slices.DeleteFunc(slices.Clone(have), holds(rec.Value)) })
}

func holds(value string) func(txt) bool {
	return func(t txt) bool { return strings.Join(t.Value, "") == value }
}

// races is how often somebody else may come between reading and writing.
const races = 10

func (p *Provider) write(ctx context.Context, rec dns.Record, edit func([]txt) []txt) error {
	zone, err := p.zones.Named(ctx, rec.Zone)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(rec.Name, "."+rec.Zone)
	if rec.Name == rec.Zone {
		name = "@"
	}
	path := zone.ID + "/TXT/" + url.PathEscape(name) + "?api-version=" + p.kind.version
	for n := 1; ; n++ {
		var have rrset
		err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Into: &have})
		if err != nil && rest.Status(err) != http.StatusNotFound {
			return err
		}
		shall := edit(have.Properties.TXTRecords)
		if len(shall) == len(have.Properties.TXTRecords) {
			return nil // an edit that changes something changes the number
		}
		if err = p.swap(ctx, path, have, shall, rec.TTL); err == nil {
			return nil
		}
		// Also of a request that was carried out and whose answer was lost.
		lost := rest.Status(err) == http.StatusPreconditionFailed || rest.Status(err) == http.StatusConflict
		if !lost || n == races {
			return err
		}
		if rest.Sleep(ctx, rand.N(p.pace)) != nil {
			return err
		}
	}
}

// swap replaces have by shall, if have is what is there.
func (p *Provider) swap(ctx context.Context, path string, have rrset, shall []txt, ttl time.Duration) error {
	if len(shall) == 0 {
		err := p.client.Do(ctx, rest.Request{Method: http.MethodDelete, Path: path, Header: map[string]string{"If-Match": have.ETag}})
		if rest.Status(err) == http.StatusNotFound {
			return nil
		}
		return err
	}
	only := map[string]string{"If-None-Match": "*"}
	if have.ETag != "" {
		only = map[string]string{"If-Match": have.ETag}
	}
	return p.client.Do(ctx, rest.Request{Method: http.MethodPut, Path: path, Header: only, Body: rrset{Properties: properties{int(ttl / time.Second), shall}}})
}

// explain reads the errors of the API, of the authority and of the machine.
func explain(body []byte) string {
	var api struct {
		Code, Message string
		Error         struct{ Code, Message string }
	}
	if json.Unmarshal(body, &api) == nil {
		if api.Error.Message != "" {
			return fmt.Sprintf("%s (%s)", api.Error.Message, api.Error.Code)
		}
		if api.Message != "" {
			return fmt.Sprintf("%s (%s)", api.Message, api.Code)
		}
	}
	var token struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(body, &token)
	text, _, _ := strings.Cut(token.Description, "\n") // then follow trace IDs
	return strings.TrimSpace(token.Error + " " + strings.TrimSpace(text))
}
