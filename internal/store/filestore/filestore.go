// Package filestore keeps shared state in a directory a person can read: one
// file per key, its content the value, folders 0700 and files 0600. It is safe
// between the processes of one machine, not between machines.
//
// Under ".store" stand what is not for people: the guard, whose flock makes
// every change one after the other, and the sessions.
//
// A revision is the file's time, which every write sets to one that was never
// used before, and its size; an edit by hand makes a new one too. Writes go to a
// new file that is synced and renamed: a file is whole at any moment, whoever
// dies.
//
// A process that holds leases or announces itself has a session: a file it
// keeps an flock on for as long as it lives, and in which it counts up three
// times per TTL. Another process takes the session for dead when the flock is
// free, or when it has seen the same count for a whole TTL of its own clock (a
// stopped process keeps its flock). It then removes the keys of the session.
//
// Why that is safe: a holder's context ends a margin before a TTL has passed
// since it began to write its last count; others saw that count later than
// that, and wait the TTL from there. And every write through a lease looks,
// with the guard in hand, whether leases/<name> is still the file the lease
// made; its time, unique as it is, is the epoch. What a dead session held is
// removed with the guard in hand, so a write is either before the removal, and
// then the next holder reads it, or refused.
//
// Every change ends with a mark in the guard's file: that is what other
// processes hear of, by inotify, or by looking where the system does not tell.
//
// The guard is held for a few system calls only: what is slow, writing and
// syncing, is done before and after. A process stopped just then loses it after
// a TTL, and what it still wanted to do fails (see guard).
package filestore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gatehouse/internal/filewatch"
	"gatehouse/internal/store"
)

// Options say where the store is and who uses it.
type Options struct {
	Dir     string            // made if it does not exist
	TTL     time.Duration     // how long a stopped process keeps its leases; zero: 5 s
	Replica string            // the holder's name; empty: "pid <n>"
	Watches filewatch.Options // how the system is asked for other processes' changes
	Logger  *slog.Logger      // nil: nothing is logged
}

// Store implements store.Store on a directory.
type Store struct {
	dir   string
	ttl   time.Duration
	name  string
	log   *slog.Logger
	guard *guard

	work      store.Work
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	begin     sync.Once // starts the session's loop
	watches   filewatch.Options
	listening sync.Once // starts what hears of other processes' changes

	mu      sync.Mutex
	changed chan struct{} // closed and replaced after each change
	done    int64         // the change that was told last, as the guard's file has it
	stage   string        // the folder our changes go through; taken away from who is stuck
	session *session      // nil: none yet, or lost
	seen    map[string]sighting
	leases  map[*lease]struct{}
}

// Open opens the store in o.Dir. The caller calls Close in the end.
func Open(o Options) (*Store, error) {
	s := &Store{
		dir: o.Dir, ttl: cmp.Or(o.TTL, 5*time.Second), name: cmp.Or(o.Replica, fmt.Sprintf("pid %d", os.Getpid())),
		log: cmp.Or(o.Logger, slog.New(slog.DiscardHandler)), changed: make(chan struct{}),
		watches: o.Watches, seen: map[string]sighting{}, leases: map[*lease]struct{}{},
	}
	if err := os.MkdirAll(s.sessions(), 0o700); err != nil {
		return nil, fmt.Errorf("open store %s: %w", s.dir, err)
	}
	var err error
	if s.guard, err = openGuard(filepath.Join(s.dir, own), s.ttl); err != nil {
		return nil, fmt.Errorf("open store %s: %w", s.dir, err)
	}
	s.removeLeftovers()
	if err := s.keepsTimes(); err != nil {
		_ = s.guard.close()
		return nil, fmt.Errorf("open store %s: %w", s.dir, err)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Close gives up all leases and announcements and closes the files.
func (s *Store) Close() error {
	s.cancel()
	s.endSession(errClosed)
	s.work.Wait()
	s.endSession(errClosed) // one begun meanwhile
	return s.guard.close()
}

var errClosed = fmt.Errorf("%w: the store was closed", store.ErrLeaseLost)

// keepsTimes checks that the file system keeps file times, which revisions
// are made of.
func (s *Store) keepsTimes() error {
	stage, err := s.ready()
	if err != nil {
		return err
	}
	temp, err := newFile(stage, nil, false)
	if err != nil {
		return err
	}
	stamp := time.UnixMicro(1_000_000_123_456_789)
	err = os.Chtimes(temp, stamp, stamp)
	if err == nil {
		var info os.FileInfo
		if info, err = os.Stat(temp); err == nil && !info.ModTime().Equal(stamp) {
			err = fmt.Errorf("its file system does not keep times to the microsecond (set %v, got %v)", stamp, info.ModTime())
		}
	}
	return errors.Join(err, os.Remove(temp))
}

// errStuck: we had the guard for too long. What was to be changed was not.
var errStuck = errors.New("the guard was taken away, as we did not move")

// guarded runs change with the guard in hand, then tells the watches.
func (s *Store) guarded(ctx context.Context, change func(t turn) error) error {
	stage, err := s.ready()
	if err != nil {
		return err
	}
	return s.guardedIn(ctx, stage, change)
}

// guardedIn is guarded for what was prepared in a stage.
func (s *Store) guardedIn(ctx context.Context, stage string, change func(t turn) error) error {
	t, err := s.guard.lock(ctx, stage)
	if err != nil {
		return err
	}
	defer s.guard.unlock()
	if err := change(t); err != nil {
		if _, lost := os.Stat(stage); absent(lost) {
			return fmt.Errorf("%w: %w", errStuck, err)
		}
		return err
	}
	if err := s.guard.done(t.stamp); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(t.stamp.UnixMicro())
	return nil
}

// ready returns our stage; a new one, never the old name, if it was taken away.
func (s *Store) ready() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Stat(s.stage); s.stage != "" && err == nil {
		return s.stage, nil
	}
	stage := filepath.Join(s.dir, own, stages, rand.Text())
	if err := os.MkdirAll(stage, 0o700); err != nil {
		return "", err
	}
	s.stage = stage
	return stage, nil
}

// Get is Store.Get. It takes no guard: a file is whole at any moment.
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	if err := store.CheckKey(key); err != nil {
		return store.Entry{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Entry{}, fmt.Errorf("get %s: %w", key, err)
	}
	return s.read(key)
}

// Put is Store.Put.
func (s *Store) Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error) {
	return s.put(ctx, key, value, have, unfenced)
}

// Delete is Store.Delete.
func (s *Store) Delete(ctx context.Context, key string, have store.Revision) error {
	return s.delete(ctx, key, have, unfenced)
}

func unfenced() error { return nil }

// put and delete ask fence for leave with the guard in hand.
func (s *Store) put(ctx context.Context, key string, value []byte, have store.Revision, fence func() error) (rev store.Revision, err error) {
	if err := store.CheckWrite(key, value); err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			rev, err = "", fmt.Errorf("put %s in %s: %w", key, s.dir, err)
		}
	}()
	for {
		rev, err = s.putOnce(ctx, key, value, have, fence)
		if !errors.Is(err, errStuck) {
			return rev, err
		}
	}
}

func (s *Store) putOnce(ctx context.Context, key string, value []byte, have store.Revision, fence func() error) (rev store.Revision, err error) {
	if err := s.check(key, have, true); err != nil {
		return "", err // asked before anything is written: most often that is all
	}
	stage, err := s.ready()
	if err != nil {
		return "", err
	}
	temp, err := newFile(stage, value, true)
	if absent(err) {
		err = fmt.Errorf("%w: %w", errStuck, err)
	}
	if err != nil {
		return "", err
	}
	var made string
	err = s.guardedIn(ctx, stage, func(t turn) error {
		if err := fence(); err != nil {
			return err
		}
		if err := s.check(key, have, true); err != nil {
			return err
		}
		rev = revision(t.stamp, len(value))
		made, err = s.place(t, temp, s.path(key))
		return err
	})
	if err != nil {
		_ = os.Remove(temp)
		return "", err
	}
	return rev, s.syncUp(filepath.Dir(s.path(key)), made)
}

func (s *Store) delete(ctx context.Context, key string, have store.Revision, fence func() error) error {
	if err := store.CheckKey(key); err != nil {
		return err
	}
	var left string
	err := errStuck
	for errors.Is(err, errStuck) {
		err = s.guarded(ctx, func(t turn) error {
			err := fence()
			if err == nil {
				err = s.check(key, have, false)
			}
			if err == nil {
				left, err = s.remove(t, key)
			}
			return err
		})
	}
	if err == nil {
		err = s.syncUp(left, left)
	}
	if err != nil {
		return fmt.Errorf("delete %s in %s: %w", key, s.dir, err)
	}
	return nil
}

// check says whether key is at have; it must exist unless it is to be created.
func (s *Store) check(key string, have store.Revision, create bool) error {
	at, err := s.stat(key)
	switch {
	case err != nil:
		return err
	case at == "" && !create:
		return store.ErrNotFound
	case at != have:
		return fmt.Errorf("%w (it is at %q, not %q)", store.ErrConflict, at, have)
	}
	return nil
}

// removeAt removes key if it is still the file with this time.
func (s *Store) removeAt(t turn, key string, stamp time.Time) error {
	at, err := s.stampOf(key)
	if err != nil || !at.Equal(stamp) {
		return err
	}
	_, err = s.remove(t, key)
	return err
}
