package traefik1

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// issued is a real certificate with its key, as Traefik kept them.
type issued struct{ cert, key []byte }

func issue(t testing.TB, key crypto.Signer, names ...string) issued {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var keyPEM []byte
	switch k := key.(type) {
	case *rsa.PrivateKey:
		keyPEM = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)})
	case *ecdsa.PrivateKey:
		ec, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ec})
	}
	return issued{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM}
}

func rsaKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

type doc = map[string]any

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func compress(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// generations gives the same account and certificate as every Traefik kept it.
func generations(t testing.TB, account *rsa.PrivateKey, c issued) map[string][]byte {
	accountKey := x509.MarshalPKCS1PrivateKey(account)
	domain := doc{"Main": "a.example.com", "SANs": []string{"b.example.com"}}
	v15 := encode(t, doc{
		"Email":        "me@example.com",
		"Registration": doc{"body": doc{"contact": []string{"mailto:me@example.com"}}, "uri": "https://ca/reg/1", "new_authzr_uri": "x"},
		"PrivateKey":   accountKey,
		"DomainsCertificate": doc{"Certs": []doc{{"Domains": domain, "Certificate": doc{
			"Domain": "a.example.com", "CertURL": "u", "CertStableURL": "u", "PrivateKey": c.key, "Certificate": c.cert}}}},
		"ChallengeCerts": doc{},
	})
	v17 := doc{
		"Account": doc{"Email": "me@example.com", "Registration": doc{"body": doc{"status": "valid"}, "uri": "https://ca/reg/1"},
			"PrivateKey": accountKey, "KeyType": "4096"},
		"Certificates":   []doc{{"Domain": domain, "Certificate": c.cert, "Key": c.key}},
		"HTTPChallenges": doc{}, "TLSChallenges": doc{},
	}
	v3 := doc{"le": doc{"Account": v17["Account"], "Certificates": []doc{{
		"domain": doc{"main": "a.example.com", "sans": []string{"b.example.com"}}, "certificate": c.cert, "key": c.key, "Store": "default"}}},
		"idle": nil}
	based := base64.StdEncoding.EncodeToString
	return map[string][]byte{
		"1.5 file":              v15,
		"1.5 KV, base64":        []byte(based(v15)),
		"1.5.2 KV, gzip":        compress(t, v15),
		"1.5.2 KV, base64 gzip": []byte(based(compress(t, v15))),
		"1.7 file":              encode(t, v17),
		"3 file":                encode(t, v3),
	}
}

func TestReadACMETakesEveryGeneration(t *testing.T) {
	account := rsaKey(t)
	for kind, c := range map[string]issued{
		"RSA": issue(t, rsaKey(t), "a.example.com", "b.example.com"),
		"EC":  issue(t, ecKey(t), "a.example.com", "b.example.com"),
	} {
		for name, data := range generations(t, account, c) {
			got, problems := ReadACME(data, "acme.json")
			for _, p := range problems {
				t.Errorf("%s, %s: %s", name, kind, p)
			}
			if len(got.Accounts) != 1 || len(got.Certificates) != 1 {
				t.Errorf("%s, %s: %d accounts, %d certificates", name, kind, len(got.Accounts), len(got.Certificates))
				continue
			}
			a, cert := got.Accounts[0], got.Certificates[0]
			if a.Email != "me@example.com" || a.URI != "https://ca/reg/1" {
				t.Errorf("%s: account %s %s", name, a.Email, a.URI)
			}
			block, _ := pem.Decode(a.KeyPEM)
			if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil || !account.Equal(key) {
				t.Errorf("%s: account key %v, %v", name, key, err)
			}
			if diff := cmp.Diff([]string{"a.example.com", "b.example.com"}, cert.Names); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			if _, err := tls.X509KeyPair(cert.CertPEM, cert.KeyPEM); err != nil || !bytes.HasPrefix(cert.KeyPEM, []byte("-----BEGIN PRIVATE KEY")) {
				t.Errorf("%s: certificate and key: %v", name, err)
			}
		}
	}
}

func TestReadACMELeavesOutOnlyWhatIsBroken(t *testing.T) {
	good, other := issue(t, ecKey(t), "a.example.com"), issue(t, ecKey(t), "b.example.com")
	entry := func(main string, cert, key []byte) doc {
		return doc{"Domain": doc{"Main": main}, "Certificate": cert, "Key": key}
	}
	got, problems := ReadACME(encode(t, doc{"Certificates": []doc{
		entry("b.example.com", other.cert, good.key),
		entry("c.example.com", good.cert, good.key),
		entry("d.example.com", []byte("no PEM"), good.key),
		entry("e.example.com", good.cert, nil),
		entry("*.example.com", good.cert, good.key),
		entry("a.example.com", good.cert, good.key),
	}, "Account": doc{"Email": "me", "PrivateKey": []byte("x")}}), "acme.json")
	if len(got.Certificates) != 1 || got.Certificates[0].Names[0] != "a.example.com" {
		t.Errorf("got %d certificates", len(got.Certificates))
	}
	want := []string{"account me: private key", "b.example.com: private key does not match", "c.example.com", "d.example.com: failed to find",
		"e.example.com: private key: there is none", "*.example.com: is not for"}
	for i, p := range problems {
		if i >= len(want) || !strings.Contains(p.String(), want[i]) {
			t.Errorf("problem %d: %s", i, p)
		}
		if strings.Contains(p.String(), "BEGIN") {
			t.Errorf("a problem shows a key: %s", p)
		}
	}
	if len(problems) != len(want) {
		t.Errorf("%d problems, want %d", len(problems), len(want))
	}
}

func TestReadACMEOfNothingAndOfNonsense(t *testing.T) {
	empty := []byte(base64.StdEncoding.EncodeToString([]byte(emptyAccount)))
	for _, data := range [][]byte{nil, []byte("\n"), []byte("{}"), []byte("null"), empty} {
		if got, problems := ReadACME(data, "acme.json"); len(got.Certificates)+len(got.Accounts)+len(problems) > 0 {
			t.Errorf("%q: %v, %v", data, got, problems)
		}
	}
	damaged := []byte(strings.ToValidUTF8(string(compress(t, []byte("{}"))), "\uFFFD"))
	for want, data := range map[string][]byte{"v2 API has damaged": damaged, "neither JSON": []byte("hello!"), "is no ACME data": []byte("{"), "cannot be read": []byte(`{"le":3}`)} {
		if _, problems := ReadACME(data, "acme.json"); len(problems) != 1 || !strings.Contains(problems[0].String(), want) {
			t.Errorf("%q: %v, want ...%s", data, problems, want)
		}
	}
}

func FuzzReadACME(f *testing.F) {
	for _, data := range generations(f, rsaKey(f), issue(f, ecKey(f), "a.example.com", "b.example.com")) {
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, _ := ReadACME(data, "fuzz")
		for _, c := range got.Certificates {
			if _, err := tls.X509KeyPair(c.CertPEM, c.KeyPEM); err != nil || len(c.Names) == 0 {
				t.Errorf("%v: %v", c.Names, err)
			}
		}
	})
}
