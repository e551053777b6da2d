package kubestore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

type leaseObjects = kubeclient.Objects[coordinationv1.Lease, *coordinationv1.Lease]

// firstEpochs are counted from here, in seconds: a Lease that somebody deleted
// begins above where it ended.
const firstEpochs = 1767225600 // 2026-01-01

// Acquire is Store.Acquire.
func (s *Store) Acquire(ctx context.Context, name string) (store.Lease, error) {
	key := store.LeaseKey(name)
	if err := store.CheckWrite(key, []byte(s.o.Replica)); err != nil {
		return nil, err
	}
	s.start()
	slot := s.slot(name)
	select {
	case slot <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("acquire %s: %w", name, context.Cause(ctx))
	}
	var backoff store.Backoff
	for {
		changed := s.seen.wait(s.objectName(key))
		m, free, err := s.take(ctx, key)
		if m != nil {
			l := &lease{store: s, name: name, node: m, read: map[string]string{}, free: make(chan struct{})}
			l.hold = store.NewHold(ctx, m.until)
			s.work.Go(func() { l.keep(); <-slot; close(l.free) })
			return l, nil
		}
		if err == nil { // held by another
			backoff.Reset()
			select {
			case <-changed:
			case <-time.After(free):
			case <-ctx.Done():
			case <-s.ctx.Done():
			}
		}
		if ctx.Err() != nil || s.ctx.Err() != nil {
			<-slot
			if s.ctx.Err() != nil {
				return nil, fmt.Errorf("acquire %s: %w", name, errClosed)
			}
			return nil, fmt.Errorf("acquire %s: %w", name, context.Cause(ctx))
		}
		if err != nil {
			next := backoff.Next()
			if backoff.News(err) {
				s.log.Warn("lease not acquired", "lease", name, "error", err, "next", next)
			}
			store.Sleep(ctx, next)
		}
	}
}

// slot is held by the goroutine of ours that wants or has a lease.
func (s *Store) slot(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[name] == nil {
		s.slots[name] = make(chan struct{}, 1)
	}
	return s.slots[name]
}

// take takes a lease that is free; else it says when that can be at the
// earliest.
func (s *Store) take(ctx context.Context, key string) (*mortal, time.Duration, error) {
	object, err := s.leases.Get(ctx, s.o.Namespace, s.objectName(key))
	switch {
	case kubeclient.Gone(err):
		object = s.leaseObject(key)
		epoch := max(int32(time.Now().Unix()-firstEpochs), s.seen.after(object.Name))
		object.Spec.LeaseTransitions = &epoch
		return s.claim(ctx, key, object, s.leases.Create)
	case err != nil:
		return nil, 0, err
	case object.Annotations[noteKey] != key:
		return nil, 0, fmt.Errorf("lease %s/%s: %w", object.Namespace, object.Name, errForeign)
	}
	if left := s.seen.left(object); holderOf(object) != "" && left > 0 {
		return nil, left, nil
	}
	epoch := transitions(object) + 1
	object.Spec.LeaseTransitions = &epoch
	return s.claim(ctx, key, object, s.leases.Update)
}

func (s *Store) leaseObject(key string) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: s.meta(key)}
}

// claim writes ourselves into a Lease; nobody else may have done so meanwhile.
func (s *Store) claim(ctx context.Context, key string, object *coordinationv1.Lease,
	write func(context.Context, *coordinationv1.Lease) (*coordinationv1.Lease, error),
) (*mortal, time.Duration, error) {
	m := &mortal{store: s, key: key, token: rand.Text()}
	object.Annotations[noteToken] = m.token
	now := metav1.NowMicro()
	object.Spec.AcquireTime = &now
	err := m.write(ctx, object, write)
	if kubeclient.Conflicts(err) || kubeclient.Gone(err) {
		return nil, 0, nil // another was faster: look again at once
	}
	if err != nil {
		return nil, 0, err
	}
	return m, 0, nil
}

func holderOf(object *coordinationv1.Lease) string {
	if object.Spec.HolderIdentity == nil {
		return ""
	}
	return *object.Spec.HolderIdentity
}

func transitions(object *coordinationv1.Lease) int32 {
	if object.Spec.LeaseTransitions == nil {
		return 0
	}
	return *object.Spec.LeaseTransitions
}

// mortal is a Lease object of ours, which lives as long as it is renewed.
type mortal struct {
	store *Store
	key   string
	token string // says which of the objects of this name, and whose

	mu     sync.Mutex
	object *coordinationv1.Lease // as last written
	until  time.Time             // ours until then, less the margin
}

// errNotOurs: the Lease has gone, or is another's.
var errNotOurs = errors.New("its Lease is not ours any more")

// write writes the object as ours and held, with a duration from now.
func (m *mortal) write(ctx context.Context, object *coordinationv1.Lease, write func(context.Context, *coordinationv1.Lease) (*coordinationv1.Lease, error)) error {
	sent, now := time.Now(), metav1.NowMicro()
	replica, seconds := m.store.o.Replica, int32(m.store.ttl/time.Second)
	if replica == "" {
		replica = "-" // an empty holder is none
	}
	object.Spec.HolderIdentity, object.Spec.LeaseDurationSeconds, object.Spec.RenewTime = &replica, &seconds, &now
	done, err := write(ctx, object)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.object, m.until = done, sent.Add(m.store.ttl-store.Margin(m.store.ttl))
	return nil
}

// at asks the server whether the Lease is still ours.
func (m *mortal) at(ctx context.Context) error {
	object, err := m.store.leases.Get(ctx, m.store.o.Namespace, m.store.objectName(m.key))
	if kubeclient.Gone(err) {
		return errNotOurs
	}
	if err != nil {
		return err
	}
	if object.Annotations[noteToken] != m.token || holderOf(object) == "" {
		return errNotOurs
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.object = object
	return nil
}

// change does something to the object at the version it is at. Somebody may
// have changed it: a renewal whose answer did not arrive, or a person.
func (m *mortal) change(ctx context.Context, do func(*coordinationv1.Lease) error) error {
	for {
		m.mu.Lock()
		object := m.object.DeepCopy()
		m.mu.Unlock()
		err := do(object)
		if kubeclient.Gone(err) {
			return errNotOurs
		}
		if !kubeclient.Conflicts(err) {
			return err
		}
		if err := m.at(ctx); err != nil {
			return err
		}
	}
}

// renew gives the Lease another duration.
func (m *mortal) renew(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.store.ttl/3)
	defer cancel()
	return m.change(ctx, func(object *coordinationv1.Lease) error { return m.write(ctx, object, m.store.leases.Update) })
}

// clear says that nobody holds the Lease; its epoch stays.
func (m *mortal) clear(ctx context.Context) error {
	return m.change(ctx, func(object *coordinationv1.Lease) error { return m.store.clear(ctx, object) })
}

func (s *Store) clear(ctx context.Context, object *coordinationv1.Lease) error {
	object.Spec.HolderIdentity = nil
	_, err := s.leases.Update(ctx, object)
	return err
}

// remove removes the Lease, if it is still ours.
func (m *mortal) remove(ctx context.Context) error {
	return m.change(ctx, func(object *coordinationv1.Lease) error {
		return m.store.leases.Delete(ctx, object.Namespace, object.Name, object.ResourceVersion)
	})
}

// keep renews the Lease until done ends or it is lost, and tells renewed each
// time until when it holds. It returns why it ended.
func (m *mortal) keep(done context.Context, renewed func(until time.Time)) error {
	var trouble store.Backoff
	wait := m.store.ttl / 3
	for {
		select {
		case <-m.store.ctx.Done():
			return errClosed
		case <-done.Done():
			return context.Cause(done)
		case <-time.After(wait):
		}
		wait = m.store.ttl / 3
		switch err := m.renew(done); {
		case err == nil:
			trouble.Reset()
			m.mu.Lock()
			renewed(m.until)
			m.mu.Unlock()
		case errors.Is(err, errNotOurs):
			return err
		case done.Err() == nil:
			wait = m.store.ttl / 20
			if trouble.News(err) {
				m.store.log.Warn("not renewed", "key", m.key, "error", err, "next", wait)
			}
		}
	}
}

// bury ends the Lease by end, as long as it takes, or until its duration has
// passed and others do it.
func (m *mortal) bury(end func(context.Context) error) {
	m.mu.Lock()
	last := m.until.Add(store.Margin(m.store.ttl))
	m.mu.Unlock()
	if m.store.ctx.Err() != nil { // closing: one attempt
		last = time.Now().Add(time.Second)
	}
	ctx, cancel := context.WithDeadline(context.Background(), last)
	defer cancel()
	var backoff store.Backoff
	for {
		err := end(ctx)
		if err == nil || errors.Is(err, errNotOurs) || m.store.ctx.Err() != nil || !store.Sleep(ctx, backoff.Next()) {
			return
		}
	}
}

// lease implements store.Lease.
type lease struct {
	store *Store
	name  string
	node  *mortal
	hold  *store.Hold
	free  chan struct{} // closed when the name was given back

	mu   sync.Mutex
	read map[string]string // key -> the version it was last read or written at
}

// keep keeps the lease until its context ends, then gives the name free.
func (l *lease) keep() {
	err := l.node.keep(l.hold.Context(), func(until time.Time) { l.hold.Extend(until) })
	if l.hold.Context().Err() == nil {
		l.hold.End(fmt.Errorf("%w: lease %s: %w", store.ErrLeaseLost, l.name, err))
	}
	l.node.bury(l.node.clear)
}

func (l *lease) Context() context.Context { return l.hold.Context() }

func (l *lease) Epoch() uint64 {
	l.node.mu.Lock()
	defer l.node.mu.Unlock()
	return uint64(transitions(l.node.object))
}

// mark is what Secrets read or written under this lease carry.
func (l *lease) mark() string { return fmt.Sprintf("%s@%d", l.name, l.Epoch()) }

// check asks whether the lease is still ours.
func (l *lease) check(ctx context.Context) error {
	err := l.hold.Err()
	if err == nil {
		if err = l.node.at(ctx); errors.Is(err, errNotOurs) {
			err = fmt.Errorf("%w: %w", store.ErrLeaseLost, err)
			l.hold.End(err)
		}
	}
	if err == nil {
		err = l.hold.Err() // the answer may have come late
	}
	if err != nil {
		return fmt.Errorf("lease %s: %w", l.name, err)
	}
	return nil
}

func (l *lease) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	err := l.check(ctx)
	var st state
	for err == nil {
		st, err = l.own(ctx, key)
		if err == nil {
			err = l.check(ctx)
			break
		}
		if errors.Is(err, store.ErrConflict) {
			err = l.check(ctx) // changed meanwhile: read again
		}
	}
	if err == nil && st.absent {
		return l.store.getMortal(ctx, key)
	}
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	return store.Entry{Key: key, Value: st.value(), Revision: st.revision()}, nil
}

// own reads a key and moves it to a new version, so that whoever read it before
// cannot change it any more. A key that is absent gets a Secret that says so.
func (l *lease) own(ctx context.Context, key string) (state, error) {
	st, err := l.store.read(ctx, key)
	if err != nil || st.secret != nil && l.known(key) == st.version() {
		return st, err
	}
	base := st.version()
	next := st.secret.DeepCopy()
	if next == nil {
		next = l.store.absent(key, "")
	}
	next.Annotations[noteHolder] = l.mark()
	base, err = l.store.swap(ctx, base, next)
	if err != nil {
		return st, err
	}
	next.ResourceVersion = base
	st.secret = next
	l.note(key, base)
	return st, nil
}

func (l *lease) known(key string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read[key]
}

func (l *lease) note(key, version string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.read[key] = version
}

func (l *lease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	// The order matters: the version first, then the check. If the check passes,
	// whoever holds the lease after us reads the key after it, and moves it.
	var base string
	err := l.hold.Err()
	if err == nil {
		base, err = l.store.base(ctx, key, have)
		if cerr := l.check(ctx); cerr != nil {
			err = cerr
		}
	}
	if err == nil {
		base, err = l.store.swap(ctx, base, l.store.secret(key, value, l.mark()))
	}
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	l.note(key, base)
	return store.Revision("s" + base), nil
}

func (l *lease) Delete(ctx context.Context, key string, have store.Revision) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	err := l.check(ctx)
	if err == nil {
		err = l.bury(ctx, key, have)
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return nil
}

// bury leaves a Secret that says that the key does not exist.
func (l *lease) bury(ctx context.Context, key string, have store.Revision) error {
	version, err := versionOf(have, 's')
	if err == nil {
		version, err = l.store.swap(ctx, version, l.store.absent(key, l.mark()))
	}
	if err == nil {
		l.note(key, version)
		return nil
	}
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	switch st, rerr := l.store.read(ctx, key); {
	case rerr != nil:
		return fmt.Errorf("%w (and then: %w)", err, rerr)
	case st.absent:
		return store.ErrNotFound
	}
	return err
}

// Release ends the lease and waits until the server has heard it; if ctx ends
// before that, it is said again until the duration is over.
func (l *lease) Release(ctx context.Context) error {
	l.hold.Release()
	select {
	case <-l.free:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("release %s: %w; tried again until its duration is over", l.name, context.Cause(ctx))
	}
}
