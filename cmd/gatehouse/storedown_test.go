package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// logBuffer is what a replica logs, to be read while it runs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runningReplica is a whole replica in this process.
type runningReplica struct {
	*gateway
	log  *logBuffer
	stop func()
}

// startReplica runs a replica with a configuration file, as run does.
func startReplica(t *testing.T, file string) runningReplica {
	t.Helper()
	loaded, problems := config.Load(config.LoadInput{Args: []string{"-c", file}})
	if config.Failed(problems) {
		t.Fatal(problems)
	}
	buffer := &logBuffer{}
	log := slog.New(slog.NewTextHandler(buffer, nil))
	ctx, cancel := context.WithCancel(t.Context())
	static := loaded.Static
	var routing closingStore
	if static.Etcd != nil {
		var err error
		if routing, err = openRouting(ctx, static, "a", log); err != nil {
			t.Fatal(err)
		}
		if static, err = overlay(ctx, loaded, routing, log); err != nil {
			t.Fatalf("overlay: %v\n%s", err, buffer)
		}
	}
	g, err := newGateway(ctx, static, gatewayOptions{name: "a", routing: routing, file: file, log: log})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := g.run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		if routing != nil {
			_ = routing.Close()
		}
	}()
	var once sync.Once
	r := runningReplica{g, buffer, func() { once.Do(func() { cancel(); <-done }) }}
	t.Cleanup(r.stop)
	return r
}

// serial asks for a name over TLS and gives the certificate's serial number
// and the answer.
func (r runningReplica) serial(name string) (string, string, error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: name}, DisableKeepAlives: true}
	c := http.Client{Timeout: 2 * time.Second, Transport: transport}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, "https://"+r.servers[0].Addr().String()+"/", nil)
	if err != nil {
		return "", "", err
	}
	req.Host = name
	resp, err := c.Do(req)
	if err != nil {
		return "", "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return resp.TLS.PeerCertificates[0].Subject.CommonName + resp.TLS.PeerCertificates[0].SerialNumber.Text(16), string(body), err
}

func within(t *testing.T, d time.Duration, what string, log *logBuffer, check func() error) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		err := check()
		if err == nil {
			return time.Since(began)
		}
		if time.Since(began) > d {
			t.Fatalf("%s, not within %v: %v\n%s", what, d, err, log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A replica that starts while its store is down serves the routes and the
// certificate it had, orders nothing, and is at work within 5 s of the store's
// return.
func TestStartsAndServesWhileTheStoreIsDown(t *testing.T) {
	for _, v3 := range []bool{true, false} {
		t.Run(fmt.Sprintf("v3=%v", v3), func(t *testing.T) {
			t.Parallel()
			startsWithoutStore(t, v3)
		})
	}
}

func startsWithoutStore(t *testing.T, v3 bool) {
	etcd := rig.StartEtcd(t)
	whoami, err := newWhoamiForTest(t)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "gatehouse.toml")
	text := fmt.Sprintf(`
defaultEntryPoints = ["https"]
[lifeCycle]
graceTimeOut = "1s"
[entryPoints.https]
address = "127.0.0.1:0"
[entryPoints.https.tls]
[etcd]
endpoint = "%s"
useAPIV3 = %v
[store]
directory = "%s"
ttl = "2s"
sealKey = "%s"
[localCA]
domains = ["*.localhost"]
`, etcd.Endpoint(), v3, dir, "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, _ := config.Load(config.LoadInput{Args: []string{"-c", file}})
	writer, err := openEtcd(t.Context(), loaded.Static.Etcd.KVProvider, v3, time.Second, "writer", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = writer.Close() }()
	for key, value := range map[string]string{
		"backends/b/servers/s/url":       whoami,
		"frontends/one/backend":          "b",
		"frontends/one/routes/main/rule": "Host:one.localhost",
		"frontends/one/entrypoints":      "https",
	} {
		if _, err := writer.Put(t.Context(), key, []byte(value), ""); err != nil {
			t.Fatal(err)
		}
	}

	first := startReplica(t, file)
	var serial string
	within(t, 20*time.Second, "the certificate is served", first.log, func() error {
		s, body, err := first.serial("one.localhost")
		switch {
		case err != nil:
			return err
		case strings.Contains(s, "stand-in"):
			return fmt.Errorf("served %s", s)
		case !strings.Contains(body, "one.localhost"):
			return fmt.Errorf("answered %q", body)
		}
		serial = s
		return nil
	})
	own, err := openPlain(t.Context(), loaded.Static, "look", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stored, err := store.List(t.Context(), own, "certificates")
	_ = own.Close()
	if err != nil || len(stored) != 1 || store.SealedUnder(stored[0].Value) == "" {
		t.Fatalf("stored: %s, %v", stored, err)
	}
	time.Sleep(1500 * time.Millisecond) // the copy's pause
	first.stop()
	if err := etcd.Stop(5 * time.Second); err != nil {
		t.Fatal(err)
	}

	second := startReplica(t, file)
	took := within(t, 2*time.Second, "a held name is served with the store down", second.log, func() error {
		s, body, err := second.serial("one.localhost")
		if err == nil && (s != serial || !strings.Contains(body, "one.localhost")) {
			err = fmt.Errorf("served %s, want %s; answered %q", s, serial, body)
		}
		return err
	})
	t.Logf("served %v after the start with the store down", took)
	if ok, why := second.ready(); !ok || !strings.Contains(why, "copy") {
		t.Errorf("ready: %v, %q", ok, why)
	}
	if err := etcd.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "the writer is connected again", second.log, func() error {
		_, err := writer.Put(t.Context(), "frontends/two/backend", []byte("b"), "")
		return err
	})
	if _, err := writer.Put(t.Context(), "frontends/two/routes/main/rule", []byte("Host:two.localhost"), ""); err != nil {
		t.Fatal(err)
	}
	took = within(t, 5*time.Second, "at work after the store's return", second.log, func() error {
		s, body, err := second.serial("two.localhost")
		if err == nil && (strings.Contains(s, "stand-in") || !strings.Contains(body, "two.localhost")) {
			err = fmt.Errorf("served %s; answered %q", s, body)
		}
		return err
	})
	t.Logf("a new name was issued and served %v after the store's return", took)
	if s, _, err := second.serial("one.localhost"); err != nil || s != serial {
		t.Errorf("the certificate that was held is %s (%v), was %s", s, err, serial)
	}
	within(t, 5*time.Second, "no longer stale", second.log, func() error {
		if _, why := second.ready(); why != "" {
			return fmt.Errorf("ready says %q", why)
		}
		return nil
	})
}

func newWhoamiForTest(t *testing.T) (string, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = serveWhoami(ctx, l, "") }()
	t.Cleanup(func() { cancel(); <-done })
	return "http://" + l.Addr().String(), nil
}

// TestSettingsOfADeadStore: who waits for the settings in a store in vain is told
// what came back from it.
func TestSettingsOfADeadStore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatehouse.toml")
	for _, v3 := range []bool{false, true} {
		port, err := rig.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("[etcd]\nendpoint = \"127.0.0.1:%d\"\nprefix = \"/traefik\"\nuseAPIV3 = %v\n", port, v3)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		loaded, problems := config.Load(config.LoadInput{Args: []string{"-c", file}})
		if config.Failed(problems) {
			t.Fatal(problems)
		}
		log := slog.New(slog.DiscardHandler)
		opened, err := openRouting(t.Context(), loaded.Static, "a", log)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("no answer within 3s"))
		_, err = overlay(ctx, loaded, opened, log)
		cancel()
		_ = opened.Close()
		if err == nil || !strings.Contains(err.Error(), "no answer within 3s") || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("useAPIV3 %v: %v", v3, err)
		}
	}
}
