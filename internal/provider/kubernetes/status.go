package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"gatehouse/internal/kubeclient"
)

// Between two passes, and after trouble.
const (
	statusEvery = 30 * time.Second
	statusQuiet = time.Second
	statusRetry = 5 * time.Second
	// maxNews bounds the Events of one namespace in one pass, so that one with
	// endless mistakes does not keep others from being told of theirs.
	maxNews = 20
	// showAgain is when an Ingress nothing was heard of is looked at anew.
	showAgain = 10 * time.Minute
)

// CertificateNews is where a certificate stands that an Ingress wished for.
type CertificateNews struct {
	Sources []string // Origin texts of the wishes
	Names   []string
	Issuer  string
	Serial  string    // of the one in service; "": there is none
	Until   time.Time // it ends
	Error   string    // of the last attempt, if it failed
	Next    time.Time // the next attempt
}

// StatusOptions of a Status.
type StatusOptions struct {
	Client           *kubeclient.Client
	IP, Hostname     string // what Ingresses show; both empty and
	PublishedService string // no "namespace/name" to copy from: no status is written
	// Hold waits until this replica is the one that writes. The context ends
	// before another may be; release gives the part back.
	Hold         func(ctx context.Context) (held context.Context, release func(), err error)
	Certificates func() []CertificateNews // nil: none
	Replica      string
	Logger       *slog.Logger
}

// Status writes back: the address into the status of Ingresses, and Events for
// what is wrong with them and for their certificates. One replica does so at a
// time; whoever stops clears nothing.
type Status struct {
	o       StatusOptions
	changed chan struct{}

	mu     sync.Mutex
	newest *Result
	told   map[string]bool // Events written by this replica
	shown  map[types.UID]shown
}

// shown is what an Ingress's status was seen to be.
type shown struct {
	address []networkingv1.IngressLoadBalancerIngress
	at      time.Time
}

// NewStatus makes a Status.
func NewStatus(o StatusOptions) *Status {
	return &Status{o: o, changed: make(chan struct{}, 1), told: map[string]bool{}, shown: map[types.UID]shown{}}
}

// Found takes a provider's newest result; it is Options.Found.
func (s *Status) Found(r Result) {
	s.mu.Lock()
	s.newest = &r
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run writes while it is this replica's part, until ctx ends.
func (s *Status) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		clear(s.shown) // others wrote meanwhile
		held, release, err := s.o.Hold(ctx)
		if err != nil {
			s.pause(ctx, statusRetry)
			continue
		}
		s.write(held)
		release()
	}
	return nil
}

func (s *Status) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// write keeps all status as it should be while ctx lasts.
func (s *Status) write(ctx context.Context) {
	said := ""
	for ctx.Err() == nil {
		s.mu.Lock()
		r := s.newest
		s.mu.Unlock()
		next := statusEvery
		if r != nil {
			err := s.pass(ctx, *r)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				next = statusRetry
				if err.Error() != said {
					s.o.Logger.Warn("status of Ingresses not written", "error", err, "next", next)
					said = err.Error()
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-s.changed:
			s.pause(ctx, statusQuiet)
		case <-time.After(next):
		}
	}
}

// pass compares every Ingress with what it should show. An Ingress that cannot
// be written costs no other.
func (s *Status) pass(ctx context.Context, r Result) error {
	address, err := s.address(ctx)
	var trouble error
	if err != nil {
		trouble = err
	} else if address != nil {
		for _, in := range r.Ours {
			if err := s.show(ctx, in, address); err != nil && !kubeclient.Gone(err) {
				trouble = cmp.Or(trouble, err)
			}
		}
	}
	return cmp.Or(trouble, s.tell(ctx, r))
}

// address is what Ingresses shall show; nil: nothing is to be written.
func (s *Status) address(ctx context.Context) ([]networkingv1.IngressLoadBalancerIngress, error) {
	if s.o.IP != "" || s.o.Hostname != "" {
		return []networkingv1.IngressLoadBalancerIngress{{IP: s.o.IP, Hostname: s.o.Hostname}}, nil
	}
	if s.o.PublishedService == "" {
		return nil, nil
	}
	namespace, service, ok := strings.Cut(s.o.PublishedService, "/")
	if !ok {
		return nil, fmt.Errorf("kubernetes.ingressEndpoint.publishedService is %q, not namespace/name", s.o.PublishedService)
	}
	found, err := kubeclient.Services(s.o.Client).Get(ctx, namespace, service)
	if err != nil {
		return nil, err
	}
	var list []networkingv1.IngressLoadBalancerIngress
	for _, a := range found.Status.LoadBalancer.Ingress {
		list = append(list, networkingv1.IngressLoadBalancerIngress{IP: a.IP, Hostname: a.Hostname})
	}
	return list, nil // none yet: nothing is cleared for that
}

func (s *Status) show(ctx context.Context, in *Ingress, address []networkingv1.IngressLoadBalancerIngress) error {
	objects := kubeclient.Ingresses(s.o.Client)
	if was := s.shown[in.UID]; reflect.DeepEqual(in.Shown, address) ||
		reflect.DeepEqual(was.address, address) && time.Since(was.at) < showAgain {
		return nil
	}
	// What the provider saw may be old: its own changes of status are not news.
	now, err := objects.Get(ctx, in.Namespace, in.Name.Name)
	if err != nil {
		return err
	}
	if reflect.DeepEqual(now.Status.LoadBalancer.Ingress, address) {
		s.shown[in.UID] = shown{address, time.Now()}
		return nil
	}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": address}}})
	if err != nil {
		return err
	}
	if _, err = objects.Patch(ctx, in.Namespace, in.Name.Name, types.MergePatchType, patch, "status"); err == nil {
		s.shown[in.UID] = shown{address, time.Now()}
	}
	return err
}

// tell writes Events for what has not been told yet.
func (s *Status) tell(ctx context.Context, r Result) error {
	var trouble error
	current, count := map[string]bool{}, map[string]int{}
	say := func(in *Ingress, n kubeclient.News) {
		id := string(in.UID) + n.Reason + n.Note
		if current[id] = s.told[id]; current[id] {
			return
		}
		if count[in.Namespace]++; count[in.Namespace] > maxNews {
			return
		}
		n.Replica = s.o.Replica
		n.About = corev1.ObjectReference{APIVersion: "networking.k8s.io/v1", Kind: "Ingress", Namespace: in.Namespace, Name: in.Name.Name, UID: in.UID, ResourceVersion: in.Version}
		err := s.o.Client.Tell(ctx, n)
		current[id] = err == nil
		trouble = cmp.Or(trouble, err)
	}
	byName := map[string]*Ingress{}
	for _, in := range r.Ours {
		byName[in.Name.String()] = in
	}
	for _, f := range r.Findings {
		if f.Ingress != nil {
			say(f.Ingress, kubeclient.News{Warning: true, Reason: f.Reason, Action: "Serve", Note: f.Problem.String()})
		}
	}
	if s.o.Certificates != nil {
		for _, c := range s.o.Certificates() {
			for _, in := range wishers(c, byName) {
				if n, ok := c.news(); ok {
					say(in, n)
				}
			}
		}
	}
	s.told = current
	return trouble
}

// wishers are the Ingresses that asked for a certificate.
func wishers(c CertificateNews, byName map[string]*Ingress) []*Ingress {
	var list []*Ingress
	for _, source := range c.Sources {
		rest, ok := strings.CutPrefix(source, "ingress ")
		name, _, _ := strings.Cut(rest, " ")
		if in := byName[name]; ok && in != nil && !slices.Contains(list, in) {
			list = append(list, in)
		}
	}
	return list
}

func (c CertificateNews) news() (kubeclient.News, bool) {
	names := strings.Join(c.Names, ", ")
	switch {
	case c.Error != "":
		next := "it is tried again"
		if !c.Next.IsZero() {
			next = "next attempt at " + c.Next.UTC().Format(time.RFC3339)
		}
		return kubeclient.News{Warning: true, Reason: "CertificateFailed", Action: "Issue", Note: fmt.Sprintf("no certificate for %s from %s: %s; %s", names, c.Issuer, c.Error, next)}, true
	case c.Serial != "":
		return kubeclient.News{Reason: "CertificateIssued", Action: "Issue", Note: fmt.Sprintf("certificate %s for %s from %s until %s", c.Serial, names, c.Issuer, c.Until.UTC().Format(time.RFC3339))}, true
	}
	return kubeclient.News{}, false
}
