package kubestore

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"

	"gatehouse/internal/kubeclient"
	"gatehouse/internal/store"
)

// settle lets changes close together be seen as one.
const settle = 20 * time.Millisecond

// selection is our objects; those of a prefix, and some more.
func (s *Store) selection(prefix string) kubeclient.Selection {
	labels := labelManaged + "=" + managedBy + "," + labelStore + "=" + s.o.Prefix
	if prefix != "" {
		labels += "," + labelKind + "=" + kindOf(prefix)
	}
	return kubeclient.Selection{Namespace: s.o.Namespace, Labels: labels}
}

// Watch is Store.Watch: a mirror of the Secrets and one of the Leases.
func (s *Store) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(nil, err)
			<-ctx.Done()
			return
		}
		inner, cancel := context.WithCancel(ctx)
		w := s.newView(inner, prefix)
		defer w.wg.Wait()
		defer cancel()
		told := store.NewTold(o)
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.news:
			}
			if err := w.trouble(); err != nil {
				told.Trouble()
				if !yield(nil, fmt.Errorf("watch %q: %w; asked again within 2s", prefix, err)) {
					return
				}
				continue
			}
			if !w.synced() {
				continue
			}
			news, ok := told.News(w.entries(told.Once()))
			if !ok {
				continue
			}
			if !yield(news, nil) {
				return
			}
			news = nil // not kept while it waits
			store.Sleep(ctx, settle)
		}
	}
}

// view is what one watch sees.
type view struct {
	prefix  string
	secrets *kubeclient.SlimMirror[corev1.Secret, *corev1.Secret, kept]
	leases  *kubeclient.Mirror[coordinationv1.Lease, *coordinationv1.Lease]
	news    chan struct{}
	wg      sync.WaitGroup
}

// kept is what a watch keeps of a Secret: that has a certificate twice, see
// Options.Pair.
type kept struct {
	entry  store.Entry // only the watch's own goroutine touches it
	absent bool
}

func keep(secret *corev1.Secret) *kept {
	k := &kept{absent: secret.Annotations[noteAbsent] != ""}
	if !k.absent {
		k.entry = store.Entry{Key: secret.Annotations[noteKey], Value: secret.Data[dataValue], Revision: secretRevision(secret)}
	}
	return k
}

func (s *Store) newView(ctx context.Context, prefix string) *view {
	w := &view{prefix: prefix, news: make(chan struct{}, 1)}
	w.secrets = kubeclient.NewSlimMirror(s.secrets, s.selection(prefix), keep, func(_, _ *kept) { w.tell() })
	w.leases = s.leases.Mirror(s.selection(prefix), func(before, after *coordinationv1.Lease) {
		if before == nil || after == nil || !sameEntry(before, after) {
			w.tell()
		}
	})
	w.secrets.Told = func(error) { w.tell() }
	w.leases.Told = w.secrets.Told
	w.wg.Go(func() { _ = w.secrets.Run(ctx) })
	w.wg.Go(func() { _ = w.leases.Run(ctx) })
	for _, synced := range []<-chan struct{}{w.secrets.Synced(), w.leases.Synced()} {
		w.wg.Go(func() {
			select {
			case <-synced:
				w.tell()
			case <-ctx.Done():
			}
		})
	}
	return w
}

// sameEntry says whether a Lease was only renewed.
func sameEntry(a, b *coordinationv1.Lease) bool {
	ea, oka := entry(a)
	eb, okb := entry(b)
	return oka == okb && string(ea.Value) == string(eb.Value) && a.Annotations[noteToken] == b.Annotations[noteToken]
}

func (w *view) tell() {
	select {
	case w.news <- struct{}{}:
	default:
	}
}

func (w *view) trouble() error { return cmp.Or(w.secrets.Trouble(), w.leases.Trouble()) }

func (w *view) synced() bool {
	for _, synced := range []<-chan struct{}{w.secrets.Synced(), w.leases.Synced()} {
		select {
		case <-synced:
		default:
			return false
		}
	}
	return true
}

// entries is the state: the keys of Secrets, and of Leases where there is no
// Secret. Keys the contract does not allow, written by others, are left out. With
// once, the values are given away: the view has them no more.
func (w *view) entries(once bool) []store.Entry {
	var out []store.Entry
	there := map[string]bool{}
	add := func(e store.Entry) bool {
		if store.CheckKey(e.Key) != nil || !store.Under(e.Key, w.prefix) || there[e.Key] {
			return false
		}
		there[e.Key] = true
		out = append(out, e)
		return true
	}
	for _, k := range w.secrets.All() {
		if !k.absent && add(k.entry) && once {
			k.entry.Value = nil
		}
	}
	for _, object := range w.leases.All() {
		if e, ok := entry(object); ok {
			add(e)
		}
	}
	slices.SortFunc(out, func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return out
}
