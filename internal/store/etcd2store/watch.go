package etcd2store

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"time"

	"gatehouse/internal/store"
)

const (
	// settle lets changes close together be seen as one.
	settle = 20 * time.Millisecond
	// pollFor is how long a question for changes stays open: a server that
	// went without a word is noticed then.
	pollFor = 4 * time.Second
)

// Watch is Store.Watch. Each state is one recursive quorum read, so nothing is
// missed when etcd has forgotten its last events (it keeps a thousand). Keys
// the contract does not allow (CheckKey), written by others, are left out.
func (s *Store) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(nil, err)
			<-ctx.Done()
			return
		}
		var backoff store.Backoff
		told := store.NewTold(o)
		for ctx.Err() == nil {
			now, index, err := s.list(ctx, prefix)
			if err == nil {
				if news, ok := told.News(now); ok && !yield(news, nil) {
					return
				}
				now = nil // not kept while it waits
			}
			if err == nil {
				backoff.Reset()
				err = s.changed(ctx, prefix, index)
			}
			if err == nil || ctx.Err() != nil {
				continue
			}
			next := backoff.Next()
			told.Trouble()
			if backoff.News(err) && !yield(nil, fmt.Errorf("%w; next attempt in %v", s.failed("watch", prefix, err), next)) {
				return
			}
			store.Sleep(ctx, next)
		}
	}
}

// changed waits until something below prefix has changed since index.
func (s *Store) changed(ctx context.Context, prefix string, index uint64) error {
	for {
		changed, err := s.api.wait(ctx, pollFor, s.path(prefix), index+1, true)
		if err != nil {
			return err
		}
		if changed {
			store.Sleep(ctx, settle)
			return nil
		}
		// A member that has lost the others keeps a watch open and says nothing.
		if _, err := s.read(ctx, store.LeaseKey("probe")); err != nil {
			return err
		}
	}
}

// list reads all entries below prefix, sorted, and the index they are from.
func (s *Store) list(ctx context.Context, prefix string) ([]store.Entry, uint64, error) {
	r, err := s.api.do(ctx, http.MethodGet, s.path(prefix), url.Values{"recursive": {"true"}, "quorum": {"true"}}, nil)
	entries := []store.Entry{}
	switch {
	case isCode(err, codeKeyNotFound) || isCode(err, codeNotDir):
		return entries, r.Index, nil
	case err != nil:
		return nil, 0, err
	}
	s.collect(&r.Node, func(key string, st state) {
		if !st.absent && store.Under(key, prefix) && store.CheckKey(key) == nil {
			entries = append(entries, store.Entry{Key: key, Value: st.value, Revision: st.revision()})
		}
	})
	slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return entries, r.Index, nil
}

func (s *Store) collect(n *node, found func(key string, st state)) {
	if !n.Dir {
		found(s.keyOf(n.Key), stateOf(n))
		return
	}
	for _, child := range n.Nodes {
		s.collect(child, found)
	}
}
