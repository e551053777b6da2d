package azuredns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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

func build(t *testing.T, url string, given map[string]string) *Provider {
	t.Helper()
	all := map[string]string{"AZURE_SUBSCRIPTION_ID": "sub", "AZURE_TENANT_ID": "ten", "AZURE_CLIENT_ID": "cli", "AZURE_CLIENT_SECRET": "sec", "AZURE_AUTHORITY_HOST": url}
	for k, v := range given {
		if all[k] = v; v == "" {
			delete(all, k)
		}
	}
	p, err := New(setting.Source{Given: all})
	if err != nil {
		t.Fatal(err)
	}
	p.client.Base, p.id.imds, p.pace, p.client.Backoff = url, url, time.Millisecond, time.Millisecond
	t.Cleanup(p.client.HTTP.CloseIdleConnections)
	return p
}

// service keeps record sets as Azure DNS does: with ETags.
type service struct {
	url  string
	sets map[string]rrset
	tags int
}

func (s *service) api(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	refuse := func(status int, code, message string) {
		answer(status, map[string]any{"error": map[string]string{"code": code, "message": message}})
	}
	zone := func(group, name string) map[string]string {
		return map[string]string{"id": "/subscriptions/sub/resourceGroups/" + group + "/providers/Microsoft.Network/dnszones/" + name, "name": name}
	}
	path := r.URL.Path
	_, name, isSet := strings.Cut(path, "/TXT/")
	have, there := s.sets[name]
	switch {
	case path == "/ten/oauth2/v2.0/token":
		answer(200, map[string]any{"access_token": "tok", "expires_in": 3599})
	case path == "/metadata/identity/oauth2/token":
		answer(200, map[string]any{"access_token": "tok", "expires_in": "86399"})
	case isSet && r.Method == http.MethodGet && there:
		answer(200, have)
	case isSet && r.Method == http.MethodGet:
		refuse(404, "NotFound", "The resource record set was not found")
	case isSet && (r.Header.Get("If-None-Match") == "*" && there || r.Header.Get("If-Match") != "" && r.Header.Get("If-Match") != have.ETag):
		refuse(412, "PreconditionFailed", "The condition was not satisfied")
	case isSet && r.Method == http.MethodDelete:
		delete(s.sets, name)
	case isSet && r.Method == http.MethodPut:
		var in rrset
		_ = json.NewDecoder(r.Body).Decode(&in)
		s.tags++
		in.ETag = fmt.Sprint("tag", s.tags)
		s.sets[name] = in
		answer(201, in)
	case strings.HasSuffix(path, "/page2"):
		answer(200, map[string]any{"value": []any{zone("rg", "office.example.org")}})
	default:
		answer(200, map[string]any{"value": []any{zone("top", "Example.org")}, "nextLink": s.url + "/page2"})
	}
}

func (s *service) values(name string) (values []string) {
	for _, r := range s.sets[strings.TrimSuffix(name, ".office.example.org")].Properties.TXTRecords {
		values = append(values, strings.Join(r.Value, ""))
	}
	return values
}

func start(t *testing.T) (*service, *dnstest.Recorder) {
	s := &service{sets: map[string]rrset{}}
	r := dnstest.Record(t, s.api, "Authorization", "Metadata", "If-Match", "If-None-Match")
	s.url = r.URL
	return s, r
}

func TestContract(t *testing.T) {
	s, r := start(t)
	dnstest.Contract(t, "office.example.org", func() dns.Provider { return build(t, r.URL, nil) }, r.Reading(s.values))
}

var rec = dns.Record{Zone: "office.example.org", Name: "_acme-challenge.office.example.org", Value: "v", TTL: dns.DefaultTTL}

// TestIdentities pins how each kind proves itself.
func TestIdentities(t *testing.T) {
	_, r := start(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("federated\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const scope = "scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
	const token = "POST /ten/oauth2/v2.0/token | client_"
	for _, c := range []struct {
		name  string
		given map[string]string
		want  string
	}{
		{"secret", nil, token + "id=cli&client_secret=sec&grant_type=client_credentials&" + scope},
		{"workload identity", map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_FEDERATED_TOKEN_FILE": file},
			token + "assertion=federated&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_id=cli&grant_type=client_credentials&" + scope},
		{"managed identity", map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_ID": "", "AZURE_TENANT_ID": ""},
			"GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fmanagement.azure.com | Metadata: true"},
		{"managed identity of several", map[string]string{"AZURE_AUTH_METHOD": "msi", "AZURE_ENVIRONMENT": "china"},
			"GET /metadata/identity/oauth2/token?api-version=2018-02-01&client_id=cli&resource=https%3A%2F%2Fmanagement.chinacloudapi.cn | Metadata: true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if zone, err := build(t, r.URL, c.given).FindZone(t.Context(), rec.Name); err != nil || zone != rec.Zone {
				t.Fatal(zone, err)
			}
			const list = "GET /subscriptions/sub/providers/Microsoft.Network/dnsZones?api-version=2018-05-01 | Authorization: Bearer tok"
			if diff := cmp.Diff([]string{c.want, list, "GET /page2 | Authorization: Bearer tok"}, r.Take()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRequests(t *testing.T) {
	s, r := start(t)
	s.sets["_acme-challenge"] = rrset{ETag: "old", Properties: properties{60, []txt{{[]string{"ot", "her"}}}}}
	p := build(t, r.URL, map[string]string{"AZURE_RESOURCE_GROUP": "rg", "AZURE_ZONE_NAME": "office.example.org", "AZURE_PRIVATE_ZONE": "true"})
	fresh := rec
	fresh.Name = "_acme-challenge.www.office.example.org"
	if err := errors.Join(p.Present(t.Context(), rec), p.CleanUp(t.Context(), rec), p.Present(t.Context(), fresh), p.CleanUp(t.Context(), fresh)); err != nil {
		t.Fatal(err)
	}
	const (
		set  = " /subscriptions/sub/resourceGroups/rg/providers/Microsoft.Network/privateDnsZones/office.example.org/TXT/_acme-challenge"
		api  = "?api-version=2020-06-01 | Authorization: Bearer tok"
		body = ` | {"properties":{"TTL":10,"TXTRecords":[`
	)
	want := []string{
		"GET" + set + api,
		"PUT" + set + api + " | If-Match: old" + body + `{"value":["ot","her"]},{"value":["v"]}]}}`,
		"GET" + set + api,
		"PUT" + set + api + " | If-Match: tag1" + body + `{"value":["ot","her"]}]}}`,
		"GET" + set + ".www" + api,
		"PUT" + set + ".www" + api + " | If-None-Match: *" + body + `{"value":["v"]}]}}`,
		"GET" + set + ".www" + api,
		"DELETE" + set + ".www" + api + " | If-Match: tag3",
	}
	if diff := cmp.Diff(want, r.Take()[1:]); diff != "" {
		t.Error(diff)
	}
}

func TestErrors(t *testing.T) {
	const token = `200 {"access_token":"t","expires_in":"3600"}`
	for _, c := range []struct {
		name   string
		given  map[string]string
		script []string
		says   string
	}{
		{"secret", nil, []string{`401 {"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: x"}`},
			"get a token: client secret: azuredns: POST $/ten/oauth2/v2.0/token: 401 Unauthorized: invalid_client AADSTS7000215: Invalid client secret provided."},
		{"machine", map[string]string{"AZURE_AUTH_METHOD": "MSI"}, []string{`400 {"error":"invalid_request","error_description":"Identity not found"}`},
			"get a token: managed identity: azuredns: GET $/metadata/identity/oauth2/token?api-version=2018-02-01&client_id=cli&resource=https%3A%2F%2Fmanagement.azure.com: 400 Bad Request: invalid_request Identity not found"},
		{"no token file", map[string]string{"AZURE_AUTH_METHOD": "wli", "AZURE_OIDC_TOKEN_FILE_PATH": "/nowhere"}, nil, "workload identity: read the federated token: open /nowhere"},
		{"list", nil, []string{token, `403 {"error":{"code":"AuthorizationFailed","message":"The client does not have authorization"}}`},
			"dnsZones?api-version=2018-05-01: 403 Forbidden: The client does not have authorization (AuthorizationFailed); set AZURE_RESOURCE_GROUP"},
		{"list elsewhere", nil, []string{token, `200 {"value":[],"nextLink":"https://evil.test/"}`}, `the list goes on at "https://evil.test/", which is not the API`},
		{"write", map[string]string{"AZURE_RESOURCE_GROUP": "rg", "AZURE_ZONE_NAME": "office.example.org"}, []string{token, "404 {}", `400 {"code":"BadRequest","message":"no"}`},
			"azuredns: PUT $/subscriptions/sub/resourceGroups/rg/providers/Microsoft.Network/dnsZones/office.example.org/TXT/_acme-challenge?api-version=2018-05-01: 400 Bad Request: no (BadRequest)"},
	} {
		r := dnstest.Record(t, dnstest.Script(t, c.script...))
		err := build(t, r.URL, c.given).Present(t.Context(), rec)
		if says := strings.ReplaceAll(c.says, "$", r.URL); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", c.name, err, says)
		}
	}
}

func TestSettings(t *testing.T) {
	for says, given := range map[string]map[string]string{
		"AZURE_SUBSCRIPTION_ID is not set":                         {},
		"client secret needs AZURE_CLIENT_ID and AZURE_TENANT_ID":  {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_CLIENT_SECRET": "x"},
		"workload identity needs AZURE_FEDERATED_TOKEN_FILE":       {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_AUTH_METHOD": "wli"},
		`AZURE_AUTH_METHOD="cli": must be env`:                     {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_AUTH_METHOD": "cli"},
		`AZURE_ENVIRONMENT="moon": must be public`:                 {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_ENVIRONMENT": "moon"},
		"AZURE_ZONE_NAME needs AZURE_RESOURCE_GROUP":               {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_ZONE_NAME": "z"},
		"AZURE_CLIENT_CERTIFICATE_PATH is set, which is not":       {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_CLIENT_CERTIFICATE_PATH": "p"},
		`unknown setting "AZURE_CLIENTID", did you mean AZURE_CLI`: {"AZURE_SUBSCRIPTION_ID": "s", "AZURE_CLIENTID": "p"},
	} {
		if _, err := New(setting.Source{Given: given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
}
