package kubernetes

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse/internal/kubeclient"
)

// Of the API's objects only what is read here is kept, as thousands of them are
// held for as long as the process lives. Texts that stand in many are shared.

// Ingress is what is read of an Ingress.
type Ingress struct {
	Name
	UID         types.UID
	Version     string // of the API's object
	Generation  int64
	Created     time.Time
	Leaving     bool              // it is being deleted
	Annotations map[string]string `json:",omitempty"`
	Spec        networkingv1.IngressSpec
	Shown       []networkingv1.IngressLoadBalancerIngress `json:",omitempty"` // its status
}

// Class is what is read of an IngressClass.
type Class struct {
	Name       string
	Controller string
	Default    bool
}

// Service is what is read of a Service.
type Service struct {
	Name
	Annotations  map[string]string `json:",omitempty"`
	ExternalName *string           `json:",omitempty"` // nil: it is of another type
	Ports        []ServicePort
}

// ServicePort is a TCP port of a Service.
type ServicePort struct {
	Name     string `json:",omitempty"`
	Port     int32
	Protocol string `json:",omitempty"` // of the application, in lower case
}

// Slice is what is read of an EndpointSlice.
type Slice struct {
	Name
	Service   string
	Ports     []SlicePort
	Endpoints []Endpoint
}

// SlicePort is a TCP port of all endpoints of a slice.
type SlicePort struct {
	Name string `json:",omitempty"`
	Port int32
}

// Endpoint is one that may get requests.
type Endpoint struct {
	Address string
	Pod     string   `json:",omitempty"`
	Leaving bool     `json:",omitempty"` // serving still, but not to be given new clients
	Zones   []string `json:",omitempty"` // it is meant for
}

// Secret is what is read of a Secret.
type Secret struct {
	Name
	Ours bool `json:",omitempty"` // it holds a certificate of ours
	Data map[string][]byte
}

func shared(s string) string { return kubeclient.Shared(s) }

func nameOf(o interface{ GetNamespace() string }, name string) Name {
	return Name{shared(o.GetNamespace()), shared(name)}
}

// readPrefixes are those of annotations that mean something here.
var readPrefixes = []string{
	newPrefix, sharedPrefix, "traefik.frontend.", "traefik.backend.", "nginx.ingress.kubernetes.io/", "gatehouse.io/",
	classAnnotation, acmeAnnotation, "cert-manager.io/", "certmanager.k8s.io/",
}

func annotationsOf(all map[string]string) map[string]string {
	var out map[string]string
	for key, value := range all {
		if slices.ContainsFunc(readPrefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			if out == nil {
				out = map[string]string{}
			}
			out[shared(key)] = shared(value)
		}
	}
	return out
}

func ingressOf(in *networkingv1.Ingress) *Ingress {
	var shown []networkingv1.IngressLoadBalancerIngress
	for _, a := range in.Status.LoadBalancer.Ingress {
		shown = append(shown, networkingv1.IngressLoadBalancerIngress{IP: shared(a.IP), Hostname: shared(a.Hostname)})
	}
	return &Ingress{
		Name: nameOf(in, in.Name), UID: in.UID, Version: in.ResourceVersion, Generation: in.Generation,
		Created: in.CreationTimestamp.Time, Leaving: in.DeletionTimestamp != nil,
		Annotations: annotationsOf(in.Annotations), Spec: specOf(in.Spec), Shown: slices.Clip(shown),
	}
}

// specOf shares the texts of a spec.
func specOf(s networkingv1.IngressSpec) networkingv1.IngressSpec {
	if s.IngressClassName != nil {
		s.IngressClassName = new(shared(*s.IngressClassName))
	}
	shareBackend(s.DefaultBackend)
	for i := range s.TLS {
		s.TLS[i].SecretName = shared(s.TLS[i].SecretName)
		for j, host := range s.TLS[i].Hosts {
			s.TLS[i].Hosts[j] = shared(host)
		}
	}
	for i := range s.Rules {
		r := &s.Rules[i]
		r.Host = shared(r.Host)
		if r.HTTP == nil {
			continue
		}
		for j := range r.HTTP.Paths {
			p := &r.HTTP.Paths[j]
			p.Path = shared(p.Path)
			if p.PathType != nil {
				p.PathType = pathType(*p.PathType)
			}
			shareBackend(&p.Backend)
		}
	}
	return s
}

// The path types there are, so that not every path has its own.
var (
	exact    = networkingv1.PathTypeExact
	prefix   = networkingv1.PathTypePrefix
	specific = networkingv1.PathTypeImplementationSpecific
)

func pathType(t networkingv1.PathType) *networkingv1.PathType {
	for _, known := range []*networkingv1.PathType{&exact, &prefix, &specific} {
		if *known == t {
			return known
		}
	}
	return &t
}

func shareBackend(b *networkingv1.IngressBackend) {
	if b != nil && b.Service != nil {
		b.Service.Name, b.Service.Port.Name = shared(b.Service.Name), shared(b.Service.Port.Name)
	}
}

func classOf(c *networkingv1.IngressClass) *Class {
	return &Class{Name: c.Name, Controller: c.Spec.Controller, Default: c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true"}
}

func serviceOf(s *corev1.Service) *Service {
	out := &Service{Name: nameOf(s, s.Name), Annotations: annotationsOf(s.Annotations)}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		out.ExternalName = new(shared(s.Spec.ExternalName))
	}
	for _, p := range s.Spec.Ports {
		if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
			out.Ports = append(out.Ports, ServicePort{Name: shared(p.Name), Port: p.Port, Protocol: shared(strings.ToLower(value(p.AppProtocol)))})
		}
	}
	out.Ports = slices.Clip(out.Ports)
	return out
}

func sliceOf(s *discoveryv1.EndpointSlice) *Slice {
	out := &Slice{Name: nameOf(s, s.Name), Service: shared(s.Labels[discoveryv1.LabelServiceName])}
	for _, p := range s.Ports {
		if p.Port != nil && (p.Protocol == nil || *p.Protocol == corev1.ProtocolTCP) {
			out.Ports = append(out.Ports, SlicePort{shared(value(p.Name)), *p.Port})
		}
	}
	out.Ports = slices.Clip(out.Ports)
	for i := range s.Endpoints {
		if e, ok := endpointOf(&s.Endpoints[i]); ok {
			out.Endpoints = append(out.Endpoints, e)
		}
	}
	out.Endpoints = slices.Clip(out.Endpoints)
	return out
}

// endpointOf keeps an endpoint that is ready, or serves still while it leaves.
func endpointOf(e *discoveryv1.Endpoint) (out Endpoint, of bool) {
	ready := e.Conditions.Ready == nil || *e.Conditions.Ready
	serving := ready
	if e.Conditions.Serving != nil {
		serving = *e.Conditions.Serving
	}
	leaving := e.Conditions.Terminating != nil && *e.Conditions.Terminating
	if len(e.Addresses) == 0 || !(ready && !leaving || serving && leaving) {
		return out, false
	}
	out = Endpoint{Address: shared(e.Addresses[0]), Leaving: leaving}
	if e.TargetRef != nil {
		out.Pod = shared(e.TargetRef.Name)
	}
	if e.Hints != nil {
		for _, z := range e.Hints.ForZones {
			out.Zones = append(out.Zones, shared(z.Name))
		}
	}
	return out, true
}

func secretOf(s *corev1.Secret) *Secret {
	return &Secret{Name: nameOf(s, s.Name), Ours: s.Labels[managedBy] == us, Data: s.Data}
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
