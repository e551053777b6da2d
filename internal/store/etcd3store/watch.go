package etcd3store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"gatehouse/internal/store"
)

const (
	// settle lets changes close together be seen as one.
	settle = 10 * time.Millisecond
	// probeEvery is how often a watch asks whether the server is there: etcd's
	// client tries a broken watch again for ever without saying so.
	probeEvery = 2 * time.Second
)

// errStopped: who watches has left the loop.
var errStopped = errors.New("stopped")

// Watch is Store.Watch. Keys the contract does not allow (CheckKey), written
// by others, are left out.
func (s *Store) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(nil, err)
			<-ctx.Done()
			return
		}
		w := watch{store: s, prefix: prefix, once: slices.Contains(o, store.ValuesOnce), yield: yield}
		for ctx.Err() == nil {
			err := w.follow(ctx)
			switch {
			case errors.Is(err, errStopped):
				return
			case ctx.Err() != nil || errors.Is(err, rpctypes.ErrCompacted):
				continue
			}
			next := w.backoff.Next()
			if w.backoff.News(err) &&
				!yield(nil, fmt.Errorf("watch %s%s in %s: %w; next attempt in %v", s.prefix, prefix, s.where(), err, next)) {
				return
			}
			store.Sleep(ctx, next)
		}
	}
}

// watch is one loop over Watch.
type watch struct {
	store   *Store
	prefix  string
	once    bool // values are told once
	yield   func([]store.Entry, error) bool
	state   []store.Entry // sorted; of tens of thousands, a map would be three times as large
	backoff store.Backoff
}

// keys is the range that holds all entries under the prefix, and some more.
func (w *watch) keys() (from string, to clientv3.OpOption) {
	switch from = w.store.prefix + w.prefix; {
	case from == "":
		return "\x00", clientv3.WithFromKey()
	case w.prefix == "":
		return from, clientv3.WithPrefix()
	default: // the key itself, up to the last below it: '0' comes after '/'
		return from, clientv3.WithRange(from + "0")
	}
}

// follow reads all, then follows the changes from there, until something
// breaks.
func (w *watch) follow(ctx context.Context) error {
	from, to := w.keys()
	var r *clientv3.GetResponse
	var c *clientv3.Client
	err := w.store.call(ctx, listTimeout, func(ctx context.Context, client *clientv3.Client) (err error) {
		c = client
		r, err = c.Get(ctx, from, to)
		return err
	})
	if err != nil {
		return err
	}
	w.state = make([]store.Entry, 0, len(r.Kvs))
	for _, kv := range r.Kvs { // sorted, so that each is put at the end
		w.put(kv)
	}
	next := r.Header.Revision + 1
	r = nil // its values are not kept longer than those of the state
	if !w.say() {
		return errStopped
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	return w.listen(ctx, c.Watch(ctx, from, to, clientv3.WithRev(next)))
}

func (w *watch) listen(ctx context.Context, events clientv3.WatchChan) error {
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	var settled <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case r, ok := <-events:
			if !ok {
				return errors.New("the watch was ended")
			}
			if err := r.Err(); err != nil {
				return err
			}
			if w.apply(r.Events) && settled == nil {
				settled = time.After(settle)
			}
		case <-settled:
			settled = nil
			if !w.say() {
				return errStopped
			}
		case <-probe.C:
			err := w.store.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
				_, err := c.Get(ctx, w.store.prefix+store.LeaseKey("probe"), clientv3.WithCountOnly())
				return err
			})
			if err != nil {
				return err
			}
		}
	}
}

// apply brings the state up to date and says whether that changed it.
func (w *watch) apply(events []*clientv3.Event) (changed bool) {
	for _, e := range events {
		if e.Type == mvccpb.PUT {
			changed = w.put(e.Kv) || changed
			continue
		}
		if i, ok := w.find(strings.TrimPrefix(string(e.Kv.Key), w.store.prefix)); ok {
			w.state = slices.Delete(w.state, i, i+1)
			changed = true
		}
	}
	return changed
}

func (w *watch) put(kv *mvccpb.KeyValue) bool {
	key := strings.TrimPrefix(string(kv.Key), w.store.prefix)
	if !store.Under(key, w.prefix) || store.CheckKey(key) != nil {
		return false
	}
	e := store.Entry{Key: key, Value: kv.Value, Revision: revision(kv.ModRevision)}
	if i, ok := w.find(key); ok {
		w.state[i] = e
	} else {
		w.state = slices.Insert(w.state, i, e)
	}
	return true
}

// find says where in the state a key is, or belongs.
func (w *watch) find(key string) (int, bool) {
	if n := len(w.state); n > 0 && w.state[n-1].Key < key {
		return n, false
	}
	return slices.BinarySearchFunc(w.state, key, func(e store.Entry, key string) int { return cmp.Compare(e.Key, key) })
}

// say yields the state.
func (w *watch) say() bool {
	w.backoff.Reset()
	entries := slices.Clone(w.state)
	if w.once {
		for i := range w.state {
			w.state[i].Value = nil
		}
	}
	return w.yield(entries, nil)
}
