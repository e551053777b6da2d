package acme

import (
	"context"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/internal/acme/dns"
)

// stopped is a DNS provider whose process stops in the middle of a call, and
// writes when it goes on.
type stopped struct {
	*challtest
	in, on chan struct{}
}

func (s *stopped) Present(_ context.Context, rec dns.Record) error {
	s.in <- struct{}{}
	<-s.on
	return s.challtest.Present(context.Background(), rec)
}

// TestStrayRecordsAreRemoved: a record that was written after another replica had
// ended the order, and cleaned up, does not stay.
func TestStrayRecordsAreRemoved(t *testing.T) {
	w := newWorld(t, rig.PebbleOptions{})
	one, two := w.mem.Replica("one"), w.mem.Replica("two")
	slow := &stopped{w.dns, make(chan struct{}), make(chan struct{})}
	first := w.issuer(dns01, one, func(o *Options) { o.DNS = slow })
	req := request(t, one, "stray", "stray.example.com")
	done := make(chan error)
	go func() {
		_, err := first.Obtain(t.Context(), req)
		done <- err
	}()
	<-slow.in
	one.Expire()

	second := w.issuer(dns01, two)
	req = request(t, two, "stray", "stray.example.com")
	bundle, err := second.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	w.trusted(bundle, "stray.example.com")
	if err := second.Done(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if n := w.dns.records(); n != 0 {
		t.Fatalf("%d records before the late one", n)
	}
	close(slow.on)
	if err := <-done; err == nil {
		t.Fatal("an order whose lease was lost gave a certificate")
	}
	if n := w.dns.records(); n != 1 {
		t.Fatalf("%d records, want the late one", n)
	}
	for end := time.Now().Add(20 * time.Second); w.dns.records() != 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the late record stays")
		}
	}
}

// TestStrayRecordsOfAJournal: what the journal names is somebody's.
func TestStrayRecordsOfAJournal(t *testing.T) {
	w := newWorld(t, rig.PebbleOptions{})
	st := w.mem.Replica("one")
	i := w.issuer(dns01, st)
	rec, err := w.dns.Plan(t.Context(), "named.example.com", "value")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.dns.Present(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	frozen := storedRecord(rec)
	c := challenge{Name: "named.example.com", Type: dns01, Record: &frozen, State: chosen}
	key := journalKey(i.ID(), "named")
	raw, err := journal{Leftovers: []challenge{c}}.encode()
	if err != nil {
		t.Fatal(err)
	}
	rev, err := st.Put(t.Context(), key, raw, "")
	if err != nil {
		t.Fatal(err)
	}
	if left, err := i.removeStrays(key, []dns.Record{rec}); len(left) != 1 || err != nil || w.dns.records() != 1 {
		t.Fatalf("left %v, %v; %d records", left, err, w.dns.records())
	}
	if err := st.Delete(t.Context(), key, rev); err != nil {
		t.Fatal(err)
	}
	if left, err := i.removeStrays(key, []dns.Record{rec}); len(left) != 0 || err != nil || w.dns.records() != 0 {
		t.Fatalf("left %v, %v; %d records", left, err, w.dns.records())
	}
}
