package cloudflare

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/acme/dns/dnstest"
	"gatehouse/internal/acme/dns/setting"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func build(t *testing.T, given map[string]string) *Provider {
	t.Helper()
	p, err := New(setting.Source{Given: given})
	if err != nil {
		t.Fatal(err)
	}
	p.records.Backoff, p.reader.Backoff = time.Millisecond, time.Millisecond
	t.Cleanup(func() { p.records.HTTP.CloseIdleConnections(); p.reader.HTTP.CloseIdleConnections() })
	return p
}

// service keeps records as Cloudflare does: single ones, no two alike.
type service struct {
	records []record
	next    int
}

func (s *service) api(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, result any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]any{"success": status < 300, "result": result, "result_info": map[string]int{"total_pages": 2}})
	}
	switch path := r.URL.Path; {
	case path == "/zones" && r.URL.Query().Get("page") == "1":
		answer(200, []map[string]string{{"id": "z1", "name": "example.org"}})
	case path == "/zones":
		answer(200, []map[string]string{{"id": "z2", "name": "office.example.org"}})
	case path == "/zones/z2/dns_records" && r.Method == http.MethodGet:
		var out []record
		for _, have := range s.records {
			if have.Name == r.URL.Query().Get("name") && have.Type == r.URL.Query().Get("type") {
				out = append(out, have)
			}
		}
		answer(200, out)
	case path == "/zones/z2/dns_records":
		var in record
		_ = json.NewDecoder(r.Body).Decode(&in)
		if slices.ContainsFunc(s.records, func(have record) bool { return have.Name == in.Name && have.Content == in.Content }) {
			w.WriteHeader(400)
			_, _ = w.Write([]byte(`{"success":false,"errors":[{"code":81058,"message":"An identical record already exists."}]}`))
			return
		}
		s.next++
		in.ID = fmt.Sprint("r", s.next)
		s.records = append(s.records, in)
		answer(200, in)
	case strings.HasPrefix(path, "/zones/z2/dns_records/") && r.Method == http.MethodDelete:
		before := len(s.records)
		s.records = slices.DeleteFunc(s.records, func(have record) bool { return strings.HasSuffix(path, "/"+have.ID) })
		if len(s.records) == before {
			answer(404, nil)
			return
		}
		answer(200, nil)
	default:
		answer(404, nil)
	}
}

func (s *service) values(name string) (values []string) {
	for _, r := range s.records {
		if r.Name == name {
			values = append(values, strings.Trim(r.Content, `"`))
		}
	}
	return values
}

func TestContract(t *testing.T) {
	s := &service{}
	r := dnstest.Record(t, s.api)
	dnstest.Contract(t, "office.example.org", func() dns.Provider {
		return build(t, map[string]string{"CF_DNS_API_TOKEN": "t", "CLOUDFLARE_BASE_URL": r.URL})
	}, r.Reading(s.values))
}

var rec = dns.Record{Zone: "office.example.org", Name: "_acme-challenge.office.example.org", Value: "v", TTL: dns.DefaultTTL}

// TestRequests pins what is sent, with each kind of credentials.
func TestRequests(t *testing.T) {
	for _, c := range []struct {
		name           string
		given          map[string]string
		zoneAs, editAs string
	}{
		{"token", map[string]string{"CF_DNS_API_TOKEN": "tok"}, " | Authorization: Bearer tok", " | Authorization: Bearer tok"},
		{"two tokens", map[string]string{"CLOUDFLARE_DNS_API_TOKEN": "tok", "CF_ZONE_API_TOKEN": "zone"}, " | Authorization: Bearer zone", " | Authorization: Bearer tok"},
		{"key", map[string]string{"CLOUDFLARE_EMAIL": "me@example.org", "CLOUDFLARE_API_KEY": "key"},
			" | X-Auth-Email: me@example.org | X-Auth-Key: key", " | X-Auth-Email: me@example.org | X-Auth-Key: key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := dnstest.Record(t, (&service{}).api, "Authorization", "X-Auth-Email", "X-Auth-Key")
			c.given["CLOUDFLARE_BASE_URL"] = r.URL
			p := build(t, c.given)
			zone, err := p.FindZone(t.Context(), rec.Name)
			if err != nil || zone != rec.Zone {
				t.Fatal(zone, err)
			}
			if err := errors.Join(p.Present(t.Context(), rec), p.CleanUp(t.Context(), rec)); err != nil {
				t.Fatal(err)
			}
			want := []string{
				"GET /zones?page=1&per_page=50" + c.zoneAs,
				"GET /zones?page=2&per_page=50" + c.zoneAs,
				"POST /zones/z2/dns_records" + c.editAs + ` | {"type":"TXT","name":"_acme-challenge.office.example.org","content":"\"v\"","ttl":60}`,
				"GET /zones/z2/dns_records?name=_acme-challenge.office.example.org&per_page=100&type=TXT" + c.editAs,
				"DELETE /zones/z2/dns_records/r1" + c.editAs,
			}
			if diff := cmp.Diff(want, r.Take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestErrors: what was asked, what came back, what to do.
func TestErrors(t *testing.T) {
	const zones = `200 {"result":[{"id":"z2","name":"office.example.org"}],"result_info":{"total_pages":1}}`
	for _, c := range []struct{ name, says string }{
		{`403 {"success":false,"errors":[{"code":9109,"message":"Unauthorized to access requested resource"}]}`,
			"list zones: cloudflare: GET $/zones?page=1&per_page=50: 403 Forbidden: Unauthorized to access requested resource (9109); the token needs Zone:Read"},
		{`200 {"result":[]}`, "cloudflare shows these credentials 0 zones, and no zone office.example.org: no zone holds the name"},
		{zones + "\n" + `400 {"errors":[{"code":6003,"message":"Invalid request headers","error_chain":[{"code":6111,"message":"Invalid format for Authorization header"}]}]}`,
			"cloudflare: POST $/zones/z2/dns_records: 400 Bad Request: Invalid request headers (6003), Invalid format for Authorization header (6111)"},
		{zones + "\n" + "502 <html>bad", "502 Bad Gateway: <html>bad"},
	} {
		r := dnstest.Record(t, dnstest.Script(t, strings.Split(c.name, "\n")...))
		err := build(t, map[string]string{"CF_DNS_API_TOKEN": "tok", "CF_BASE_URL": r.URL}).Present(t.Context(), rec)
		if says := strings.ReplaceAll(c.says, "$", r.URL); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}

func TestSettings(t *testing.T) {
	for says, given := range map[string]map[string]string{
		"CF_DNS_API_TOKEN (or CLOUDFLARE_DNS_API_TOKEN) is not set: a token with": {},
		"CF_API_EMAIL and CF_API_KEY: set both or none":                           {"CF_API_KEY": "k"},
		"CF_DNS_API_TOKEN and CF_API_KEY are both set: keep one":                  {"CF_DNS_API_TOKEN": "t", "CF_API_KEY": "k", "CF_API_EMAIL": "e"},
		`unknown setting "CF_DNS_API_TOKN", did you mean CF_DNS_API_TOKEN?`:       {"CF_DNS_API_TOKN": "t", "CF_DNS_API_TOKEN": "t"},
	} {
		if _, err := New(setting.Source{Given: given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
