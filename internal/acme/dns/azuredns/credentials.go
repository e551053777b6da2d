package azuredns

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/acme/dns/rest"
	"gatehouse/internal/acme/dns/setting"
)

// identity is who we are towards Azure, by one of four ways to prove it.
type identity struct {
	tenant, client  string
	secret          string // client secret
	tokenFile       string // workload identity (AKS): a federated token that is renewed
	token           string // a federated token as it is
	authority, imds string // services asked
	resource        string // whose token is wanted
	principal       string // for errors: how we prove ourselves
	managed         bool
	http            *http.Client
}

// readIdentity reads who we are. The ways are tried in the order of Azure's
// own tools, unless AZURE_AUTH_METHOD says which.
func readIdentity(s *setting.Reader, authority string) *identity {
	id := &identity{
		tenant: s.Text("AZURE_TENANT_ID"), client: s.Text("AZURE_CLIENT_ID"), secret: s.Text("AZURE_CLIENT_SECRET"),
		tokenFile: s.Text("AZURE_FEDERATED_TOKEN_FILE", "AZURE_OIDC_TOKEN_FILE_PATH"), token: s.Text("AZURE_OIDC_TOKEN"),
		authority: strings.TrimSuffix(s.Text("AZURE_AUTHORITY_HOST"), "/"), imds: "http://169.254.169.254",
	}
	if id.authority == "" {
		id.authority = authority
	}
	s.Refuse("use a client secret, workload identity or managed identity", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_OIDC_REQUEST_URL", "AZURE_SERVICE_CONNECTION_ID")
	s.Ignored("AZURE_AUTH_MSI_TIMEOUT", "AZURE_CLIENT_CERTIFICATE_PASSWORD")
	method := strings.ToLower(s.Text("AZURE_AUTH_METHOD"))
	federated := id.tokenFile != "" || id.token != ""
	if method == "" {
		switch {
		case id.secret != "":
			method = "env"
		case federated:
			method = "wli"
		default:
			method = "msi"
		}
	}
	var missing []string
	need := func(have bool, name string) {
		if !have {
			missing = append(missing, name)
		}
	}
	switch method {
	case "env":
		id.principal, id.token, id.tokenFile = "client secret", "", ""
		need(id.secret != "", "AZURE_CLIENT_SECRET")
	case "wli", "oidc":
		id.principal, id.secret = "workload identity", ""
		need(federated, "AZURE_FEDERATED_TOKEN_FILE")
	case "msi":
		id.principal, id.managed = "managed identity", true
		return id
	default:
		s.Complain(fmt.Errorf("AZURE_AUTH_METHOD=%q: must be env (client secret), wli (workload identity), oidc or msi (managed identity)", method))
		return id
	}
	need(id.client != "", "AZURE_CLIENT_ID")
	need(id.tenant != "", "AZURE_TENANT_ID")
	if len(missing) > 0 {
		s.Complain(fmt.Errorf("%s needs %s too", id.principal, strings.Join(missing, " and ")))
	}
	return id
}

// fetch gets a token.
func (id *identity) fetch(ctx context.Context) (token string, life time.Duration, err error) {
	if id.managed {
		token, life, err = id.fromMachine(ctx)
	} else {
		token, life, err = id.fromAuthority(ctx)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", id.principal, err)
	}
	return token, life, err
}

// granted is the answer with a token; the machine gives its life as text.
type granted struct {
	AccessToken string      `json:"access_token"`
	ExpiresIn   json.Number `json:"expires_in"`
}

func (g granted) token(err error) (string, time.Duration, error) {
	if err == nil && g.AccessToken == "" {
		err = errors.New("the answer holds no access_token")
	}
	seconds, _ := strconv.ParseFloat(g.ExpiresIn.String(), 64)
	return g.AccessToken, time.Duration(seconds) * time.Second, err
}

func (id *identity) fromAuthority(ctx context.Context) (string, time.Duration, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id.client}, "scope": {id.resource + "/.default"}}
	if id.secret != "" {
		form.Set("client_secret", id.secret)
	} else {
		assertion := id.token
		if id.tokenFile != "" {
			raw, err := os.ReadFile(id.tokenFile)
			if err != nil {
				return "", 0, fmt.Errorf("read the federated token: %w", err)
			}
			assertion = strings.TrimSpace(string(raw))
		}
		form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
		form.Set("client_assertion", assertion)
	}
	var g granted
	client := &rest.Client{Name: "azuredns", Base: id.authority, HTTP: id.http, Explain: explain}
	return g.token(client.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/" + url.PathEscape(id.tenant) + "/oauth2/v2.0/token", Body: form, Into: &g}))
}

// fromMachine asks the machine's own service for the managed identity, that of
// AZURE_CLIENT_ID if there are several.
func (id *identity) fromMachine(ctx context.Context) (string, time.Duration, error) {
	query := url.Values{"api-version": {"2018-02-01"}, "resource": {id.resource}}
	if id.client != "" {
		query.Set("client_id", id.client)
	}
	var g granted
	client := &rest.Client{Name: "azuredns", Base: id.imds, HTTP: rest.NewNear(), Explain: explain}
	return g.token(client.Do(ctx, rest.Request{
		Method: http.MethodGet, Path: "/metadata/identity/oauth2/token?" + query.Encode(), Header: map[string]string{"Metadata": "true"}, Into: &g,
	}))
}
