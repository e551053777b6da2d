// Package localca is an issuer for development: a certificate authority of our
// own, made once, kept in the store and shared by all replicas. It issues at
// once, for any name, to whoever asks within the process; nobody outside
// trusts it unless they install its certificate.
package localca

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

const (
	defaultID       = "local"
	defaultLifetime = 7 * 24 * time.Hour
	caYears         = 10
	backdate        = 5 * time.Minute // for clients whose clock is behind
	recordVersion   = 1
)

// Options make a CA. Store and Logger are required.
type Options struct {
	Store store.Store
	// ID names the issuer and its key in the store; "": "local".
	ID string
	// Lifetime of the certificates it issues; 0: 7 days.
	Lifetime time.Duration
	Logger   *slog.Logger
}

// CA implements cert.Issuer. Its methods may be called from any goroutine; it
// keeps no state but the store's.
type CA struct {
	store    store.Store
	id       string
	lifetime time.Duration
	log      *slog.Logger
}

var _ cert.Issuer = (*CA)(nil)

// New makes the issuer. The authority itself is made when it is first needed.
func New(o Options) *CA {
	return &CA{
		store:    o.Store,
		id:       cmp.Or(o.ID, defaultID),
		lifetime: cmp.Or(o.Lifetime, defaultLifetime),
		log:      o.Logger,
	}
}

// ID is cert.Issuer's.
func (c *CA) ID() string { return c.id }

// RenewAt is cert.Issuer's: the default.
func (c *CA) RenewAt(context.Context, []byte) time.Time { return time.Time{} }

// Done is cert.Issuer's: there is no journal.
func (c *CA) Done(context.Context, cert.Request) error { return nil }

// CA gives the authority's certificate (PEM), for people to trust. It makes
// the authority if there is none yet.
func (c *CA) CA(ctx context.Context) (certPEM []byte, err error) {
	a, err := c.authority(ctx)
	if err != nil {
		return nil, err
	}
	return a.chain, nil
}

// Obtain is cert.Issuer's. Nothing is journaled: issuing again costs nothing.
func (c *CA) Obtain(ctx context.Context, req cert.Request) (cert.Bundle, error) {
	req.Step("read authority " + c.id)
	a, err := c.authority(ctx)
	if err != nil {
		return cert.Bundle{}, err
	}
	req.Step("sign")
	return a.issue(req.Names, c.lifetime)
}

// record is the value under localca/<id>.
type record struct {
	Version int    `json:"version"`
	Chain   string `json:"chain"`
	Key     string `json:"key"`
}

// authority is a checked certificate with its key.
type authority struct {
	leaf  *x509.Certificate
	key   crypto.Signer
	chain []byte // PEM
}

// authority reads the one in the store; if there is none, or it ends before a
// certificate it would issue now, it makes one, and whoever is first wins.
func (c *CA) authority(ctx context.Context) (*authority, error) {
	name := "localca/" + c.id
	for {
		e, err := c.store.Get(ctx, name)
		switch {
		case errors.Is(err, store.ErrNotFound):
			e = store.Entry{}
		case err != nil:
			return nil, fmt.Errorf("read authority %s: %w", name, err)
		default:
			a, err := decode(e.Value)
			if err != nil {
				return nil, fmt.Errorf("read authority %s: %w; delete the key to make a new one", name, err)
			}
			if time.Until(a.leaf.NotAfter) > c.lifetime {
				return a, nil
			}
		}
		a, value, err := create(c.id)
		if err != nil {
			return nil, err
		}
		_, err = c.store.Put(ctx, name, value, e.Revision)
		switch {
		case err == nil:
			c.log.Info("local certificate authority made", "issuer", c.id, "notAfter", a.leaf.NotAfter)
			return a, nil
		case !errors.Is(err, store.ErrConflict):
			return nil, fmt.Errorf("write authority %s: %w", name, err)
		}
	}
}

func decode(value []byte) (*authority, error) {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("value has version %d (this program reads %d)", r.Version, recordVersion)
	}
	pair, err := tls.X509KeyPair([]byte(r.Chain), []byte(r.Key))
	if err != nil {
		return nil, fmt.Errorf("parse certificate and key: %w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, fmt.Errorf("parse certificate: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !leaf.IsCA {
		return nil, fmt.Errorf("certificate %s is no authority's", leaf.Subject)
	}
	return &authority{leaf, key, []byte(r.Chain)}, nil
}

// create makes an authority and the value to store.
func create(id string) (*authority, []byte, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Gatehouse"}, CommonName: "Gatehouse local CA (" + id + ")"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.AddDate(caYears, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	value, err := json.MarshalIndent(record{recordVersion, string(chain), string(keyPEM)}, "", " ")
	if err != nil {
		return nil, nil, fmt.Errorf("encode authority: %w", err)
	}
	a, err := decode(value)
	return a, value, err
}

// issue signs a certificate for names, with a new key.
func (a *authority) issue(names []string, lifetime time.Duration) (cert.Bundle, error) {
	key, keyPEM, err := newKey()
	if err != nil {
		return cert.Bundle{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		NotBefore:   now.Add(-min(backdate, lifetime/10)),
		NotAfter:    now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	if len(names) > 0 && len(names[0]) <= 64 { // the most a common name may have
		template.Subject.CommonName = names[0]
	}
	der, err := sign(template, a.leaf, key.Public(), a.key)
	if err != nil {
		return cert.Bundle{}, err
	}
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return cert.Bundle{Chain: chain, Key: keyPEM}, nil // clients that trust the authority have it
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encode key: %w", err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func sign(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) ([]byte, error) {
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	template.SerialNumber = number
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return der, nil
}
