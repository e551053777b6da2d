package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"gatehouse/internal/cert"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/internal/config"
)

// startAlone runs a replica whose settings are all in a file.
func startAlone(t *testing.T, file string) runningReplica {
	t.Helper()
	loaded, problems := config.Load(config.LoadInput{Args: []string{"-c", file}})
	if config.Failed(problems) {
		t.Fatal(problems)
	}
	buffer := &logBuffer{}
	log := slog.New(slog.NewTextHandler(buffer, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(t.Context())
	g, err := newGateway(ctx, loaded.Static, gatewayOptions{name: "alone", file: file, log: log})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	stop := func() { cancel(); <-done }
	t.Cleanup(stop)
	return runningReplica{g, buffer, stop}
}

// verbOut runs a verb as a person does, and gives what it prints.
func verbOut(t *testing.T, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	status := dispatch(t.Context(), args, &out, &out)
	return out.String(), status
}

func wantVerb(t *testing.T, status int, says []string, args ...string) {
	t.Helper()
	out, got := verbOut(t, args...)
	if got != status {
		t.Errorf("gatehouse %s: exit status %d, want %d:\n%s", strings.Join(args, " "), got, status, out)
	}
	for _, s := range says {
		if !strings.Contains(out, s) {
			t.Errorf("gatehouse %s does not say %q:\n%s", strings.Join(args, " "), s, out)
		}
	}
}

func tell(t *testing.T, url string, body any) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
}

// A real CA, an entry point that redirects everything, and what a person sees:
// doctor before, certs after, renew, and doctor once CAA forbids it.
func TestCertificatesAsAPersonSeesThem(t *testing.T) {
	t.Parallel()
	dns := rig.StartChalltest(t)
	port := rig.Port(t)
	pebble := rig.StartPebble(t, rig.PebbleOptions{DNSServer: dns.DNS, HTTPPort: port})
	dir := t.TempDir()
	file := filepath.Join(dir, "gatehouse.toml")
	text := fmt.Sprintf(`
defaultEntryPoints = ["https"]
[lifeCycle]
graceTimeOut = "1s"
[entryPoints.http]
address = "127.0.0.1:%d"
[entryPoints.http.redirect]
entryPoint = "https"
[entryPoints.https]
address = "127.0.0.1:0"
[entryPoints.https.tls]
[store]
directory = "%s/store"
[acme]
email = "me@example.com"
entryPoint = "https"
caServer = "%s"
caCertificates = ["%s"]
secondKeyType = "RSA2048"
[acme.onDemandPolicy]
allow = ["*.customers.example"]
[acme.httpChallenge]
entryPoint = "http"
[[acme.domains]]
main = "office.example.com"
[[acme.domains]]
main = "127.0.0.1"
`, port, dir, pebble.Directory(), pebble.CAFile())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	look := []string{"-c", file, "--resolver=" + dns.DNS, "--http-address=" + address}

	wantVerb(t, 1, []string{"nothing is kept for office.example.com yet", "ok    " + pebble.Directory() + " answers", "the clocks agree",
		"ok    127.0.0.1", "no records: every CA may issue", "FAIL  nobody answers", "doctor: office.example.com: checks that failed: 1"},
		append([]string{"doctor", "office.example.com"}, look...)...)

	r := startAlone(t, file)
	within(t, 30*time.Second, "the certificate is there", r.log, func() error {
		if out, _ := verbOut(t, "certs", "-c", file); strings.Count(out, "valid  office") != 2 {
			return fmt.Errorf("certs says %s", out)
		}
		return nil
	})
	wantVerb(t, 0, []string{"is valid until", "a replica answers a probe at http://office.example.com/.well-known/acme-challenge/probe-"},
		append([]string{"doctor", "office.example.com"}, look...)...)
	wantVerb(t, 1, []string{"a wildcard can only be proved by dns-01"}, append([]string{"doctor", "*.office.example.com"}, look...)...)

	within(t, 30*time.Second, "certs tells the same time of renewal as the replica, which has asked the CA", r.log, func() error {
		i := slices.IndexFunc(r.certs.keeper.Status(), func(s cert.Status) bool { return slices.Contains(s.Names, "office.example.com") })
		if i < 0 {
			return errors.New("the replica has no status of it")
		}
		s := r.certs.keeper.Status()[i]
		if out, _ := verbOut(t, "certs", "--json", s.ID, "-c", file); !strings.Contains(out, s.RenewAt.UTC().Format(time.RFC3339)) {
			return fmt.Errorf("%s for the replica, and certs says %s", s.RenewAt, out)
		}
		return nil
	})
	for _, suite := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} {
		conn, err := tls.Dial("tcp", r.servers[1].Addr().String(), &tls.Config{ServerName: "office.example.com", InsecureSkipVerify: true,
			MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}})
		if err != nil {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
			continue
		}
		leaf := conn.ConnectionState().PeerCertificates[0]
		if err := leaf.VerifyHostname("office.example.com"); err != nil {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), err)
		}
		_ = conn.Close()
	}

	// An address has a certificate as a name has; clients send no name for it.
	within(t, 30*time.Second, "the address is served", r.log, func() error {
		conn, err := tls.Dial("tcp", r.servers[1].Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		return conn.ConnectionState().PeerCertificates[0].VerifyHostname("127.0.0.1")
	})

	// A name nobody configured, but the policy permits: asked for once, served soon.
	served := func(name string) string {
		conn, err := tls.Dial("tcp", r.servers[1].Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err != nil {
			return err.Error()
		}
		defer func() { _ = conn.Close() }()
		return strings.Join(conn.ConnectionState().PeerCertificates[0].DNSNames, " ")
	}
	began := time.Now()
	_, _ = served("stranger.example"), served("new.customers.example")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("handshakes of unknown names took %v", took)
	}
	within(t, 30*time.Second, "the name is served", r.log, func() error {
		if got := served("new.customers.example"); got != "new.customers.example" {
			return fmt.Errorf("served %s", got)
		}
		return nil
	})
	if out, _ := verbOut(t, "certs", "-c", file); strings.Contains(out, "stranger") {
		t.Errorf("a name nobody permits is in the store:\n%s", out)
	}

	wantVerb(t, 0, []string{"has a new key"}, "certs", "rollover", "-c", file) // the renewal that follows is signed by it
	before, _ := verbOut(t, "certs", "office.example.com", "-c", file)
	wantVerb(t, 0, []string{"asked office.example.com to be ordered now", "done: serial"}, "certs", "renew", "office.example.com", "-c", file)
	if after, _ := verbOut(t, "certs", "office.example.com", "-c", file); after == before || strings.Contains(after, "asked for") {
		t.Errorf("after the renewal certs says\n%s", after)
	}

	wantVerb(t, 2, []string{"--reason: reason \"stolen\" is none", "keyCompromise"}, "certs", "revoke", "office.example.com", "--reason=stolen", "-c", file)
	wantVerb(t, 0, []string{"asked for serial", "reason keyCompromise", "revoked: 127.0.0.1:", "took it back (200), asked by the account", "a new one is ordered", "done: serial"},
		"certs", "revoke", "office.example.com", "--reason=keyCompromise", "-c", file)

	// From now on the CA is sent elsewhere, and CAA records forbid it.
	tell(t, dns.Management+"/set-default-ipv4", map[string]any{"ip": "127.0.0.9"})
	tell(t, dns.Management+"/add-caa", map[string]any{"host": "office.example.com.",
		"policies": []map[string]string{{"tag": "issue", "value": "other-ca.example"}}})
	wantVerb(t, 1, []string{"office.example.com: ", "connection"}, "certs", "renew", "office.example.com", "-c", file)
	wantVerb(t, 0, []string{"renewing", "last error (", "connection"}, "certs", "-c", file)
	wantVerb(t, 1, []string{"records at office.example.com", `0 issue "other-ca.example"`, "FAIL  nobody answers", "failures in a row: "},
		"doctor", "office.example.com", "-c", file, "--resolver="+dns.DNS, "--http-address=127.0.0.9:"+fmt.Sprint(port))
}
