package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
)

// pemPair writes a certificate for name and its key to files.
func pemPair(t *testing.T, name, certFile, keyFile string) (serial string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return template.SerialNumber.String()
}

// Files that other tools renew are served as they are now, on an entry point, as
// the default and from routing; what does not fit is told, and nothing closed.
func TestPEMFilesAreReadAgain(t *testing.T) {
	whoami, err := newWhoamiForTest(t)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	renew := func(name string) string { return pemPair(t, name+".localhost", at(name+".crt"), at(name+".key")) }
	own, fallback, routed := renew("own"), renew("fallback"), renew("routed")
	insider := clientCertificate(t, at("clients.pem"))
	someone := clientCertificate(t, at("callers.pem"))
	put := func(name, text string) string {
		if err := os.WriteFile(at(name), []byte(strings.NewReplacer("DIR", dir, "URL", whoami).Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
		return at(name)
	}
	put("routes.yaml", `
http:
  services: {w: {loadBalancer: {servers: [{url: "URL"}]}}}
  routers:
    all: {rule: "PathPrefix(`+"`/`"+`)", service: w}
    private: {rule: "Host(`+"`private.localhost`"+`)", service: w, tls: {options: mutual}}
tls:
  certificates: [{certFile: DIR/routed.crt, keyFile: DIR/routed.key}]
  options: {mutual: {clientAuth: {caFiles: [DIR/clients.pem]}}}
`)
	r := startReplica(t, put("gatehouse.toml", `
[lifeCycle]
graceTimeOut = "1s"
[entryPoints.https]
address = "127.0.0.1:0"
[entryPoints.https.tls.defaultCertificate]
certFile = "DIR/fallback.crt"
keyFile = "DIR/fallback.key"
[[entryPoints.https.tls.certificates]]
certFile = "DIR/own.crt"
keyFile = "DIR/own.key"
[entryPoints.https.tls.clientCA]
files = ["DIR/callers.pem"]
[file]
filename = "DIR/routes.yaml"
watch = true
[store]
directory = "DIR/store"
`))
	address := r.servers[0].Addr().String()
	dial := func(name string, client tls.Certificate) (*tls.Conn, error) {
		return tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: name, Certificates: []tls.Certificate{client}})
	}
	get := func(conn *tls.Conn, host string) error {
		if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", host); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("answer %s", res.Status)
		}
		return err
	}
	serves := func(serial, name string) {
		t.Helper()
		within(t, 30*time.Second, name+" has certificate "+serial, r.log, func() error {
			conn, err := dial(name, someone)
			if err != nil {
				return err
			}
			defer conn.Close()
			if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.String(); got != serial {
				return fmt.Errorf("it has %s", got)
			}
			return get(conn, name)
		})
	}
	admits := func(name string, client tls.Certificate, want bool) {
		t.Helper()
		within(t, 30*time.Second, fmt.Sprintf("%s lets the client in: %t", name, want), r.log, func() error {
			conn, err := dial(name, client)
			if err == nil {
				defer conn.Close()
				err = get(conn, name)
			}
			if (err == nil) != want {
				return fmt.Errorf("it says %v", err)
			}
			return nil
		})
	}
	serves(own, "own.localhost")
	serves(fallback, "unknown.localhost")
	serves(routed, "routed.localhost")
	admits("private.localhost", insider, true)
	admits("own.localhost", insider, false)
	kept, err := dial("own.localhost", someone)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()

	serves(renew("own"), "own.localhost")
	serves(renew("fallback"), "unknown.localhost")
	routed = renew("routed")
	serves(routed, "routed.localhost")
	before, err := os.ReadFile(at("routed.crt"))
	if err != nil {
		t.Fatal(err)
	}
	put("routed.crt", string(before[:100]))
	renew("own")
	put("own.key", "nothing")
	within(t, 30*time.Second, "what is refused is shown", r.log, func() error {
		state, log := fmt.Sprint(r.controller.State().Problems), r.log.String()
		if !strings.Contains(state, "routed.crt") || !strings.Contains(log, at("own.key")) || !strings.Contains(log, "stays in use") {
			return fmt.Errorf("problems %s", state)
		}
		return nil
	})
	serves(routed, "routed.localhost")
	serves(renew("routed"), "routed.localhost")
	serves(renew("own"), "own.localhost")
	if n := len(r.certs.misread()); n > 0 {
		t.Errorf("%d problems are still shown", n)
	}

	insider, stranger := clientCertificate(t, at("clients.pem")), insider
	admits("private.localhost", insider, true)
	admits("private.localhost", stranger, false)
	if err := get(kept, "own.localhost"); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
	fired := someone
	someone = clientCertificate(t, at("callers.pem"))
	admits("own.localhost", someone, true)
	admits("own.localhost", fired, false)
	put("callers.pem", "nothing")
	within(t, 30*time.Second, "what is refused is shown", r.log, func() error {
		if state := fmt.Sprint(r.controller.State().Problems); !strings.Contains(state, "no PEM certificate is in it; what was there before stays") {
			return fmt.Errorf("problems %s", state)
		}
		return nil
	})
	admits("own.localhost", someone, true)
	admits("own.localhost", fired, false)
	if err := get(kept, "own.localhost"); err != nil {
		t.Errorf("a connection from before: %v", err)
	}
}

// The certificate that etcd asks for is the one in the files when a connection
// begins; while those are damaged, the one before.
func TestClientCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	serial := pemPair(t, "replica", certFile, keyFile)
	seen := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.TLS.PeerCertificates[0].SerialNumber.String()
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	client, err := clientTLS(&config.ClientTLS{Cert: certFile, Key: config.Secret(keyFile), InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: client, DisableKeepAlives: true}
	comes := func(want string) {
		t.Helper()
		res, err := (&http.Client{Transport: transport, Timeout: 20 * time.Second}).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := <-seen; got != want {
			t.Errorf("it came with %s, want %s", got, want)
		}
	}
	comes(serial)
	serial = pemPair(t, "replica", certFile, keyFile)
	comes(serial)
	if err := os.WriteFile(keyFile, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	comes(serial)
}
