package kubeclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unique"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// SlimMirror holds what is of use of the objects of a selection, as the server has
// them, and follows their changes. While the server cannot be asked it keeps what
// it has. What it holds is shared: nobody may modify it. Its methods may be called
// from any goroutine.
type SlimMirror[T any, P Object[T], V any] struct {
	// Told, if set before Run, is called whenever Trouble comes, changes or
	// ends, under the same rules as changed.
	Told func(error)

	objects   Objects[T, P]
	selection Selection
	keep      func(P) *V
	changed   func(before, after *V)

	synced chan struct{}
	once   sync.Once

	mu       sync.Mutex
	all      map[objectName]held[V]
	trouble  error
	refusals int // one after the other
}

// Mirror holds whole objects, but for what strip drops.
type Mirror[T any, P Object[T]] = SlimMirror[T, P, T]

// refusedMost is how seldom a right that is missing is asked for in the end.
const refusedMost = time.Minute

// refusedRest is how long to wait after so many refusals before: rights are often
// given a moment after the start, and else not for long.
func refusedRest(before int) time.Duration {
	return min(time.Second<<min(before, 10), refusedMost)
}

// objectName is the namespace and name of an object.
type objectName struct{ namespace, name string }

// held is what is kept of an object, and the version of it that was.
type held[V any] struct {
	value        *V
	uid, version string
}

// NewSlimMirror makes a mirror, which Run fills with what keep makes of each object;
// keep may not hold on to the object itself, unless that is what it gives. changed
// is told of each change, also of those of the first list, after it is visible:
// before is nil for what is new, after for what is gone. Both are called from Run's
// goroutine and must not wait; changed may be nil.
func NewSlimMirror[V any, T any, P Object[T]](o Objects[T, P], s Selection, keep func(P) *V, changed func(before, after *V)) *SlimMirror[T, P, V] {
	return &SlimMirror[T, P, V]{objects: o, selection: s, keep: keep, changed: changed, synced: make(chan struct{}), all: map[objectName]held[V]{}}
}

// Mirror makes a mirror of whole objects; see NewSlimMirror.
func (o Objects[T, P]) Mirror(s Selection, changed func(before, after P)) *Mirror[T, P] {
	var tell func(before, after *T)
	if changed != nil {
		tell = func(before, after *T) { changed(before, after) }
	}
	return NewSlimMirror(o, s, func(p P) *T { return p }, tell)
}

// Run follows the server until ctx ends. It goes on through restarts of the
// server, lost history (410) and missing kinds, which are tried again within two
// seconds, and through missing rights, which are asked for ever more seldom, once
// a minute in the end; Trouble tells of them.
func (m *SlimMirror[T, P, V]) Run(ctx context.Context) error {
	quiet := logr.Discard() // trouble is told by us, once
	ctx = klog.NewContext(ctx, quiet)
	backoff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Cap: 1300 * time.Millisecond, Steps: 10}
	r := cache.NewReflectorWithOptions(source[T, P, V]{m}, P(new(T)), sink[T, P, V]{m},
		cache.ReflectorOptions{Name: m.objects.resource, Logger: &quiet, Backoff: &backoff})
	r.RunWithContext(ctx)
	return context.Cause(ctx)
}

// Synced is closed when the first list is complete.
func (m *SlimMirror[T, P, V]) Synced() <-chan struct{} { return m.synced }

// Trouble is why the mirror may be behind the server; nil while it follows. A
// missing right is Refused, a missing kind Gone.
func (m *SlimMirror[T, P, V]) Trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// Get gives what is kept of one object, or nil.
func (m *SlimMirror[T, P, V]) Get(namespace, name string) *V {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[objectName{namespace, name}].value
}

// All gives what is kept of all objects, sorted by namespace and name.
func (m *SlimMirror[T, P, V]) All() []*V {
	m.mu.Lock()
	names := make([]objectName, 0, len(m.all))
	for name := range m.all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b objectName) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	out := make([]*V, len(names))
	for i, name := range names {
		out[i] = m.all[name].value
	}
	m.mu.Unlock()
	return out
}

// note keeps what came of the last request, and tells what is new.
func (m *SlimMirror[T, P, V]) note(ctx context.Context, verb string, err error) {
	if ctx.Err() != nil {
		return
	}
	if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		err = m.objects.failed(ctx, verb, m.selection.Namespace, "", err)
	} else {
		err = nil // history is lost: it is listed again at once
	}
	m.mu.Lock()
	before := m.trouble
	m.trouble = err
	m.mu.Unlock()
	news := err != nil && (before == nil || before.Error() != err.Error())
	if m.Told != nil && (news || err == nil && before != nil) {
		m.Told(err)
	}
	log := m.objects.client.log
	switch {
	case news:
		next := "within 2s"
		if apierrors.IsForbidden(err) {
			next = "asked again, once a minute in the end"
		}
		log.Warn("kubernetes objects not followed", "resource", m.objects.resource, "namespace", m.selection.Namespace, "error", err, "next", next)
	case err == nil && before != nil && verb == "watch":
		log.Info("kubernetes objects followed again", "resource", m.objects.resource, "namespace", m.selection.Namespace)
	}
}

// rest waits after a refusal; the reflector's own wait follows.
func (m *SlimMirror[T, P, V]) rest(ctx context.Context, err error) {
	m.mu.Lock()
	before := m.refusals
	m.refusals++
	if !apierrors.IsForbidden(err) {
		m.refusals = 0
	}
	m.mu.Unlock()
	if !apierrors.IsForbidden(err) {
		return
	}
	timer := time.NewTimer(refusedRest(before))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// source is how the reflector asks the server.
type source[T any, P Object[T], V any] struct{ m *SlimMirror[T, P, V] }

func (s source[T, P, V]) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	list := s.m.objects.list()
	options.ResourceVersion = "" // not what some cache has: what the server has agreed on
	// A list of many objects takes longer than a call about one.
	bounded, cancel := context.WithTimeoutCause(ctx, 6*s.m.objects.client.timeout, errors.New("the list took too long"))
	defer cancel()
	err := s.m.objects.read(s.m.selection, options).Do(bounded).Into(list)
	if err != nil {
		s.m.note(ctx, "list", explain(bounded, err))
		s.m.rest(ctx, err)
		return list, err
	}
	// Lists come in pages: what nobody reads is dropped before the next one.
	return list, meta.EachListItem(list, func(object runtime.Object) error {
		if p, ok := object.(P); ok {
			strip(p)
		}
		return nil
	})
}

func (s source[T, P, V]) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	w, err := s.m.objects.read(s.m.selection, options).Watch(ctx)
	s.m.note(ctx, "watch", err)
	s.m.rest(ctx, err)
	return w, err
}

// List and Watch are what the reflector's interface asks for; it uses those with
// a context.
func (s source[T, P, V]) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

func (s source[T, P, V]) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

// IsWatchListSemanticsUnSupported makes the reflector list by "list": the
// rights then say what is done on every server's version.
func (source[T, P, V]) IsWatchListSemanticsUnSupported() bool { return true }

// sink is where the reflector puts what it hears.
type sink[T any, P Object[T], V any] struct{ m *SlimMirror[T, P, V] }

func (s sink[T, P, V]) Add(object any) error    { return s.put(object) }
func (s sink[T, P, V]) Update(object any) error { return s.put(object) }
func (s sink[T, P, V]) Resync() error           { return nil }

func (s sink[T, P, V]) put(object any) error {
	p, ok := object.(P)
	if !ok {
		return fmt.Errorf("the server sent a %T", object)
	}
	key, now := s.m.take(p)
	s.m.mu.Lock()
	before := s.m.all[key]
	s.m.all[key] = now
	s.m.mu.Unlock()
	s.tell(before.value, now.value)
	return nil
}

// take gives what is kept of an object. The names of the key outlive the object:
// they are shared with those of other kinds.
func (m *SlimMirror[T, P, V]) take(p P) (objectName, held[V]) {
	strip(p)
	key := objectName{Shared(p.GetNamespace()), Shared(p.GetName())}
	return key, held[V]{m.keep(p), string(p.GetUID()), p.GetResourceVersion()}
}

// strip drops what nobody reads and what is often most of an object: who wrote
// which field, and what kubectl applied last.
func strip(object metav1.Object) {
	object.SetManagedFields(nil)
	delete(object.GetAnnotations(), corev1.LastAppliedConfigAnnotation)
}

// Shared gives the one copy of a text that all have who ask for it, so that what
// stands in many objects is held once, and nothing holds on to more than it needs.
func Shared(s string) string { return unique.Make(s).Value() }

func (s sink[T, P, V]) Delete(object any) error {
	p, ok := object.(P)
	if !ok {
		return fmt.Errorf("the server sent a %T", object)
	}
	key := objectName{p.GetNamespace(), p.GetName()}
	s.m.mu.Lock()
	before := s.m.all[key]
	delete(s.m.all, key)
	s.m.mu.Unlock()
	s.tell(before.value, nil)
	return nil
}

// Replace takes a whole list; only what differs is told, and only of that anything
// is kept anew.
func (s sink[T, P, V]) Replace(list []any, _ string) error {
	all := make(map[objectName]held[V], len(list))
	s.m.mu.Lock()
	was := s.m.all
	s.m.mu.Unlock()
	for _, object := range list {
		p, ok := object.(P)
		if !ok {
			return fmt.Errorf("the server sent a %T", object)
		}
		before := was[objectName{p.GetNamespace(), p.GetName()}]
		if before.value != nil && before.version == p.GetResourceVersion() && before.uid == string(p.GetUID()) {
			all[objectName{Shared(p.GetNamespace()), Shared(p.GetName())}] = before
			continue
		}
		key, now := s.m.take(p)
		all[key] = now
	}
	s.m.mu.Lock()
	s.m.all = all
	s.m.mu.Unlock()
	for key, now := range all {
		if before := was[key]; before.value != now.value {
			s.tell(before.value, now.value)
		}
	}
	for key, before := range was {
		if all[key].value == nil {
			s.tell(before.value, nil)
		}
	}
	s.m.once.Do(func() { close(s.m.synced) })
	return nil
}

func (s sink[T, P, V]) tell(before, after *V) {
	if s.m.changed != nil && (before != nil || after != nil) {
		s.m.changed(before, after)
	}
}

// items are the objects of a list.
func items[T any, P Object[T]](list runtime.Object) ([]P, error) {
	var out []P
	err := meta.EachListItem(list, func(object runtime.Object) error {
		p, ok := object.(P)
		if !ok {
			return fmt.Errorf("the server sent a %T in a list", object)
		}
		out = append(out, p)
		return nil
	})
	return out, err
}
