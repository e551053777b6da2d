package acme

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// answering runs a replica's responder and barrier; stop kills them.
func answering(t *testing.T, mem *store.Mem, name string, log *slog.Logger) (b *Barrier, r *store.Replica, stop func()) {
	t.Helper()
	r = mem.Replica(name)
	ctx, cancel := context.WithCancel(t.Context())
	responder := NewResponder(r, slog.New(slog.DiscardHandler))
	b = NewBarrier(r, name, responder, log)
	done := make(chan struct{}, 2)
	go func() { _ = responder.Run(ctx); done <- struct{}{} }()
	go func() { _ = b.Run(ctx); done <- struct{}{} }()
	return b, r, func() { cancel(); <-done; <-done }
}

func pendingEntry(t *testing.T, st store.Store, token string) string {
	t.Helper()
	key := httpKey(token)
	raw, err := json.Marshal(entry{Version: entryVersion, Order: "orders/ca/x", Name: "a.example.com",
		Value: token + ".thumb", Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := st.Put(t.Context(), key, raw, ""); err != nil {
		t.Fatal(err)
	}
	return key
}

func TestBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text syncBuffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		mem := store.NewMem(0)
		a, ra, stopA := answering(t, mem, "a", log)
		defer stopA()
		_, rb, stopB := answering(t, mem, "b", log)
		_, _, stopC := answering(t, mem, "c", log)
		defer stopC()
		time.Sleep(time.Minute)

		timed := func() time.Duration {
			began := time.Now()
			a.Wait(t.Context(), []string{pendingEntry(t, ra, time.Now().Format("t150405"))})
			return time.Since(began)
		}
		if took := timed(); took > barrierWithin/2 {
			t.Errorf("with all replicas there it took %v", took)
		}
		if said := text.String(); said != "" {
			t.Errorf("the log says %s", said)
		}
		time.Sleep(time.Second)
		rb.Partition(true)
		if took := timed(); took != barrierWithin {
			t.Errorf("with a replica cut off it took %v, want %v", took, barrierWithin)
		}
		if !strings.Contains(text.String(), "replicas=[b]") {
			t.Errorf("the log says %q", text.String())
		}
		time.Sleep(time.Minute) // its announcement is gone: nobody waits for it
		if took := timed(); took > barrierWithin/2 {
			t.Errorf("with a replica long gone it took %v", took)
		}
		rb.Partition(false)
		time.Sleep(time.Minute)
		if took := timed(); took > barrierWithin/2 {
			t.Errorf("with all replicas back it took %v", took)
		}
		stopB()
		if _, err := ra.Get(t.Context(), seenPrefix+"/b"); err == nil {
			t.Error("a replica that has stopped still says what it has seen")
		}
	})
}

// What a dead replica said goes with the start of another.
func TestBarrierForgetsTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		if _, err := mem.Replica("x").Put(t.Context(), seenPrefix+"/dead", nil, ""); err != nil {
			t.Fatal(err)
		}
		_, r, stop := answering(t, mem, "a", slog.New(slog.DiscardHandler))
		time.Sleep(time.Minute)
		if _, err := r.Get(t.Context(), seenPrefix+"/dead"); err == nil {
			t.Error("still there")
		}
		stop()
	})
}
