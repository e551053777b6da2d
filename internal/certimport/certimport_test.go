package certimport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// issue signs with a CA of its own and gives leaf, CA certificate and key.
func issue(key crypto.Signer, names []string, notAfter time.Time) (leaf, ca []byte) {
	caKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	template := &x509.Certificate{SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<60))), DNSNames: names,
		NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter}
	encode := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	return encode(must(x509.CreateCertificate(rand.Reader, template, root, key.Public(), caKey))),
		encode(must(x509.CreateCertificate(rand.Reader, root, root, caKey.Public(), caKey)))
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func ec() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) }

// Folders as the programs make them, in one run.
func TestReadsWhatOthersKeep(t *testing.T) {
	dir := t.TempDir()
	later, soon := time.Now().Add(60*24*time.Hour), time.Now().Add(10*24*time.Hour)
	key := ec()
	sec1 := block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key)))
	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	pkcs1 := block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rs))
	account := block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ec())))

	leaf, ca := issue(key, []string{"lego.example.com"}, later)
	magic, magicCA := issue(key, []string{"*.magic.example.com", "magic.example.com"}, later)
	old, _ := issue(key, []string{"bot.example.com"}, time.Now().Add(-time.Minute))
	before, botCA := issue(rs, []string{"bot.example.com"}, soon)
	bot, _ := issue(rs, []string{"bot.example.com"}, later)
	foreign, _ := issue(ec(), []string{"foreign.example.com"}, later)
	ended, _ := issue(key, []string{"ended.example.com"}, time.Now().Add(-time.Minute))
	file, fileCA := issue(key, []string{"traefik.example.com"}, later)
	b64 := base64.StdEncoding.EncodeToString
	write(t, dir, map[string][]byte{
		"lego/certificates/lego.example.com.crt":                                                   append(leaf, ca...),
		"lego/certificates/lego.example.com.issuer.crt":                                            ca,
		"lego/certificates/lego.example.com.key":                                                   sec1,
		"lego/certificates/lego.example.com.json":                                                  []byte(`{"domain": "lego.example.com"}`),
		"lego/accounts/ca/me/keys/me.key":                                                          account,
		"caddy/certificates/acme-v02/wildcard_.magic.example.com/wildcard_.magic.example.com.crt":  append(magic, magicCA...),
		"caddy/certificates/acme-v02/wildcard_.magic.example.com/wildcard_.magic.example.com.key":  sec1,
		"caddy/certificates/acme-v02/wildcard_.magic.example.com/wildcard_.magic.example.com.json": []byte(`{"sans": ["x"], "issuer_data": {"url": "..."}}`),
		"certbot/archive/bot.example.com/fullchain1.pem":                                           old,
		"certbot/archive/bot.example.com/fullchain2.pem":                                           append(before, botCA...),
		"certbot/archive/bot.example.com/cert3.pem":                                                bot,
		"certbot/archive/bot.example.com/fullchain3.pem":                                           append(bot, botCA...),
		"certbot/archive/bot.example.com/privkey3.pem":                                             pkcs1,
		"other/foreign.pem": foreign,
		"other/ended.pem":   ended,
		"other/notes.txt":   []byte("nothing of interest"),
		"acme.json": fmt.Appendf(nil, `{"letsencrypt": {"Certificates": [{"domain": {"main": "traefik.example.com"}, "certificate": %q, "key": %q}]}}`,
			b64(append(file, fileCA...)), b64(sec1)),
	})
	found, problems := Read([]string{filepath.Join(dir, "lego"), filepath.Join(dir, "caddy"), filepath.Join(dir, "certbot"),
		filepath.Join(dir, "other"), filepath.Join(dir, "acme.json")})
	var got []string
	for _, f := range found {
		key, _ := pem.Decode(f.Key)
		_, err := x509.ParsePKCS8PrivateKey(key.Bytes)
		got = append(got, fmt.Sprintf("%v %s %d certificates, key %v", f.Names, filepath.Base(f.Source), strings.Count(string(f.Chain), "BEGIN"), err))
	}
	want := []string{
		"[*.magic.example.com magic.example.com] wildcard_.magic.example.com.crt 2 certificates, key <nil>",
		"[bot.example.com] fullchain3.pem 2 certificates, key <nil>",
		"[lego.example.com] lego.example.com.crt 2 certificates, key <nil>",
		"[traefik.example.com] acme.json 2 certificates, key <nil>",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("found (-want +got):\n%s", d)
	}
	var told []string
	for _, p := range problems {
		told = append(told, strings.TrimPrefix(p.Error(), dir+"/"))
	}
	wantTold := []string{
		"other/ended.pem: [ended.example.com] ended " + time.Now().Add(-time.Minute).UTC().Format("2006-01-02"),
		"other/foreign.pem: [foreign.example.com]: no private key that was read fits it",
	}
	if d := cmp.Diff(wantTold, told); d != "" {
		t.Errorf("problems (-want +got):\n%s", d)
	}
}

// Many have certificate, authorities' certificates and key in three files.
func TestChainIsCompleted(t *testing.T) {
	dir := t.TempDir()
	sign := func(subject string, isCA bool, key, by *ecdsa.PrivateKey, parent *x509.Certificate) *x509.Certificate {
		c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: subject}, IsCA: isCA, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
		if !isCA {
			c.DNSNames = []string{subject}
		}
		if parent == nil {
			parent = c
		}
		return must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by))))
	}
	rootKey, firstKey, secondKey, key := ec(), ec(), ec(), ec()
	root := sign("root", true, rootKey, rootKey, nil)
	first := sign("first", true, firstKey, rootKey, root)
	second := sign("second", true, secondKey, firstKey, first)
	foreign := sign("second", true, ec(), firstKey, first) // the same name, and another key
	leaf := sign("a.example.com", false, key, secondKey, second)
	pemOf := func(list ...*x509.Certificate) (text []byte) {
		for _, c := range list {
			text = append(text, block("CERTIFICATE", c.Raw)...)
		}
		return text
	}
	write(t, dir, map[string][]byte{
		"a.crt": pemOf(leaf), "ca-bundle.crt": pemOf(root, foreign, first, second),
		"a.key": block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key))),
	})
	found, problems := Read([]string{filepath.Join(dir, "ca-bundle.crt"), filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")})
	if len(found) != 1 || len(problems) != 0 {
		t.Fatalf("found %v, problems %v", found, problems)
	}
	if d := cmp.Diff(string(pemOf(leaf, second, first)), string(found[0].Chain)); d != "" || found[0].Lacks != "" {
		t.Errorf("lacks %q; chain (-want +got):\n%s", found[0].Lacks, d)
	}
	found, _ = Read([]string{filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")})
	if len(found) != 1 || found[0].Lacks != "CN=second" {
		t.Errorf("without the bundle: %v", found)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string][]byte{
		"empty.pem":     []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
		"text.pem":      []byte("-----BEGIN SOMETHING-----\n-----END SOMETHING-----\n"),
		"encrypted.key": block("ENCRYPTED PRIVATE KEY", []byte("x")),
		"half.key":      block("PRIVATE KEY", []byte("x")),
		"acme.json":     []byte(`{"le": {"Certificates": [{"domain": {"main": "a.example.com"}, "certificate": "eA==", "key": "eA=="}]}}`),
	})
	for name, says := range map[string]string{
		"empty.pem": "x509", "text.pem": "neither a certificate nor", "encrypted.key": "ENCRYPTED", "half.key": "read private key",
		"acme.json": "a.example.com", "absent": "no such file",
	} {
		found, problems := Read([]string{filepath.Join(dir, name)})
		if len(found) > 0 || len(problems) == 0 || !strings.Contains(problems[0].Error(), says) {
			t.Errorf("%s: %v, %v, want %q", name, found, problems, says)
		}
	}
}

func FuzzPEM(f *testing.F) {
	key := ec()
	leaf, ca := issue(key, []string{"a.example.com"}, time.Now().Add(time.Hour))
	f.Add(append(append(leaf, ca...), block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key)))...))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := &collection{now: time.Now(), keys: map[string]crypto.PrivateKey{}, chains: map[string]chain{}, signers: map[string][]*x509.Certificate{}}
		c.pem("x", data)
		found, _ := c.pairs()
		for _, one := range found {
			if len(one.Chain) == 0 || len(one.Key) == 0 {
				t.Errorf("half of one: %v", one)
			}
		}
	})
}
