package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/e2e/rig/kube"
	"gatehouse/internal/config"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

const webObjects = `apiVersion: v1
kind: Service
metadata: {name: web, namespace: %[1]s}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: %[1]s, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [%[2]s]}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: web
  namespace: %[1]s
  labels: {public-lb: traefik}
  annotations: {ingress.kubernetes.io/auth-type: basic, ingress.kubernetes.io/auth-secret: users}
spec:
  rules:
  - host: web.example.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: unlabelled, namespace: %[1]s}
spec:
  defaultBackend: {service: {name: web, port: {number: 80}}}
---
apiVersion: v1
kind: Secret
metadata: {name: users, namespace: %[1]s}
stringData: {auth: "anna:$apr1$x$y"}
`

const webRole = `apiVersion: v1
kind: ServiceAccount
metadata: {name: edge, namespace: %[1]s}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: edge, namespace: %[1]s}
rules:
- {apiGroups: [""], resources: [services%[2]s], verbs: [get, list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [get, list, watch]}
- {apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [get, list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: edge, namespace: %[1]s}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: edge}
subjects: [{kind: ServiceAccount, name: edge, namespace: %[1]s}]
`

// running is a provider that runs until the test or stop ends it.
type running struct {
	newest atomic.Pointer[string]
	stop   func()
}

func start(t *testing.T, o Options) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{}
	ended := make(chan error, 1)
	o.Logger = slog.New(slog.DiscardHandler)
	go func() {
		ended <- New(o).Run(ctx, func(c config.Routing, problems []config.Problem) {
			var findings []Finding
			for _, p := range problems {
				findings = append(findings, Finding{Problem: p})
			}
			text := tell(t, Result{Routing: c, Findings: findings})
			r.newest.Store(&text)
		})
	}()
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// until waits for routing that has all of the texts.
func (r *running) until(t *testing.T, what string, texts ...string) {
	t.Helper()
	var now string
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if p := r.newest.Load(); p != nil {
			now = *p
		}
		all := now != ""
		for _, text := range texts {
			all = all && strings.Contains(now, text)
		}
		if all {
			return
		}
	}
	t.Fatalf("%s: no %q in\n%s", what, texts, now)
}

func open(t *testing.T, kubeconfig string) *kubeclient.Client {
	t.Helper()
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	c, err := kubeclient.Open(kubeclient.Options{Kubeconfig: kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A real API server is followed, with the rights of one namespace, while it is
// away, and at a start without it.
func TestFollow(t *testing.T) {
	k := kube.Start(t)
	space := k.Namespace(t)
	k.Apply(t, fmt.Sprintf(webObjects, space, "10.1.0.1"))
	k.Apply(t, fmt.Sprintf(webRole, space, ""))
	file := filepath.Join(t.TempDir(), "copy", "k.json.gz")
	o := Options{Client: open(t, k.UserKubeconfig(t, space, "edge")), Namespaces: []string{space},
		LabelSelector: "public-lb=traefik", Settings: Settings{Selected: true}, Copy: file}
	r := start(t, o)
	r.until(t, "without rights on classes and Secrets", "/refused: missing", "10.1.0.1:8080", "ingressclasses: cannot be read", "secrets: cannot be read")
	if strings.Contains(*r.newest.Load(), "unlabelled") {
		t.Error("an Ingress without the label is served")
	}
	k.Apply(t, fmt.Sprintf(webRole, space, ", secrets"))
	r.until(t, "with rights on Secrets", "through basicAuth")
	k.Apply(t, fmt.Sprintf(webObjects, space, "10.1.0.2"))
	r.until(t, "after a change", "10.1.0.2:8080", "through basicAuth")
	if strings.Contains(*r.newest.Load(), "10.1.0.1") {
		t.Error("the old address is still there")
	}
	for deadline := time.Now().Add(copyEvery + 5*time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if kept, err := readCopy(file, store.Ring{}); err == nil && len(kept.Secrets) == 1 && kept.Slices[0].Endpoints[0].Address == "10.1.0.2" {
			break
		}
	}
	client := open(t, k.UserKubeconfig(t, space, "edge"))
	k.KillAPI()
	before := *r.newest.Load()
	o.Client = client
	again := start(t, o)
	again.until(t, "at a start without the API server", "10.1.0.2:8080", "through basicAuth")
	if *r.newest.Load() != before {
		t.Errorf("an outage changed the routes:\n%s", *r.newest.Load())
	}
	if err := k.StartAPI(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.Apply(t, fmt.Sprintf(webObjects, space, "10.1.0.3"))
	r.until(t, "after the API server's return", "10.1.0.3:8080")
	again.until(t, "after the API server's return, from the copy", "10.1.0.3:8080")
}
