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
		o.Ingresses = append(o.Ingresses, ingressOf(&networkingv1.Ingress{ObjectMeta: meta, Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			Host: fmt.Sprintf("app%d.example.com", i), IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &kind, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: meta.Name, Port: networkingv1.ServiceBackendPort{Number: 80}}}}}}}}}}}))
		o.Services = append(o.Services, serviceOf(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}))
		for j := range 2 {
			slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, Ports: []discoveryv1.EndpointPort{{Port: &port}},
				Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.%d.%d.%d", i/250, i%250, 1+j)}}}}
			slice.Name += fmt.Sprint("-", j)
			slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
			o.Slices = append(o.Slices, sliceOf(slice))
		}
	}
	return o
}

// BenchmarkTranslate is what a change costs here: of everything, at a start; of one
// Ingress; of the endpoints of one Service.
func BenchmarkTranslate(b *testing.B) {
	for _, n := range []int{100, 5000} {
		o := many(n)
		var tr Translator
		last := tr.Translate(o, Settings{})
		b.Run(fmt.Sprint("start/", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if r := new(Translator).Translate(o, Settings{}); len(r.Routing.Routers) != n {
					b.Fatal("not all are there")
				}
			}
		})
		b.Run(fmt.Sprint("ingress/", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				o.Ingresses[n/2] = new(*o.Ingresses[n/2])
				if now := tr.Translate(o, Settings{}); !same(now, last) {
					b.Fatal("it changed")
				}
			}
		})
		b.Run(fmt.Sprint("endpoints/", n), func(b *testing.B) {
			b.ReportAllocs()
			last = tr.Translate(o, Settings{})
			lists := newIndex(o).slices
			service := o.Services[n/2].Name
			for i := 0; b.Loop(); i++ {
				moved := *lists[service][0]
				moved.Endpoints = []Endpoint{{Address: fmt.Sprintf("10.200.0.%d", i%250)}}
				now, changed, ok := tr.Endpoints(last, map[Name]bool{service: true}, func(Name) []*Slice { return []*Slice{&moved, lists[service][1]} })
				if !changed || !ok || len(now.Routing.Services) != n {
					b.Fatal("it did not change")
				}
			}
		})
	}
}
