package gcloud

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
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

// serviceAccount makes a key file of Google's form.
func serviceAccount(t *testing.T, tokenURI string) (string, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "proj", "client_email": "me@proj.iam", "private_key_id": "kid", "token_uri": tokenURI,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), key
}

func build(t *testing.T, url string, given map[string]string) *Provider {
	t.Helper()
	p, err := newAt(setting.Source{Given: given}, endpoints{url, url + "/iam", url})
	if err != nil {
		t.Fatal(err)
	}
	p.pace, p.client.Backoff, p.meta.client.Backoff = time.Millisecond, time.Millisecond, time.Millisecond
	t.Cleanup(p.client.HTTP.CloseIdleConnections)
	return p
}

// service keeps record sets as Cloud DNS does: a deletion must name what is
// there, an addition must find nothing, and a change takes its time.
type service struct {
	sets    map[string]rrset
	changes int
}

func (s *service) api(w http.ResponseWriter, r *http.Request) {
	answer := func(status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	refuse := func(status int, message, code string) {
		answer(status, map[string]any{"error": map[string]any{"code": status, "message": message, "status": code}})
	}
	const zone = "/dns/v1/projects/proj/managedZones/office"
	switch path := r.URL.Path; {
	case path == "/token", path == "/computeMetadata/v1/instance/service-accounts/default/token":
		answer(200, map[string]any{"access_token": "tok", "expires_in": 3599, "token_type": "Bearer"})
	case path == "/iam/v1/projects/-/serviceAccounts/dns@proj.iam:generateAccessToken":
		answer(200, map[string]any{"accessToken": "other", "expireTime": time.Now().Add(time.Hour).Format(time.RFC3339)})
	case path == "/computeMetadata/v1/project/project-id":
		_, _ = w.Write([]byte("proj\n"))
	case path == "/dns/v1/projects/proj/managedZones" && r.URL.Query().Get("pageToken") == "":
		answer(200, map[string]any{"nextPageToken": "p 2", "managedZones": []managed{{"inside", "office.example.org.", "private"}, {"top", "example.org.", "public"}}})
	case path == "/dns/v1/projects/proj/managedZones":
		answer(200, map[string]any{"managedZones": []managed{{"office", "office.example.org.", "public"}}})
	case path == zone:
		answer(200, managed{"office", "office.example.org.", "public"})
	case path == zone+"/rrsets":
		sets := []rrset{}
		if set, ok := s.sets[r.URL.Query().Get("name")]; ok {
			sets = append(sets, set)
		}
		answer(200, map[string]any{"rrsets": sets})
	case path == zone+"/changes":
		var c change
		_ = json.NewDecoder(r.Body).Decode(&c)
		for _, d := range c.Deletions {
			if !cmp.Equal(s.sets[d.Name], d) {
				refuse(412, "Precondition not met for 'entity.change.deletions[0]'", "FAILED_PRECONDITION")
				return
			}
		}
		for _, a := range c.Additions {
			if _, there := s.sets[a.Name]; there && len(c.Deletions) == 0 {
				refuse(409, "The resource 'entity.change.additions[0]' already exists", "ALREADY_EXISTS")
				return
			}
		}
		for _, d := range c.Deletions {
			delete(s.sets, d.Name)
		}
		for _, a := range c.Additions {
			s.sets[a.Name] = a
		}
		s.changes++
		c.ID, c.Status = fmt.Sprint(s.changes), "pending"
		answer(200, c)
	case strings.HasPrefix(path, zone+"/changes/"):
		answer(200, change{ID: "1", Status: "done"})
	default:
		refuse(404, "not found: "+path, "NOT_FOUND")
	}
}

func (s *service) values(name string) (values []string) {
	for _, v := range s.sets[name+"."].RRDatas {
		values = append(values, strings.Trim(v, `"`))
	}
	return values
}

func TestContract(t *testing.T) {
	s := &service{sets: map[string]rrset{}}
	r := dnstest.Record(t, s.api)
	dnstest.Contract(t, "office.example.org", func() dns.Provider { return build(t, r.URL, map[string]string{"GCE_PROJECT": "proj"}) }, r.Reading(s.values))
}

var rec = dns.Record{Zone: "office.example.org", Name: "_acme-challenge.office.example.org", Value: "v", TTL: dns.DefaultTTL}

// TestRequests pins what is sent, with each kind of credentials.
func TestRequests(t *testing.T) {
	s := &service{sets: map[string]rrset{"_acme-challenge.office.example.org.": {"_acme-challenge.office.example.org.", "TXT", 60, []string{`"other"`}}}}
	r := dnstest.Record(t, s.api, "Authorization", "Metadata-Flavor")
	key, public := serviceAccount(t, r.URL+"/token")
	file := filepath.Join(t.TempDir(), "key.json")
	user := filepath.Join(t.TempDir(), "user.json")
	for path, text := range map[string]string{file: key, user: `{"type":"authorized_user","client_id":"id","client_secret":"cs","refresh_token":"rt","token_uri":"` + r.URL + `/token"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		zones   = "/dns/v1/projects/proj/managedZones"
		as      = " | Authorization: Bearer tok"
		machine = "GET /computeMetadata/v1/instance/service-accounts/default/token | Metadata-Flavor: Google"
	)
	for _, c := range []struct {
		name  string
		given map[string]string
		first []string
		as    string
	}{
		{"key", map[string]string{"GCE_SERVICE_ACCOUNT": key}, []string{"JWT"}, as},
		{"key file", map[string]string{"GCE_SERVICE_ACCOUNT_FILE": file, "GCE_PROJECT": "proj"}, []string{"JWT"}, as},
		{"application default", map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": file}, []string{"JWT"}, as},
		{"a person's", map[string]string{"GOOGLE_APPLICATION_CREDENTIALS": user, "GCE_PROJECT": "proj"},
			[]string{"POST /token | client_id=id&client_secret=cs&grant_type=refresh_token&refresh_token=rt"}, as},
		{"the machine's", map[string]string{"GCE_METADATA_HOST": strings.TrimPrefix(r.URL, "http://")},
			[]string{"GET /computeMetadata/v1/project/project-id | Metadata-Flavor: Google", machine}, as},
		{"another's", map[string]string{"GCE_PROJECT": "proj", "GCE_IMPERSONATE_SERVICE_ACCOUNT": "dns@proj.iam"},
			[]string{machine, "POST /iam/v1/projects/-/serviceAccounts/dns@proj.iam:generateAccessToken" + as + ` | {"scope":["` + scope + `"]}`}, " | Authorization: Bearer other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := build(t, r.URL, c.given)
			if zone, err := p.FindZone(t.Context(), rec.Name); err != nil || zone != rec.Zone {
				t.Fatal(zone, err)
			}
			got := r.Take()
			if c.first[0] == "JWT" {
				checkAssertion(t, got[0], r.URL+"/token", &public.PublicKey)
				got[0] = "JWT"
			}
			want := append(c.first, "GET "+zones+c.as, "GET "+zones+"?pageToken=p+2"+c.as)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	p := build(t, r.URL, map[string]string{"GCE_PROJECT": "proj", "GCE_ZONE_ID": "office"})
	if err := errors.Join(p.Present(t.Context(), rec), p.CleanUp(t.Context(), rec)); err != nil {
		t.Fatal(err)
	}
	const set = `"name":"_acme-challenge.office.example.org.","type":"TXT"`
	want := []string{
		machine, "GET " + zones + "/office" + as,
		"GET " + zones + "/office/rrsets?name=_acme-challenge.office.example.org.&type=TXT" + as,
		"POST " + zones + "/office/changes" + as + ` | {"additions":[{` + set + `,"ttl":10,"rrdatas":["\"other\"","\"v\""]}],"deletions":[{` + set + `,"ttl":60,"rrdatas":["\"other\""]}]}`,
		"GET " + zones + "/office/changes/1" + as,
		"GET " + zones + "/office/rrsets?name=_acme-challenge.office.example.org.&type=TXT" + as,
		"POST " + zones + "/office/changes" + as + ` | {"additions":[{` + set + `,"ttl":10,"rrdatas":["\"other\""]}],"deletions":[{` + set + `,"ttl":10,"rrdatas":["\"other\"","\"v\""]}]}`,
	}
	if diff := cmp.Diff(want, r.Take()); diff != "" {
		t.Error(diff)
	}
}

// checkAssertion reads the JWT as Google would.
func checkAssertion(t *testing.T, line, audience string, key *rsa.PublicKey) {
	t.Helper()
	form, _ := url.ParseQuery(strings.TrimPrefix(line, "POST /token | "))
	parts := strings.Split(form.Get("assertion"), ".")
	if form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || len(parts) != 3 {
		t.Fatalf("asked for a token by %q", line)
	}
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature); err != nil {
		t.Error(err)
	}
	var claims struct {
		Iss, Scope, Aud string
		Iat, Exp        int64
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if err := json.Unmarshal(raw, &claims); err != nil || claims.Iss != "me@proj.iam" || claims.Scope != scope || claims.Aud != audience || claims.Exp-claims.Iat != 3600 {
		t.Errorf("claims %s, %v", raw, err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name   string
		script []string
		says   string
	}{
		{"token", []string{`400 {"error":"invalid_grant","error_description":"Invalid JWT Signature."}`},
			"list zones: gcloud: GET $/dns/v1/projects/proj/managedZones: get a token: gcloud: POST $/token: 400 Bad Request: invalid_grant: Invalid JWT Signature."},
		{"no token", []string{`200 {}`}, "get a token: the answer holds no access_token"},
		{"right", []string{`200 {"access_token":"t","expires_in":3600}`, `403 {"error":{"code":403,"message":"Forbidden","status":"PERMISSION_DENIED"}}`},
			"list zones: gcloud: GET $/dns/v1/projects/proj/managedZones: 403 Forbidden: Forbidden PERMISSION_DENIED"},
		{"zone", []string{`200 {"access_token":"t","expires_in":3600}`, `200 {}`}, "gcloud shows these credentials 0 zones, and no zone office.example.org"},
		{"change", []string{`200 {"access_token":"t","expires_in":3600}`, `200 {"managedZones":[{"name":"office","dnsName":"office.example.org."}]}`, `200 {}`,
			`400 {"error":{"message":"Invalid value for rrdatas"}}`}, "gcloud: POST $/dns/v1/projects/proj/managedZones/office/changes: 400 Bad Request: Invalid value for rrdatas"},
	} {
		r := dnstest.Record(t, dnstest.Script(t, c.script...))
		key, _ := serviceAccount(t, r.URL+"/token")
		err := build(t, r.URL, map[string]string{"GCE_SERVICE_ACCOUNT": key}).Present(t.Context(), rec)
		if says := strings.ReplaceAll(c.says, "$", r.URL); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v, want %q", c.name, err, says)
		}
	}
}

func TestSettings(t *testing.T) {
	good, _ := serviceAccount(t, "")
	for says, given := range map[string]map[string]string{
		"GCE_SERVICE_ACCOUNT: not the JSON of a key":                    {"GCE_SERVICE_ACCOUNT": "/path/of/it"},
		`GCE_SERVICE_ACCOUNT: its type is "external_account"`:           {"GCE_SERVICE_ACCOUNT": `{"type":"external_account"}`},
		"GCE_SERVICE_ACCOUNT: no private_key in PEM":                    {"GCE_SERVICE_ACCOUNT": `{"type":"service_account"}`},
		"GCE_SERVICE_ACCOUNT: its private_key is damaged":               {"GCE_SERVICE_ACCOUNT": `{"type":"service_account","client_email":"e","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`},
		"read GOOGLE_APPLICATION_CREDENTIALS: open /nowhere":            {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"},
		`GCE_ALLOW_PRIVATE_ZONE="perhaps": must be true or false`:       {"GCE_ALLOW_PRIVATE_ZONE": "perhaps"},
		`unknown setting "GCE_PROJEKT", did you mean GCE_PROJECT?`:      {"GCE_PROJEKT": "p", "GCE_SERVICE_ACCOUNT": good},
		"GCE_SERVICE_ACCOUNT: no refresh_token in it":                   {"GCE_SERVICE_ACCOUNT": `{"type":"authorized_user"}`},
		"GCE_SERVICE_ACCOUNT and GCE_SERVICE_ACCOUNT_FILE are both set": {"GCE_SERVICE_ACCOUNT": good, "GCE_SERVICE_ACCOUNT_FILE": "gcloud_test.go"},
	} {
		if _, err := New(setting.Source{Given: given}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want %q", err, says)
		}
	}
	if p, err := New(setting.Source{Given: map[string]string{"GCE_SERVICE_ACCOUNT": good}}); err != nil || p.project != "proj" || !p.Confirms() {
		t.Error(p, err)
	}
}

func FuzzCredentials(f *testing.F) {
	f.Add([]byte(`{"type":"authorized_user","client_id":"id","refresh_token":"rt"}`))
	f.Add([]byte(`{"type":"service_account","client_email":"e","private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parseCredentials(raw)
		if (c == nil) == (err == nil) {
			t.Errorf("credentials %v and error %v", c, err)
		}
		if c != nil && (c.TokenURI == "" || c.key == nil && c.RefreshToken == "") {
			t.Errorf("nothing to ask for a token with: %+v", c)
		}
	})
}
