package cert

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// ticketReplica is what one replica's tls.Config was told.
type ticketReplica struct {
	store *store.Replica
	told  atomic.Pointer[[][32]byte]
	stop  func()
}

func (r *ticketReplica) keys() [][32]byte { return *r.told.Load() }

func startTickets(t *testing.T, mem *store.Mem, name string) *ticketReplica {
	t.Helper()
	r := &ticketReplica{store: mem.Replica(name)}
	ctx, cancel := context.WithCancel(t.Context())
	tickets := NewTickets(r.store, slog.New(slog.DiscardHandler))
	tickets.Add("https", func(keys [][32]byte) { r.told.Store(&keys) })
	done := make(chan struct{})
	go func() { defer close(done); _ = tickets.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(r.stop)
	return r
}

// A replica whose clock is half a day off finds the others' key due, and they
// find its.
func TestTicketKeysOfAWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		wrong, puts := mem.Replica("wrong"), 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for entries := range wrong.Watch(ctx, ticketsKey) {
				var r ticketRecord
				if len(entries) == 0 || json.Unmarshal(entries[0].Value, &r) != nil || r.Keys[0].Born.After(time.Now()) {
					continue
				}
				if puts++; puts > 100 {
					return
				}
				r.Keys = append([]ticketKey{{Born: time.Now().Add(13 * time.Hour), Secret: make([]byte, ticketSecret)}}, r.Keys...)
				if _, err := wrong.Put(ctx, ticketsKey, must(json.Marshal(r)), entries[0].Revision); err != nil {
					t.Error(err)
				}
			}
		}()
		r := startTickets(t, mem, "right")
		time.Sleep(time.Hour)
		synctest.Wait()
		if puts < 2 || puts > 20 {
			t.Errorf("within an hour the wrong clock's key was put %d times", puts)
		}
		r.stop()
		cancel()
		<-done
	})
}

func TestTicketKeysAreSharedAndRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		a, b := startTickets(t, mem, "a"), startTickets(t, mem, "b")
		same := func(when string, n int) {
			t.Helper()
			synctest.Wait()
			if len(a.keys()) != n || len(b.keys()) != n {
				t.Fatalf("%s: %d and %d keys, want %d", when, len(a.keys()), len(b.keys()), n)
			}
			for i := range a.keys() {
				if a.keys()[i] != b.keys()[i] {
					t.Errorf("%s: key %d differs", when, i)
				}
			}
		}
		time.Sleep(time.Minute)
		same("at the start", 1)
		first := a.keys()[0]
		time.Sleep(ticketEvery + ticketLook)
		same("after the first rotation", 2)
		if a.keys()[0] == first {
			t.Error("the first key still seals")
		}
		for range 10 {
			time.Sleep(ticketEvery)
			synctest.Wait()
			if n := len(a.keys()); n < 3 || n > 4 {
				t.Fatalf("%d keys", n)
			}
		}
		for _, k := range a.keys() {
			if k == first {
				t.Error("the first key still opens after days")
			}
		}
		// A replica that cannot ask keeps what it has, then has keys of its own,
		// and those of all again once it can.
		b.store.Partition(true)
		time.Sleep(2 * ticketLife)
		synctest.Wait()
		if len(b.keys()) == 0 || b.keys()[0] == a.keys()[0] {
			t.Error("cut off for days it has no key of its own")
		}
		b.store.Partition(false)
		time.Sleep(ticketLook + time.Minute)
		synctest.Wait()
		same("together again", len(a.keys()))
		// What is damaged is made anew.
		e := must(a.store.Get(t.Context(), ticketsKey))
		must(a.store.Put(t.Context(), ticketsKey, []byte("{"), e.Revision))
		time.Sleep(time.Minute)
		same("after damage", 1)
	})
}

func TestNewTicketKeySettles(t *testing.T) {
	now := noon
	keys := []ticketKey{{Born: now.Add(-time.Second), Secret: make([]byte, 32)}, {Born: now.Add(-ticketEvery), Secret: []byte("the one before, 32 bytes long    ")}}
	if got := arrange(now, keys); !got[0].Born.Equal(keys[1].Born) {
		t.Error("a key seals that other replicas may not have yet")
	}
	if got := arrange(now.Add(ticketSettle), keys); !got[0].Born.Equal(keys[0].Born) {
		t.Error("a key does not seal though all have it")
	}
	if derive(keys, "a")[0] == derive(keys, "b")[0] {
		t.Error("two purposes have one key")
	}
}

// A session begun at one replica is resumed at another.
func TestSessionsAreResumedElsewhere(t *testing.T) {
	mem := store.NewMem(0)
	keys := next(time.Now(), nil)
	value, err := json.Marshal(ticketRecord{ticketsVersion, keys})
	if err != nil {
		t.Fatal(err)
	}
	must(mem.Replica("x").Put(t.Context(), ticketsKey, value, ""))
	index := must(NewIndex(IndexOptions{}))
	server := func(name string) *tls.Config {
		c := &tls.Config{GetCertificate: index.GetCertificate}
		ready := make(chan struct{}, 8)
		tickets := NewTickets(mem.Replica(name), slog.New(slog.DiscardHandler))
		tickets.Add("https", func(k [][32]byte) { c.SetSessionTicketKeys(k); ready <- struct{}{} })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = tickets.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		<-ready
		return c
	}
	client := &tls.Config{ServerName: "x.example.com", InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(4)}
	for i, c := range []*tls.Config{server("a"), server("b")} {
		near, far := net.Pipe()
		go func() {
			s := tls.Server(far, c)
			_, _ = s.Write([]byte("x"))
			_ = far.Close()
		}()
		conn := tls.Client(near, client)
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("handshake %d: resumed is %v", i+1, got)
		}
		_ = near.Close()
	}
}
