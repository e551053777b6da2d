package acme

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// certMaker makes the certificates of TLS-ALPN-01 (RFC 8737, section 3) and
// keeps them while they are asked for.
type certMaker struct {
	mu   sync.Mutex
	made map[string]*tls.Certificate // by name and digest
}

const mostMade = 1000

func (m *certMaker) get(e entry) (*tls.Certificate, error) {
	id := e.Name + " " + e.Value
	m.mu.Lock()
	defer m.mu.Unlock()
	if made, ok := m.made[id]; ok {
		return made, nil
	}
	made, err := alpnCertificate(e)
	if err != nil {
		return nil, fmt.Errorf("make the certificate: %w", err)
	}
	if m.made == nil || len(m.made) >= mostMade {
		m.made = map[string]*tls.Certificate{}
	}
	m.made[id] = made
	return made, nil
}

func alpnCertificate(e entry) (*tls.Certificate, error) {
	sum, err := base64.RawURLEncoding.DecodeString(e.Value)
	if err != nil || len(sum) != sha256.Size {
		return nil, errors.New("no digest")
	}
	value, err := asn1.Marshal(sum)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "ACME challenge"},
		NotBefore:    time.Now().Add(-skew), NotAfter: time.Now().Add(entryLife + skew),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{
			Id:       asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, // id-pe-acmeIdentifier
			Critical: true, Value: value,
		}},
	}
	if ip := net.ParseIP(e.Name); ip != nil {
		t.IPAddresses = []net.IP{ip}
	} else {
		t.DNSNames = []string{e.Name}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
