package cert

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds on what is taken from a CA, the store or a person: a certificate with
// chain and key is some kilobytes.
const (
	maxValue = 256 << 10
	maxChain = 16 // certificates
)

// Certificate is a checked certificate with its key, ready to be served. It is
// immutable and shared between goroutines.
type Certificate struct {
	Issuer string // Issuer.ID; "" for a certificate somebody else keeps
	ID     string
	Names  []string // what it was ordered for: all covered by the leaf
	// Obtained is when it was put into the store, or when its life began if
	// it was imported.
	Obtained time.Time
	// Of the leaf.
	NotBefore, NotAfter time.Time
	// TLS has no parsed Leaf: of ten thousand certificates that would be most
	// of the memory, and no handshake needs it.
	TLS *tls.Certificate

	serial  string   // of the leaf, hexadecimal
	carried []string // by the leaf
	kind    int      // of key, see kind
	former  bool     // its issuer is not configured any more
}

// Leaf parses the certificate itself.
func (c *Certificate) Leaf() *x509.Certificate {
	leaf, err := x509.ParseCertificate(c.raw())
	if err != nil {
		panic(err) // Check parsed it
	}
	return leaf
}

// raw is the DER of the leaf.
func (c *Certificate) raw() []byte { return c.TLS.Certificate[0] }

func (c *Certificate) lifetime() time.Duration { return c.NotAfter.Sub(c.NotBefore) }

// Check parses a bundle and proves that it can be served for names (cleaned;
// nil: whatever the leaf carries): the chain parses, the key fits the leaf,
// the names are covered, the sizes are sane. It does not judge time or trust.
func Check(b Bundle, names []string) (*Certificate, error) {
	if n := len(b.Chain) + len(b.Key); n > maxValue {
		return nil, fmt.Errorf("chain and key have %d bytes (at most %d)", n, maxValue)
	}
	if err := checkPEM(b.Chain); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(b.Chain, b.Key)
	if err != nil {
		return nil, fmt.Errorf("parse certificate and key: %w", err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return nil, fmt.Errorf("parse leaf: %w", err)
		}
	}
	for i, der := range pair.Certificate[1:] {
		if _, err := x509.ParseCertificate(der); err != nil {
			return nil, fmt.Errorf("parse certificate %d of the chain: %w", i+2, err)
		}
	}
	carried, err := leafNames(pair.Leaf)
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = carried
	}
	for _, n := range names {
		if !covers(carried, n) {
			return nil, fmt.Errorf("certificate %s does not cover %s: it carries %v", serial(pair.Leaf), n, carried)
		}
	}
	if !pair.Leaf.NotAfter.After(pair.Leaf.NotBefore) {
		return nil, fmt.Errorf("certificate %s ends (%s) before it begins (%s)", serial(pair.Leaf),
			pair.Leaf.NotAfter.UTC().Format(time.RFC3339), pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	if slices.Equal(names, carried) {
		carried = names
	}
	c := &Certificate{ID: ID(names), Names: names, NotBefore: pair.Leaf.NotBefore, NotAfter: pair.Leaf.NotAfter, TLS: &pair,
		serial: serial(pair.Leaf), carried: carried, kind: kind(pair.Leaf)}
	pair.Leaf = nil
	return c, nil
}

// checkPEM refuses what is not a plain run of certificates: X509KeyPair skips
// what it does not know, and half a value must not pass for a whole one.
func checkPEM(chain []byte) error {
	count := 0
	for rest := chain; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("chain holds a PEM block %q (only CERTIFICATE)", block.Type)
		}
		if count++; count > maxChain {
			return fmt.Errorf("chain holds more than %d certificates", maxChain)
		}
	}
	if count == 0 {
		return errors.New("chain holds no certificate in PEM form")
	}
	return nil
}

func leafNames(leaf *x509.Certificate) ([]string, error) {
	raw := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		raw = append(raw, ip.String())
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("certificate %s carries no names", serial(leaf))
	}
	names, err := CleanNames(raw)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", serial(leaf), err)
	}
	return names, nil
}

func serial(leaf *x509.Certificate) string {
	if leaf.SerialNumber == nil {
		return "without serial"
	}
	return leaf.SerialNumber.Text(16)
}
