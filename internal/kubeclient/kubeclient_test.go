package kubeclient

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {server: "https://127.0.0.1:1", insecure-skip-tls-verify: true}
users:
- name: u
  user: {token: t}
contexts:
- name: x
  context: {cluster: c, user: u, namespace: here}
current-context: x
`

func TestSettings(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("KUBECONFIG", "")
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good"), filepath.Join(dir, "bad")
	if err := os.WriteFile(good, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bad, []byte("clusters: {"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name                       string
		o                          Options
		server, namespace, trouble string
	}{
		{name: "kubeconfig", o: Options{Kubeconfig: good}, server: "https://127.0.0.1:1", namespace: "here"},
		{name: "own namespace", o: Options{Kubeconfig: good, Namespace: "ours"}, server: "https://127.0.0.1:1", namespace: "ours"},
		{name: "endpoint", o: Options{Endpoint: "https://10.0.0.1:6443", Token: "t"}, server: "https://10.0.0.1:6443", namespace: "default"},
		{name: "host and port", o: Options{Endpoint: "10.0.0.1:6443", Token: "t"}, server: "https://10.0.0.1:6443", namespace: "default"},
		{name: "no such file", o: Options{Kubeconfig: filepath.Join(dir, "none")}, trouble: "read kubeconfig"},
		{name: "no kubeconfig", o: Options{Kubeconfig: bad}, trouble: "read kubeconfig"},
		{name: "no CA file", o: Options{Endpoint: "https://a", CAFile: filepath.Join(dir, "none")}, trouble: "no such file"},
		{name: "nothing", trouble: "no API server is named, and this is no pod"},
	} {
		client, err := Open(c.o)
		if c.trouble != "" {
			if err == nil || !strings.Contains(err.Error(), c.trouble) {
				t.Errorf("%s: %v, want %q", c.name, err, c.trouble)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if client.Server() != c.server || client.Namespace() != c.namespace {
			t.Errorf("%s: %s in %s, want %s in %s", c.name, client.Server(), client.Namespace(), c.server, c.namespace)
		}
		_ = client.Close()
	}
}

// A server that is away is named, with what was asked.
func TestAway(t *testing.T) {
	c, err := Open(Options{Endpoint: "https://127.0.0.1:1", Token: "t"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, err = Secrets(c).Get(t.Context(), "n", "s")
	if err == nil || !strings.Contains(err.Error(), "get secrets n/s of kubernetes https://127.0.0.1:1: ") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("get: %v", err)
	}
	if Gone(err) || Refused(err) || Conflicts(err) {
		t.Errorf("%v is taken for an answer", err)
	}
}

// However many want to connect to a server that is away, it is tried at most
// every dialRest; when it is back everybody gets through.
func TestDialer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	var tries atomic.Int64
	d := &dialer{Dialer: net.Dialer{Control: func(string, string, syscall.RawConn) error { tries.Add(1); return nil }}}
	began := time.Now()
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 50 {
				if _, err := d.connect(t.Context(), "tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
					t.Error(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	all.Wait()
	if most := int64(time.Since(began)/dialRest) + 1; tries.Load() > most || tries.Load() < 2 {
		t.Errorf("tried %d times in %v, want at most %d and more than one", tries.Load(), time.Since(began), most)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	time.Sleep(dialRest)
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := d.connect(cancelled, "tcp", address); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	for range 3 { // a caller that gave up says nothing about the server
		c, err := d.connect(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}
}

func TestRefusedRest(t *testing.T) {
	for before, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 1000: time.Minute} {
		if got := refusedRest(before); got != want {
			t.Errorf("after %d refusals before: %v, want %v", before, got, want)
		}
	}
}
