package traefik1

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// ACMEData is what a Traefik kept of its dealings with ACME servers.
type ACMEData struct {
	Accounts     []ACMEAccount
	Certificates []ACMECertificate
}

// ACMEAccount is an account at an ACME server.
type ACMEAccount struct {
	Resolver string // v2 and later: whose account it is
	Email    string
	URI      string // of the registration; "" if it was not kept
	KeyPEM   []byte // PKCS#8
}

// ACMECertificate is a certificate with its key. The key fits the certificate
// and the certificate covers the names; whether it has expired is not said.
type ACMECertificate struct {
	Resolver string
	Names    []string // the first is the main name
	CertPEM  []byte   // chain, leaf first
	KeyPEM   []byte   // PKCS#8
}

// The shapes of all generations; JSON names are matched in any case.
type (
	acmeAccount struct {
		Email        string
		Registration *struct{ URI string }
		PrivateKey   []byte
	}
	acmeDomain struct {
		Main string
		SANs []string
	}
	// acmeObject is 1.5's file and all of 1.x's key-value objects.
	acmeObject struct {
		acmeAccount
		DomainsCertificate struct {
			Certs []struct {
				Domains     acmeDomain
				Certificate *struct{ PrivateKey, Certificate []byte }
			}
		}
	}
	// acmeResolver is 1.6's and 1.7's file, and one resolver of later ones.
	acmeResolver struct {
		Account      *acmeAccount
		Certificates []struct {
			Domain           acmeDomain
			Certificate, Key []byte
		}
	}
)

// ReadACME reads an acme.json of any Traefik, or the object 1.x kept in a
// key-value store: JSON, plain, in base64, in gzip, or in gzip in base64.
// Empty data is no mistake: there is nothing in it. A part that cannot be used
// is left out with a problem; source names the data in those.
func ReadACME(data []byte, source string) (ACMEData, []config.Problem) {
	r := acmeReader{source: source}
	text, err := unpack(data, 0)
	if err != nil {
		r.problem("", err.Error())
		return r.out, r.problems
	}
	if len(text) == 0 {
		return r.out, nil
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		r.problem("", "is no ACME data of Traefik: "+err.Error())
		return r.out, r.problems
	}
	has := func(name string) bool { return keys[name] != nil }
	switch {
	case has("DomainsCertificate") || has("PrivateKey") || has("Registration"):
		r.object(text)
	case has("Account") || has("Certificates"):
		r.resolver("", text)
	default:
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			r.resolver(name, keys[name])
		}
	}
	return r.out, r.problems
}

// maxUnpacked bounds what compressed data may grow to.
const maxUnpacked = 64 << 20

// unpack takes base64 and gzip off until JSON is left.
func unpack(data []byte, depth int) ([]byte, error) {
	data = bytes.TrimSpace(data)
	switch {
	case len(data) == 0 || data[0] == '{' || string(data) == "null":
		return data, nil
	case depth > 2:
		return nil, errors.New("is packed more than twice")
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		plain, err := gunzip(data)
		if err != nil {
			return nil, fmt.Errorf("cannot be unpacked: %w", err)
		}
		return unpack(plain, depth+1)
	case bytes.HasPrefix(data, []byte("\x1f\uFFFD")):
		return nil, errors.New("is compressed data that etcd's v2 API has damaged, which 1.5.2 and later wrote there: it cannot be repaired; import the acme.json file, if there is one")
	}
	plain, err := base64.StdEncoding.DecodeString(string(data))
	if err != nil {
		return nil, errors.New("is neither JSON nor gzip nor base64")
	}
	return unpack(plain, depth+1)
}

func gunzip(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err == nil && len(plain) > maxUnpacked {
		err = fmt.Errorf("more than %d bytes", maxUnpacked)
	}
	return plain, err
}

// acmeReader gathers what is found.
type acmeReader struct {
	source   string
	out      ACMEData
	problems []config.Problem
}

func (r *acmeReader) problem(object, message string) {
	r.problems = append(r.problems, config.Problem{Origin: config.Origin{Source: r.source}, Object: object, Message: message})
}

func (r *acmeReader) object(text []byte) {
	var o acmeObject
	if err := json.Unmarshal(text, &o); err != nil {
		r.problem("", "is no ACME account of 1.x: "+err.Error())
		return
	}
	r.account("", &o.acmeAccount)
	for i, c := range o.DomainsCertificate.Certs {
		if c.Certificate == nil {
			r.problem(certificateName("", i, c.Domains), "has no certificate: it was never issued")
			continue
		}
		r.certificate("", i, c.Domains, c.Certificate.Certificate, c.Certificate.PrivateKey)
	}
}

func (r *acmeReader) resolver(name string, text []byte) {
	var v *acmeResolver
	if err := json.Unmarshal(text, &v); err != nil {
		r.problem("resolver "+name, "cannot be read: "+err.Error())
		return
	}
	if v == nil {
		return // a resolver that has done nothing yet
	}
	r.account(name, v.Account)
	for i, c := range v.Certificates {
		r.certificate(name, i, c.Domain, c.Certificate, c.Key)
	}
}

func (r *acmeReader) account(resolver string, a *acmeAccount) {
	if a == nil || len(a.PrivateKey) == 0 {
		return // never registered
	}
	key, err := privateKey(a.PrivateKey)
	if err != nil {
		r.problem("account "+a.Email, "private key: "+err.Error())
		return
	}
	account := ACMEAccount{Resolver: resolver, Email: a.Email, KeyPEM: key}
	if a.Registration != nil {
		account.URI = a.Registration.URI
	}
	r.out.Accounts = append(r.out.Accounts, account)
}

func certificateName(resolver string, i int, d acmeDomain) string {
	name := d.Main
	if name == "" {
		name = fmt.Sprintf("number %d", i+1)
	}
	if resolver != "" {
		name += " of resolver " + resolver
	}
	return "certificate " + name
}

func (r *acmeReader) certificate(resolver string, i int, d acmeDomain, chain, keyText []byte) {
	key, err := privateKey(keyText)
	if err != nil {
		r.problem(certificateName(resolver, i, d), "private key: "+err.Error())
		return
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		r.problem(certificateName(resolver, i, d), strings.TrimPrefix(err.Error(), "tls: "))
		return
	}
	names := config.Domain{Main: d.Main, SANs: d.SANs}.Names()
	if len(names) == 0 {
		names = pair.Leaf.DNSNames
	}
	for _, name := range names {
		if err := covers(pair.Leaf, name); err != nil {
			r.problem(certificateName(resolver, i, d), err.Error())
			return
		}
	}
	if len(names) == 0 {
		r.problem(certificateName(resolver, i, d), "is for no name")
		return
	}
	r.out.Certificates = append(r.out.Certificates, ACMECertificate{
		Resolver: resolver, Names: names, CertPEM: slices.Clone(chain), KeyPEM: key,
	})
}

// covers wants a wildcard to be in the certificate as it is written.
func covers(leaf *x509.Certificate, name string) error {
	if strings.HasPrefix(name, "*.") {
		if !slices.ContainsFunc(leaf.DNSNames, func(n string) bool { return strings.EqualFold(n, name) }) {
			return fmt.Errorf("is not for %s", name)
		}
		return nil
	}
	return leaf.VerifyHostname(name)
}

// privateKey reads a key, PEM or DER, of any encoding Traefik used, and gives
// it as PKCS#8 PEM.
func privateKey(text []byte) ([]byte, error) {
	der := text
	if block, _ := pem.Decode(text); block != nil {
		der = block.Bytes
	}
	if len(der) == 0 {
		return nil, errors.New("there is none")
	}
	var key crypto.PrivateKey
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(der)
	}
	if err != nil {
		key, err = x509.ParseECPrivateKey(der)
	}
	if err != nil {
		return nil, errors.New("is neither PKCS#8, PKCS#1 nor SEC 1")
	}
	if der, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
