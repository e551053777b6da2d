package filestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/filewatch"
	"gatehouse/internal/store"
)

const (
	// pollEvery is how soon a change made by another process is seen, by a
	// read of the guard's file, where the system does not tell of it.
	pollEvery = 100 * time.Millisecond
	// safetyEvery is the same where it does.
	safetyEvery = time.Second
	// restAfter bounds how often other processes' changes have us look.
	restAfter = 50 * time.Millisecond
	// lookEvery is how soon an edit by hand is seen: a walk over the folder.
	lookEvery = 3 * time.Second
	// settle lets changes close together be seen as one.
	settle = 10 * time.Millisecond
)

// Watch is Store.Watch.
func (s *Store) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	return func(yield func([]store.Entry, error) bool) {
		if err := store.CheckPrefix(prefix); err != nil {
			yield(nil, err)
			<-ctx.Done()
			return
		}
		w := watch{store: s, prefix: prefix}
		told, trouble := store.NewTold(o), ""
		for ctx.Err() == nil && s.ctx.Err() == nil {
			changed := s.next()
			now, err := w.look()
			switch {
			case err != nil && err.Error() != trouble:
				trouble = err.Error()
				told.Trouble()
				if !yield(nil, fmt.Errorf("watch %s in %s: %w; next look in %v", prefix, s.dir, err, lookEvery)) {
					return
				}
			case err == nil:
				trouble = ""
				if news, ok := told.News(now); ok && !yield(news, nil) {
					return
				}
				if now = nil; told.Once() {
					w.forget()
				}
			}
			s.wait(ctx, changed)
		}
	}
}

// next is closed after the next change: taken before looking, so that nothing is
// missed.
func (s *Store) next() <-chan struct{} {
	s.listening.Do(func() { s.work.Go(s.listen) })
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// wait returns after a change, or when it is time to look anyway.
func (s *Store) wait(ctx context.Context, changed <-chan struct{}) {
	look := time.NewTimer(lookEvery)
	defer look.Stop()
	select {
	case <-ctx.Done():
	case <-s.ctx.Done():
	case <-look.C:
	case <-changed:
		store.Sleep(ctx, settle)
	}
}

// listen has all who wait told of other processes' changes, until Close. Every
// change is marked in the guard's file in the end: the system tells of that
// (package filewatch), and on network disks one look after the other does.
func (s *Store) listen() {
	w := filewatch.New(s.watches)
	defer w.Close()
	every := safetyEvery
	for s.ctx.Err() == nil {
		_, blind := w.Watch([]string{filepath.Join(s.dir, own)})
		switch {
		case blind == nil:
			every = safetyEvery
		case every != pollEvery:
			every = pollEvery
			s.log.Info("the system does not tell of all changes of the store; it is looked at instead", "dir", s.dir, "err", blind, "every", every)
		}
		if s.hear() {
			store.Sleep(s.ctx, restAfter)
			continue
		}
		w.Wait(s.ctx, every)
	}
}

// hear says whether others have changed something, and tells all who wait.
func (s *Store) hear() bool {
	done := s.guard.look().done
	s.mu.Lock()
	defer s.mu.Unlock()
	if done == s.done {
		return false
	}
	s.tell(done)
	return true
}

// tell tells all who wait of the change done last. s.mu is held.
func (s *Store) tell(done int64) {
	s.done = done
	close(s.changed)
	s.changed = make(chan struct{})
}

// watch remembers what it has read, so that a look at files that have not
// changed reads none of them.
type watch struct {
	store  *Store
	prefix string
	known  map[string]known
}

type known struct {
	at    time.Time
	size  int64
	entry store.Entry
}

// look returns all entries below the prefix, sorted.
func (w *watch) look() ([]store.Entry, error) {
	root := w.store.dir
	if w.prefix != "" {
		root = w.store.path(w.prefix)
	}
	found := map[string]known{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case absent(err):
			return nil // it went while we looked
		case err != nil:
			return err
		case path != root && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir():
			return nil
		}
		return w.visit(found, path, d)
	})
	if err != nil {
		return nil, err
	}
	w.known = found
	entries := make([]store.Entry, 0, len(found))
	for _, k := range found {
		entries = append(entries, k.entry)
	}
	slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return entries, nil
}

// forget drops the values: they were told.
func (w *watch) forget() {
	for key, k := range w.known {
		k.entry.Value = nil
		w.known[key] = k
	}
}

func (w *watch) visit(found map[string]known, path string, d fs.DirEntry) error {
	relative, err := filepath.Rel(w.store.dir, path)
	if err != nil {
		return err
	}
	key, ok := keyOf(relative)
	if !ok || w.store.path(key) != path {
		return nil // no key is written like this
	}
	info, err := d.Info()
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if k, ok := w.known[key]; ok && k.at.Equal(info.ModTime()) && k.size == info.Size() {
		found[key] = k
		return nil
	}
	e, err := w.store.read(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	// If it was changed since, the next look reads it again.
	found[key] = known{at: info.ModTime(), size: info.Size(), entry: e}
	return nil
}
