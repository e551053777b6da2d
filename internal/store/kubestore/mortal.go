package kubestore

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"

	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

// maxAnnounced bounds an announced value: it is an annotation.
const maxAnnounced = 128 << 10

// tombs is how long a Secret says that its key is absent.
const tombs = time.Hour

// entry is what a Lease says of its key; false: nothing. A Lease with a value
// is an announcement, one without the lease of its name.
func entry(object *coordinationv1.Lease) (store.Entry, bool) {
	e := store.Entry{Key: object.Annotations[noteKey], Revision: store.Revision("l" + object.ResourceVersion)}
	if text, announced := object.Annotations[noteValue]; announced {
		value, err := base64.StdEncoding.DecodeString(text)
		e.Value = value
		return e, err == nil
	}
	holder := holderOf(object)
	if holder == "-" {
		holder = ""
	}
	e.Value = []byte(holder)
	return e, holderOf(object) != ""
}

// getMortal reads a key that is no Secret. Who reads what ends when nobody
// renews it takes part in ending it: all who renewed may be dead.
func (s *Store) getMortal(ctx context.Context, key string) (store.Entry, error) {
	s.start()
	object, err := s.leases.Get(ctx, s.o.Namespace, s.objectName(key))
	if err == nil && object.Annotations[noteKey] == key {
		if e, ok := entry(object); ok {
			return e, nil
		}
	}
	if err == nil || kubeclient.Gone(err) {
		err = store.ErrNotFound
	}
	return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
}

// deleteMortal removes an announcement, or takes a lease from its holder.
func (s *Store) deleteMortal(ctx context.Context, key string, have store.Revision) error {
	object, err := s.leases.Get(ctx, s.o.Namespace, s.objectName(key))
	if kubeclient.Gone(err) {
		return store.ErrNotFound
	}
	if err != nil {
		return err
	}
	if _, there := entry(object); !there || object.Annotations[noteKey] != key {
		return store.ErrNotFound
	}
	version, err := versionOf(have, 'l')
	if err != nil {
		return err
	}
	object.ResourceVersion = version
	return s.deleted(s.forget(ctx, object))
}

// forget ends a Lease at the version it is at.
func (s *Store) forget(ctx context.Context, object *coordinationv1.Lease) error {
	if _, announced := object.Annotations[noteValue]; announced {
		return s.leases.Delete(ctx, object.Namespace, object.Name, object.ResourceVersion)
	}
	return s.clear(ctx, object)
}

// Announce is Store.Announce.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	if err := store.CheckWrite(key, value); err != nil {
		return err
	}
	if len(value) > maxAnnounced {
		return fmt.Errorf("announce %s: %w: %d bytes, at most %d can be announced", key, store.ErrTooLarge, len(value), maxAnnounced)
	}
	s.start()
	var backoff store.Backoff
	for ctx.Err() == nil && s.ctx.Err() == nil {
		// Not cut short when ctx ends: only who knows the object can remove it.
		m, err := s.announce(context.WithoutCancel(ctx), key, value)
		if err != nil {
			next := backoff.Next()
			if backoff.News(err) && ctx.Err() == nil {
				s.log.Warn("not announced", "key", key, "error", err, "next", next)
			}
			store.Sleep(ctx, next)
			continue
		}
		backoff.Reset()
		if err = m.keep(ctx, func(time.Time) {}); !errors.Is(err, errNotOurs) {
			s.work.Go(func() { m.bury(m.remove) })
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("announce %s: %w", key, errClosed)
	}
	return fmt.Errorf("announce %s: %w", key, context.Cause(ctx))
}

// announce writes the Lease of an announcement over whatever is at its key.
func (s *Store) announce(ctx context.Context, key string, value []byte) (*mortal, error) {
	st, err := s.read(ctx, key)
	if err != nil {
		return nil, err
	}
	if !st.absent {
		if err := s.secrets.Delete(ctx, s.o.Namespace, s.objectName(key), st.version()); err != nil && !kubeclient.Gone(err) {
			return nil, err
		}
	}
	object, err := s.leases.Get(ctx, s.o.Namespace, s.objectName(key))
	write := s.leases.Update
	if kubeclient.Gone(err) {
		object, write, err = s.leaseObject(key), s.leases.Create, nil
	}
	if err != nil {
		return nil, err
	}
	if object.Annotations[noteKey] != key {
		return nil, fmt.Errorf("lease %s/%s: %w", object.Namespace, object.Name, errForeign)
	}
	m := &mortal{store: s, key: key, token: rand.Text()}
	object.Annotations[noteToken] = m.token
	object.Annotations[noteValue] = base64.StdEncoding.EncodeToString(value)
	return m, m.write(ctx, object, write)
}

// sightings are when this process saw each Lease change last, by its own
// clock. The zero sightings are ready.
type sightings struct {
	mu      sync.Mutex
	last    map[string]sighting
	epochs  map[string]int32 // the highest, also of what is gone
	waiting map[string]chan struct{}
}

type sighting struct {
	version string
	since   time.Time
	object  *coordinationv1.Lease
}

// see notes an object, if it is at another version than before, and wakes who
// waits for it. gone: it was deleted.
func (g *sightings) see(object *coordinationv1.Lease, gone bool) sighting {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last == nil {
		g.last, g.epochs = map[string]sighting{}, map[string]int32{}
	}
	name := object.Name
	now := g.last[name]
	if now.version == object.ResourceVersion && !gone {
		return now
	}
	now = sighting{object.ResourceVersion, time.Now(), object}
	g.epochs[name] = max(g.epochs[name], transitions(object))
	g.last[name] = now
	if gone {
		delete(g.last, name)
	}
	if c := g.waiting[name]; c != nil {
		close(c)
		delete(g.waiting, name)
	}
	return now
}

// after is an epoch above all this process has seen of a name.
func (g *sightings) after(name string) int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.epochs[name] + 1
}

// wait gives what is closed at the next change of an object.
func (g *sightings) wait(name string) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.waiting == nil {
		g.waiting = map[string]chan struct{}{}
	}
	if g.waiting[name] == nil {
		g.waiting[name] = make(chan struct{})
	}
	return g.waiting[name]
}

// left is how long an object that was just read must stay as it is until it is
// over.
func (g *sightings) left(object *coordinationv1.Lease) time.Duration {
	return g.see(object, false).left()
}

func (n sighting) left() time.Duration {
	duration := 15 * time.Second // as Kubernetes' own have it
	if d := n.object.Spec.LeaseDurationSeconds; d != nil {
		duration = time.Duration(*d) * time.Second
	}
	return duration - time.Since(n.since)
}

// over gives the objects whose time is over, and how long until the next one's
// is, at most most.
func (g *sightings) over(most time.Duration) (list []*coordinationv1.Lease, next time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next = most
	for _, n := range g.last {
		if _, there := entry(n.object); !there {
			continue
		}
		if left := n.left(); left <= 0 {
			list = append(list, n.object)
		} else {
			next = min(next, left)
		}
	}
	return list, next
}

// start begins, once, to follow the Leases and to remove what is over.
func (s *Store) start() {
	s.begin.Do(func() {
		s.work.Go(func() { _ = s.follow(func(_ *coordinationv1.Lease) {}).Run(s.ctx) })
		s.work.Go(s.sweep)
	})
}

// follow gives a mirror of our Leases that notes what it sees.
func (s *Store) follow(then func(*coordinationv1.Lease)) *kubeclient.Mirror[coordinationv1.Lease, *coordinationv1.Lease] {
	return s.leases.Mirror(s.selection(""), func(before, after *coordinationv1.Lease) {
		if after == nil {
			s.seen.see(before, true)
		} else {
			s.seen.see(after, false)
		}
		then(after)
	})
}

// sweep removes the Leases that nobody renews, and once in a while the Secrets
// that have said long enough that there is nothing.
func (s *Store) sweep() {
	var swept time.Time
	for {
		list, next := s.seen.over(s.ttl / 2)
		for _, object := range list {
			// Refused if it has changed since: then somebody renews it.
			if err := s.forget(s.ctx, object.DeepCopy()); err != nil && s.ctx.Err() == nil && !kubeclient.Conflicts(err) && !kubeclient.Gone(err) {
				next = max(next, s.ttl/4)
			}
		}
		if len(list) > 0 {
			next = max(next, s.ttl/20)
		}
		if time.Since(swept) > tombs/6 {
			swept = time.Now()
			s.removeTombs()
		}
		if !store.Sleep(s.ctx, next) {
			return
		}
	}
}

func (s *Store) removeTombs() {
	list, err := s.secrets.List(s.ctx, s.selection(""))
	if err != nil {
		return // at the next turn
	}
	for _, secret := range list {
		since, err := time.Parse(time.RFC3339, secret.Annotations[noteAbsent])
		if err == nil && time.Since(since) > tombs {
			_ = s.secrets.Delete(s.ctx, secret.Namespace, secret.Name, secret.ResourceVersion)
		}
	}
}
