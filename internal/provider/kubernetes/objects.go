package kubernetes

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/config"
)

// Name is the namespace and name of an object.
type Name struct{ Namespace, Name string }

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// object is what every object of the API has.
type object interface {
	GetNamespace() string
	GetName() string
}

func nameOf(o object) Name { return Name{o.GetNamespace(), o.GetName()} }

// Objects are the API's objects at one moment. Nobody may modify them.
type Objects struct {
	Ingresses []*networkingv1.Ingress
	Classes   []*networkingv1.IngressClass
	Services  []*corev1.Service
	Slices    []*discoveryv1.EndpointSlice
	Secrets   []*corev1.Secret
	// Unread says why a kind (by its plural) is not known: no right to read it,
	// no such kind.
	Unread map[string]error `json:"-"`
}

// Settings are what the static configuration says about Ingresses.
type Settings struct {
	// IngressClass is the one class to serve; "": every class of ours.
	IngressClass string
	// Selected: the Ingresses were chosen by label, so one without a class is
	// meant for us.
	Selected bool
	// ExternalNames lets Services of type ExternalName lead out of the cluster.
	ExternalNames bool
	// Zone is where this replica stands; "": hints of slices are not followed.
	Zone string
	// HideHost: servers see their own address as host, where no annotation
	// says otherwise.
	HideHost bool
}

// Result is what Objects mean.
type Result struct {
	Routing  config.Routing
	Findings []Finding
	// Ours are the Ingresses that are served, oldest first.
	Ours []*networkingv1.Ingress
	// Secrets are those that Ingresses of ours name: true where one is a TLS
	// Secret.
	Secrets map[Name]bool
}

// Problems gives the problems of all findings.
func (r Result) Problems() []config.Problem {
	var list []config.Problem
	for _, f := range r.Findings {
		list = append(list, f.Problem)
	}
	return list
}

// Finding is a problem and the Ingress it is about, which may be none.
type Finding struct {
	Ingress *networkingv1.Ingress
	Reason  string // as of an Event
	Problem config.Problem
}

// The reasons of findings.
const (
	HostConflict      = "HostConflict"
	PathConflict      = "PathConflict"
	BackendMissing    = "BackendMissing"
	SecretMissing     = "SecretMissing"
	SecretUnusable    = "SecretUnusable"
	AnnotationProblem = "AnnotationProblem"
	RouteRefused      = "RouteRefused"
	KindUnread        = "KindUnread"
)

// index is Objects by name.
type index struct {
	services map[Name]*corev1.Service
	slices   map[Name][]*discoveryv1.EndpointSlice // by Service
	secrets  map[Name]*corev1.Secret
}

func newIndex(o Objects) index {
	x := index{
		services: make(map[Name]*corev1.Service, len(o.Services)),
		slices:   make(map[Name][]*discoveryv1.EndpointSlice, len(o.Services)),
		secrets:  make(map[Name]*corev1.Secret, len(o.Secrets)),
	}
	for _, s := range o.Services {
		x.services[nameOf(s)] = s
	}
	for _, s := range o.Slices {
		if service := s.Labels[discoveryv1.LabelServiceName]; service != "" {
			name := Name{s.Namespace, service}
			x.slices[name] = append(x.slices[name], s)
		}
	}
	for _, s := range o.Secrets {
		x.secrets[nameOf(s)] = s
	}
	return x
}

// byAge puts the oldest first, then sorts by namespace and name.
func byAge(list []*networkingv1.Ingress) {
	slices.SortFunc(list, func(a, b *networkingv1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
			strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
}

func originOf(in *networkingv1.Ingress, key string) config.Origin {
	return config.Origin{Provider: name, Source: "ingress " + nameOf(in).String(), Key: key}
}
