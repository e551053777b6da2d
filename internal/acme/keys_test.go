package acme

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// issue makes a certificate for names, signed by parent's key.
func issue(t testing.TB, subject, issuer string, key, by crypto.Signer, until time.Time, names ...string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: subject},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until, IsCA: len(names) == 0, BasicConstraintsValid: true}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func selfSigned(t testing.TB, key crypto.Signer, until time.Time, names ...string) []byte {
	return pemOf(issue(t, "leaf", "leaf", key, key, until, names...))
}

func pemOf(cs ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range cs {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return text
}

func signer(t testing.TB, kind KeyType) crypto.Signer {
	t.Helper()
	text, err := newKey(kind)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCheckChain(t *testing.T) {
	key, ca, other := signer(t, EC256), signer(t, EC384), signer(t, "")
	now := time.Now()
	until := now.Add(12 * time.Hour)
	root := issue(t, "CA", "root", ca, other, until)
	leaf := issue(t, "", "CA", key, ca, until, "a.example.com", "b.example.com", "192.0.2.1")
	names := []string{"b.example.com", "a.example.com", "192.0.2.1"}
	for name, c := range map[string]struct {
		chain []*x509.Certificate
		key   crypto.Signer
		names []string
		now   time.Time
		want  string
	}{
		"good":              {[]*x509.Certificate{leaf, root}, key, names, now, ""},
		"good, leaf alone":  {[]*x509.Certificate{leaf}, key, names, now, ""},
		"fewer names asked": {[]*x509.Certificate{leaf}, key, names[:1], now, ""},
		"clock behind":      {[]*x509.Certificate{leaf}, key, names, leaf.NotBefore.Add(-time.Minute), ""},
		"not begun":         {[]*x509.Certificate{leaf}, key, names, leaf.NotBefore.Add(-2 * time.Hour), "valid from"},
		"over":              {[]*x509.Certificate{leaf}, key, names, until.Add(time.Second), "valid from"},
		"another key":       {[]*x509.Certificate{leaf, root}, other, names, now, "its key is not ours"},
		"a name missing":    {[]*x509.Certificate{leaf, root}, key, append([]string{"c.example.com"}, names...), now, "not for c.example.com"},
		"broken":            {[]*x509.Certificate{leaf, issue(t, "CA", "root", other, other, until)}, key, names, now, "chain breaks"},
	} {
		err := checkChain(c.chain, c.key, c.names, c.now)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestParseChainRefuses(t *testing.T) {
	key := signer(t, EC256)
	good := selfSigned(t, key, time.Now().Add(time.Hour), "a.example.com")
	private, _ := newKey(EC256)
	for name, text := range map[string]string{
		"nothing": "", "text": "hello", "text behind": string(good) + "hello", "a key": string(private) + string(good),
		"too many": strings.Repeat(string(good), 11), "no certificate": "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
	} {
		if _, err := parseChain([]byte(text)); err == nil {
			t.Errorf("%s was taken", name)
		} else if strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Errorf("%s: the error shows it: %v", name, err)
		}
	}
}

func TestPreferredChain(t *testing.T) {
	key, ca := signer(t, EC256), signer(t, EC256)
	until := time.Now().Add(time.Hour)
	leaf := issue(t, "", "CA", key, ca, until, "a.example.com")
	first, second := pemOf(leaf, issue(t, "CA", "Root One", ca, ca, until)), pemOf(leaf, issue(t, "CA", "Root Two", ca, ca, until))
	for want, c := range map[string]struct {
		name  string
		found bool
	}{string(first): {"", true}, string(second): {"Root Two", true}} {
		if got, found := preferred([][]byte{first, second}, c.name); string(got) != want || found != c.found {
			t.Errorf("%q: the wrong one, found %v", c.name, found)
		}
	}
	if got, found := preferred([][]byte{first, second}, "Root Three"); string(got) != string(first) || found {
		t.Error("without the preferred one the first must do, and be told of")
	}
}

func TestKeyTypes(t *testing.T) {
	for _, kind := range []KeyType{"", EC256, EC384, RSA2048} {
		csr, err := signingRequest(signer(t, kind), []string{"a.example.com", "192.0.2.1"})
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		got, err := x509.ParseCertificateRequest(csr)
		if err != nil || len(got.DNSNames) != 1 || len(got.IPAddresses) != 1 || got.CheckSignature() != nil {
			t.Errorf("%s: %v %+v", kind, err, got)
		}
	}
	if _, err := newKey("DSA1024"); err == nil {
		t.Error("DSA1024 was made")
	}
}
