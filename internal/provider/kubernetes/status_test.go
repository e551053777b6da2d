package kubernetes

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"gatehouse/e2e/rig/kube"
	"gatehouse/internal/kubeclient"
)

// The holder writes the address and Events; when it stops, nothing is cleared.
func TestStatus(t *testing.T) {
	k := kube.Start(t)
	space := k.Namespace(t)
	k.Apply(t, fmt.Sprintf(webObjects, space, "10.1.0.1"))
	k.Apply(t, fmt.Sprintf(webRole, space, ", secrets")+`---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: status, namespace: `+space+`}
rules:
- {apiGroups: [networking.k8s.io], resources: [ingresses/status], verbs: [patch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: status, namespace: `+space+`}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: status}
subjects: [{kind: ServiceAccount, name: edge, namespace: `+space+`}]
`)
	client := open(t, k.UserKubeconfig(t, space, "edge"))
	// A host of an older Ingress in another namespace.
	hold := make(chan struct{}, 1)
	status := NewStatus(StatusOptions{Client: client, Hostname: "edge.example.com", Replica: "r", Logger: slog.New(slog.DiscardHandler),
		Hold: func(ctx context.Context) (context.Context, func(), error) {
			select {
			case hold <- struct{}{}:
				return ctx, func() { <-hold }, nil
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		},
		Certificates: func() []CertificateNews {
			return []CertificateNews{{Sources: []string{"ingress " + space + "/web spec.tls[0]"}, Names: []string{"web.example.com"}, Issuer: "acme", Error: "dns says no", Next: time.Unix(4e9, 0)}}
		},
	})
	r := start(t, Options{Client: client, Namespaces: []string{space}, Found: status.Found})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- status.Run(ctx) }()
	r.until(t, "at start", "10.1.0.1:8080")
	k.Apply(t, `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: wrong, namespace: `+space+`}, spec: {defaultBackend: {service: {name: gone, port: {number: 80}}}}}`)
	ingresses := "/apis/networking.k8s.io/v1/namespaces/" + space + "/ingresses/web"
	waitFor(t, "the address", func() string {
		in, err := kubeclient.Ingresses(client).Get(t.Context(), space, "web")
		if err != nil {
			return err.Error()
		}
		if a := in.Status.LoadBalancer.Ingress; len(a) == 1 && a[0].Hostname == "edge.example.com" {
			return ""
		}
		return fmt.Sprint(in.Status)
	})
	for _, want := range []string{"BackendMissing: ", "CertificateFailed: no certificate for web.example.com from acme: dns says no; next attempt at 2096-10-02T07:06:40Z"} {
		waitFor(t, want, func() string {
			var list struct {
				Items []struct{ Reason, Note string }
			}
			if err := k.Do(t.Context(), http.MethodGet, "/apis/events.k8s.io/v1/namespaces/"+space+"/events", nil, &list); err != nil {
				return err.Error()
			}
			for _, e := range list.Items {
				if strings.HasPrefix(e.Reason+": "+e.Note, want) {
					return ""
				}
			}
			return fmt.Sprint(list)
		})
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var in struct {
		Status struct{ LoadBalancer struct{ Ingress []any } }
	}
	if err := k.Do(t.Context(), http.MethodGet, ingresses, nil, &in); err != nil || len(in.Status.LoadBalancer.Ingress) != 1 {
		t.Errorf("after the writer stopped: %v, %v", in, err)
	}
}

func waitFor(t *testing.T, what string, missing func() string) {
	t.Helper()
	now := ""
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if now = missing(); now == "" {
			return
		}
	}
	t.Fatalf("%s: %s", what, now)
}
