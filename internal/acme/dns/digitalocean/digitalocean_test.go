package digitalocean

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

func build(t *testing.T, url string) *Provider {
	t.Helper()
	p, err := New(setting.Source{Given: map[string]string{"DO_AUTH_TOKEN": "tok", "DO_API_URL": url}})
	if err != nil {
		t.Fatal(err)
	}
	p.client.Backoff = time.Millisecond
	t.Cleanup(p.client.HTTP.CloseIdleConnections)
	return p
}

// service keeps records as DigitalOcean does: single ones, also alike.
type service struct {
	records []record
	next    int64
}

func (s *service) api(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, v any) {
		w.WriteHeader(status)
		if v != nil {
			_ = json.NewEncoder(w).Encode(v)
		}
	}
	const records = "/v2/domains/example.org/records"
	switch path := r.URL.Path; {
	case path == "/v2/domains" && r.URL.Query().Get("page") == "1":
		answer(200, map[string]any{"domains": []any{map[string]string{"name": "other.test"}}, "links": map[string]any{"pages": map[string]string{"next": "more"}}})
	case path == "/v2/domains":
		answer(200, map[string]any{"domains": []any{map[string]string{"name": "example.org"}}, "links": map[string]any{}})
	case path == records && r.Method == http.MethodGet:
		out := []record{}
		for _, have := range s.records {
			if have.Name+".example.org" == r.URL.Query().Get("name") {
				out = append(out, have)
			}
		}
		answer(200, map[string]any{"domain_records": out})
	case path == records:
		var in record
		_ = json.NewDecoder(r.Body).Decode(&in)
		s.next++
		in.ID = s.next
		s.records = append(s.records, in)
		answer(201, map[string]any{"domain_record": in})
	case r.Method == http.MethodDelete:
		before := len(s.records)
		s.records = slices.DeleteFunc(s.records, func(have record) bool { return path == fmt.Sprintf("%s/%d", records, have.ID) })
		if len(s.records) == before {
			answer(404, map[string]string{"id": "not_found", "message": "The resource you were accessing could not be found."})
			return
		}
		answer(204, nil)
	}
}

func (s *service) values(name string) (values []string) {
	for _, r := range s.records {
		if r.Name+".example.org" == name {
			values = append(values, r.Data)
		}
	}
	return values
}

func TestContract(t *testing.T) {
	s := &service{}
	r := dnstest.Record(t, s.api)
	dnstest.Contract(t, "example.org", func() dns.Provider { return build(t, r.URL) }, r.Reading(s.values))
}

var rec = dns.Record{Zone: "example.org", Name: "_acme-challenge.a.example.org", Value: "v", TTL: dns.DefaultTTL}

func TestRequests(t *testing.T) {
	r := dnstest.Record(t, (&service{}).api, "Authorization")
	p := build(t, r.URL)
	if zone, err := p.FindZone(t.Context(), rec.Name); err != nil || zone != rec.Zone {
		t.Fatal(zone, err)
	}
	if err := errors.Join(p.Present(t.Context(), rec), p.CleanUp(t.Context(), rec)); err != nil {
		t.Fatal(err)
	}
	const as = " | Authorization: Bearer tok"
	want := []string{
		"GET /v2/domains?page=1&per_page=200" + as,
		"GET /v2/domains?page=2&per_page=200" + as,
		"GET /v2/domains/example.org/records?name=_acme-challenge.a.example.org&per_page=200&type=TXT" + as,
		"POST /v2/domains/example.org/records" + as + ` | {"type":"TXT","name":"_acme-challenge.a","data":"v","ttl":30}`,
		"GET /v2/domains/example.org/records?name=_acme-challenge.a.example.org&per_page=200&type=TXT" + as,
		"DELETE /v2/domains/example.org/records/1" + as,
	}
	if diff := cmp.Diff(want, r.Take()); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	for answer, says := range map[string]string{
		`401 {"id":"Unauthorized","message":"Unable to authenticate you"}`: "digitalocean: GET $/v2/domains/example.org/records?name=_acme-challenge.a.example.org&per_page=200&type=TXT: " +
			"401 Unauthorized: Unable to authenticate you (Unauthorized)",
		`404 {"id":"not_found","message":"The resource you were accessing could not be found."}`: "404 Not Found: The resource you were accessing could not be found.",
	} {
		r := dnstest.Record(t, dnstest.Script(t, answer, answer))
		p := build(t, r.URL)
		for _, err := range []error{p.Present(t.Context(), rec), p.CleanUp(t.Context(), rec)} {
			if says := strings.ReplaceAll(says, "$", r.URL); err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("error %v, want %q", err, says)
			}
		}
	}
	if _, err := New(setting.Source{Given: map[string]string{"DO_TOKEN": "t"}}); err == nil || !strings.Contains(err.Error(), "DO_AUTH_TOKEN is not set: a personal access token") ||
		!strings.Contains(err.Error(), `unknown setting "DO_TOKEN" (known: DO_API_URL,`) {
		t.Error(err)
	}
}
