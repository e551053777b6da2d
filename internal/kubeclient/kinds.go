package kubeclient

import (
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// newScheme knows the kinds this package has constructors for, and no more.
func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, networkingv1.AddToScheme, discoveryv1.AddToScheme,
		coordinationv1.AddToScheme, eventsv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		utilruntime.Must(add(s))
	}
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	return s
}

// Secrets are read and written.
func Secrets(c *Client) Objects[corev1.Secret, *corev1.Secret] {
	return Objects[corev1.Secret, *corev1.Secret]{c, corev1.SchemeGroupVersion, "secrets", func() runtime.Object { return &corev1.SecretList{} }}
}

// ConfigMaps are read and written.
func ConfigMaps(c *Client) Objects[corev1.ConfigMap, *corev1.ConfigMap] {
	return Objects[corev1.ConfigMap, *corev1.ConfigMap]{c, corev1.SchemeGroupVersion, "configmaps", func() runtime.Object { return &corev1.ConfigMapList{} }}
}

// Services are read.
func Services(c *Client) Objects[corev1.Service, *corev1.Service] {
	return Objects[corev1.Service, *corev1.Service]{c, corev1.SchemeGroupVersion, "services", func() runtime.Object { return &corev1.ServiceList{} }}
}

// Ingresses are read; their status is written.
func Ingresses(c *Client) Objects[networkingv1.Ingress, *networkingv1.Ingress] {
	return Objects[networkingv1.Ingress, *networkingv1.Ingress]{c, networkingv1.SchemeGroupVersion, "ingresses", func() runtime.Object { return &networkingv1.IngressList{} }}
}

// IngressClasses are read; they have no namespace.
func IngressClasses(c *Client) Objects[networkingv1.IngressClass, *networkingv1.IngressClass] {
	return Objects[networkingv1.IngressClass, *networkingv1.IngressClass]{c, networkingv1.SchemeGroupVersion, "ingressclasses", func() runtime.Object { return &networkingv1.IngressClassList{} }}
}

// EndpointSlices are read.
func EndpointSlices(c *Client) Objects[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice] {
	return Objects[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice]{c, discoveryv1.SchemeGroupVersion, "endpointslices", func() runtime.Object { return &discoveryv1.EndpointSliceList{} }}
}

// Leases are read and written.
func Leases(c *Client) Objects[coordinationv1.Lease, *coordinationv1.Lease] {
	return Objects[coordinationv1.Lease, *coordinationv1.Lease]{c, coordinationv1.SchemeGroupVersion, "leases", func() runtime.Object { return &coordinationv1.LeaseList{} }}
}

// Events are what people see by "kubectl describe": written, see Tell.
func Events(c *Client) Objects[eventsv1.Event, *eventsv1.Event] {
	return Objects[eventsv1.Event, *eventsv1.Event]{c, eventsv1.SchemeGroupVersion, "events", func() runtime.Object { return &eventsv1.EventList{} }}
}
