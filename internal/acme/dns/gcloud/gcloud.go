// Package gcloud writes challenge records to Google Cloud DNS by its REST API,
// version 1; Google's own client library would weigh ten megabytes.
//
// Cloud DNS changes whole record sets, but only if the set to replace is named
// exactly as it is. So each write is a compare-and-swap, tried again until
// nobody else's change came between, and values of others survive.
package gcloud

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// Provider is a dns.Provider, dns.ZoneLister and dns.Confirmer. Safe for
// concurrent use.
type Provider struct {
	client  *rest.Client
	meta    metadata
	zones   *rest.Zones
	project string // empty: that of the machine
	zoneID  string // GCE_ZONE_ID
	private bool
	pace    time.Duration // between two looks at a change, and before a lost race is run again
}

// endpoints are the services asked.
type endpoints struct{ dns, iam, metadata string }

// New makes a provider; nothing is asked yet.
func New(src setting.Source) (*Provider, error) {
	return newAt(src, endpoints{dns: "https://dns.googleapis.com", iam: "https://iamcredentials.googleapis.com", metadata: "http://metadata.google.internal"})
}

func newAt(src setting.Source, at endpoints) (*Provider, error) {
	s := setting.Read(src)
	p := &Provider{project: s.Text("GCE_PROJECT"), zoneID: s.Text("GCE_ZONE_ID"), private: s.Bool("GCE_ALLOW_PRIVATE_ZONE"), pace: time.Second}
	key, file := s.Text("GCE_SERVICE_ACCOUNT"), s.Text("GOOGLE_APPLICATION_CREDENTIALS")
	impersonate := s.Text("GCE_IMPERSONATE_SERVICE_ACCOUNT")
	if host := s.Text("GCE_METADATA_HOST"); host != "" {
		at.metadata = "http://" + host
	}
	s.Ignored("GCE_DEBUG")
	s.Tuning("GCE_")
	from := "GCE_SERVICE_ACCOUNT"
	if key == "" && file != "" {
		from = "GOOGLE_APPLICATION_CREDENTIALS"
		raw, err := os.ReadFile(file)
		if err != nil {
			s.Complain(fmt.Errorf("read %s: %w", from, err))
		}
		key = string(raw)
	}
	var who *credentials
	if key != "" {
		var err error
		if who, err = parseCredentials([]byte(key)); err != nil {
			s.Complain(fmt.Errorf("%s: %w", from, err))
		} else if p.project == "" {
			p.project = who.ProjectID
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	p.connect(at, who, impersonate)
	p.zones = rest.NewZones("gcloud", p.readZones)
	return p, nil
}

// connect chains the clients: who we are, whom we act as, what is written.
func (p *Provider) connect(at endpoints, who *credentials, impersonate string) {
	h := rest.NewHTTP()
	p.meta = metadata{&rest.Client{Name: "gcloud", Base: at.metadata, HTTP: rest.NewNear()}}
	token := rest.NewToken(p.meta.token)
	if who != nil {
		token = rest.NewToken(who.byKey(&rest.Client{Name: "gcloud", HTTP: h, Explain: explain}))
	}
	if impersonate != "" {
		token = rest.NewToken(impersonated(&rest.Client{Name: "gcloud", Base: at.iam, HTTP: h, Explain: explain, Authorize: token.Authorize, Forget: token.Forget}, impersonate))
	}
	p.client = &rest.Client{Name: "gcloud", Base: at.dns, HTTP: h, Explain: explain, Authorize: token.Authorize, Forget: token.Forget}
}

// Confirms is true: Present waits until the change is done.
func (*Provider) Confirms() bool { return true }

// FindZone names the managed zone that holds name: the longest public one of
// the project, private ones too if that is allowed, or that of GCE_ZONE_ID.
func (p *Provider) FindZone(ctx context.Context, name string) (string, error) {
	z, err := p.zones.Find(ctx, name)
	return z.Name, err
}

// managed is a zone as the API has it.
type managed struct {
	Name       string `json:"name"`
	DNSName    string `json:"dnsName"`
	Visibility string `json:"visibility"`
}

func (p *Provider) readZones(ctx context.Context) ([]rest.Zone, error) {
	base, err := p.base(ctx)
	if err != nil {
		return nil, err
	}
	zone := func(m managed) rest.Zone {
		return rest.Zone{ID: m.Name, Name: strings.ToLower(strings.TrimSuffix(m.DNSName, "."))}
	}
	if p.zoneID != "" {
		var m managed
		err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: base + "/" + url.PathEscape(p.zoneID), Into: &m})
		return []rest.Zone{zone(m)}, err
	}
	var zones []rest.Zone
	for next := ""; ; {
		var out struct {
			ManagedZones  []managed
			NextPageToken string
		}
		path := base
		if next != "" {
			path += "?pageToken=" + url.QueryEscape(next)
		}
		if err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: path, Into: &out}); err != nil {
			return nil, err
		}
		for _, m := range out.ManagedZones {
			if p.private || m.Visibility != "private" {
				zones = append(zones, zone(m))
			}
		}
		if next = out.NextPageToken; next == "" {
			return zones, nil
		}
	}
}

// base is the path of the project's zones.
func (p *Provider) base(ctx context.Context) (string, error) {
	project := p.project
	if project == "" {
		if err := p.meta.get(ctx, "project/project-id", &project); err != nil {
			return "", fmt.Errorf("GCE_PROJECT is not set, and the machine's project is not known: %w", err)
		}
	}
	return "/dns/v1/projects/" + url.PathEscape(project) + "/managedZones", nil
}

// rrset is a record set as the API has it.
type rrset struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"`
	TTL     int      `json:"ttl"`
	RRDatas []string `json:"rrdatas"`
}

// change is one change: what stands there now, and what shall.
type change struct {
	ID        string  `json:"id,omitempty"`
	Status    string  `json:"status,omitempty"`
	Additions []rrset `json:"additions,omitempty"`
	Deletions []rrset `json:"deletions,omitempty"`
}

// Present adds the value and returns once the change is done.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	return p.write(ctx, rec, func(values []string, v string) []string {
		if slices.Contains(values, v) {
			return values
		}
		return append(values, v)
	}, true)
}

// CleanUp removes the value; it does not wait for the change to be done.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	return p.write(ctx, rec, func(values []string, v string) []string {
		return slices.DeleteFunc(values, func(have string) bool { return have == v })
	}, false)
}

// races is how often somebody else may come between reading and writing.
const races = 10

func (p *Provider) write(ctx context.Context, rec dns.Record, edit func([]string, string) []string, wait bool) error {
	zone, err := p.zones.Named(ctx, rec.Zone)
	if err != nil {
		return err
	}
	base, err := p.base(ctx)
	if err != nil {
		return err
	}
	base += "/" + url.PathEscape(zone.ID)
	for n := 1; ; n++ {
		have, err := p.read(ctx, base, rec.Name)
		if err != nil {
			return err
		}
		shall := edit(slices.Clone(have.RRDatas), `"`+rec.Value+`"`)
		if slices.Equal(shall, have.RRDatas) {
			return nil
		}
		var c change
		if len(have.RRDatas) > 0 {
			c.Deletions = []rrset{have}
		}
		if len(shall) > 0 {
			c.Additions = []rrset{{Name: rec.Name + ".", Type: "TXT", TTL: int(rec.TTL / time.Second), RRDatas: shall}}
		}
		err = p.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: base + "/changes", Body: c, Into: &c})
		if err == nil && wait {
			return p.settle(ctx, base, c)
		}
		if !lost(err) || n == races {
			return err
		}
		if rest.Sleep(ctx, rand.N(p.pace)) != nil {
			return err
		}
	}
}

// lost says that the set was another one by then.
func lost(err error) bool {
	s := rest.Status(err)
	return s == http.StatusConflict || s == http.StatusPreconditionFailed || s == http.StatusNotFound
}

func (p *Provider) read(ctx context.Context, base, name string) (rrset, error) {
	var out struct{ RRSets []rrset }
	query := url.Values{"name": {name + "."}, "type": {"TXT"}}
	if err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: base + "/rrsets?" + query.Encode(), Into: &out}); err != nil {
		return rrset{}, err
	}
	if len(out.RRSets) == 0 {
		return rrset{}, nil
	}
	return out.RRSets[0], nil
}

// settle waits until Google's servers have the change.
func (p *Provider) settle(ctx context.Context, base string, c change) error {
	for c.Status != "done" {
		if err := rest.Sleep(ctx, p.pace); err != nil {
			return fmt.Errorf("gcloud: change %s is %s: %w", c.ID, c.Status, err)
		}
		if err := p.client.Do(ctx, rest.Request{Method: http.MethodGet, Path: base + "/changes/" + c.ID, Into: &c}); err != nil {
			return fmt.Errorf("see how the change fares: %w", err)
		}
	}
	return nil
}

// explain reads the errors of the API and of the token service.
func explain(body []byte) string {
	var api struct {
		Error struct{ Status, Message string }
	}
	if json.Unmarshal(body, &api) == nil && api.Error.Message != "" {
		return strings.TrimSpace(api.Error.Message + " " + api.Error.Status)
	}
	var token struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	_ = json.Unmarshal(body, &token)
	if token.Description != "" {
		return token.Error + ": " + token.Description
	}
	return token.Error
}
