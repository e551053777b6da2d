package etcd3store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gatehouse/internal/store"
)

// Acquire is Store.Acquire.
func (s *Store) Acquire(ctx context.Context, name string) (store.Lease, error) {
	if err := store.CheckWrite(store.LeaseKey(name), []byte(s.o.Replica)); err != nil {
		return nil, err
	}
	var backoff store.Backoff
	for {
		l, err := s.claim(ctx, name)
		if err == nil {
			return l, nil
		}
		if ctx.Err() != nil || errors.Is(err, errClosed) {
			return nil, fmt.Errorf("acquire %s in %s: %w", name, s.where(), err)
		}
		next := backoff.Next()
		if backoff.News(err) {
			s.log.Warn("lease not acquired", "store", s.where(), "lease", name, "error", err, "next", next)
		}
		store.Sleep(ctx, next)
	}
}

// claim waits its turn and takes the lease. One goroutine of ours at a time
// does so for a name, so that a claim of our session that nobody holds is
// known to be left over from an answer that was lost.
func (s *Store) claim(ctx context.Context, name string) (*lease, error) {
	slot := s.slot(name)
	select {
	case slot <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	n, err := s.await(ctx)
	if err != nil {
		<-slot
		return nil, err
	}
	c := &claim{store: s, session: n, name: name, key: s.prefix + store.LeaseKey(name)}
	c.queue = s.prefix + ".queue/" + url.PathEscape(name) + "/"
	number := fmt.Sprintf("%x-%d", n.id, s.count())
	c.turn, c.left = c.queue+number, s.prefix+".left/"+url.PathEscape(name)+"/"+number

	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(n.over(), func() { cancel(context.Cause(n.over())) })()
	epoch, err := c.take(waiting)
	l := &lease{store: s, claim: c, epoch: epoch, free: make(chan struct{})}
	if err == nil {
		l.hold = n.hold.Within(ctx)
		err = l.hold.Err()
	}
	s.work.Go(func() {
		defer func() { close(l.free); <-slot }()
		if err == nil {
			<-l.hold.Context().Done()
		}
		s.insist(n, "lease not given back", c.giveUp)
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

func (s *Store) slot(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slots[name] == nil {
		s.slots[name] = make(chan struct{}, 1)
	}
	return s.slots[name]
}

func (s *Store) count() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.claims++
	return s.claims
}

// claim is one try to get a lease.
type claim struct {
	store   *Store
	session *session
	name    string
	key     string // that is the lease: leases/<name>
	queue   string // under which those who wait stand
	turn    string // our place in it
	left    string // while this stands no place can be taken any more
	unsure  bool   // nobody said whether the place was taken, or will be
}

// take queues, waits and takes the lease; the epoch is its create revision.
func (c *claim) take(ctx context.Context) (epoch int64, err error) {
	// The answer is awaited even if nobody wants the lease any more: broken off,
	// the write could be done after giveUp has removed what is not there yet, and
	// a place nobody stands at would be waited for as long as our session lives.
	r, err := c.store.txn(context.WithoutCancel(ctx), []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(c.left), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(c.turn, c.store.o.Replica, clientv3.WithLease(c.session.id))}, nil)
	if err != nil {
		c.unsure = true
		return 0, err
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	place := r.Header.Revision
	if err := c.waitTurn(ctx, place); err != nil {
		return 0, err
	}
	for {
		r, err := c.store.txn(ctx,
			[]clientv3.Cmp{
				clientv3.Compare(clientv3.CreateRevision(c.key), "=", 0),
				clientv3.Compare(clientv3.CreateRevision(c.turn), "=", place),
			},
			[]clientv3.Op{clientv3.OpPut(c.key, c.store.o.Replica, clientv3.WithLease(c.session.id)), clientv3.OpDelete(c.turn)},
			[]clientv3.Op{clientv3.OpGet(c.key), clientv3.OpGet(c.turn)})
		switch {
		case err != nil:
			return 0, err
		case r.Succeeded:
			return r.Header.Revision, nil
		case len(r.Responses[1].GetResponseRange().Kvs) == 0:
			return 0, errors.New("our place in the queue has gone")
		}
		if err := c.waitGone(ctx, c.key, r.Header.Revision); err != nil {
			return 0, err
		}
	}
}

// waitTurn waits until nobody stands before us, watching the next one only.
func (c *claim) waitTurn(ctx context.Context, place int64) error {
	for {
		var r *clientv3.GetResponse
		err := c.store.call(ctx, callTimeout, func(ctx context.Context, client *clientv3.Client) (err error) {
			r, err = client.Get(ctx, c.queue, append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(place-1), clientv3.WithKeysOnly())...)
			return err
		})
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		before := string(r.Kvs[0].Key)
		if strings.HasPrefix(before, c.queue+fmt.Sprintf("%x-", c.session.id)) {
			// Of our session, and one goroutine at a time stands here: it is
			// left over from a write that was done late.
			if _, err := c.store.txn(ctx, nil, []clientv3.Op{clientv3.OpDelete(before)}, nil); err != nil {
				return err
			}
			continue
		}
		if err := c.waitGone(ctx, before, r.Header.Revision); err != nil {
			return err
		}
	}
}

// waitGone waits until a key that was there at revision at is deleted.
func (c *claim) waitGone(ctx context.Context, key string, at int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	client, err := c.store.dial(ctx)
	if err != nil {
		return err
	}
	for r := range client.Watch(ctx, key, clientv3.WithRev(at+1), clientv3.WithFilterPut()) {
		if err := r.Err(); err != nil {
			return fmt.Errorf("wait for %s to go: %w", key, err)
		}
		for _, e := range r.Events {
			if e.Type == mvccpb.DELETE {
				return nil
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("wait for %s to go: the watch was ended", key)
}

// giveUp removes what is ours of the claim: our place, and the lease if it is
// of our session. A write of the place that nobody answered may yet be done: a
// mark that lasts as long as our session makes it come to nothing.
func (c *claim) giveUp(ctx context.Context) error {
	place := []clientv3.Op{clientv3.OpDelete(c.turn)}
	if c.unsure {
		place = append(place, clientv3.OpPut(c.left, "", clientv3.WithLease(c.session.id)))
	}
	_, err := c.store.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(c.key), "=", c.session.id)},
		append([]clientv3.Op{clientv3.OpDelete(c.key)}, place...), place)
	return err
}

// Announce is Store.Announce.
func (s *Store) Announce(ctx context.Context, key string, value []byte) error {
	if err := store.CheckWrite(key, value); err != nil {
		return err
	}
	full := s.prefix + key
	var written *session
	var backoff store.Backoff
	for ctx.Err() == nil {
		n, err := s.await(ctx)
		if err != nil {
			break
		}
		written = n
		// Written unless it is there as it should be.
		_, err = s.txn(ctx, []clientv3.Cmp{
			clientv3.Compare(clientv3.LeaseValue(full), "=", n.id),
			clientv3.Compare(clientv3.Value(full), "=", string(value)),
		}, nil, []clientv3.Op{clientv3.OpPut(full, string(value), clientv3.WithLease(n.id))})
		next := n.ttl
		if err == nil {
			backoff.Reset()
		} else if ctx.Err() == nil {
			next = backoff.Next()
			if backoff.News(err) {
				s.log.Warn("not announced", "store", s.where(), "key", full, "error", err, "next", next)
			}
		}
		select { // looked at again: somebody may have removed it
		case <-ctx.Done():
		case <-n.over().Done():
		case <-time.After(next):
		}
	}
	if written != nil {
		s.work.Go(func() {
			s.insist(written, "announcement not removed", func(ctx context.Context) error {
				_, err := s.txn(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(full), "=", written.id)},
					[]clientv3.Op{clientv3.OpDelete(full)}, nil)
				return err
			})
		})
	}
	if ctx.Err() == nil {
		return fmt.Errorf("announce %s in %s: %w", key, s.where(), errClosed)
	}
	return fmt.Errorf("announce %s in %s: %w", key, s.where(), context.Cause(ctx))
}

// lease implements store.Lease.
type lease struct {
	store *Store
	claim *claim
	epoch int64
	hold  *store.Hold
	free  chan struct{} // closed when the name is free, or the session over
}

func (l *lease) Context() context.Context { return l.hold.Context() }

func (l *lease) Epoch() uint64 { return uint64(l.epoch) }

// fence lets a transaction pass only while the lease is ours.
func (l *lease) fence() (fence, error) {
	if err := l.hold.Err(); err != nil {
		return fence{}, fmt.Errorf("lease %s: %w", l.claim.name, err)
	}
	return fence{
		compare: []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(l.claim.key), "=", l.epoch)},
		ask:     []clientv3.Op{clientv3.OpGet(l.claim.key, clientv3.WithKeysOnly())},
		refused: func(r *clientv3.TxnResponse) error {
			kvs := r.Responses[0].GetResponseRange().Kvs
			if len(kvs) == 1 && kvs[0].CreateRevision == l.epoch {
				return nil
			}
			err := fmt.Errorf("%w: %s in %s is not ours any more", store.ErrLeaseLost, l.claim.key, l.store.where())
			l.hold.End(err)
			return fmt.Errorf("lease %s: %w", l.claim.name, err)
		},
	}, nil
}

func (l *lease) Get(ctx context.Context, key string) (store.Entry, error) {
	f, err := l.fence()
	if err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	return l.store.get(ctx, key, f)
}

func (l *lease) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	f, err := l.fence()
	if err != nil {
		return "", fmt.Errorf("put %s: %w", key, err)
	}
	return l.store.put(ctx, key, value, have, f)
}

func (l *lease) Delete(ctx context.Context, key string, have store.Revision) error {
	f, err := l.fence()
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, err)
	}
	return l.store.delete(ctx, key, have, f)
}

// Release ends the lease and waits until etcd has heard it; if ctx ends
// before that, it is said again in the background.
func (l *lease) Release(ctx context.Context) error {
	l.hold.Release()
	select {
	case <-l.free:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("release %s in %s: %w; tried again until its session ends", l.claim.name, l.store.where(), context.Cause(ctx))
	}
}
