package acme

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// KeyType is the kind of a certificate's private key.
type KeyType string

// The key types of `keyType`. The empty one is EC256.
const (
	EC256   KeyType = "EC256"
	EC384   KeyType = "EC384"
	RSA2048 KeyType = "RSA2048"
	RSA4096 KeyType = "RSA4096"
	RSA8192 KeyType = "RSA8192"
)

// newKey makes a key as PKCS#8 PEM.
func newKey(t KeyType) ([]byte, error) {
	var key any
	var err error
	switch cmp.Or(t, EC256) {
	case EC256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case EC384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case RSA4096:
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case RSA8192:
		key, err = rsa.GenerateKey(rand.Reader, 8192)
	default:
		return nil, fmt.Errorf("key type %q is not one of EC256, EC384, RSA2048, RSA4096, RSA8192", t)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// parseKey never puts any of text into an error.
func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the private key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key is no PKCS#8")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return signer, nil
}

// signingRequest makes the CSR (RFC 8555, section 7.4): names as SANs only.
func signingRequest(key crypto.Signer, names []string) ([]byte, error) {
	var t x509.CertificateRequest
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &t, key)
	if err != nil {
		return nil, fmt.Errorf("make a signing request: %w", err)
	}
	return csr, nil
}

// skew is how far in the future a certificate may begin: clocks differ.
const skew = time.Hour

// checkChain says why a chain must not be served for the names with the key;
// nil if it may. It is not asked who signed the last one: that is for those
// who trust it to decide.
func checkChain(chain []*x509.Certificate, key crypto.Signer, names []string, now time.Time) error {
	leaf := chain[0]
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(key.Public()) {
		return errors.New("its key is not ours")
	}
	have := sortedNames(namesOf(leaf))
	for _, name := range sortedNames(names) {
		if !slices.Contains(have, name) { // more names than asked for do no harm
			return fmt.Errorf("it is not for %s but for %s", name, strings.Join(have, ", "))
		}
	}
	if now.After(leaf.NotAfter) || leaf.NotBefore.After(now.Add(skew)) {
		return fmt.Errorf("it is valid from %s to %s, and now is %s", leaf.NotBefore.UTC().Format(time.RFC3339),
			leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	for i := 1; i < len(chain); i++ {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			return fmt.Errorf("its chain breaks: %q is not signed by %q: %w", chain[i-1].Subject, chain[i].Subject, err)
		}
	}
	return nil
}

// parseChain reads PEM certificates, leaf first.
func parseChain(text []byte) ([]*x509.Certificate, error) {
	const most = 10
	var chain []*x509.Certificate
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(chain) == most {
			return nil, fmt.Errorf("the chain has a %.30q, or is longer than %d", block.Type, most)
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the chain: %w", err)
		}
		chain = append(chain, one)
	}
	if len(chain) == 0 || len(bytes.TrimSpace(text)) > 0 {
		return nil, errors.New("the chain is no PEM certificate, or has more behind it")
	}
	return chain, nil
}

// preferred picks the chain whose last certificate was issued by name; the
// first if there is none or name is empty.
func preferred(chains [][]byte, name string) (text []byte, found bool) {
	for _, text := range chains {
		chain, err := parseChain(text)
		if err == nil && chain[len(chain)-1].Issuer.CommonName == name {
			return text, true
		}
	}
	return chains[0], name == ""
}

func namesOf(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func sortedNames(names []string) []string {
	sorted := make([]string, len(names))
	for i, n := range names {
		sorted[i] = strings.ToLower(n)
		if ip := net.ParseIP(n); ip != nil {
			sorted[i] = ip.String()
		}
	}
	slices.Sort(sorted)
	return slices.Compact(sorted)
}
