package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"
)

// errCut is what a replica of a Mem is told while it is cut off.
var errCut = errors.New("the store does not answer")

// Mem is shared state in memory, for tests of what stands on a Store: one Mem
// is the server, each Replica a process using it. It uses nothing but time and
// channels, so it works in testing/synctest bubbles.
type Mem struct {
	ttl time.Duration

	mu       sync.Mutex
	entries  map[string]memEntry
	revision uint64
	changed  chan struct{} // closed and replaced after each change
	lists    map[string]*memList
}

// memList is what is under a prefix that is watched, brought up to date when it
// is asked for: with thousands of keys, each change would have every watch sort
// all of them.
type memList struct {
	entries []Entry             // sorted; never changed, only replaced
	stale   map[string]struct{} // keys changed since
}

type memEntry struct {
	value    []byte
	revision uint64
	session  *memSession // whose death removes it; nil: nobody's
}

// memSession is what the server knows of one life of a replica.
type memSession struct {
	replica string
	over    bool
}

// NewMem returns an empty store whose sessions last ttl after their replica
// was last heard of; zero: 5 s.
func NewMem(ttl time.Duration) *Mem {
	return &Mem{ttl: cmp.Or(ttl, 5*time.Second), entries: map[string]memEntry{}, changed: make(chan struct{}), lists: map[string]*memList{}}
}

// Replica returns a new process that uses the store, with a session of its
// own. Two replicas may have the same name.
func (m *Mem) Replica(name string) *Replica {
	return &Replica{
		mem: m, name: name, session: &memSession{replica: name},
		leases: map[*memLease]struct{}{}, owed: map[string]uint64{},
	}
}

// touch notes for the lists that key has changed. The caller holds mu.
func (m *Mem) touch(key string) {
	for prefix, l := range m.lists {
		if Under(key, prefix) {
			l.stale[key] = struct{}{}
		}
	}
	m.signal()
}

// signal tells every waiter that something changed. The caller holds mu.
func (m *Mem) signal() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// set stores value and returns its revision. The caller holds mu.
func (m *Mem) set(key string, value []byte, session *memSession) uint64 {
	m.revision++
	m.entries[key] = memEntry{value: bytes.Clone(value), revision: m.revision, session: session}
	m.touch(key)
	return m.revision
}

// remove deletes key if it is at revision. The caller holds mu.
func (m *Mem) remove(key string, revision uint64) {
	if e, ok := m.entries[key]; ok && e.revision == revision {
		m.revision++
		delete(m.entries, key)
		m.touch(key)
	}
}

// expire ends a session and removes what was its. The caller holds mu.
func (m *Mem) expire(session *memSession) {
	session.over = true
	for key, e := range m.entries {
		if e.session == session {
			m.remove(key, e.revision)
		}
	}
}

func (m *Mem) get(key string) (Entry, error) {
	e, ok := m.entries[key]
	if !ok {
		return Entry{}, fmt.Errorf("get %s: %w", key, ErrNotFound)
	}
	return e.entry(key), nil
}

func (m *Mem) put(key string, value []byte, have Revision) (Revision, error) {
	if at := m.entries[key].at(); at != have {
		return "", fmt.Errorf("put %s: %w (it is at %q, not %q)", key, ErrConflict, at, have)
	}
	m.set(key, value, nil)
	return m.entries[key].at(), nil
}

func (m *Mem) delete(key string, have Revision) error {
	e, ok := m.entries[key]
	switch {
	case !ok:
		return fmt.Errorf("delete %s: %w", key, ErrNotFound)
	case e.at() != have:
		return fmt.Errorf("delete %s: %w (it is at %q, not %q)", key, ErrConflict, e.at(), have)
	}
	m.remove(key, e.revision)
	return nil
}

// list returns what is under prefix, sorted; nobody may change it. The caller
// holds mu.
func (m *Mem) list(prefix string) []Entry {
	l := m.lists[prefix]
	if l == nil {
		l = &memList{entries: []Entry{}, stale: map[string]struct{}{}}
		m.lists[prefix] = l
		for key := range m.entries {
			if Under(key, prefix) {
				l.stale[key] = struct{}{}
			}
		}
	}
	if len(l.stale) == 0 {
		return l.entries
	}
	fresh := make([]Entry, 0, len(l.stale))
	for key := range l.stale {
		if e, ok := m.entries[key]; ok {
			fresh = append(fresh, e.entry(key))
		}
	}
	byKey := func(a, b Entry) int { return cmp.Compare(a.Key, b.Key) }
	slices.SortFunc(fresh, byKey)
	all := make([]Entry, 0, len(l.entries)+len(fresh))
	for _, e := range l.entries {
		for len(fresh) > 0 && fresh[0].Key < e.Key {
			all, fresh = append(all, fresh[0]), fresh[1:]
		}
		if _, ok := l.stale[e.Key]; !ok {
			all = append(all, e)
		}
	}
	l.entries = append(all, fresh...)
	clear(l.stale)
	return l.entries
}

func (e memEntry) entry(key string) Entry {
	return Entry{Key: key, Value: e.value, Revision: e.at()}
}

func (e memEntry) at() Revision {
	if e.revision == 0 {
		return ""
	}
	return Revision(strconv.FormatUint(e.revision, 10))
}

// SameEntries says whether two states of a watch are the same: same keys at
// the same revisions.
func SameEntries(a, b []Entry) bool {
	return slices.EqualFunc(a, b, func(a, b Entry) bool { return a.Key == b.Key && a.Revision == b.Revision })
}

// Replica is one process using a Mem. It implements Store.
type Replica struct {
	mem  *Mem
	name string

	// The following are guarded by mem.mu.
	session  *memSession
	leases   map[*memLease]struct{}
	owed     map[string]uint64 // keys at revisions to remove when it is joined again
	cut      bool
	killed   bool
	deadline *time.Timer // while cut: when the server gives the session up
}

// Partition cuts the replica off from the store, or joins it again. While it
// is cut off all its operations fail; its leases end by themselves after the
// TTL less Margin, and after the TTL the server gives them to others.
func (r *Replica) Partition(cut bool) {
	r.mem.mu.Lock()
	defer r.mem.mu.Unlock()
	if r.killed || r.cut == cut {
		return
	}
	r.cut = cut
	if cut {
		r.silence(time.Now().Add(r.mem.ttl - Margin(r.mem.ttl)))
	} else {
		r.heard()
	}
	r.mem.signal()
}

// Kill is the death of the replica without a word: the contexts of its leases
// end, all its operations fail from now on, and after the TTL the server gives
// its leases to others. Its watches and waits go on until their context ends,
// as nobody is there to see them.
func (r *Replica) Kill() {
	r.mem.mu.Lock()
	defer r.mem.mu.Unlock()
	if r.killed {
		return
	}
	r.killed = true
	if !r.cut {
		r.cut = true
		r.silence(time.Time{})
	}
	for l := range r.leases {
		l.hold.End(fmt.Errorf("%w: %s was killed", ErrLeaseLost, r.name))
	}
	r.mem.signal()
}

// Expire makes the server forget the replica's session at once, as if it had
// been revoked: its leases are free, and it learns of it only at its next
// renewal, a third of the TTL later, or when a fenced operation is refused.
func (r *Replica) Expire() {
	r.mem.mu.Lock()
	defer r.mem.mu.Unlock()
	r.mem.expire(r.session)
	r.session = &memSession{replica: r.name}
	if r.cut {
		return // their deadline is set
	}
	for l := range r.leases {
		l.hold.Extend(time.Now().Add(r.mem.ttl / 3))
	}
}

// silence lets the leases run out: at until for us (zero: they are ended
// already), after the TTL for the server. The caller holds mem.mu.
func (r *Replica) silence(until time.Time) {
	if !until.IsZero() {
		for l := range r.leases {
			l.hold.Extend(until)
		}
	}
	session := r.session
	r.deadline = time.AfterFunc(r.mem.ttl, func() {
		r.mem.mu.Lock()
		defer r.mem.mu.Unlock()
		if r.cut && r.session == session {
			r.mem.expire(session)
			r.session = &memSession{replica: r.name}
		}
	})
}

// heard is the first renewal after a silence. The caller holds mem.mu.
func (r *Replica) heard() {
	r.deadline.Stop()
	for l := range r.leases {
		if !l.session.over {
			l.hold.Extend(time.Time{})
		}
	}
	for key, revision := range r.owed {
		r.mem.remove(key, revision)
	}
	clear(r.owed)
}

// remove takes back what this replica wrote, as soon as the server can hear it.
// The caller holds mem.mu.
func (r *Replica) remove(key string, revision uint64) {
	if r.cut {
		r.owed[key] = revision
		return
	}
	r.mem.remove(key, revision)
}

// err is why the server cannot be asked. The caller holds mem.mu.
func (r *Replica) err(verb, key string) error {
	if r.cut {
		return fmt.Errorf("%s %s: replica %s: %w", verb, key, r.name, errCut)
	}
	return nil
}

// ask runs op on the server if it can be reached.
func (r *Replica) ask(ctx context.Context, verb, key string, op func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", verb, key, err)
	}
	r.mem.mu.Lock()
	defer r.mem.mu.Unlock()
	if err := r.err(verb, key); err != nil {
		return err
	}
	return op()
}

// Get is Store.Get.
func (r *Replica) Get(ctx context.Context, key string) (e Entry, err error) {
	if err := CheckKey(key); err != nil {
		return Entry{}, err
	}
	err = r.ask(ctx, "get", key, func() error {
		e, err = r.mem.get(key)
		return err
	})
	return e, err
}

// Put is Store.Put.
func (r *Replica) Put(ctx context.Context, key string, value []byte, have Revision) (rev Revision, err error) {
	if err := CheckWrite(key, value); err != nil {
		return "", err
	}
	err = r.ask(ctx, "put", key, func() error {
		rev, err = r.mem.put(key, value, have)
		return err
	})
	return rev, err
}

// Delete is Store.Delete.
func (r *Replica) Delete(ctx context.Context, key string, have Revision) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return r.ask(ctx, "delete", key, func() error { return r.mem.delete(key, have) })
}

// Watch is Store.Watch.
func (r *Replica) Watch(ctx context.Context, prefix string, o ...WatchOption) iter.Seq2[[]Entry, error] {
	return func(yield func([]Entry, error) bool) {
		if err := CheckPrefix(prefix); err != nil {
			yield(nil, err)
			<-ctx.Done()
			return
		}
		told, troubled := NewTold(o), false
		for ctx.Err() == nil {
			r.mem.mu.Lock()
			changed, err := r.mem.changed, r.err("watch", prefix)
			var now []Entry
			if err == nil {
				now = r.mem.list(prefix)
			}
			r.mem.mu.Unlock()

			switch {
			case err != nil && !troubled:
				troubled = true
				told.Trouble()
				if !yield(nil, err) {
					return
				}
			case err == nil:
				troubled = false
				if news, ok := told.News(now); ok && !yield(news, nil) {
					return
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// Acquire is Store.Acquire.
func (r *Replica) Acquire(ctx context.Context, name string) (Lease, error) {
	key := LeaseKey(name)
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		r.mem.mu.Lock()
		changed := r.mem.changed
		if _, held := r.mem.entries[key]; !r.cut && !held {
			l := &memLease{replica: r, session: r.session, name: name, hold: NewHold(ctx, time.Time{})}
			l.epoch = r.mem.set(key, []byte(r.name), r.session)
			r.leases[l] = struct{}{}
			r.mem.mu.Unlock()
			context.AfterFunc(l.hold.Context(), l.giveBack)
			return l, nil
		}
		r.mem.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil, fmt.Errorf("acquire %s: %w", name, context.Cause(ctx))
}

// Announce is Store.Announce.
func (r *Replica) Announce(ctx context.Context, key string, value []byte) error {
	if err := CheckWrite(key, value); err != nil {
		return err
	}
	var mine uint64
	for ctx.Err() == nil {
		r.mem.mu.Lock()
		if !r.cut && (mine == 0 || r.mem.entries[key].revision != mine) {
			mine = r.mem.set(key, value, r.session)
		}
		changed := r.mem.changed
		r.mem.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	r.mem.mu.Lock()
	defer r.mem.mu.Unlock()
	r.remove(key, mine)
	return fmt.Errorf("announce %s: %w", key, context.Cause(ctx))
}

// memLease is a lease of a Mem: its epoch is the revision of its entry.
type memLease struct {
	replica *Replica
	session *memSession
	name    string
	epoch   uint64
	hold    *Hold
}

func (l *memLease) Context() context.Context { return l.hold.Context() }

func (l *memLease) Epoch() uint64 { return l.epoch }

// fenced runs op in the same turn as the check that the lease is still ours.
func (l *memLease) fenced(ctx context.Context, verb, key string, op func() error) error {
	if err := l.hold.Err(); err != nil {
		return fmt.Errorf("%s %s: lease %s: %w", verb, key, l.name, err)
	}
	m := l.replica.mem
	return l.replica.ask(ctx, verb, key, func() error {
		if e := m.entries[LeaseKey(l.name)]; e.revision != l.epoch {
			err := fmt.Errorf("%w: lease %s has gone from the store", ErrLeaseLost, l.name)
			l.hold.End(err)
			return fmt.Errorf("%s %s: %w", verb, key, err)
		}
		return op()
	})
}

func (l *memLease) Get(ctx context.Context, key string) (e Entry, err error) {
	if err := CheckKey(key); err != nil {
		return Entry{}, err
	}
	err = l.fenced(ctx, "get", key, func() error {
		e, err = l.replica.mem.get(key)
		return err
	})
	return e, err
}

func (l *memLease) Put(ctx context.Context, key string, value []byte, have Revision) (rev Revision, err error) {
	if err := CheckWrite(key, value); err != nil {
		return "", err
	}
	err = l.fenced(ctx, "put", key, func() error {
		rev, err = l.replica.mem.put(key, value, have)
		return err
	})
	return rev, err
}

func (l *memLease) Delete(ctx context.Context, key string, have Revision) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	return l.fenced(ctx, "delete", key, func() error { return l.replica.mem.delete(key, have) })
}

// giveBack frees the name once the lease's context has ended, for whatever
// reason.
func (l *memLease) giveBack() {
	l.replica.mem.mu.Lock()
	defer l.replica.mem.mu.Unlock()
	delete(l.replica.leases, l)
	l.replica.remove(LeaseKey(l.name), l.epoch)
}

func (l *memLease) Release(context.Context) error {
	l.hold.Release()
	l.giveBack()
	return nil
}
