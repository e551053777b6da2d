package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"gatehouse/e2e/rig/faultca"
	"gatehouse/e2e/rig/kube"
)

// binaries is where images has built; "": it was not asked to. TestMain removes it.
var binaries string

// images are built once for all tests, by the first that needs them.
var images = sync.OnceValues(func() (map[string]kube.Image, error) {
	var err error
	if binaries, err = os.MkdirTemp("", "gatehouse-kube"); err != nil {
		return nil, err
	}
	gatehouse, echo := filepath.Join(binaries, "gatehouse"), filepath.Join(binaries, "echo")
	err = errors.Join(kube.Build("./cmd/gatehouse", gatehouse), kube.Build("./e2e/rig/kube/echo", echo))
	return map[string]kube.Image{"gatehouse:latest": kube.GatehouseAt(gatehouse), "echo:latest": kube.EchoAt(echo)}, err
})

func TestMain(m *testing.M) {
	code := kube.Main(m)
	if binaries != "" {
		_ = os.RemoveAll(binaries)
	}
	os.Exit(code)
}

func theImages(t *testing.T) map[string]kube.Image {
	t.Helper()
	made, err := images()
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func start(t *testing.T, o options) *stage {
	t.Helper()
	o.dir = t.TempDir()
	for dir := o.dir; len(dir) > len(os.TempDir()); dir = dir[:strings.LastIndex(dir, "/")] {
		_ = os.Chmod(dir, 0o755) // pods have users of their own
	}
	o.images = theImages(t)
	s, err := newStage(t.Context(), o)
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(s.logs(context.WithoutCancel(t.Context())))
		}
		s.close()
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The published story with nothing but the cluster: three replicas from the
// converted manifests, DNS-01, one order, TLS Secrets anybody can use.
func TestThePostOnKubernetes(t *testing.T) {
	s := start(t, options{})
	if err := s.deploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := timeout(t, time.Minute)
	defer cancel()
	if err := s.served(ctx); err != nil {
		t.Fatal(err)
	}
	s.oneOrder(t)
	var list corev1.SecretList
	if err := s.Do(t.Context(), "GET", "/api/v1/namespaces/gatehouse/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls", nil, &list); err != nil {
		t.Fatal(err)
	}
	usable := 0
	for _, secret := range list.Items {
		if len(secret.Data["tls.crt"]) == 0 {
			continue
		}
		pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
		if err != nil || pair.Leaf.VerifyHostname(zone) != nil {
			t.Errorf("secret %s: %v", secret.Name, err)
			continue
		}
		usable++
	}
	if usable != 1 {
		t.Errorf("%d usable TLS Secrets, want 1", usable)
	}
}

// The pod that owns the order is killed in the middle of it.
func TestOwnerKilled(t *testing.T) {
	for name, o := range map[string]options{"DNS-01": {inSync: 4 * time.Second}, "HTTP-01": {http01: true}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, o)
			if o.http01 {
				s.slowCA()
			}
			if err := s.deploy(t.Context()); err != nil {
				t.Fatal(err)
			}
			owner := s.owner(t)
			time.Sleep(time.Second) // it is in the middle of the order
			killed := time.Now()
			if _, err := s.Kubectl(t.Context(), "", "-n", "gatehouse", "delete", "pod", owner, "--grace-period=0", "--force"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := timeout(t, 40*time.Second)
			defer cancel()
			if err := s.served(ctx); err != nil {
				t.Fatal(err)
			}
			took := time.Since(killed)
			t.Logf("%s killed in the middle of the order; the certificate was served %v later", owner, took.Round(10*time.Millisecond))
			if took > 10*time.Second {
				t.Errorf("served %v after the kill, want within 10 s", took)
			}
			s.oneOrder(t)
		})
	}
}

func (s *stage) oneOrder(t *testing.T) {
	t.Helper()
	if orders, certs := s.proxy.Orders(names...), s.proxy.Certificates(names...); orders != 1 || certs != 1 {
		t.Errorf("the CA saw %d orders and gave %d certificates, want one of each", orders, certs)
	}
}

// owner waits for an order and names the pod whose Lease it is.
func (s *stage) owner(t *testing.T) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		out, err := s.Kubectl(t.Context(), "", "-n", "gatehouse", "get", "leases", "-l", "gatehouse/kind=leases",
			"-o", `jsonpath={range .items[*]}{.metadata.annotations.gatehouse/key} {.spec.holderIdentity}{"\n"}{end}`)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			key, holder, _ := strings.Cut(strings.TrimSpace(line), " ")
			if strings.HasPrefix(key, "leases/orders/") && holder != "" && s.proxy.Orders(names...) == 1 {
				return holder
			}
		}
	}
	t.Fatal("nobody holds the Lease of an order")
	return ""
}

// slowCA lets the CA take its time over the first look at an authorization: long
// enough to be killed in, and over before another takes the Lease.
func (s *stage) slowCA() {
	s.proxy.Inject(faultca.Fault{Step: faultca.Authorization, Delay: 4 * time.Second})
}

func timeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(t.Context(), d, fmt.Errorf("%v are over", d))
}

const echoPods = `apiVersion: apps/v1
kind: Deployment
metadata: {name: echo, namespace: default}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers:
      - {name: echo, image: "echo:latest", env: [{name: PORTS, value: "3000"}], readinessProbe: {httpGet: {path: /, port: 3000}}}
`

// route makes the ConfigMap's [file] lead all of the zone to the echo pods,
// under a path of its own.
func (s *stage) route(t *testing.T, path string) {
	t.Helper()
	out, err := s.Kubectl(t.Context(), "", "get", "pods", "-l", "app=echo", "-o", `jsonpath={range .items[*]}{.status.podIP}{"\n"}{end}`)
	if err != nil {
		t.Fatal(err)
	}
	var config corev1.ConfigMap
	at := "/api/v1/namespaces/gatehouse/configmaps/gatehouse"
	if err := s.Do(t.Context(), "GET", at, nil, &config); err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(config.Data["gatehouse.toml"], "[file]")
	text += "[file]\n[frontends.echo]\nbackend = \"echo\"\npassHostHeader = true\n[frontends.echo.routes.all]\nrule = \"Host:" + zone + ";PathPrefix:" + path + "\"\n"
	for i, ip := range strings.Fields(out) {
		text += fmt.Sprintf("[backends.echo.servers.s%d]\nurl = \"http://%s:3000\"\n", i, ip)
	}
	if err := s.Do(t.Context(), "PATCH", at, map[string]any{"data": map[string]string{"gatehouse.toml": text}}, nil); err != nil {
		t.Fatal(err)
	}
}

// load is clients that ask all the time: every second one on a new connection
// each time.
type load struct {
	sent, failed atomic.Int64
	mu           sync.Mutex
	errors       []string
	stop         context.CancelFunc
	done         sync.WaitGroup
}

// load asks the addresses in turn.
func (s *stage) load(t *testing.T, path string, addresses ...string) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop}
	roots, err := s.ca.Issued(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		l.done.Go(func() {
			tr := &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: zone}, DisableKeepAlives: i%2 == 0, ForceAttemptHTTP2: i%4 == 1,
			}
			defer tr.CloseIdleConnections()
			c := &http.Client{Transport: tr, Timeout: 10 * time.Second}
			for ctx.Err() == nil {
				l.ask(ctx, c, "https://"+addresses[i/2%len(addresses)]+path)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	return l
}

func (l *load) ask(ctx context.Context, c *http.Client, url string) {
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	req.Host = zone
	resp, err := c.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s", resp.Status)
		}
	}
	l.sent.Add(1)
	if err != nil {
		l.failed.Add(1)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.errors = append(l.errors, time.Now().Format("15:04:05.000 ")+err.Error())
	}
}

func (l *load) end(t *testing.T, when string) {
	t.Helper()
	l.stop()
	l.done.Wait()
	t.Logf("%s: %d of %d requests failed", when, l.failed.Load(), l.sent.Load())
	if l.failed.Load() > 0 || l.sent.Load() < 100 {
		t.Errorf("%s: %d of %d requests failed: %q", when, l.failed.Load(), l.sent.Load(), l.errors[:min(len(l.errors), 10)])
	}
}

// ask is one request to a pod; its status.
func (s *stage) ask(pod corev1.Pod, path string) int {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: zone}}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequest(http.MethodGet, "https://"+pod.Status.PodIP+path, nil)
	if err != nil {
		panic(err)
	}
	req.Host = zone
	resp, err := (&http.Client{Transport: tr, Timeout: time.Second}).Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// routed waits until all replicas answer path, and says how long it took.
func (s *stage) routed(t *testing.T, path string) time.Duration {
	t.Helper()
	start := time.Now()
	pods, err := s.pods(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pods {
		for s.ask(p, path) != http.StatusOK {
			if time.Since(start) > 20*time.Second {
				t.Fatalf("%s does not answer %s: %d", p.Name, path, s.ask(p, path))
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return time.Since(start)
}

// Nothing that happens to the cluster or to us is seen by clients: a rolling
// update, and an API server that is away and returns (outage).
func TestTrafficFlows(t *testing.T) {
	s := start(t, options{})
	s.Apply(t, echoPods+"---\n"+shopIngress)
	if _, err := s.Kubectl(t.Context(), "", "rollout", "status", "deployment/echo", "--timeout=90s"); err != nil {
		t.Fatal(err)
	}
	if err := s.deploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := timeout(t, time.Minute)
	defer cancel()
	if err := s.served(ctx); err != nil {
		t.Fatal(err)
	}
	s.route(t, "/one")
	s.routed(t, "/one")

	balancer, err := s.balancer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l := s.load(t, "/one", balancer)
	if _, err := s.Kubectl(t.Context(), "", "-n", "gatehouse", "rollout", "restart", "deployment/gatehouse"); err != nil {
		t.Fatal(err)
	}
	if err := s.rolledOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.end(t, "rolling update")
	s.oneOrder(t)

	s.outage(t)
}
