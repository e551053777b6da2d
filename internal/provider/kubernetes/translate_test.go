package kubernetes

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse/internal/config"
)

// tenant writes objects at random, all of one namespace.
type tenant struct {
	*rand.Rand
	namespace string
	since     time.Time
}

func (r tenant) pick(list ...string) string { return list[r.IntN(len(list))] }

func (r tenant) meta(name string) metav1.ObjectMeta {
	r.since = r.since.Add(time.Duration(r.IntN(100)) * time.Second)
	return metav1.ObjectMeta{Namespace: r.namespace, Name: name, CreationTimestamp: metav1.Time{Time: r.since}}
}

func (r tenant) objects() Objects {
	var o Objects
	for i := range 1 + r.IntN(4) {
		o.Ingresses = append(o.Ingresses, ingressOf(r.ingress(fmt.Sprintf("in%d", i))))
	}
	for _, name := range []string{"a", "b"} {
		if r.IntN(4) == 0 {
			continue
		}
		s := &corev1.Service{ObjectMeta: r.meta(name), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		if r.IntN(3) == 0 {
			s.Annotations = map[string]string{newPrefix + r.pick("affinity", "max-conn-amount"): r.pick("true", "3", "x")}
		}
		if r.IntN(8) == 0 {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "b.b.example.com"
		}
		o.Services = append(o.Services, serviceOf(s))
		port := int32(8080)
		slice := &discoveryv1.EndpointSlice{ObjectMeta: r.meta(name + "-1"), Ports: []discoveryv1.EndpointPort{{Port: &port}}}
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: name}
		slice.Endpoints = []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.%d.0.%d", len(r.namespace), 1+r.IntN(3))}}}
		o.Slices = append(o.Slices, sliceOf(slice))
	}
	return o
}

func (r tenant) ingress(name string) *networkingv1.Ingress {
	in := &networkingv1.Ingress{ObjectMeta: r.meta(name)}
	kinds := []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypePrefix, networkingv1.PathTypeImplementationSpecific}
	for range r.IntN(4) {
		rule := networkingv1.IngressRule{Host: r.pick("a.example.com", "b.example.com", "*.example.com", "x.b.example.com", "*.b.example.com", "")}
		rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
		for range r.IntN(3) {
			kind := kinds[r.IntN(len(kinds))]
			rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{
				Path: r.pick("/", "/x", "/x/y", "/`) || Host(`b.example.com", ""), PathType: &kind, Backend: r.backend()})
		}
		in.Spec.Rules = append(in.Spec.Rules, rule)
	}
	if r.IntN(3) == 0 {
		b := r.backend()
		in.Spec.DefaultBackend = &b
	}
	if r.IntN(3) == 0 {
		in.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{r.pick("a.example.com", "b.example.com")}}}
	}
	in.Annotations = map[string]string{}
	for range r.IntN(3) {
		in.Annotations[newPrefix+r.pick("priority", "rule-type", "request-modifier", "protocol", "auth-type", "app-root", "rewrite-target")] =
			r.pick("1000000", "Path", "AddPrefix:/b", "https", "basic", "/b", "Host:b.example.com", "PathPrefixStrip")
	}
	return in
}

func (r tenant) backend() networkingv1.IngressBackend {
	return networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
		Name: r.pick("a", "b", "gone", "../b/a"), Port: networkingv1.ServiceBackendPort{Number: 80}}}
}

// Nothing a namespace writes changes what another's older hosts answer, which
// certificates are asked for them, or what they reach.
func TestTenants(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	grants := 0
	for seed := range uint64(1200) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := tenant{r, "bank", start}.objects()
		a := tenant{r, "a", start.Add(time.Hour)}.objects()
		alone := new(Translator).Translate(b, Settings{ExternalNames: seed%2 == 0})
		both := Objects{
			Ingresses: slices.Concat(a.Ingresses, b.Ingresses), Services: slices.Concat(a.Services, b.Services), Slices: slices.Concat(a.Slices, b.Slices),
		}
		together := new(Translator).Translate(both, Settings{ExternalNames: seed%2 == 0})
		for _, host := range []string{"a.example.com", "b.example.com", "c.example.com", "x.b.example.com", "y.b.example.com", "other.org"} {
			if !isBanks(b, host) {
				continue
			}
			for _, path := range []string{"/", "/x", "/x/", "/x/y", "/xy", "/z"} {
				before, after := reached(t, alone.Routing, host, path), reached(t, together.Routing, host, path)
				if before != after {
					t.Fatalf("seed %d: %s%s went to %s, now to %s\n%s\n%s", seed, host, path, before, after, tell(t, alone), tell(t, together))
				}
			}
			for _, w := range together.Routing.Wishes {
				if slices.Contains(w.Domain.Names(), host) && w.Origin.Source[:len("ingress bank/")] != "ingress bank/" {
					t.Fatalf("seed %d: a wishes for %s", seed, host)
				}
			}
		}
		for _, in := range b.Ingresses {
			if in.Annotations == nil {
				in.Annotations = map[string]string{}
			}
			in.Annotations[GrantAnnotation] = "a"
		}
		granted := new(Translator).Translate(both, Settings{})
		for name := range granted.Routing.Routers {
			if _, known := together.Routing.Routers[name]; !known && name[:2] == "a/" {
				grants++
				break
			}
		}
	}
	if grants < 50 {
		t.Errorf("only %d grants made a difference: the test tests nothing", grants)
	}
}

// isBanks tells whether one of bank's Ingresses names the host, or a wildcard
// over it.
func isBanks(b Objects, host string) bool {
	for _, in := range b.Ingresses {
		for _, h := range hostsOf(in) {
			if h != "" && covered([]string{h}, host) {
				return true
			}
		}
	}
	return false
}

// reached is where a request ends: all of what is in its way, and the servers.
func reached(t *testing.T, r config.Routing, host, path string) string {
	to := asked(t, r, host, path)
	s, ok := r.Services[to]
	if !ok {
		return to
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return to + string(text)
}

// The order objects come in decides nothing.
func TestOrderOfObjects(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		o := tenant{r, "one", time.Unix(0, 0)}.objects()
		p := tenant{r, "two", time.Unix(0, 0)}.objects()
		o.Ingresses = append(o.Ingresses, p.Ingresses...)
		want := tell(t, new(Translator).Translate(o, Settings{}))
		r.Shuffle(len(o.Ingresses), func(i, j int) { o.Ingresses[i], o.Ingresses[j] = o.Ingresses[j], o.Ingresses[i] })
		if got := tell(t, new(Translator).Translate(o, Settings{})); got != want {
			t.Fatalf("seed %d:\n%s\n%s", seed, want, got)
		}
	}
}

// FuzzTranslate: whatever is written in objects, translating ends, and every
// service a router names is declared.
func FuzzTranslate(f *testing.F) {
	f.Add("shop.example.com", "/x", "Prefix", "svc", "web", newPrefix+"rule-type", "PathPrefixStrip", "users", "a:b")
	f.Add("*.example.com", "/{a:[0-9]+}", "ImplementationSpecific", "svc", "80", sharedPrefix+"auth-type", "basic", "users", "a:$apr1$x")
	f.Add("", "/`", "Exact", "gone", "", newPrefix+"rate-limit", "rateset: {a: {period: 3s}}", "", "")
	f.Fuzz(func(t *testing.T, host, path, kind, service, port, key, value, secret, data string) {
		pt := networkingv1.PathType(kind)
		in := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "in", Annotations: map[string]string{key: value, sharedPrefix + "auth-secret": secret, sharedPrefix + "auth-type": "basic"}}}
		backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Name: port}}}
		in.Spec.Rules = []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Path: path, PathType: &pt, Backend: backend}}}}}}
		in.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: secret}}
		plain := in.DeepCopy()
		plain.Name, plain.Annotations = "plain", map[string]string{key: value}
		o := Objects{Ingresses: []*Ingress{ingressOf(in), ingressOf(plain)},
			Services: []*Service{serviceOf(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: service, Annotations: map[string]string{key: value}}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: port, Port: 80}}}})},
			Secrets:  []*Secret{secretOf(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: secret}, Data: map[string][]byte{"auth": []byte(data), "tls.crt": []byte(value)}})}}
		r := new(Translator).Translate(o, Settings{ExternalNames: true})
		for name := range maps.All(r.Routing.Routers) {
			router := r.Routing.Routers[name]
			if _, ok := r.Routing.Services[router.Service]; !ok && !router.Closed {
				t.Errorf("router %s names %s, which is not there", name, router.Service)
			}
		}
	})
}
