package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

// modes are the three ways rights are given, folders of examples/kubernetes.
var modes = []string{"cluster", "namespaced", "secrets"}

func examples(parts ...string) string {
	return filepath.Join(append([]string{rig.Root(), "examples/kubernetes"}, parts...)...)
}

// kustomized gives the manifests of a mode.
func kustomized(t *testing.T, mode string) string {
	t.Helper()
	out, err := exec.Command(rig.Binary(t, "kubectl"), "kustomize", examples(mode)).CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl kustomize %s: %v\n%s", mode, err, out)
	}
	return string(out)
}

// objects are the manifests by kind, namespace and name, without the Namespace,
// which Helm makes by itself.
func objects(t *testing.T, manifests string) map[string]any {
	t.Helper()
	out := map[string]any{}
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var o map[string]any
		if err := yaml.Unmarshal([]byte(document), &o); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		if o == nil || o["kind"] == "Namespace" {
			continue
		}
		meta := o["metadata"].(map[string]any)
		out[fmt.Sprintf("%v %v/%v", o["kind"], meta["namespace"], meta["name"])] = o
	}
	return out
}

// The chart says what the manifests say, in each mode.
func TestChart(t *testing.T) {
	helm := rig.Binary(t, "helm")
	for _, mode := range modes {
		out, err := exec.Command(helm, "template", "gatehouse", examples("chart"), "--namespace", "gatehouse", "--set", "mode="+mode).CombinedOutput()
		if err != nil {
			t.Fatalf("helm template: %v\n%s", err, out)
		}
		want, got := objects(t, kustomized(t, mode)), objects(t, string(out))
		if len(want) < 9 {
			t.Fatalf("%s has %d objects", mode, len(want))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: the chart differs from the manifests (-manifests +chart):\n%s", mode, diff)
		}
	}
	if out, err := exec.Command(helm, "lint", "--strict", examples("chart")).CombinedOutput(); err != nil {
		t.Errorf("helm lint: %v\n%s", err, out)
	}
}

// call is what somebody asked the API server, as its audit log says.
type call struct {
	Verb      string
	ObjectRef struct{ APIGroup, Resource, Subresource, Namespace, Name string }
	User      struct{ Username string }
	Response  struct{ Code int } `json:"responseStatus"`
	At        time.Time          `json:"requestReceivedTimestamp"`
}

func (c call) resource() string {
	return strings.TrimSuffix(c.ObjectRef.Resource+"/"+c.ObjectRef.Subresource, "/")
}

// calls are those of Gatehouse.
func (s *stage) calls(t *testing.T) []call {
	t.Helper()
	list, err := callsOf(s.Kube, "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// callsOf are those of the ServiceAccount gatehouse of a namespace.
func callsOf(k *kube.Kube, namespace string) (list []call, err error) {
	f, err := os.Open(k.AuditLog())
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			continue // the line that is being written
		}
		if c.User.Username == "system:serviceaccount:"+namespace+":gatehouse" && c.ObjectRef.Resource != "" {
			list = append(list, c)
		}
	}
	return list, lines.Err()
}

// granted are the rights of a mode: rules by the namespace they hold in, "" for
// all.
func granted(t *testing.T, mode string) map[string][]rbacv1.PolicyRule {
	t.Helper()
	out := map[string][]rbacv1.PolicyRule{}
	for name, o := range objects(t, kustomized(t, mode)) {
		kind, _, _ := strings.Cut(name, " ")
		if kind != "Role" && kind != "ClusterRole" {
			continue
		}
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		var role rbacv1.Role
		if err := json.Unmarshal(text, &role); err != nil {
			t.Fatal(err)
		}
		out[role.Namespace] = append(out[role.Namespace], role.Rules...)
	}
	return out
}

// used says whether a right was needed by one of the calls.
func used(calls []call, namespace, group, resource, verb string, names []string) bool {
	return slices.ContainsFunc(calls, func(c call) bool {
		return c.Verb == verb && c.ObjectRef.APIGroup == group && c.resource() == resource &&
			(namespace == "" || c.ObjectRef.Namespace == namespace) && (len(names) == 0 || slices.Contains(names, c.ObjectRef.Name))
	})
}

// ingress wants a certificate in a Secret it names, and a Service that is not
// there, of which an Event tells.
const ingress = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: office, namespace: default, labels: {public-lb: traefik}}
spec:
  tls: [{hosts: [app.office.mydomain.com], secretName: office-tls}]
  rules:
  - host: app.office.mydomain.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: none, port: {number: 80}}}}]}
`

// asks says whether a refused call is how the Ingress provider finds out what
// it may read: by reading it. What it may not costs that kind only.
func asks(mode string, c call) bool {
	switch mode + " " + c.Verb + " " + c.resource() {
	case "namespaced list ingressclasses", "secrets list ingressclasses":
		return true
	case "secrets list secrets":
		return c.ObjectRef.Namespace == "default" && c.ObjectRef.Name == ""
	}
	return false
}

// judgeAsking: what is refused is asked for ever more seldom, by each of the
// replicas.
func judgeAsking(t *testing.T, mode string, calls []call) {
	t.Helper()
	asked, span := map[string]int{}, time.Duration(0)
	for _, c := range calls {
		span = max(span, c.At.Sub(calls[0].At))
		if c.Response.Code == 403 && asks(mode, c) {
			asked[c.resource()]++
		}
	}
	often := 1
	for rest, at := time.Second, time.Second; at < span; often++ {
		rest = min(2*rest, time.Minute)
		at += rest
	}
	t.Logf("in %v was refused: %v", span.Round(time.Second), asked)
	for resource, n := range asked {
		if n > 3*often {
			t.Errorf("3 replicas asked %d times for %s in %v, want at most %d times", n, resource, span, 3*often)
		}
	}
}

// Each mode with its own ServiceAccount's token: every call is allowed, and
// every right is used.
func TestRights(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			s := start(t, options{mode: mode, http01: true})
			s.Apply(t, ingress)
			if err := s.deploy(t.Context(), "--lifeCycle.requestAcceptGraceTimeout=100ms", "--kubernetes.ingressEndpoint.ip=192.0.2.1"); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := timeout(t, time.Minute)
			defer cancel()
			if err := s.served(ctx); err != nil {
				t.Fatal(err)
			}
			s.delivered(t, "office-tls", "app."+zone)
			s.Apply(t, strings.Replace(ingress, "hosts: [", "hosts: [more."+zone+", ", 1))
			s.delivered(t, "office-tls", "app."+zone, "more."+zone)
			s.stir(t)
			if mode != "secrets" {
				s.sweeps(t)
			}
			calls := s.calls(t)
			for _, c := range calls {
				if (c.Response.Code == 401 || c.Response.Code == 403) && !asks(mode, c) {
					t.Errorf("refused: %s %s %s %s/%s", c.Verb, c.ObjectRef.APIGroup, c.resource(), c.ObjectRef.Namespace, c.ObjectRef.Name)
				}
			}
			judgeAsking(t, mode, calls)
			writes := slices.ContainsFunc(calls, func(c call) bool { return c.resource() == "ingresses/status" })
			for namespace, rules := range granted(t, mode) {
				for _, rule := range rules {
					for _, resource := range rule.Resources {
						for _, verb := range rule.Verbs {
							if !writes && namespace != "gatehouse" && (resource == "ingresses/status" || resource == "events") {
								t.Logf("the right to %s %s in %q is not judged: this build writes nothing about Ingresses", verb, resource, namespace)
								continue
							}
							if !used(calls, namespace, rule.APIGroups[0], resource, verb, rule.ResourceNames) {
								t.Errorf("granted in %q and never used: %s %s %s %v", namespace, verb, rule.APIGroups[0], resource, rule.ResourceNames)
							}
						}
					}
				}
			}
		})
	}
}

// stir makes happen what uses the rights that no quiet day does: a configuration
// with a mistake, a replica that leaves.
func (s *stage) stir(t *testing.T) {
	t.Helper()
	patch := map[string]any{"data": map[string]string{"gatehouse.toml": "nonsense = 1\n"}}
	if err := s.Do(t.Context(), "PATCH", "/api/v1/namespaces/gatehouse/configmaps/gatehouse", patch, nil); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := s.Kubectl(t.Context(), "", "-n", "gatehouse", "get", "events", "-o", "jsonpath={.items[*].reason}")
		if err == nil && strings.Contains(out, "ConfigurationRejected") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no Event of the mistake: %q, %v", out, err)
		}
	}
	if _, err := s.Kubectl(t.Context(), "", "-n", "gatehouse", "scale", "deployment/gatehouse", "--replicas=2"); err != nil {
		t.Fatal(err)
	}
	if err := s.rolledOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		out, err := s.Kubectl(t.Context(), "", "-n", "gatehouse", "get", "pods", "-o", "name")
		if err == nil && len(strings.Fields(out)) == 2 {
			return
		}
	}
	t.Error("the third replica does not leave")
}

// sweeps makes a Secret go that was delivered for an Ingress nobody has any more.
func (s *stage) sweeps(t *testing.T) {
	t.Helper()
	s.Apply(t, `apiVersion: v1
kind: Secret
metadata: {name: old-tls, namespace: default, labels: {app.kubernetes.io/managed-by: gatehouse}, annotations: {gatehouse/delivered: "old.mydomain.com", gatehouse/unwanted-since: "2020-01-01T00:00:00Z"}}
type: kubernetes.io/tls
stringData: {tls.crt: a, tls.key: b}
`)
	if out, err := s.Kubectl(t.Context(), "", "delete", "ingress", "office"); err != nil {
		t.Fatal(err, out)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err := s.Do(t.Context(), "GET", "/api/v1/namespaces/default/secrets/old-tls", nil, nil); kube.IsCode(err, 404) {
			return
		}
	}
	t.Error("what was delivered for an Ingress that is gone is still there")
}

// The API server takes the manifests of each mode.
func testManifestsAreTaken(t *testing.T, k *kube.Kube) {
	k.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: gatehouse}\n")
	for _, mode := range modes {
		if out, err := k.Kubectl(t.Context(), kustomized(t, mode), "apply", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %v%s", mode, err, out)
		}
	}
}
