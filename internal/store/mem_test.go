package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

const ttl = 5 * time.Second

// A replica that is cut off stops before another may begin, and what it tries
// afterwards is refused, also when it is joined again.
func TestMemPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(ttl)
		a, b := mem.Replica("a"), mem.Replica("b")
		held, err := a.Acquire(t.Context(), "orders/x")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		a.Partition(true)
		if _, err := held.Put(t.Context(), "k", nil, ""); err == nil || errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("put while cut off, lease still held: %v, want that the store does not answer", err)
		}
		go func() {
			<-held.Context().Done()
			if got, want := time.Since(start), ttl-store.Margin(ttl); got != want {
				t.Errorf("context ended after %v, want %v", got, want)
			}
		}()
		next, err := b.Acquire(t.Context(), "orders/x")
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != ttl {
			t.Errorf("the next holder came after %v, want %v", got, ttl)
		}
		if next.Epoch() <= held.Epoch() {
			t.Errorf("epoch %d after %d", next.Epoch(), held.Epoch())
		}
		a.Partition(false)
		if _, err := held.Put(t.Context(), "k", nil, ""); !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("put of the old holder: %v, want ErrLeaseLost", err)
		}
		if err := next.Context().Err(); err != nil {
			t.Errorf("the new holder's context: %v", err)
		}
	})
}

func TestMemShortPartitionKeepsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := store.NewMem(ttl).Replica("a")
		held, err := a.Acquire(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		a.Partition(true)
		time.Sleep(ttl / 2)
		a.Partition(false)
		time.Sleep(10 * ttl)
		if _, err := held.Put(t.Context(), "k", nil, ""); err != nil {
			t.Error(err)
		}
	})
}

// What ends while nobody can be told is taken back when the replica returns.
func TestMemReleasedWhileCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(ttl)
		a, b := mem.Replica("a"), mem.Replica("b")
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := a.Acquire(ctx, "x"); err != nil {
			t.Fatal(err)
		}
		go a.Announce(ctx, "members/a", nil)
		synctest.Wait()
		a.Partition(true)
		cancel()
		time.Sleep(time.Second)
		if _, err := b.Get(t.Context(), "members/a"); err != nil {
			t.Fatal(err)
		}
		a.Partition(false)
		for _, key := range []string{"members/a", "leases/x"} {
			if _, err := b.Get(t.Context(), key); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("get %s: %v, want ErrNotFound", key, err)
			}
		}
	})
}

func TestMemKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(ttl)
		a, b := mem.Replica("a"), mem.Replica("b")
		held, err := a.Acquire(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		a.Kill()
		if held.Context().Err() == nil {
			t.Error("the dead replica works on")
		}
		if _, err := b.Acquire(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got != ttl {
			t.Errorf("the next holder came after %v, want %v", got, ttl)
		}
	})
}

// A session the server forgets is learnt of by a refused write, or in time.
func TestMemExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(ttl)
		a, b := mem.Replica("a"), mem.Replica("b")
		held, err := a.Acquire(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		a.Expire()
		if _, err := b.Acquire(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if held.Context().Err() != nil {
			t.Error("learnt of it without a renewal")
		}
		if _, err := held.Put(t.Context(), "k", nil, ""); !errors.Is(err, store.ErrLeaseLost) {
			t.Errorf("put of the old holder: %v, want ErrLeaseLost", err)
		}
		if held.Context().Err() == nil {
			t.Error("goes on after a refused write")
		}
	})
}

func TestMemWatchAcrossPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(ttl)
		a, b := mem.Replica("a"), mem.Replica("b")
		ctx, cancel := context.WithCancel(t.Context())
		var states, troubles int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for entries, err := range a.Watch(ctx, "p") {
				if err != nil {
					troubles++
					continue
				}
				states++
				if len(entries) != states-1 {
					t.Errorf("state %d has %d entries", states, len(entries))
				}
			}
		}()
		synctest.Wait()
		a.Partition(true)
		synctest.Wait()
		if _, err := b.Put(t.Context(), "p/1", nil, ""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		a.Partition(false)
		synctest.Wait()
		cancel()
		<-done
		if states != 2 || troubles != 1 {
			t.Errorf("%d states and %d troubles, want 2 and 1", states, troubles)
		}
	})
}

func TestCheckKey(t *testing.T) {
	for key, ok := range map[string]bool{
		"a": true, "a/b": true, "certificates/local/*.example.com": true, "ä/ ~%#?": true, "a/.b": true,
		"": false, "/a": false, "a/": false, "a//b": false, "a/../b": false, "a/.": false, ".a": false,
		"a\x00": false, "a\nb": false, "a\xff": false,
	} {
		if err := store.CheckKey(key); (err == nil) != ok || (err != nil && !errors.Is(err, store.ErrInvalidKey)) {
			t.Errorf("CheckKey(%q) = %v", key, err)
		}
	}
}
