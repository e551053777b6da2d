package kubestore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse/e2e/rig/kube"
	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

func TestFate(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) string { return now.Add(-d).Format(time.RFC3339) }
	for _, c := range []struct {
		about, label, delivered, unwanted string
		kind                              corev1.SecretType
		named                             bool
		want                              fate
	}{
		{about: "wanted", label: managedBy, delivered: "a.com", named: true, want: stays},
		{about: "wanted no more", label: managedBy, delivered: "a.com", want: marked},
		{about: "within the grace", label: managedBy, delivered: "a.com", unwanted: ago(23 * time.Hour), want: stays},
		{about: "after the grace", label: managedBy, delivered: "a.com", unwanted: ago(24 * time.Hour), want: removed},
		{about: "wanted again", label: managedBy, delivered: "a.com", unwanted: ago(30 * time.Hour), named: true, want: cleared},
		{about: "a mark that says nothing", label: managedBy, delivered: "a.com", unwanted: "yesterday", want: marked},
		{about: "a mark of the future", label: managedBy, delivered: "a.com", unwanted: ago(-time.Hour), want: stays},
		{about: "somebody else's", label: "Helm", delivered: "a.com", unwanted: ago(48 * time.Hour), want: stays},
		{about: "the store's own", label: managedBy, unwanted: ago(48 * time.Hour), want: stays},
		{about: "of another type", label: managedBy, delivered: "a.com", unwanted: ago(48 * time.Hour), kind: corev1.SecretTypeOpaque, want: stays},
	} {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{labelManaged: c.label}, Annotations: map[string]string{}}, Type: corev1.SecretTypeTLS}
		if c.kind != "" {
			s.Type = c.kind
		}
		for key, value := range map[string]string{noteDelivered: c.delivered, noteUnwanted: c.unwanted} {
			if value != "" {
				s.Annotations[key] = value
			}
		}
		if got := fateOf(s, c.named, now); got != c.want {
			t.Errorf("%s: fate %d, want %d", c.about, got, c.want)
		}
	}
}

const sweptObjects = `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: %[1]s}
spec:
  ingressClassName: of-somebody-else
  tls: [{hosts: [a.example.com], secretName: named}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
`

const sweptSecret = `---
apiVersion: v1
kind: Secret
metadata: {name: %s, namespace: %s, labels: {app.kubernetes.io/managed-by: %s}, annotations: {gatehouse/delivered: "a.example.com", gatehouse/unwanted-since: "2020-01-01T00:00:00Z"}}
type: kubernetes.io/tls
stringData: {tls.crt: a, tls.key: b}
`

// What no Ingress names goes after a day, with a real API server: nothing that an
// Ingress names, be it another's, and nothing that is not of our making.
func TestSweep(t *testing.T) {
	k := kube.Start(t)
	space, other := k.Namespace(t), k.Namespace(t)
	client, err := kubeclient.Open(kubeclient.Options{Kubeconfig: k.Kubeconfig})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	text := fmt.Sprintf(sweptObjects, space)
	for _, name := range []string{"named", "wanted", "gone"} {
		text += fmt.Sprintf(sweptSecret, name, space, managedBy)
	}
	text += fmt.Sprintf(sweptSecret, "foreign", space, "Helm") + fmt.Sprintf(sweptSecret, "gone", other, managedBy)
	text += strings.Replace(fmt.Sprintf(sweptSecret, "fresh", space, managedBy), `, gatehouse/unwanted-since: "2020-01-01T00:00:00Z"`, "", 1)
	k.Apply(t, text)
	d := NewDeliverer(DelivererOptions{Client: client, Store: store.NewMem(time.Minute).Replica("a"), Pair: cutPair, Namespaces: []string{space}})
	d.Want([]Delivery{{space, "wanted", []string{"a.example.com"}}})
	if err := d.sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		space + "/named": "is, not marked", space + "/wanted": "is, marked", space + "/gone": "is gone", space + "/fresh": "is, marked",
		space + "/foreign": "is, marked", other + "/gone": "is, marked",
	} {
		namespace, short, _ := strings.Cut(name, "/")
		got := "is, not marked"
		secret, err := kubeclient.Secrets(client).Get(t.Context(), namespace, short)
		switch {
		case kubeclient.Gone(err):
			got = "is gone"
		case err != nil:
			t.Fatal(err)
		case secret.Annotations[noteUnwanted] != "":
			got = "is, marked"
		}
		if got != want {
			t.Errorf("secret %s %s, want: %s", name, got, want)
		}
	}
}

// A sweep comes soon after something is wanted no more, and else not.
func TestSweepIsDue(t *testing.T) {
	d := NewDeliverer(DelivererOptions{})
	a, b := Delivery{Namespace: "x", Name: "a"}, Delivery{Namespace: "x", Name: "b"}
	d.Want([]Delivery{a})
	d.Want([]Delivery{a, b})
	if due := time.Until(d.sweepAt); due < sweepEvery/2 {
		t.Errorf("due in %v though nothing is wanted less", due)
	}
	d.Want([]Delivery{b})
	if due := time.Until(d.sweepAt); due > sweepSoon {
		t.Errorf("due in %v though one is wanted no more", due)
	}
}
