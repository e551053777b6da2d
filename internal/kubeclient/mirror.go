package kubeclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// Mirror holds the objects of a selection as the server has them and follows
// their changes. While the server cannot be asked it keeps what it has. Its
// objects are shared: nobody may modify them. Its methods may be called from
// any goroutine.
type Mirror[T any, P Object[T]] struct {
	// Told, if set before Run, is called whenever Trouble comes, changes or
	// ends, under the same rules as changed.
	Told func(error)

	objects   Objects[T, P]
	selection Selection
	changed   func(before, after P)

	synced chan struct{}
	once   sync.Once

	mu       sync.Mutex
	all      map[objectName]P
	trouble  error
	refusals int // one after the other
}

// refusedMost is how seldom a right that is missing is asked for in the end.
const refusedMost = time.Minute

// refusedRest is how long to wait after so many refusals before: rights are often
// given a moment after the start, and else not for long.
func refusedRest(before int) time.Duration {
	return min(time.Second<<min(before, 10), refusedMost)
}

// objectName is the namespace and name of an object.
type objectName struct{ namespace, name string }

// Mirror makes a mirror, which Run fills. changed is told of each change, also
// of those of the first list, after it is visible: before is nil for what is
// new, after for what is gone. It is called from Run's goroutine and must not
// wait; it may be nil.
func (o Objects[T, P]) Mirror(s Selection, changed func(before, after P)) *Mirror[T, P] {
	return &Mirror[T, P]{objects: o, selection: s, changed: changed, synced: make(chan struct{}), all: map[objectName]P{}}
}

// Run follows the server until ctx ends. It goes on through restarts of the
// server, lost history (410) and missing kinds, which are tried again within two
// seconds, and through missing rights, which are asked for ever more seldom, once
// a minute in the end; Trouble tells of them.
func (m *Mirror[T, P]) Run(ctx context.Context) error {
	quiet := logr.Discard() // trouble is told by us, once
	ctx = klog.NewContext(ctx, quiet)
	backoff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Cap: 1300 * time.Millisecond, Steps: 10}
	r := cache.NewReflectorWithOptions(source[T, P]{m}, P(new(T)), sink[T, P]{m},
		cache.ReflectorOptions{Name: m.objects.resource, Logger: &quiet, Backoff: &backoff})
	r.RunWithContext(ctx)
	return context.Cause(ctx)
}

// Synced is closed when the first list is complete.
func (m *Mirror[T, P]) Synced() <-chan struct{} { return m.synced }

// Trouble is why the mirror may be behind the server; nil while it follows. A
// missing right is Refused, a missing kind Gone.
func (m *Mirror[T, P]) Trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.trouble
}

// Get gives one object, or nil.
func (m *Mirror[T, P]) Get(namespace, name string) P {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.all[objectName{namespace, name}]
}

// All gives all objects, sorted by namespace and name.
func (m *Mirror[T, P]) All() []P {
	m.mu.Lock()
	out := make([]P, 0, len(m.all))
	for _, object := range m.all {
		out = append(out, object)
	}
	m.mu.Unlock()
	slices.SortFunc(out, func(a, b P) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return out
}

// note keeps what came of the last request, and tells what is new.
func (m *Mirror[T, P]) note(ctx context.Context, verb string, err error) {
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
func (m *Mirror[T, P]) rest(ctx context.Context, err error) {
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
type source[T any, P Object[T]] struct{ m *Mirror[T, P] }

func (s source[T, P]) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	list := s.m.objects.list()
	options.ResourceVersion = "" // not what some cache has: what the server has agreed on
	// A list of many objects takes longer than a call about one.
	bounded, cancel := context.WithTimeoutCause(ctx, 6*s.m.objects.client.timeout, errors.New("the list took too long"))
	defer cancel()
	err := s.m.objects.read(s.m.selection, options).Do(bounded).Into(list)
	if err != nil {
		s.m.note(ctx, "list", explain(bounded, err))
		s.m.rest(ctx, err)
	}
	return list, err
}

func (s source[T, P]) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	w, err := s.m.objects.read(s.m.selection, options).Watch(ctx)
	s.m.note(ctx, "watch", err)
	s.m.rest(ctx, err)
	return w, err
}

// List and Watch are what the reflector's interface asks for; it uses those with
// a context.
func (s source[T, P]) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

func (s source[T, P]) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

// IsWatchListSemanticsUnSupported makes the reflector list by "list": the
// rights then say what is done on every server's version.
func (source[T, P]) IsWatchListSemanticsUnSupported() bool { return true }

// sink is where the reflector puts what it hears.
type sink[T any, P Object[T]] struct{ m *Mirror[T, P] }

func (s sink[T, P]) Add(object any) error    { return s.put(object) }
func (s sink[T, P]) Update(object any) error { return s.put(object) }
func (s sink[T, P]) Resync() error           { return nil }

func (s sink[T, P]) put(object any) error {
	p, ok := object.(P)
	if !ok {
		return fmt.Errorf("the server sent a %T", object)
	}
	key := objectName{p.GetNamespace(), p.GetName()}
	s.m.mu.Lock()
	before := s.m.all[key]
	s.m.all[key] = p
	s.m.mu.Unlock()
	s.tell(before, p)
	return nil
}

func (s sink[T, P]) Delete(object any) error {
	p, ok := object.(P)
	if !ok {
		return fmt.Errorf("the server sent a %T", object)
	}
	key := objectName{p.GetNamespace(), p.GetName()}
	s.m.mu.Lock()
	before := s.m.all[key]
	delete(s.m.all, key)
	s.m.mu.Unlock()
	s.tell(before, nil)
	return nil
}

// Replace takes a whole list; only what differs is told.
func (s sink[T, P]) Replace(list []any, _ string) error {
	all := make(map[objectName]P, len(list))
	for _, object := range list {
		p, ok := object.(P)
		if !ok {
			return fmt.Errorf("the server sent a %T", object)
		}
		all[objectName{p.GetNamespace(), p.GetName()}] = p
	}
	s.m.mu.Lock()
	was := s.m.all
	s.m.all = all
	s.m.mu.Unlock()
	for key, p := range all {
		if before := was[key]; before == nil || before.GetResourceVersion() != p.GetResourceVersion() || before.GetUID() != p.GetUID() {
			s.tell(before, p)
		}
	}
	for key, before := range was {
		if all[key] == nil {
			s.tell(before, nil)
		}
	}
	s.m.once.Do(func() { close(s.m.synced) })
	return nil
}

func (s sink[T, P]) tell(before, after P) {
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
