package kubernetes

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// many makes n Ingresses with a Service and two slices each.
func many(n int) Objects {
	var o Objects
	kind := networkingv1.PathTypePrefix
	port := int32(8080)
	for i := range n {
		meta := metav1.ObjectMeta{Namespace: fmt.Sprintf("ns%d", i%100), Name: fmt.Sprintf("app%d", i), CreationTimestamp: metav1.Time{Time: time.Unix(int64(i), 0)}}
		o.Ingresses = append(o.Ingresses, &networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: fmt.Sprintf("app%d.example.com", i), IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &kind, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: meta.Name, Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}}}})
		o.Services = append(o.Services, &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}})
		for j := range 2 {
			slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, Ports: []discoveryv1.EndpointPort{{Port: &port}},
				Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i/250, i%250, 1+j)}}}}
			slice.Name += fmt.Sprint("-", j)
			slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
			o.Slices = append(o.Slices, slice)
		}
	}
	return o
}

// BenchmarkTranslate is what a change costs: everything is translated anew, and
// compared with what it was.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{100, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			o := many(n)
			var tr Translator
			last := tr.Translate(o, Settings{})
			for b.Loop() {
				now := tr.Translate(o, Settings{})
				if !same(now, last) || len(now.Routing.Routers) != n {
					b.Fatal("it changed")
				}
			}
		})
	}
}
