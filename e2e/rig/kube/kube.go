// Package kube starts a real Kubernetes control plane for tests and `make
// kube`: kube-apiserver and kube-controller-manager on etcd, each a process.
// On loopback, and then without pods, for any test (Start); or in a network
// namespace of its own, where pods are processes in namespaces of theirs (Main,
// StartNode). Production code never imports it.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/e2e/rig"
)

// Kube is a running control plane.
type Kube struct {
	Server     string // URL of the API server
	Kubeconfig string // file; its user may do everything
	CA         string // file; who vouches for the server
	Etcd       *rig.Etcd

	dir, host  string
	port       int
	api        *rig.Process
	controller *rig.Process
	admin      *http.Client
	spaces     atomic.Int64
}

// controllers are what the controller manager runs.
const controllers = "deployment-controller,replicaset-controller,endpointslice-controller,namespace-controller," +
	"serviceaccount-controller,serviceaccount-token-controller,garbage-collector-controller," +
	"root-ca-certificate-publisher-controller,job-controller,disruption-controller"

// Start runs a control plane until the test ends. What cannot be had fails the
// test, with the reason.
func Start(t testing.TB) *Kube {
	t.Helper()
	k, err := New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Kill)
	return k
}

// New starts a control plane with its data under dir and waits until it is
// usable. The caller calls Kill in the end, also after an error.
func New(ctx context.Context, dir string) (*Kube, error) {
	k := &Kube{dir: dir, host: "127.0.0.1"}
	var err error
	if k.port, err = rig.FreePort(); err != nil {
		return k, err
	}
	if InNetwork() {
		k.host, k.port = ServiceIP, 443
	}
	k.Server = fmt.Sprintf("https://%s:%d", k.host, k.port)
	k.Kubeconfig, k.CA = filepath.Join(dir, "admin.kubeconfig"), filepath.Join(dir, "ca.crt")
	if err := k.writeKeys(); err != nil {
		return k, fmt.Errorf("make the control plane's keys: %w", err)
	}
	if k.Etcd, err = rig.NewEtcd(ctx, dir); err != nil {
		return k, err
	}
	if err := k.StartAPI(ctx); err != nil {
		return k, err
	}
	if err := k.startControllers(); err != nil {
		return k, err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return k, k.controller.WaitFor(ctx, func(ctx context.Context) error {
		return k.Do(ctx, http.MethodGet, "/api/v1/namespaces/default/serviceaccounts/default", nil, nil)
	})
}

// StartAPI starts the API server, again after KillAPI: on the same port with the
// same data. It waits until it is ready.
func (k *Kube) StartAPI(ctx context.Context) error {
	path, err := rig.Find("kube-apiserver")
	if err != nil {
		return err
	}
	file := func(name string) string { return filepath.Join(k.dir, name) }
	k.api, err = rig.Start("kube-apiserver", k.dir, nil, path,
		"--etcd-servers="+k.Etcd.URL(), "--bind-address="+k.host, fmt.Sprintf("--secure-port=%d", k.port),
		"--advertise-address="+NodeIP, "--endpoint-reconciler-type=none",
		"--tls-cert-file="+file("server.crt"), "--tls-private-key-file="+file("server.key"), "--cert-dir="+file("certs"),
		"--client-ca-file="+k.CA, "--service-cluster-ip-range=10.96.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+file("tokens.key"), "--service-account-signing-key-file="+file("tokens.key"),
		"--authorization-mode=RBAC", "--allow-privileged=true",
		"--kubelet-client-certificate="+file("admin.crt"), "--kubelet-client-key="+file("admin.key"),
		"--audit-policy-file="+file("audit.yaml"), "--audit-log-path="+file("audit.log"), "--audit-log-mode=blocking",
		"--shutdown-delay-duration=0s", "--v=1")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	return k.api.WaitFor(ctx, func(ctx context.Context) error {
		return k.Do(ctx, http.MethodGet, "/readyz", nil, nil)
	})
}

// KillAPI ends the API server with SIGKILL; StartAPI starts it again.
func (k *Kube) KillAPI() { k.api.Kill() }

func (k *Kube) startControllers() error {
	path, err := rig.Find("kube-controller-manager")
	if err != nil {
		return err
	}
	port, err := rig.FreePort()
	if err != nil {
		return err
	}
	k.controller, err = rig.Start("kube-controller-manager", k.dir, nil, path,
		"--kubeconfig="+k.Kubeconfig, "--authentication-kubeconfig="+k.Kubeconfig, "--authorization-kubeconfig="+k.Kubeconfig,
		"--leader-elect=false", "--use-service-account-credentials", "--root-ca-file="+k.CA,
		"--service-account-private-key-file="+filepath.Join(k.dir, "tokens.key"), "--cert-dir="+filepath.Join(k.dir, "certs"),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port), "--controllers="+controllers)
	return err
}

// Kill ends all processes.
func (k *Kube) Kill() {
	if k.admin != nil {
		k.admin.CloseIdleConnections()
	}
	for _, p := range []*rig.Process{k.controller, k.api} {
		if p != nil {
			p.Kill()
		}
	}
	if k.Etcd != nil && k.Etcd.Process != nil {
		k.Etcd.Kill()
	}
}

// AuditLog is the file in which the API server writes who asked what, but for
// administrators and the controllers.
func (k *Kube) AuditLog() string { return filepath.Join(k.dir, "audit.log") }

// Do asks the API server, as one who may do everything: body and into are
// what JSON says, or nil. An answer that is no success is an *Answer.
func (k *Kube) Do(ctx context.Context, method, path string, body, into any) error {
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		send = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, k.Server+path, send)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		req.Header.Set("Content-Type", "application/merge-patch+json")
	}
	resp, err := k.admin.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode >= 300 {
		return &Answer{Code: resp.StatusCode, Text: fmt.Sprintf("%s %s: %s: %.500s", method, path, resp.Status, text)}
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// Answer is a refusal by the API server.
type Answer struct {
	Code int
	Text string
}

func (a *Answer) Error() string { return a.Text }

// IsCode says whether the API server answered with code.
func IsCode(err error, code int) bool {
	var a *Answer
	return errors.As(err, &a) && a.Code == code
}

// Kubectl runs kubectl as the administrator, with input as its standard input.
func (k *Kube) Kubectl(ctx context.Context, input string, args ...string) (string, error) {
	path, err := rig.Find("kubectl")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--kubeconfig=" + k.Kubeconfig}, args...)...)
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "HOME="+k.dir)
	var out, trouble bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, trouble.String())
	}
	return out.String(), nil
}

// Apply is kubectl apply of manifests.
func (k *Kube) Apply(t testing.TB, manifests string) {
	t.Helper()
	if out, err := k.Kubectl(t.Context(), manifests, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		t.Fatalf("%v%s", err, out)
	}
}

// Namespace makes a namespace of the test's own.
func (k *Kube) Namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test-%d", k.spaces.Add(1))
	err := k.Do(t.Context(), http.MethodPost, "/api/v1/namespaces", map[string]any{"metadata": map[string]any{"name": name}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// Token gives a token of a service account, which is made if it is not there.
func (k *Kube) Token(ctx context.Context, namespace, account string) (string, error) {
	base := "/api/v1/namespaces/" + namespace + "/serviceaccounts"
	err := k.Do(ctx, http.MethodPost, base, map[string]any{"metadata": map[string]any{"name": account}}, nil)
	if err != nil && !IsCode(err, http.StatusConflict) {
		return "", err
	}
	var answer struct{ Status struct{ Token string } }
	err = k.Do(ctx, http.MethodPost, base+"/"+account+"/token", map[string]any{"spec": map[string]any{"expirationSeconds": 7200}}, &answer)
	return answer.Status.Token, err
}

// UserKubeconfig gives a kubeconfig file of a service account.
func (k *Kube) UserKubeconfig(t testing.TB, namespace, account string) string {
	t.Helper()
	token, err := k.Token(t.Context(), namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), account+".kubeconfig")
	if err := os.WriteFile(file, []byte(kubeconfig(k.Server, k.CA, namespace, "token: "+token)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func kubeconfig(server, ca, namespace, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: rig, cluster: {server: %q, certificate-authority: %q}}]
users:
- name: me
  user:
    %s
contexts: [{name: rig, context: {cluster: rig, user: me, namespace: %q}}]
current-context: rig
`, server, ca, user, namespace)
}

// client is the administrator's.
func client(ca, certificate, key string) (*http.Client, error) {
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true,
		IdleConnTimeout: 10 * time.Second,
	}}, nil
}
