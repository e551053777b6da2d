package kubernetes

import (
	"cmp"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// Name is the namespace and name of an object.
type Name struct{ Namespace, Name string }

func (n Name) String() string { return n.Namespace + "/" + n.Name }

// Objects are the API's objects at one moment. Nobody may modify them.
type Objects struct {
	Ingresses []*Ingress
	Classes   []*Class
	Services  []*Service
	Slices    []*Slice
	Secrets   []*Secret
	// Unread says why a kind (by its plural) is not known: no right to read it,
	// no such kind.
	Unread map[string]error
	// Old says why a kind is known as it once was: the right to read it was
	// taken, or the kind.
	Old map[string]error
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
	// Resolvers are the names of those who issue certificates here.
	Resolvers []string
}

// Result is what Objects mean.
type Result struct {
	Routing  config.Routing
	Findings []Finding
	// Ours are the Ingresses that are served, oldest first.
	Ours []*Ingress
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
	Ingress *Ingress
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
	IssuerUnknown     = "IssuerUnknown"
	KindUnread        = "KindUnread"
)

// index is Objects by name.
type index struct {
	services map[Name]*Service
	slices   map[Name][]*Slice // by Service
	secrets  map[Name]*Secret
}

func newIndex(o Objects) index {
	x := index{
		services: make(map[Name]*Service, len(o.Services)),
		slices:   make(map[Name][]*Slice, len(o.Services)),
		secrets:  make(map[Name]*Secret, len(o.Secrets)),
	}
	for _, s := range o.Services {
		x.services[s.Name] = s
	}
	for _, s := range o.Slices {
		if s.Service != "" {
			name := s.serves()
			x.slices[name] = append(x.slices[name], s)
		}
	}
	for _, s := range o.Secrets {
		x.secrets[s.Name] = s
	}
	return x
}

// serves is the Service a slice is of.
func (s *Slice) serves() Name { return Name{s.Namespace, s.Service} }

// byAge puts the oldest first, then sorts by namespace and name.
func byAge(list []*Ingress) {
	slices.SortFunc(list, func(a, b *Ingress) int {
		return cmp.Or(a.Created.Compare(b.Created), a.Name.compare(b.Name))
	})
}

func (n Name) compare(other Name) int {
	return cmp.Or(strings.Compare(n.Namespace, other.Namespace), strings.Compare(n.Name, other.Name))
}

func originOf(in *Ingress, key string) config.Origin {
	return config.Origin{Provider: name, Source: "ingress " + in.Name.String(), Key: key}
}
