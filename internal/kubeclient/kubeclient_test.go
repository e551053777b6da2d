package kubeclient

import (
	"os"
	"path/filepath"
	"strings"
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

func TestRefusedRest(t *testing.T) {
	for before, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 5: 32 * time.Second, 6: time.Minute, 1000: time.Minute} {
		if got := refusedRest(before); got != want {
			t.Errorf("after %d refusals before: %v, want %v", before, got, want)
		}
	}
}
