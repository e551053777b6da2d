package cert

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/store"
)

const (
	ticketsKey     = "tickets/keys"
	ticketsVersion = 1
	ticketSecret   = 32 // bytes
	mostTickets    = 8
)

const (
	ticketEvery = 12 * time.Hour // a new key seals
	ticketLife  = 36 * time.Hour // an old one opens
	// ticketSettle is how long a new key only opens, so that every replica has
	// it before tickets are sealed with it.
	ticketSettle = time.Minute
	ticketLook   = 5 * time.Minute
	ticketAgain  = 10 * time.Second // after the store failed
)

// Tickets keeps the keys of TLS session tickets, the same on all replicas: a
// client resumes its session wherever it comes back to. They are in the store at
// tickets/keys; a new one comes every twelve hours, by whichever replica finds
// it due, and is forgotten after a day and a half, so that a stolen key opens
// no older traffic.
type Tickets struct {
	store store.Store
	log   *slog.Logger

	mu    sync.Mutex
	sinks []*sink
	keys  []ticketKey // newest first
}

type sink struct {
	purpose string
	apply   func([][32]byte)
}

type ticketKey struct {
	Born   time.Time `json:"born"`
	Secret []byte    `json:"secret"`
}

type ticketRecord struct {
	Version int         `json:"version"`
	Keys    []ticketKey `json:"keys"`
}

// NewTickets makes one; it does nothing until Run.
func NewTickets(st store.Store, log *slog.Logger) *Tickets { return &Tickets{store: st, log: log} }

// Add has apply, such as SetSessionTicketKeys of a tls.Config, called with the
// keys for purpose, now if they are known, and after each change. Of another
// purpose the keys are others: sessions are not resumed where other settings
// hold. Until the store has answered for the first time apply is not called; it
// is no more after remove.
func (t *Tickets) Add(purpose string, apply func([][32]byte)) (remove func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &sink{purpose, apply}
	t.sinks = append(t.sinks, s)
	if len(t.keys) > 0 {
		apply(derive(arrange(time.Now(), t.keys), purpose))
	}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sinks = slices.DeleteFunc(t.sinks, func(other *sink) bool { return other == s })
	}
}

// Run keeps the keys until ctx ends, and returns nil.
func (t *Tickets) Run(ctx context.Context) error {
	states := make(chan []ticketKey)
	var work sync.WaitGroup
	defer work.Wait()
	work.Go(func() { t.watch(ctx, states) })
	timer := time.NewTimer(ticketLook)
	defer timer.Stop()
	known := false
	var rotated time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case keys := <-states:
			known = true
			t.set(keys)
		case <-timer.C:
			t.set(t.current())
		}
		wait := ticketLook
		if known && due(time.Now(), t.current()) {
			// So soon it is a replica with another time that put another key:
			// the two must not outbid each other without end.
			if again := time.Until(rotated.Add(ticketLook)); again > 0 {
				timer.Reset(again)
				continue
			}
			rotated = time.Now()
			if err := t.rotate(ctx); err != nil {
				rotated = time.Time{}
				if ctx.Err() == nil {
					t.log.Warn("session ticket keys are not renewed", "err", err, "next", ticketAgain)
				}
				wait = ticketAgain
				t.set(t.alone(time.Now()))
			}
		} else if k := t.current(); len(k) > 0 && time.Since(k[0].Born) < ticketSettle {
			wait = max(ticketSettle-time.Since(k[0].Born), time.Second) // then it seals
		}
		timer.Reset(wait)
	}
}

func (t *Tickets) watch(ctx context.Context, states chan<- []ticketKey) {
	for entries, err := range t.store.Watch(ctx, ticketsKey) {
		if err != nil {
			continue // the keeper tells that the store is away
		}
		var keys []ticketKey
		if len(entries) == 1 {
			if keys, err = decodeTickets(entries[0].Value); err != nil {
				t.log.Warn("stored session ticket keys refused", "err", err, "next", "new ones are made")
			}
		}
		select {
		case states <- keys:
		case <-ctx.Done():
		}
	}
}

func decodeTickets(value []byte) ([]ticketKey, error) {
	if err := store.CheckSealed(value); err != nil {
		return nil, err
	}
	if len(value) > 8<<10 {
		return nil, fmt.Errorf("value has %d bytes", len(value))
	}
	var r ticketRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	if r.Version != ticketsVersion || len(r.Keys) > mostTickets {
		return nil, fmt.Errorf("value has version %d and %d keys", r.Version, len(r.Keys))
	}
	for _, k := range r.Keys {
		if len(k.Secret) != ticketSecret {
			return nil, fmt.Errorf("a key has %d bytes (not %d)", len(k.Secret), ticketSecret)
		}
	}
	slices.SortFunc(r.Keys, func(a, b ticketKey) int { return b.Born.Compare(a.Born) })
	return r.Keys, nil
}

// due tells whether a new key is wanted. A key from the future is somebody's
// wrong clock, and counts as old.
func due(now time.Time, keys []ticketKey) bool {
	return len(keys) == 0 || now.Sub(keys[0].Born) >= ticketEvery || keys[0].Born.After(now.Add(ticketEvery))
}

// next is the list with a new key in front and those too old left out.
func next(now time.Time, keys []ticketKey) []ticketKey {
	fresh := ticketKey{Born: now.UTC(), Secret: make([]byte, ticketSecret)}
	_, _ = rand.Read(fresh.Secret) // never fails
	list := []ticketKey{fresh}
	for _, k := range keys {
		if age := now.Sub(k.Born); age < ticketLife && age > -ticketEvery && len(list) < mostTickets {
			list = append(list, k)
		}
	}
	return list
}

// rotate puts a new key in front, unless another replica just did: its own
// word comes by the watch.
func (t *Tickets) rotate(ctx context.Context) error {
	e, err := t.store.Get(ctx, ticketsKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	keys, _ := decodeTickets(e.Value) // what cannot be used is put over
	now := time.Now()
	if !due(now, keys) {
		t.set(keys)
		return nil
	}
	keys = next(now, keys)
	value, err := json.Marshal(ticketRecord{ticketsVersion, keys})
	if err != nil {
		return err
	}
	_, err = t.store.Put(ctx, ticketsKey, value, e.Revision)
	switch {
	case errors.Is(err, store.ErrConflict):
		return nil // another was faster
	case err != nil:
		return err
	}
	t.set(keys)
	return nil
}

// alone is what is used while the store is away: the keys there are, and once
// the last is too old, one of this replica's own.
func (t *Tickets) alone(now time.Time) []ticketKey {
	keys := t.current()
	if len(keys) > 0 && now.Sub(keys[0].Born) < ticketLife {
		return keys
	}
	return next(now, nil)
}

func (t *Tickets) current() []ticketKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.keys
}

func (t *Tickets) set(keys []ticketKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys = keys
	if len(keys) == 0 {
		return
	}
	arranged := arrange(time.Now(), keys)
	for _, s := range t.sinks {
		s.apply(derive(arranged, s.purpose))
	}
}

// arrange puts the key that seals first: the newest every replica has by now.
func arrange(now time.Time, keys []ticketKey) []ticketKey {
	list := slices.Clone(keys)
	if len(list) > 1 && now.Sub(list[0].Born) < ticketSettle {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

func derive(keys []ticketKey, purpose string) [][32]byte {
	out := make([][32]byte, len(keys))
	for i, k := range keys {
		raw, err := hkdf.Key(sha256.New, k.Secret, nil, "gatehouse session tickets of "+purpose, len(out[i]))
		if err != nil {
			panic(err) // the length is right
		}
		out[i] = [32]byte(raw)
	}
	return out
}
