package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
)

// TestQuickstart is `make run` outside of a checkout: what it prints works, a
// change of a file is in force at once, and a mistake stops nothing.
func TestQuickstart(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := startIn(dir, path, "quickstart")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Stop(15 * time.Second); err != nil {
			t.Error(err)
		}
	})
	ready := within(t, 20*time.Second)
	err = p.WaitFor(ready, func(context.Context) error {
		if text, _ := os.ReadFile(p.Log); !strings.Contains(string(text), "Gatehouse is running") {
			return errors.New("it does not say that it is running")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	client := trusting(t, filepath.Join(dir, ".run/store/ca.pem"))
	for url, want := range map[string]string{
		"http://whoami.localhost:8000/":                   "Host: whoami.localhost:8000",
		"https://whoami.localhost:8443/":                  "X-Forwarded-Proto: https",
		"https://demo:demo@whoami.localhost:8443/admin/x": "GET /x HTTP/1.1",
		"https://localhost:8443/":                         "404",
		"http://127.0.0.1:8080/api/certificates":          `"whoami.localhost"`,
		"http://127.0.0.1:8080/dashboard/":                "<title>Gatehouse</title>",
	} {
		eventually(t, 10*time.Second, func() error { return expect(client, url, want) })
	}
	if err := expect(client, "https://whoami.localhost:8443/admin/x", "401"); err != nil {
		t.Error(err)
	}

	routes := filepath.Join(dir, ".run/quickstart/routes/whoami.yaml")
	text, err := os.ReadFile(routes)
	if err != nil {
		t.Fatal(err)
	}
	write(t, routes, strings.ReplaceAll(string(text), "whoami.localhost", "changed.localhost"))
	eventually(t, 10*time.Second, func() error {
		return expect(client, "https://changed.localhost:8443/", "Host: changed.localhost")
	})
	write(t, routes, "http: [this is no routing")
	eventually(t, 10*time.Second, func() error {
		return expect(client, "http://127.0.0.1:8080/api/problems", "whoami.yaml:1")
	})
	if err := expect(client, "https://changed.localhost:8443/", "Host: changed.localhost"); err != nil {
		t.Errorf("a broken file stopped what was served: %v", err)
	}
	seesDashboard(t)
}

// seesDashboard opens the dashboard in a real browser: the scripts run under
// the page's own content security policy and show what is served and broken.
func seesDashboard(t *testing.T) {
	page, err := rig.Browse(t.Context(), t.TempDir(), "http://127.0.0.1:8080/dashboard/")
	if err != nil {
		t.Fatal(err)
	}
	if page.Errors != "" {
		t.Errorf("the browser's console holds errors:\n%s", page.Errors)
	}
	for _, want := range []string{"whoami@file", "changed.localhost", "whoami.yaml:1", "valid", "127.0.0.1:8443"} {
		if !strings.Contains(page.DOM, want) {
			t.Errorf("the dashboard does not show %q:\n%s", want, page.DOM)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// startIn runs the binary in a folder, as a person would.
func startIn(dir, path string, args ...string) (*rig.Process, error) {
	return rig.Start("gatehouse", dir, nil, "/bin/sh", append([]string{"-c", `cd "$0" && exec "$@"`, dir, path}, args...)...)
}

// trusting trusts the local CA and finds every name on this machine.
func trusting(t *testing.T, ca string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		},
	}}
}

// expect finds want in the status or body of the answer.
func expect(client *http.Client, url, want string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if whole := resp.Status + "\n" + string(text); !strings.Contains(whole, want) {
		return fmt.Errorf("%s: no %q in %s", url, want, whole)
	}
	return nil
}
