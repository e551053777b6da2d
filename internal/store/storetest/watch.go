package storetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/store"
)

// follower keeps the newest state of a watch.
type follower struct {
	mu       sync.Mutex
	states   int
	troubles int
	now      map[string]string
	once     bool // values are told once: what is missing is as before
	at       map[string]store.Revision
	repeated int // values of entries at the revision they had before
	bad      error
	end      context.CancelFunc
	ended    chan struct{}
}

func follow(t *testing.T, s store.Store, prefix string, o ...store.WatchOption) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{once: len(o) > 0, end: cancel, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for entries, err := range s.Watch(ctx, prefix, o...) {
			f.see(entries, err)
		}
		if ctx.Err() == nil {
			f.see(nil, nil)
			f.bad = fmt.Errorf("the watch ended by itself")
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-f.ended
		if f.bad != nil {
			t.Error(f.bad)
		}
	})
	return f
}

func (f *follower) see(entries []store.Entry, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.troubles++
		if entries != nil {
			f.bad = fmt.Errorf("entries beside an error: %v", err)
		}
		return
	}
	f.states++
	before, was := f.now, f.at
	f.now, f.at = map[string]string{}, map[string]store.Revision{}
	var last string
	for _, e := range entries {
		if e.Key <= last || e.Revision == "" {
			f.bad = fmt.Errorf("key %q at %q after key %q", e.Key, e.Revision, last)
		}
		last = e.Key
		f.now[e.Key], f.at[e.Key] = string(e.Value), e.Revision
		switch {
		case !f.once || was[e.Key] != e.Revision:
		case len(e.Value) > 0:
			f.repeated++
		default:
			f.now[e.Key] = before[e.Key]
		}
	}
}

// is waits until the watch has seen exactly this state: key, value, ...
func (f *follower) is(t *testing.T, d time.Duration, pairs ...string) {
	t.Helper()
	wanted := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		wanted[pairs[i]] = pairs[i+1]
	}
	eventually(t, d, "watch sees the state", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.now == nil || !maps.Equal(f.now, wanted) {
			return fmt.Errorf("it sees %q, want %q", slices.Sorted(maps.Keys(f.now)), slices.Sorted(maps.Keys(wanted)))
		}
		return nil
	})
}

func (f *follower) count() (states, troubles int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.states, f.troubles
}

// again is how many values came that the watch had been told.
func (f *follower) again() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.repeated
}

// watch: the whole state, first and after each change, by whomever.
func (s *suite) watch(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	p := space(t)
	f := follow(t, a, p)
	f.is(t, patience) // empty, but said
	one := mustPut(t, a, p+"/one", "1", "")
	f.is(t, patience, p+"/one", "1")
	two := mustPut(t, b, p+"/deep/two", "2", "")
	f.is(t, patience, p+"/one", "1", p+"/deep/two", "2")
	one = mustPut(t, b, p+"/one", "uno", one)
	f.is(t, patience, p+"/one", "uno", p+"/deep/two", "2")

	late := follow(t, b, p)
	late.is(t, patience, p+"/one", "uno", p+"/deep/two", "2")
	for key, rev := range map[string]store.Revision{"/one": one, "/deep/two": two} {
		if err := a.Delete(within(t, patience), p+key, rev); err != nil {
			t.Fatal(err)
		}
	}
	f.is(t, patience)
	late.is(t, patience)

	everything := follow(t, a, "")
	mustPut(t, b, p+"/last", "3", "")
	eventually(t, patience, "watch of everything sees the key", func() error {
		everything.mu.Lock()
		defer everything.mu.Unlock()
		if everything.now[p+"/last"] != "3" {
			return fmt.Errorf("it sees %q", slices.Sorted(maps.Keys(everything.now)))
		}
		return nil
	})

	quiet, _ := f.count()
	mustPut(t, b, p+"-beside", "4", "")
	f.is(t, patience, p+"/last", "3")
	time.Sleep(100 * time.Millisecond)
	if now, _ := f.count(); now > quiet+1 {
		t.Errorf("%d states for one change below the prefix", now-quiet)
	}
}

// watchOnce: what is not new has no value, what is has, and a new loop is told all.
func (s *suite) watchOnce(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	p := space(t)
	one := mustPut(t, b, p+"/one", "1", "")
	two := mustPut(t, b, p+"/two", "2", "")
	f := follow(t, a, p, store.ValuesOnce)
	f.is(t, patience, p+"/one", "1", p+"/two", "2")
	one = mustPut(t, b, p+"/one", "uno", one)
	f.is(t, patience, p+"/one", "uno", p+"/two", "2")
	mustPut(t, a, p+"/three", "3", "")
	f.is(t, patience, p+"/one", "uno", p+"/three", "3", p+"/two", "2")
	if err := b.Delete(within(t, patience), p+"/two", two); err != nil {
		t.Fatal(err)
	}
	f.is(t, patience, p+"/one", "uno", p+"/three", "3")
	mustPut(t, b, p+"/two", "2", "") // as it was
	f.is(t, patience, p+"/one", "uno", p+"/three", "3", p+"/two", "2")
	mustPut(t, b, p+"/one", "", one)
	f.is(t, patience, p+"/one", "", p+"/three", "3", p+"/two", "2")
	follow(t, a, p, store.ValuesOnce).is(t, patience, p+"/one", "", p+"/three", "3", p+"/two", "2")
	if _, troubles := f.count(); troubles > 0 {
		t.Logf("values may come again after trouble, of which there was %d", troubles)
	} else if n := f.again(); n > 0 {
		t.Errorf("%d values came again", n)
	}
}

// watchEnds: with its context and with the loop.
func (s *suite) watchEnds(t *testing.T) {
	a := s.open(t, "a")
	f := follow(t, a, space(t))
	f.is(t, patience)
	f.end()
	select {
	case <-f.ended:
	case <-time.After(patience):
		t.Error("the watch goes on after its context has ended")
	}
	for _, err := range a.Watch(within(t, patience), space(t)) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	for range a.Watch(done, space(t)) {
		break
	}
}

// watchPrefix: a prefix is whole segments.
func (s *suite) watchPrefix(t *testing.T) {
	a := s.open(t, "a")
	p := space(t)
	for _, key := range []string{p + "/a/x", p + "/ab/x", p + "/a-b", p + "/abc"} {
		mustPut(t, a, key, "v", "")
	}
	for prefix, keys := range map[string][]string{
		p + "/a":     {p + "/a/x"},
		p + "/abc":   {p + "/abc"},
		p + "/a/x":   {p + "/a/x"},
		p + "/b":     nil,
		p + "/a/x/y": nil,
		p:            {p + "/a-b", p + "/a/x", p + "/ab/x", p + "/abc"},
	} {
		for entries, err := range a.Watch(within(t, patience), prefix) {
			var got []string
			for _, e := range entries {
				got = append(got, e.Key)
			}
			if err != nil || !slices.Equal(got, keys) {
				t.Errorf("watch %s: %q, %v, want %q", prefix, got, err, keys)
			}
			break
		}
	}
}

// watchBurst: a slow watcher sees the last state, not each one.
func (s *suite) watchBurst(t *testing.T) {
	const writes = 100
	a, b := s.open(t, "a"), s.open(t, "b")
	p := space(t)
	ctx, states, entered := within(t, 2*patience), 0, make(chan struct{})
	done := make(chan error, 1)
	go func() {
		for entries, err := range b.Watch(ctx, p) {
			if err != nil {
				continue
			}
			if states++; states == 1 {
				close(entered)
			}
			if len(entries) == 1 && string(entries[0].Value) == fmt.Sprint(writes) {
				done <- nil
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		done <- fmt.Errorf("the last of %d writes was not seen in %d states", writes, states)
	}()
	<-entered
	var rev store.Revision
	for i := range writes {
		rev = mustPut(t, a, p+"/k", fmt.Sprint(i+1), rev)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if states > writes+1 {
		t.Errorf("%d states for %d writes", states, writes)
	}
}

// restart: watches and waits outlast the server; nothing is lost.
func (s *suite) restart(t *testing.T) {
	a, b := s.open(t, "a"), s.open(t, "b")
	p := space(t)
	mustPut(t, a, p+"/before", "1", "")
	f, g := follow(t, a, p), follow(t, a, p, store.ValuesOnce)
	f.is(t, patience, p+"/before", "1")
	g.is(t, patience, p+"/before", "1")
	announced := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer func() { cancel(); <-announced }()
	go func() {
		defer close(announced)
		_ = a.Announce(ctx, p+"-members/a", []byte("here"))
	}()
	eventually(t, patience, "announced", there(b, p+"-members/a", "here"))

	acquired := make(chan error, 1)
	s.Restart(t, func() {
		go func() {
			l, err := b.Acquire(ctx, p)
			if err == nil {
				err = l.Release(ctx)
			}
			acquired <- err
		}()
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		if _, err := b.Get(short, p+"/before"); err == nil {
			t.Error("get answers while the server is down")
		}
		eventually(t, patience, "trouble is told", func() error {
			if _, troubles := f.count(); troubles == 0 {
				return fmt.Errorf("no error yielded")
			}
			return nil
		})
	})
	eventually(t, patience, "put works again", func() error {
		_, err := b.Put(within(t, 2*time.Second), p+"/after", []byte("2"), "")
		return err
	})
	f.is(t, patience, p+"/before", "1", p+"/after", "2")
	g.is(t, patience, p+"/before", "1", p+"/after", "2")
	eventually(t, patience, "announced again", there(b, p+"-members/a", "here"))
	select {
	case err := <-acquired:
		if err != nil {
			t.Errorf("acquire across a restart: %v", err)
		}
	case <-ctx.Done():
		t.Error("acquire does not end after the restart")
	}
	eventually(t, patience, "a lease is handed over", func() error {
		l, err := a.Acquire(ctx, p)
		if err != nil {
			return err
		}
		return l.Release(ctx)
	})
}

// compaction: a watch whose past is forgotten sees the present.
func (s *suite) compaction(t *testing.T) {
	a, b := s.open(t, "compacted"), s.open(t, "b")
	p := space(t)
	old := mustPut(t, b, p+"/old", "1", "")
	mustPut(t, b, p+"/stays", "0", "")
	f, g := follow(t, a, p), follow(t, a, p, store.ValuesOnce)
	f.is(t, patience, p+"/old", "1", p+"/stays", "0")
	g.is(t, patience, p+"/old", "1", p+"/stays", "0")
	s.Cut(t, "compacted", true)
	if err := b.Delete(within(t, patience), p+"/old", old); err != nil {
		t.Fatal(err)
	}
	mustPut(t, b, p+"/new", "2", "")
	s.Compact(t)
	s.Cut(t, "compacted", false)
	f.is(t, patience, p+"/new", "2", p+"/stays", "0")
	mustPut(t, b, p+"/newer", "3", "")
	f.is(t, patience, p+"/new", "2", p+"/newer", "3", p+"/stays", "0")
	g.is(t, patience, p+"/new", "2", p+"/newer", "3", p+"/stays", "0")
}
