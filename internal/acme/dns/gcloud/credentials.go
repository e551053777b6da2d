package gcloud

import (
	"context"
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
	"time"

	"gatehouse/internal/acme/dns/rest"
)

const (
	scope        = "https://www.googleapis.com/auth/ndev.clouddns.readwrite"
	tokenLife    = time.Hour
	defaultToken = "https://oauth2.googleapis.com/token"
)

// credentials are what a file of Google's says about who we are.
type credentials struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	ClientEmail  string `json:"client_email"`
	PrivateKey   string `json:"private_key"`
	PrivateKeyID string `json:"private_key_id"`
	TokenURI     string `json:"token_uri"`
	ClientID     string `json:"client_id"`
	ClientSecret string `json:"client_secret"`
	RefreshToken string `json:"refresh_token"`

	key *rsa.PrivateKey
}

// parseCredentials reads the JSON of a service account's key, or that of
// "gcloud auth application-default login".
func parseCredentials(raw []byte) (*credentials, error) {
	c := &credentials{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("not the JSON of a key: %w", err)
	}
	if c.TokenURI == "" {
		c.TokenURI = defaultToken
	}
	switch c.Type {
	case "authorized_user":
		if c.RefreshToken == "" {
			return nil, errors.New("no refresh_token in it")
		}
		return c, nil
	case "service_account":
	default:
		return nil, fmt.Errorf("its type is %q; known are service_account and authorized_user", c.Type)
	}
	block, _ := pem.Decode([]byte(c.PrivateKey))
	if block == nil || c.ClientEmail == "" {
		return nil, errors.New("no private_key in PEM, or no client_email in it")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("its private_key is damaged")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("its private_key is not an RSA key")
	}
	c.key = key
	return c, nil
}

// assertion is a JWT (RFC 7519) by which a service account asks for a token
// (RFC 7523).
func (c *credentials) assertion(now time.Time) (string, error) {
	var parts [2]string
	for i, part := range []map[string]any{
		{"alg": "RS256", "typ": "JWT", "kid": c.PrivateKeyID},
		{"iss": c.ClientEmail, "scope": scope, "aud": c.TokenURI, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix()},
	} {
		raw, err := json.Marshal(part)
		if err != nil {
			return "", err
		}
		parts[i] = base64.RawURLEncoding.EncodeToString(raw)
	}
	text := parts[0] + "." + parts[1]
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, c.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// granted is the answer with a token.
type granted struct {
	AccessToken string  `json:"access_token"`
	ExpiresIn   float64 `json:"expires_in"`
}

func (g granted) token(err error) (string, time.Duration, error) {
	if err == nil && g.AccessToken == "" {
		err = errors.New("the answer holds no access_token")
	}
	return g.AccessToken, time.Duration(g.ExpiresIn) * time.Second, err
}

// byKey gets a token for the owner of a credentials file.
func (c *credentials) byKey(client *rest.Client) func(context.Context) (string, time.Duration, error) {
	return func(ctx context.Context) (string, time.Duration, error) {
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {c.ClientID}, "client_secret": {c.ClientSecret}, "refresh_token": {c.RefreshToken}}
		if c.key != nil {
			assertion, err := c.assertion(time.Now())
			if err != nil {
				return "", 0, err
			}
			form = url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}
		}
		var g granted
		return g.token(client.Do(ctx, rest.Request{Method: http.MethodPost, Path: c.TokenURI, Body: form, Into: &g}))
	}
}

// metadata asks the server that every machine and pod of Google's can ask.
type metadata struct{ client *rest.Client }

func (m metadata) get(ctx context.Context, path string, into any) error {
	return m.client.Do(ctx, rest.Request{
		Method: http.MethodGet, Path: "/computeMetadata/v1/" + path, Header: map[string]string{"Metadata-Flavor": "Google"}, Into: into,
	})
}

func (m metadata) token(ctx context.Context) (string, time.Duration, error) {
	var g granted
	token, life, err := g.token(m.get(ctx, "instance/service-accounts/default/token", &g))
	if err != nil {
		err = fmt.Errorf("%w (no key is set, so the machine's own service account was asked for)", err)
	}
	return token, life, err
}

// impersonated gets a token of another service account.
func impersonated(client *rest.Client, account string) func(context.Context) (string, time.Duration, error) {
	return func(ctx context.Context) (string, time.Duration, error) {
		var out struct {
			AccessToken string
			ExpireTime  time.Time
		}
		err := client.Do(ctx, rest.Request{
			Method: http.MethodPost, Path: "/v1/projects/-/serviceAccounts/" + url.PathEscape(account) + ":generateAccessToken",
			Body: map[string]any{"scope": []string{scope}}, Into: &out,
		})
		if err == nil && out.AccessToken == "" {
			err = errors.New("the answer holds no accessToken")
		}
		return out.AccessToken, time.Until(out.ExpireTime), err
	}
}
