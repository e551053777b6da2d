package suites

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
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary builds gatehouse once for all tests; TestMain removes it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-suites")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gatehouse")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/gatehouse")
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// router is a running gatehouse with one service behind each path.
type router struct {
	http, https string   // host:port
	bound       []string // all of https
	roots       *x509.CertPool
}

// start runs gatehouse with a router for each path prefix, leading to an
// origin by its URL. extra is added to the entry point https.
func start(t *testing.T, extra string, origins map[string]string) *router {
	t.Helper()
	return startChained(t, extra, "", origins)
}

// chain is a middleware: its routes are served by handlers of net/http.
const chain = "middlewares: {plain: {headers: {customRequestHeaders: {X-Chain: \"1\"}}}}"

// startChained is start with routers that have a middleware, or "".
func startChained(t *testing.T, extra, middlewares string, origins map[string]string) *router {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	r := &router{roots: x509.NewCertPool()}
	certPEM := certificate(t, dir)
	r.roots.AppendCertsFromPEM(certPEM)
	write(t, dir, "gatehouse.toml", fmt.Sprintf(`
defaultEntryPoints = ["http", "https"]
insecureSkipVerify = true
[entryPoints.http]
address = "127.0.0.1:0"
h2c = true
[entryPoints.https]
address = "127.0.0.1:0"
%s
[entryPoints.https.tls]
[[entryPoints.https.tls.certificates]]
certFile = "%[2]s/cert.pem"
keyFile = "%[2]s/key.pem"
[entryPoints.traefik]
address = "127.0.0.1:0"
[ping]
[file]
directory = "%[2]s/routes"
[store]
kind = "file"
directory = "%[2]s/store"
`, extra, dir))
	var routers, services strings.Builder
	for prefix, url := range origins {
		name := "origin" + strings.Map(func(c rune) rune {
			if c == '/' || c == '.' {
				return '-'
			}
			return c
		}, prefix)
		fmt.Fprintf(&routers, "    %s:\n      rule: PathPrefix(`%s`)\n      service: %[1]s\n", name, prefix)
		if middlewares != "" {
			routers.WriteString("      middlewares: [plain]\n")
		}
		fmt.Fprintf(&services, "    %s:\n      loadBalancer:\n        servers:\n          - url: %s\n", name, url)
	}
	write(t, dir, "routes/routes.yaml", "http:\n  "+middlewares+"\n  routers:\n"+routers.String()+"  services:\n"+services.String())
	r.run(t, path, filepath.Join(dir, "gatehouse.toml"))
	return r
}

// run starts the binary, and reads its addresses from its log.
func (r *router) run(t *testing.T, path, config string) {
	t.Helper()
	log, logTo, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-c", config)
	cmd.Stdout, cmd.Stderr = logTo, logTo
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	logTo.Close()
	var text strings.Builder
	var mu sync.Mutex
	bound := make(chan [2]string, 8)
	read := make(chan struct{})
	go func() {
		defer close(read)
		re := regexp.MustCompile(`"?entry point bound"? entrypoint=(\w+) address=(\S+)`)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			mu.Lock()
			text.WriteString(lines.Text() + "\n")
			mu.Unlock()
			if m := re.FindStringSubmatch(lines.Text()); m != nil {
				bound <- [2]string{m[1], m[2]}
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(15*time.Second, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		<-read
		if mu.Lock(); err != nil || t.Failed() {
			t.Logf("gatehouse ended: %v\n%s", err, text.String())
		}
		mu.Unlock()
	})
	var ready string
	for r.http == "" || r.https == "" || ready == "" {
		select {
		case b := <-bound:
			switch b[0] {
			case "http":
				r.http = b[1]
			case "https":
				r.https = b[1]
				r.bound = append(r.bound, b[1])
			case "traefik":
				ready = "http://" + b[1] + "/ready"
			}
		case <-time.After(20 * time.Second):
			mu.Lock()
			defer mu.Unlock()
			t.Fatalf("gatehouse has not bound its entry points:\n%s", text.String())
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(ready)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("gatehouse does not become ready: %v", err)
		}
	}
}

// tls is a client's configuration that trusts the router.
func (r *router) tls() *tls.Config { return &tls.Config{RootCAs: r.roots, ServerName: "localhost"} }

// client speaks the protocols named to the router.
func (r *router) client(t *testing.T, h1, h2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(h1)
	p.SetHTTP2(h2)
	tr := &http.Transport{Protocols: p, TLSClientConfig: r.tls(), DisableCompression: true, ExpectContinueTimeout: 10 * time.Second}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificate writes one for localhost, and its key; it gives its PEM.
func certificate(t *testing.T, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	write(t, dir, "cert.pem", string(certPEM))
	write(t, dir, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})))
	return certPEM
}

// readN reads exactly n bytes as text.
func readN(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
