package kubernetes

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"gatehouse/internal/kubeclient"
)

// maxNamed bounds the Secrets that are followed one by one.
const maxNamed = 2000

// feed is a mirror of a kind, whatever its type.
type feed struct {
	kind    string
	synced  func() bool
	trouble func() error
	stop    context.CancelFunc
}

// refused is why a feed will not know its kind for now; nil: it does, or may.
func (f feed) refused() error {
	if f.synced() {
		return nil
	}
	return f.forbidden()
}

// forbidden is why the server lets us not read a kind, or read it any more.
func (f feed) forbidden() error {
	if err := f.trouble(); err != nil && (kubeclient.Refused(err) || kubeclient.Gone(err)) {
		return err
	}
	return nil
}

// feeds are all mirrors of one Run. They are used from its goroutine alone.
type feeds struct {
	client *kubeclient.Client
	signal func()
	start  func(func(context.Context)) context.CancelFunc

	all       []feed // but Secrets
	tls       []feed
	named     map[Name]feed
	ingresses []*kubeclient.SlimMirror[networkingv1.Ingress, *networkingv1.Ingress, Ingress]
	classes   *kubeclient.SlimMirror[networkingv1.IngressClass, *networkingv1.IngressClass, Class]
	services  []*kubeclient.SlimMirror[corev1.Service, *corev1.Service, Service]
	slices    []*kubeclient.SlimMirror[discoveryv1.EndpointSlice, *discoveryv1.EndpointSlice, Slice]
	secrets   []*secretMirror
	secret    map[Name]*secretMirror
	news      news
}

type secretMirror = kubeclient.SlimMirror[corev1.Secret, *corev1.Secret, Secret]

func newFeeds(o Options, signal func(), start func(func(context.Context)) context.CancelFunc) *feeds {
	f := &feeds{client: o.Client, signal: signal, start: start, named: map[Name]feed{},
		secret: map[Name]*secretMirror{}, news: news{byService: map[Name][]*Slice{}, moved: map[Name]bool{}}}
	spaces := o.Namespaces
	if len(spaces) == 0 {
		spaces = []string{""}
	}
	var made feed
	f.classes, made = begin(f, "ingressclasses", kubeclient.IngressClasses(o.Client), kubeclient.Selection{}, classOf, nil)
	f.all = append(f.all, made)
	for _, space := range spaces {
		in, made := begin(f, "ingresses", kubeclient.Ingresses(o.Client), kubeclient.Selection{Namespace: space, Labels: o.LabelSelector}, ingressOf, sameIngress)
		f.ingresses, f.all = append(f.ingresses, in), append(f.all, made)
		s, made := begin(f, "services", kubeclient.Services(o.Client), kubeclient.Selection{Namespace: space}, serviceOf, nil)
		f.services, f.all = append(f.services, s), append(f.all, made)
		e, made := begin(f, "endpointslices", kubeclient.EndpointSlices(o.Client), kubeclient.Selection{Namespace: space}, sliceOf, nil)
		f.slices, f.all = append(f.slices, e), append(f.all, made)
		t, made := begin(f, "secrets", kubeclient.Secrets(o.Client), kubeclient.Selection{Namespace: space, Fields: "type=" + string(corev1.SecretTypeTLS)}, secretOf, nil)
		f.secrets, f.tls = append(f.secrets, t), append(f.tls, made)
	}
	return f
}

// begin starts a mirror. same tells of changes that mean nothing here; nil: if
// nothing that is kept differs.
func begin[V any, T any, P kubeclient.Object[T]](f *feeds, kind string, objects kubeclient.Objects[T, P], s kubeclient.Selection, keep func(P) *V, same func(before, after *V) bool) (*kubeclient.SlimMirror[T, P, V], feed) {
	if same == nil {
		same = func(before, after *V) bool { return reflect.DeepEqual(before, after) }
	}
	m := kubeclient.NewSlimMirror(objects, s, keep, func(before, after *V) {
		differ := before == nil || after == nil || !same(before, after)
		if before, ok := any(before).(*Slice); ok {
			f.news.slice(before, any(after).(*Slice), differ)
		} else if differ {
			f.news.other()
		}
		if differ {
			f.signal()
		}
	})
	all := func() { f.news.other(); f.signal() }
	m.Told = func(error) { all() }
	stop := f.start(func(ctx context.Context) {
		go func() {
			select {
			case <-m.Synced():
				all()
			case <-ctx.Done():
			}
		}()
		_ = m.Run(ctx) // it ends with ctx alone
	})
	return m, feed{kind: kind, trouble: m.Trouble, stop: stop, synced: func() bool {
		select {
		case <-m.Synced():
			return true
		default:
			return false
		}
	}}
}

// sameIngress: status changes are ours.
func sameIngress(before, after *Ingress) bool {
	return before.UID == after.UID && before.Generation == after.Generation && before.Generation != 0 &&
		maps.Equal(before.Annotations, after.Annotations) && before.Leaving == after.Leaving
}

// news is what has changed since it was asked for. Its methods may be called from
// any goroutine.
type news struct {
	mu        sync.Mutex
	byService map[Name][]*Slice // all there are, sorted by name
	moved     map[Name]bool     // Services whose slices differ
	more      bool              // and something else
}

func (n *news) other() {
	n.mu.Lock()
	n.more = true
	n.mu.Unlock()
}

// slice takes in a change of a slice.
func (n *news) slice(before, after *Slice, differ bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range []*Slice{before, after} {
		if s == nil {
			continue
		}
		service := s.serves()
		// A list that was handed out is not modified.
		list := slices.DeleteFunc(slices.Clone(n.byService[service]), func(o *Slice) bool { return o.Name == s.Name })
		if s == after {
			at, _ := slices.BinarySearchFunc(list, s, func(a, b *Slice) int { return a.Name.compare(b.Name) })
			list = slices.Insert(list, at, s)
		}
		n.byService[service] = slices.Clip(list)
		if len(list) == 0 {
			delete(n.byService, service)
		}
		if differ {
			n.moved[service] = true
		}
	}
}

// take gives what has changed since it was last called: the Services whose slices
// did; more, if anything else did.
func (n *news) take() (moved map[Name]bool, more bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	moved, more = n.moved, n.more
	n.moved, n.more = map[Name]bool{}, false
	return moved, more
}

// slicesOf gives the slices of a Service, sorted by name.
func (n *news) slicesOf(service Name) []*Slice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.byService[service]
}

// objects gives what is known; complete is false while a kind may yet come.
func (f *feeds) objects() (o Objects, complete bool) {
	o.Unread, o.Old = map[string]error{}, map[string]error{}
	for _, feed := range f.all {
		if err := feed.refused(); err != nil {
			o.Unread[feed.kind] = err
		} else if !feed.synced() {
			return o, false
		} else if err := feed.forbidden(); err != nil {
			o.Old[feed.kind] = err
		}
	}
	for _, feed := range f.tls {
		if err := feed.forbidden(); !feed.synced() && err == nil {
			return o, false
		} else if feed.synced() && err != nil {
			o.Old[feed.kind] = err
		}
	}
	o.Classes = f.classes.All()
	for i := range f.ingresses {
		o.Ingresses = append(o.Ingresses, f.ingresses[i].All()...)
		o.Services = append(o.Services, f.services[i].All()...)
		o.Slices = append(o.Slices, f.slices[i].All()...)
		o.Secrets = append(o.Secrets, f.secrets[i].All()...)
	}
	for name, m := range f.secret {
		if s := m.Get(name.Namespace, name.Name); s != nil {
			o.Secrets = append(o.Secrets, s)
		}
		if err := f.named[name].refused(); err != nil {
			o.Unread["secrets"] = err
		}
	}
	return o, true
}

// follow watches exactly those Secrets one by one that are wanted and not among
// the TLS Secrets that may be read together.
func (f *feeds) follow(wanted map[Name]bool) {
	for name := range wanted {
		if _, has := f.named[name]; has || f.together(name) || len(f.named) >= maxNamed {
			continue
		}
		m, made := begin(f, "secrets", kubeclient.Secrets(f.client), kubeclient.Selection{Namespace: name.Namespace, Fields: "metadata.name=" + name.Name}, secretOf, nil)
		f.secret[name], f.named[name] = m, made
	}
	for name, feed := range f.named {
		if _, still := wanted[name]; !still || f.together(name) {
			feed.stop()
			delete(f.named, name)
			delete(f.secret, name)
		}
	}
}

func (f *feeds) together(name Name) bool {
	for _, m := range f.secrets {
		if m.Get(name.Namespace, name.Name) != nil {
			return true
		}
	}
	return false
}

// pending tells whether a Secret that is wanted is not known yet.
func (f *feeds) pending() bool {
	for _, feed := range f.named {
		if !feed.synced() && feed.trouble() == nil {
			return true
		}
	}
	return false
}

// trouble is why what is needed is not known; nil: nothing is wrong yet.
func (f *feeds) trouble() error {
	for _, feed := range f.all {
		if err := feed.trouble(); err != nil && !feed.synced() {
			return err
		}
	}
	return nil
}
