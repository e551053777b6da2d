package httpreq

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

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
	t.Cleanup(p.client.HTTP.CloseIdleConnections)
	return p
}

func TestContract(t *testing.T) {
	var values []string
	r := dnstest.Record(t, func(_ http.ResponseWriter, r *http.Request) {
		var in struct{ FQDN, Value string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		values = slices.DeleteFunc(values, func(v string) bool { return v == in.Value })
		if r.URL.Path == "/present" {
			values = append(values, in.Value)
		}
	})
	dnstest.Contract(t, "example.org", func() dns.Provider { return build(t, map[string]string{"HTTPREQ_ENDPOINT": r.URL}) },
		r.Reading(func(string) []string { return slices.Clone(values) }))
}

var rec = dns.Record{Zone: "example.org", Name: "_acme-challenge.a.example.org", Value: "v", Domain: "a.example.org", KeyAuth: "tok.thumb"}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		name  string
		given map[string]string
		want  []string
	}{
		{"plain", map[string]string{}, []string{
			`POST /dns/present | {"fqdn":"_acme-challenge.a.example.org.","value":"v"}`,
			`POST /dns/cleanup | {"fqdn":"_acme-challenge.a.example.org.","value":"v"}`,
		}},
		{"password", map[string]string{"HTTPREQ_USERNAME": "me", "HTTPREQ_PASSWORD": "secret"}, []string{
			`POST /dns/present | Authorization: Basic bWU6c2VjcmV0 | {"fqdn":"_acme-challenge.a.example.org.","value":"v"}`,
			`POST /dns/cleanup | Authorization: Basic bWU6c2VjcmV0 | {"fqdn":"_acme-challenge.a.example.org.","value":"v"}`,
		}},
		{"raw", map[string]string{"HTTPREQ_MODE": "raw"}, []string{
			`POST /dns/present | {"domain":"a.example.org","token":"tok","keyAuth":"tok.thumb"}`,
			`POST /dns/cleanup | {"domain":"a.example.org","token":"tok","keyAuth":"tok.thumb"}`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := dnstest.Record(t, func(http.ResponseWriter, *http.Request) {}, "Authorization")
			c.given["HTTPREQ_ENDPOINT"] = r.URL + "/dns/"
			p := build(t, c.given)
			if err := errors.Join(p.Present(t.Context(), rec), p.CleanUp(t.Context(), rec)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, r.Take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	r := dnstest.Record(t, dnstest.Script(t, "500 the database is down"))
	p := build(t, map[string]string{"HTTPREQ_ENDPOINT": r.URL})
	if err := p.Present(t.Context(), rec); err == nil || err.Error() != "httpreq: POST "+r.URL+"/present: 500 Internal Server Error: the database is down" {
		t.Error(err)
	}
	old := rec
	old.KeyAuth = ""
	if err := build(t, map[string]string{"HTTPREQ_ENDPOINT": r.URL, "HTTPREQ_MODE": "RAW"}).CleanUp(t.Context(), old); err == nil {
		t.Error("RAW without a key authorization")
	}
	for says, given := range map[string]map[string]string{
		"HTTPREQ_ENDPOINT is not set: URL of the server":          {},
		"HTTPREQ_ENDPOINT: must be a URL":                         {"HTTPREQ_ENDPOINT": "localhost:80"},
		`HTTPREQ_MODE="COOKED": must be RAW or not set`:           {"HTTPREQ_ENDPOINT": r.URL, "HTTPREQ_MODE": "cooked"},
		`unknown setting "HTTPREQ_USER" (known: HTTPREQ_ENDPOINT`: {"HTTPREQ_ENDPOINT": r.URL, "HTTPREQ_USER": "me"},
	} {
		if _, err := New(setting.Source{Given: given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
