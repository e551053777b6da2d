// Package storetest is the suite every store passes: what the contract in
// package store promises, on the real thing, with the faults the caller can
// make (Options). It knows no store.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/store"
)

// Open opens the store as one replica. Stores opened by one Run see the same
// data. What it starts ends with t.
type Open func(t *testing.T, replica string) store.Store

// Options are the faults a store's test can make. What is nil is not tried:
// leave out only what does not exist for the store.
type Options struct {
	// TTL is what the stores are opened with. Required.
	TTL time.Duration
	// Restart stops the server, calls whileDown, and starts it again.
	Restart func(t *testing.T, whileDown func())
	// Cut parts one replica from the server, silently, or joins it again.
	Cut func(t *testing.T, replica string, cut bool)
	// Compact makes the server forget its history.
	Compact func(t *testing.T)
	// Where tells a process started by the suite where the store is: the
	// package's TestMain must call Main. Empty: no process is started.
	Where string
}

// Run runs the suite.
func Run(t *testing.T, open Open, o Options) {
	if o.TTL == 0 {
		t.Fatal("storetest: no TTL given")
	}
	s := &suite{Options: o, open: open}
	t.Run("group", func(t *testing.T) { // ends when all parallel tests have ended
		for name, test := range map[string]func(*testing.T){
			"Entries": s.entries, "Values": s.values, "Keys": s.keys, "OneWriterWins": s.oneWriterWins,
			"Watch": s.watch, "WatchOnce": s.watchOnce, "WatchEnds": s.watchEnds, "WatchPrefix": s.watchPrefix, "WatchBurst": s.watchBurst,
			"Lease": s.lease, "LeaseExclusive": s.leaseExclusive, "LeaseHandedOver": s.leaseHandedOver,
			"LeaseEndsWithContext": s.leaseEndsWithContext, "LeaseLasts": s.leaseLasts, "LeaseRevoked": s.leaseRevoked,
			"FenceChange": s.fenceChange, "FenceCreate": s.fenceCreate, "FenceDeleted": s.fenceDeleted,
			"Announce": s.announce,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
		}
		if o.Cut != nil {
			t.Run("Partition", func(t *testing.T) { t.Parallel(); s.partition(t) })
			t.Run("PartitionAnnounce", func(t *testing.T) { t.Parallel(); s.partitionAnnounce(t) })
		}
		if o.Cut != nil && o.Compact != nil {
			t.Run("Compaction", func(t *testing.T) { t.Parallel(); s.compaction(t) })
		}
		if o.Where != "" {
			t.Run("Paused", func(t *testing.T) { t.Parallel(); s.paused(t) })
			t.Run("Killed", func(t *testing.T) { t.Parallel(); s.killed(t) })
		}
	})
	if o.Restart != nil {
		t.Run("Restart", s.restart)
	}
}

type suite struct {
	Options
	open Open
}

const (
	// patience is how long anything may take that has no promised time.
	patience = 30 * time.Second
	// slack is what a promised time may be exceeded by on a machine that has
	// other work.
	slack = 8 * time.Second
)

// sometimes is for what a stall of the machine as long as the TTL rightly
// breaks: it must come about once in five times.
func sometimes(t *testing.T, check func() error) {
	t.Helper()
	var err error
	for range 5 {
		if err = check(); err == nil || t.Failed() {
			return
		}
		t.Logf("again: %v", err)
	}
	t.Error(err)
}

// space is a key of this test's own, to put keys below.
func space(t *testing.T) string {
	return strings.ToLower(strings.ReplaceAll(t.Name()[strings.LastIndex(t.Name(), "/")+1:], "_", "-"))
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func mustPut(t *testing.T, s putter, key, value string, have store.Revision) store.Revision {
	t.Helper()
	rev, err := s.Put(within(t, patience), key, []byte(value), have)
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	if rev == "" || rev == have {
		t.Fatalf("put %s at %q gave revision %q", key, have, rev)
	}
	return rev
}

func mustGet(t *testing.T, s putter, key string) store.Entry {
	t.Helper()
	e, err := s.Get(within(t, patience), key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	if e.Key != key || e.Revision == "" {
		t.Fatalf("get %s gave key %q at %q", key, e.Key, e.Revision)
	}
	return e
}

func mustAcquire(t *testing.T, s store.Store, name string) store.Lease {
	t.Helper()
	l, err := s.Acquire(within(t, 3*patience), name)
	if err != nil {
		t.Fatalf("acquire %s: %v", name, err)
	}
	if l.Epoch() == 0 {
		t.Fatalf("acquire %s: epoch 0", name)
	}
	return l
}

// putter is what a store and a lease have in common.
type putter interface {
	Get(ctx context.Context, key string) (store.Entry, error)
	Put(ctx context.Context, key string, value []byte, have store.Revision) (store.Revision, error)
	Delete(ctx context.Context, key string, have store.Revision) error
}

func want(t *testing.T, what string, err, wanted error) {
	t.Helper()
	if !errors.Is(err, wanted) {
		t.Errorf("%s: %v, want %v", what, err, wanted)
	}
}

// eventually waits until check has no more to say.
func eventually(t *testing.T, d time.Duration, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(d)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s, not within %v: %v", what, d, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// gone is an eventually check: key must not exist.
func gone(s store.Store, key string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		switch e, err := s.Get(ctx, key); {
		case errors.Is(err, store.ErrNotFound):
			return nil
		case err != nil:
			return err
		default:
			return fmt.Errorf("%s is there: %q", key, e.Value)
		}
	}
}

// there is an eventually check: key must have value.
func there(s store.Store, key, value string) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		e, err := s.Get(ctx, key)
		if err == nil && string(e.Value) != value {
			return fmt.Errorf("%s is %q, not %q", key, e.Value, value)
		}
		return err
	}
}
