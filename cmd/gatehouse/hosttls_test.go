package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A host with TLS options demands its client certificate from the moment its
// route is there, whoever asks on whatever connection; what cannot be had takes
// out its own host.
func TestTLSOptionsOfHosts(t *testing.T) {
	whoami, err := newWhoamiForTest(t)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	client := clientCertificate(t, filepath.Join(dir, "clients.pem"))
	routes := filepath.Join(dir, "routes.yaml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(routes+".new", []byte(strings.NewReplacer("DIR", dir, "URL", whoami).Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(routes+".new", routes); err != nil {
			t.Fatal(err)
		}
	}
	const open = `
http:
  services: {w: {loadBalancer: {servers: [{url: "URL"}]}}}
  routers:
    open: {rule: "Host(` + "`open.localhost`" + `)", service: w}
`
	put(open)
	file := filepath.Join(dir, "gatehouse.toml")
	text := fmt.Sprintf(`
[lifeCycle]
graceTimeOut = "1s"
[entryPoints.https]
address = "127.0.0.1:0"
[entryPoints.https.tls]
[file]
filename = %q
watch = true
[store]
directory = %q
`, routes, filepath.Join(dir, "store"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startReplica(t, file)
	ask := func(sni, host string, certificates ...tls.Certificate) (int, error) {
		tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: sni, Certificates: certificates}}
		req, err := http.NewRequest(http.MethodGet, "https://"+r.servers[0].Addr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := (&http.Client{Transport: tr, Timeout: 10 * time.Second}).Do(req)
		if err != nil {
			return 0, err
		}
		return res.StatusCode, res.Body.Close()
	}
	becomes := func(want int, sni, host string, certificates ...tls.Certificate) {
		t.Helper()
		within(t, 30*time.Second, fmt.Sprintf("handshake for %s, %d certificates, asked for %s: %d", sni, len(certificates), host, want), r.log, func() error {
			if got, err := ask(sni, host, certificates...); got != want {
				return fmt.Errorf("%d, %v", got, err)
			}
			return nil
		})
	}
	becomes(200, "open.localhost", "open.localhost")
	becomes(404, "private.localhost", "private.localhost")

	const private = open + `
    private: {rule: "Host(` + "`private.localhost`" + `)", service: w, tls: {options: mutual}}
    lost: {rule: "Host(` + "`lost.localhost`" + `)", service: w, tls: {options: nofile}}
tls:
  options:
    mutual: {clientAuth: {caFiles: ["DIR/clients.pem"]}}
    nofile: {clientAuth: {caFiles: ["DIR/nowhere.pem"]}}
`
	put(private)
	becomes(200, "private.localhost", "private.localhost", client)
	becomes(421, "open.localhost", "private.localhost", client)
	becomes(0, "private.localhost", "private.localhost")
	becomes(0, "lost.localhost", "lost.localhost", client)
	becomes(421, "open.localhost", "lost.localhost")
	becomes(200, "open.localhost", "open.localhost")
	within(t, 10*time.Second, "the problem is told", r.log, func() error {
		if log := r.log.String(); !strings.Contains(log, "TLS options nofile@file: clientAuth.caFiles: open "+dir+"/nowhere.pem") {
			return errors.New("it is not")
		}
		return nil
	})
	put(strings.ReplaceAll(private, "nowhere.pem", "clients.pem"))
	becomes(200, "lost.localhost", "lost.localhost", client)
	put(open)
	becomes(404, "private.localhost", "private.localhost")
}

// clientCertificate makes one that is its own authority, written to a file.
func clientCertificate(t *testing.T, file string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
