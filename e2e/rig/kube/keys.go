package kube

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// audit writes down who asked what, so that a test of rights sees what was
// used.
const audit = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, userGroups: ["system:masters", "system:serviceaccounts:kube-system"]}
- {level: Metadata}
`

// writeKeys makes the CA, the certificates of the server and of the
// administrator, the key that signs tokens, and the files that name them.
func (k *Kube) writeKeys() error {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rig"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if err := k.sign("ca", ca, ca, caKey, caKey); err != nil {
		return err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"},
		DNSNames:    []string{"localhost", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(ServiceIP), net.ParseIP(NodeIP)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	admin := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for name, template := range map[string]*x509.Certificate{"server": server, "admin": admin} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		if err := k.sign(name, template, ca, key, caKey); err != nil {
			return err
		}
	}
	tokens, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(k.dir, "tokens.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(tokens)); err != nil {
		return err
	}
	certificate, key := filepath.Join(k.dir, "admin.crt"), filepath.Join(k.dir, "admin.key")
	user := "client-certificate: " + certificate + "\n    client-key: " + key
	if err := os.WriteFile(k.Kubeconfig, []byte(kubeconfig(k.Server, k.CA, "default", user)), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(k.dir, "audit.yaml"), []byte(audit), 0o600); err != nil {
		return err
	}
	k.admin, err = client(k.CA, certificate, key)
	return err
}

func (k *Kube) sign(name string, template, by *x509.Certificate, key, byKey *ecdsa.PrivateKey) error {
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(240*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(k.dir, name+".crt"), "CERTIFICATE", der); err != nil {
		return err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(filepath.Join(k.dir, name+".key"), "PRIVATE KEY", text)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
