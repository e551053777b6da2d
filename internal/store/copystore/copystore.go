// Package copystore lets a replica start while its store is down: a store.Store
// around another one that keeps what is watched in files of this machine, and
// yields it where the store does not answer. Only watches are answered so: who
// asks for one key, or wants a lease, means what all have agreed on.
//
// A file is whole or it is not there (written beside, synced, renamed). One that
// is damaged, or of another store, is left aside and told of. What is in the file
// is not in memory: the next one is made of it and of what has changed.
package copystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/store"
)

// Options make a Store. All but Ring are required.
type Options struct {
	Inner store.Store
	// Dir is the folder of the files; it is made. Replicas of one machine may
	// share it.
	Dir string
	// Source names the store: a copy of another one is not used.
	Source string
	// Prefixes are the watches that are kept; "" is the one of everything.
	Prefixes []string
	Ring     store.Ring // seals the files; empty: their mode protects them
	// Patience is how long the store may take to answer before the copy does.
	Patience time.Duration
	Logger   *slog.Logger
}

// Store is a store.Store: all but Watch is that of the store within. Its methods
// may be called from any goroutine. Its files are written by goroutines that
// end with their watch.
type Store struct {
	store.Store
	o Options

	mu      sync.Mutex
	serving map[string]time.Time // prefixes whose copy is all there is; when it was written
	told    map[string]string    // prefix: what was wrong with writing, told of
}

// New puts keeping around a store. It asks the store nothing.
func New(o Options) *Store {
	return &Store{Store: o.Inner, o: o, serving: map[string]time.Time{}, told: map[string]string{}}
}

// Stale says whether something is being used that only the copy tells, and
// since when that may be out of date.
func (s *Store) Stale() (since time.Time, stale bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.serving {
		if !stale || t.Before(since) {
			since, stale = t, true
		}
	}
	return since, stale
}

// file is where the watch of prefix is kept.
func (s *Store) file(prefix string) string {
	name := strings.NewReplacer("%", "%25", "/", "%2F").Replace(prefix)
	if name == "" {
		name = "%all"
	}
	return filepath.Join(s.o.Dir, name+".copy")
}

// Watch is that of store.Store. Where the store has not answered in time, what
// it held last comes first; the whole state follows once it answers.
func (s *Store) Watch(ctx context.Context, prefix string, o ...store.WatchOption) iter.Seq2[[]store.Entry, error] {
	if !slices.Contains(s.o.Prefixes, prefix) {
		return s.o.Inner.Watch(ctx, prefix, o...)
	}
	return func(yield func([]store.Entry, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		w := &watch{s: s, prefix: prefix, states: make(chan state), news: make(chan struct{}, 1)}
		var work sync.WaitGroup
		work.Go(func() { w.follow(ctx, o) })
		work.Go(func() { w.write(ctx) })
		defer work.Wait()
		defer cancel()
		defer s.fresh(prefix)
		w.run(ctx, yield)
	}
}

// watch is one watch that is kept.
type watch struct {
	s      *Store
	prefix string
	states chan state
	news   chan struct{} // capacity 1: there is something to write
	keeper
}

type state struct {
	entries []store.Entry
	err     error
}

// follow hands on what the store within yields.
func (w *watch) follow(ctx context.Context, o []store.WatchOption) {
	defer close(w.states)
	for entries, err := range w.s.o.Inner.Watch(ctx, w.prefix, o...) {
		select {
		case w.states <- state{entries, err}:
		case <-ctx.Done():
			return
		}
	}
}

func (w *watch) run(ctx context.Context, yield func([]store.Entry, error) bool) {
	patience := time.NewTimer(w.s.o.Patience)
	defer patience.Stop()
	asked := false // the copy: it is asked for once, before there is anything else
	fromCopy := func(why error) bool {
		asked = true
		entries, ok := w.load(why)
		return !ok || yield(entries, nil)
	}
	for {
		select {
		case <-patience.C:
			if !asked && !fromCopy(errors.New("it does not answer")) {
				return
			}
		case st, ok := <-w.states:
			if !ok {
				return
			}
			if st.err != nil && !asked && ctx.Err() == nil && !fromCopy(st.err) {
				return
			}
			if st.err == nil {
				asked = true
				w.s.fresh(w.prefix)
				w.keep(st.entries)
				select {
				case w.news <- struct{}{}:
				default:
				}
			}
			if !yield(st.entries, st.err) {
				return
			}
		}
	}
}

// load reads the copy, to be used until the store answers.
func (w *watch) load(why error) ([]store.Entry, bool) {
	entries, written, err := w.s.read(w.prefix)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false
	case err != nil:
		w.s.o.Logger.Warn("the copy of the store is left aside", "file", w.s.file(w.prefix), "err", err, "next", "the store is asked until it answers")
		return nil, false
	}
	w.s.mu.Lock()
	w.s.serving[w.prefix] = written
	w.s.mu.Unlock()
	w.s.o.Logger.Warn("the store does not answer; what it held last is used", "prefix", w.prefix, "file", w.s.file(w.prefix),
		"written", written, "entries", len(entries), "err", why, "next", "the store is asked until it answers")
	return entries, true
}

func (s *Store) fresh(prefix string) {
	s.mu.Lock()
	_, was := s.serving[prefix]
	delete(s.serving, prefix)
	s.mu.Unlock()
	if was {
		s.o.Logger.Info("the store's own state is used again", "prefix", prefix)
	}
}

// Between two writes of a file there is as much time as keeps a burst of
// changes from being a burst of writes.
const (
	leastPause = time.Second
	pausePart  = 20 // times as long as the last write took
	askFor     = 5 * time.Second
)

// write writes the newest state, again and again; what is there at the end too.
func (w *watch) write(ctx context.Context) {
	defer w.close()
	for {
		select {
		case <-w.news:
			began := time.Now()
			w.save(ctx)
			store.Sleep(ctx, max(leastPause, pausePart*time.Since(began)))
		case <-ctx.Done():
			select {
			case <-w.news:
				w.save(ctx)
			default:
			}
			return
		}
	}
}

func (w *watch) save(ctx context.Context) {
	s, text := w.s, ""
	err := w.put(ctx)
	if err != nil {
		text = err.Error()
	}
	s.mu.Lock()
	news := s.told[w.prefix] != text
	s.told[w.prefix] = text
	s.mu.Unlock()
	switch {
	case news && err != nil:
		s.o.Logger.Warn("the copy of the store cannot be written; a start while the store is down would know nothing new",
			"file", s.file(w.prefix), "err", err, "next", "it is tried again with the next change")
	case news:
		s.o.Logger.Info("the copy of the store is written again", "file", s.file(w.prefix))
	}
}

// put writes the newest state, and has its values forgotten.
func (w *watch) put(ctx context.Context) error {
	entries, pending, last := w.toWrite()
	if entries == nil {
		return nil // it was written when this was told
	}
	if err := os.MkdirAll(w.s.o.Dir, 0o700); err != nil {
		return err
	}
	f, err := w.s.write(w.prefix, entries, last, func(e store.Entry) (store.Entry, error) {
		if p, ok := pending[e.Key]; ok && p.Revision == e.Revision {
			return p, nil
		}
		return w.again(ctx, e)
	})
	if err != nil {
		return err
	}
	w.written(f)
	return nil
}

// again asks the store for a value that the last file was to give, and cannot.
func (w *watch) again(ctx context.Context, e store.Entry) (store.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	now, err := w.s.o.Inner.Get(ctx, e.Key)
	if err == nil && now.Revision != e.Revision {
		err = fmt.Errorf("%s was changed meanwhile", e.Key)
	}
	return now, err
}

func (s *Store) read(prefix string) ([]store.Entry, time.Time, error) {
	f, err := os.Open(s.file(prefix))
	if err != nil {
		return nil, time.Time{}, err
	}
	defer f.Close()
	return s.decode(prefix, f)
}
