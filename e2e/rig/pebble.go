package rig

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// PebbleOptions says how the test CA validates and answers. Zero values are
// good ones: no sleeping, no lost nonces.
type PebbleOptions struct {
	DNSServer   string // host:port that validation asks; "": the system's
	HTTPPort    int    // where HTTP-01 is fetched; 0: a free port is chosen
	TLSPort     int    // where TLS-ALPN-01 is fetched; 0: likewise
	NonceReject int    // percent of good nonces refused
	AuthzReuse  int    // percent of valid authorizations used again
	AlwaysValid bool   // every challenge passes
	EABKeys     map[string]string
	Profiles    map[string]int // name: validity in seconds; nil: "default", 90 days
}

// Pebble is a running test CA. Its state is in memory: after Kill and Start it
// has lost its accounts and orders, and has other roots.
type Pebble struct {
	*Process
	HTTPPort, TLSPort int

	dir              string
	opts             PebbleOptions
	port, management int
	roots            *x509.CertPool
	caPEM            []byte
}

// NewPebble starts Pebble with its files under dir and waits until it answers.
func NewPebble(ctx context.Context, dir string, o PebbleOptions) (*Pebble, error) {
	p := &Pebble{dir: dir, opts: o, HTTPPort: o.HTTPPort, TLSPort: o.TLSPort, roots: x509.NewCertPool()}
	for _, port := range []*int{&p.port, &p.management, &p.HTTPPort, &p.TLSPort} {
		if *port != 0 {
			continue
		}
		free, err := FreePort()
		if err != nil {
			return nil, err
		}
		*port = free
	}
	if err := p.writeFiles(); err != nil {
		return nil, err
	}
	return p, p.Start(ctx)
}

// Directory is the ACME directory's URL.
func (p *Pebble) Directory() string { return fmt.Sprintf("https://127.0.0.1:%d/dir", p.port) }

// Addr is the address of the ACME server, for proxies in front of it.
func (p *Pebble) Addr() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// Roots trusts the ACME server's own certificate (not what it issues).
func (p *Pebble) Roots() *x509.CertPool { return p.roots }

// RootsPEM is Roots as PEM, for `caCertificates`.
func (p *Pebble) RootsPEM() []byte { return p.caPEM }

// CAFile is the file that holds RootsPEM.
func (p *Pebble) CAFile() string { return filepath.Join(p.dir, "pebble-ca.pem") }

// Issued asks for the root of the certificates it issues now.
func (p *Pebble) Issued(ctx context.Context) (*x509.CertPool, error) {
	text, err := p.get(ctx, fmt.Sprintf("https://127.0.0.1:%d/roots/0", p.management))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("pebble's root is no PEM certificate: %.60q", text)
	}
	return pool, nil
}

// Start starts it again on the same ports.
func (p *Pebble) Start(ctx context.Context) error {
	path, err := Find("pebble")
	if err != nil {
		return err
	}
	env := []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_ORDERS_PER_PAGE=100",
		fmt.Sprintf("PEBBLE_WFE_NONCEREJECT=%d", p.opts.NonceReject),
		fmt.Sprintf("PEBBLE_AUTHZREUSE=%d", p.opts.AuthzReuse)}
	if p.opts.AlwaysValid {
		env = append(env, "PEBBLE_VA_ALWAYS_VALID=1")
	}
	args := []string{"-config", filepath.Join(p.dir, "pebble.json")}
	if p.opts.DNSServer != "" {
		args = append(args, "-dnsserver", p.opts.DNSServer)
	}
	if p.Process, err = Start("pebble", p.dir, env, path, args...); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return p.WaitFor(ctx, func(ctx context.Context) error {
		_, err := p.get(ctx, p.Directory())
		return err
	})
}

func (p *Pebble) get(ctx context.Context, url string) ([]byte, error) {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s says %s", url, resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, 1<<20))
}

func (p *Pebble) writeFiles() error {
	cert, key, err := serverCertificate()
	if err != nil {
		return fmt.Errorf("make pebble's certificate: %w", err)
	}
	p.caPEM = cert
	p.roots.AppendCertsFromPEM(cert)
	profiles := map[string]any{"default": map[string]any{"description": "90 days", "validityPeriod": 7776000}}
	if p.opts.Profiles != nil {
		profiles = map[string]any{}
		for name, seconds := range p.opts.Profiles {
			profiles[name] = map[string]any{"description": name, "validityPeriod": seconds}
		}
	}
	conf, err := json.MarshalIndent(map[string]any{"pebble": map[string]any{
		"listenAddress":                  p.Addr(),
		"managementListenAddress":        fmt.Sprintf("127.0.0.1:%d", p.management),
		"certificate":                    p.CAFile(),
		"privateKey":                     filepath.Join(p.dir, "pebble-key.pem"),
		"httpPort":                       p.HTTPPort,
		"tlsPort":                        p.TLSPort,
		"externalAccountBindingRequired": p.opts.EABKeys != nil,
		"externalAccountMACKeys":         p.opts.EABKeys,
		"retryAfter":                     map[string]int{"authz": 1, "order": 1},
		"keyAlgorithm":                   "ecdsa",
		"profiles":                       profiles,
	}}, "", "\t")
	if err != nil {
		return err
	}
	for name, text := range map[string][]byte{
		"pebble-ca.pem": cert, "pebble-key.pem": key, "pebble.json": conf,
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// serverCertificate makes a self-signed certificate for loopback, as PEM.
func serverCertificate() (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "Gatehouse test CA's own server"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), nil
}
