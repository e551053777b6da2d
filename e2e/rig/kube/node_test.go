package kube

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

const echoManifests = `apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {word: first}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 3
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      terminationGracePeriodSeconds: 2
      securityContext:
        runAsNonRoot: true
        sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: "0"}]
      containers:
      - name: echo
        image: echo:1
        securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        env:
        - {name: PORTS, value: "80,3001"}
        - {name: SERVICE, valueFrom: {secretKeyRef: {name: s, key: word}}}
        ports: [{name: web, containerPort: 80}]
        readinessProbe: {httpGet: {path: /, port: web}}
        volumeMounts: [{name: s, mountPath: /s}]
      volumes: [{name: s, secret: {secretName: s}}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  type: LoadBalancer
  selector: {app: echo}
  ports: [{name: web, port: 80, targetPort: web}]
`

// Pods run, are reached by their addresses and through the balancer, are
// followed by EndpointSlices, write logs, come back when killed, and go.
func TestPods(t *testing.T) {
	k := Start(t)
	n := k.StartNode(t, map[string]Image{"echo:1": Echo(t)})
	space := k.Namespace(t)
	if _, err := k.Kubectl(t.Context(), echoManifests, "apply", "-n", space, "-f", "-"); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	wait := func(want string, args ...string) {
		t.Helper()
		deadline := time.Now().Add(20 * time.Second)
		for {
			out, err := k.Kubectl(t.Context(), "", append(args, "-n", space)...)
			if err == nil && strings.TrimSpace(out) == want {
				return
			}
			if time.Now().After(deadline) {
				all, _ := k.Kubectl(t.Context(), "", "get", "pods", "-n", space, "-o", "yaml")
				t.Fatalf("%v is %q, %v, want %q\n%s", args, out, err, want, all)
			}
		}
	}
	wait("3", "get", "deployment", "echo", "-o", "jsonpath={.status.readyReplicas}")
	t.Logf("three pods ready after %v", time.Since(start))

	endpoints := func() (ready []string) {
		var list discoveryv1.EndpointSliceList
		if err := k.Do(t.Context(), http.MethodGet, "/apis/discovery.k8s.io/v1/namespaces/"+space+"/endpointslices", nil, &list); err != nil {
			t.Fatal(err)
		}
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if *e.Conditions.Ready {
					ready = append(ready, e.Addresses[0])
				}
			}
		}
		return ready
	}
	deadline := time.Now().Add(5 * time.Second)
	for len(endpoints()) != 3 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	list := endpoints()
	if len(list) != 3 || !strings.HasPrefix(list[0], "10.245.") {
		t.Fatalf("endpoints %v", list)
	}
	seen := map[string]bool{}
	deadline = time.Now().Add(10 * time.Second)
	for len(seen) < 3 && time.Now().Before(deadline) {
		if a, err := get("http://" + n.Balancer(space+"/echo") + "/x?y"); err == nil {
			seen[a.Pod] = true
			if a.Service != "first" || a.Path != "/x" || a.Query != "y" {
				t.Errorf("answer %+v", a)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(seen) != 3 {
		t.Fatalf("the balancer leads to %v", seen)
	}
	var one string
	for one = range seen {
	}
	if out, err := k.Kubectl(t.Context(), "", "logs", one, "-n", space); err != nil || !strings.Contains(out, "GET ") {
		t.Errorf("logs: %q, %v", out, err)
	}
	n.Kill(t, space, one)
	wait("1", "get", "pod", one, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
	wait("3", "get", "deployment", "echo", "-o", "jsonpath={.status.readyReplicas}")
	start = time.Now()
	if _, err := k.Kubectl(t.Context(), "", "delete", "deployment", "echo", "-n", space); err != nil {
		t.Fatal(err)
	}
	wait("", "get", "pods", "-o", "name")
	t.Logf("gone after %v", time.Since(start))
}

func get(url string) (a struct{ Pod, Service, Path, Query string }, err error) {
	c := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(url)
	if err != nil {
		return a, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	if err == nil {
		err = json.Unmarshal(text, &a)
	}
	return a, err
}
