package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/store"
)

const (
	probeEvery = 30 * time.Second
	// carefulFor is how long a CA that was down is asked for less.
	carefulFor = 10 * time.Minute
	// patience is the wait for a turn that an attempt sits out.
	patience = 5 * time.Second
)

// pace is how the replicas together treat one CA: what it has told any of them
// to wait for, whether it is down, and how much it is asked for. It is kept in
// the store under limits/<issuer>/, one value a bucket, each changed by
// compare-and-swap, whoever holds which lease.
type pace struct {
	issuer string
	store  store.Store
	model  limitModel
	log    *slog.Logger

	paused atomic.Pointer[time.Time] // as last seen: until when nothing is asked
	seen   atomic.Pointer[seenLimits]
}

// bucketRecord is the value of one rule's bucket.
type bucketRecord struct {
	Full    time.Time `json:"full"`             // when it is full again
	Careful time.Time `json:"careful,omitzero"` // of "pace": until when less is asked
	Sent    time.Time `json:"sent,omitzero"`    // of "pace", while careful: when the next newOrder may go out
	Seen    []string  `json:"seen,omitempty"`   // of failures: the authorizations counted last
	At      time.Time `json:"at,omitzero"`      // when it was written
}

// read is the bucket as it is at now. One that was written by a clock ahead of
// ours is moved to ours: else every order would wait until ours is there.
func (b *bucketRecord) read(now time.Time) {
	if ahead := b.At.Sub(now); ahead > clockStep {
		for _, t := range []*time.Time{&b.Full, &b.Careful, &b.Sent} {
			if t.After(now) {
				*t = t.Add(-ahead)
			}
		}
	}
	b.At = now.UTC()
}

// careful tells whether the CA has just come back. What another clock wrote into
// the far future does not hold.
func (b *bucketRecord) careful(now time.Time) bool {
	return b.Careful.After(now) && b.Careful.Before(now.Add(2*carefulFor))
}

// holds is the value at limits/<issuer>/holds: what the CA said to wait for, and
// whether it answers.
type holds struct {
	Buckets map[string]hold `json:"buckets,omitempty"`
	Down    *outage         `json:"down,omitempty"`
}

type hold struct {
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
	Since time.Time `json:"since,omitzero"`
	// Link is where a person ends it; then a person's word to order now comes
	// before Until.
	Link string `json:"link,omitempty"`
}

// outage is a CA that does not answer. One replica at a time asks it.
type outage struct {
	Since time.Time `json:"since"`
	Probe time.Time `json:"probe"` // nobody asks before
	Why   string    `json:"why"`
}

// waitError is an order that is not due at the CA yet.
type waitError struct {
	until time.Time
	why   string
	down  bool
	// person: it waits for somebody to mend something, not for its turn.
	person bool
}

func (e *waitError) Error() string {
	return fmt.Sprintf("%s; next at %s", e.why, e.until.UTC().Format(time.RFC3339))
}

func (p *pace) key(bucket string) string { return "limits/" + p.issuer + "/" + bucket }

// change reads, changes and writes a value; edit says whether there is
// something to write. It is tried again when another replica was faster.
func change[T any](ctx context.Context, p *pace, bucket string, edit func(*T) bool) error {
	const tries = 30
	key := p.key(bucket)
	for try := 1; ; try++ {
		var v T
		e, err := p.store.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read %s: %w", key, err)
		}
		if err == nil {
			_ = json.Unmarshal(e.Value, &v) // damaged: begun anew, the CA still refuses
		}
		if !edit(&v) {
			return nil
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = p.store.Put(ctx, key, raw, e.Revision)
		if err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) || try == tries {
			return fmt.Errorf("write %s: %w", key, err)
		}
		if err := sleep(ctx, rand.N(time.Duration(try)*5*time.Millisecond)); err != nil {
			return err
		}
	}
}

// gate lets an attempt begin: not before what its names are held for, and if
// the CA is down only if this attempt is to find out (probe).
// What a person must end is tried if a person said so since (asked).
func (p *pace) gate(ctx context.Context, names []string, asked time.Time, probe func(context.Context) error) error {
	var wait *waitError
	asks := false
	err := change(ctx, p, "holds", func(h *holds) bool {
		wait, asks = h.waits(time.Now(), names, asked), false
		if wait != nil || h.Down == nil {
			return false
		}
		asks = true
		h.Down.Probe = time.Now().Add(probeEvery)
		return true
	})
	if errors.Is(err, store.ErrConflict) {
		return &waitError{time.Now().Add(probeEvery), "another replica asks the CA whether it is back", true, false}
	}
	if err != nil {
		return err
	}
	if wait != nil {
		p.pauseUntil(wait)
		return wait
	}
	if !asks {
		return nil
	}
	if err := probe(ctx); err != nil {
		return &waitError{time.Now().Add(probeEvery), "the CA is down: " + err.Error(), true, false}
	}
	return p.back(ctx)
}

// pauseUntil remembers what holds for every order at this CA.
func (p *pace) pauseUntil(w *waitError) {
	if w.down {
		p.paused.Store(&w.until)
	}
}

// waits is what an order for names has to wait for; nil: nothing.
func (h *holds) waits(now time.Time, names []string, asked time.Time) *waitError {
	var w *waitError
	if h.Down != nil && h.Down.Probe.After(now) && h.Down.Probe.Before(now.Add(2*probeEvery)) {
		w = &waitError{h.Down.Probe, fmt.Sprintf("the CA is down since %s: %s", h.Down.Since.UTC().Format(time.RFC3339), h.Down.Why), true, false}
	}
	for _, b := range touches(names) {
		one, held := h.Buckets[b]
		if one.Link != "" && asked.After(one.Since) && asked.Before(now.Add(time.Minute)) {
			continue
		}
		// A hold longer than any CA asks for was written by another clock.
		if held && one.Until.After(now) && one.Until.Before(now.Add(maxRetryAfter+time.Hour)) && (w == nil || one.Until.After(w.until)) {
			w = &waitError{one.Until, "the CA said to wait: " + one.Why, b == everything, false}
		}
	}
	return w
}

// back notes that the CA answers again.
func (p *pace) back(ctx context.Context) error {
	var since time.Time
	err := change(ctx, p, "holds", func(h *holds) bool {
		if h.Down == nil {
			return false
		}
		since, h.Down = h.Down.Since, nil
		return true
	})
	if err != nil {
		return err
	}
	p.log.Info("the CA answers again", "issuer", p.issuer, "since", since)
	return change(ctx, p, "pace", func(b *bucketRecord) bool {
		b.read(time.Now())
		b.Careful = time.Now().Add(carefulFor).UTC()
		return true
	})
}

// note remembers, for all replicas, what an attempt has ended with.
func (p *pace) note(ctx context.Context, err error, names []string) {
	var call *callError
	if !errors.As(err, &call) || call.After.IsZero() && !call.away() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	now := time.Now().UTC()
	failed := change(ctx, p, "holds", func(h *holds) bool {
		for b, one := range h.Buckets {
			if one.Until.Before(now) {
				delete(h.Buckets, b)
			}
		}
		if !call.After.IsZero() {
			if h.Buckets == nil {
				h.Buckets = map[string]hold{}
			}
			for _, b := range bucketsOf(call, names) {
				h.Buckets[b] = hold{Until: call.After.UTC(), Why: call.Error(), Since: now, Link: call.unpause()}
			}
			return true
		}
		if h.Down != nil {
			return false
		}
		// The first probe is due at once: it may have been this request only.
		h.Down = &outage{Since: now, Probe: now, Why: call.Error()}
		p.log.Warn("the CA does not answer", "issuer", p.issuer, "err", call, "next", "one replica asks it every 30 s")
		return true
	})
	if failed != nil {
		p.log.Warn("what the CA said cannot be stored", "issuer", p.issuer, "err", failed, "next", "other replicas may ask it too")
	}
}

// reserve takes from every bucket an order needs and says when its turn is, and
// which limit makes it wait.
func (p *pace) reserve(ctx context.Context, rules []rule) (at time.Time, why string, err error) {
	at = time.Now()
	for _, r := range append(rules, rule{bucket: "pace"}) {
		var slot time.Time
		err := change(ctx, p, r.bucket, func(b *bucketRecord) bool {
			now := time.Now()
			b.read(now)
			if r.bucket == "pace" {
				r = paceRule(b.careful(now))
			}
			slot, b.Full = r.slot(b.Full, now)
			b.Full = b.Full.UTC()
			return true
		})
		if err != nil {
			return at, "", err
		}
		if slot.After(at) {
			at, why = slot, r.text
		}
	}
	return at, why, nil
}

// apart keeps what goes out now apart from what others send while a CA has just
// come back. Turns are apart too, but those who are late for theirs, because
// their replicas are busy, would go together.
func (p *pace) apart(ctx context.Context) error {
	const interval = 120 * time.Millisecond
	var at time.Time
	err := change(ctx, p, "pace", func(b *bucketRecord) bool {
		now := time.Now()
		if b.read(now); !b.careful(now) {
			return false
		}
		at, b.Sent = rule{burst: 1, interval: interval}.slot(b.Sent, now)
		b.Sent = b.Sent.UTC()
		return true
	})
	if err != nil {
		return err
	}
	return sleep(ctx, time.Until(at))
}

// turn is a turn that was taken. Nobody waits longer than who comes only now: a
// later one was taken by a clock that was ahead.
func (p *pace) turn(ctx context.Context, taken time.Time, rules []rule) (time.Time, error) {
	now := time.Now()
	if !taken.After(now) {
		return taken, nil
	}
	last := now
	for _, r := range append(rules, paceRule(false)) {
		err := change(ctx, p, r.bucket, func(b *bucketRecord) bool {
			b.read(now)
			if at, _ := r.slot(b.Full, now); at.After(last) {
				last = at
			}
			return false
		})
		if err != nil {
			return taken, err
		}
	}
	if last.Before(taken) {
		return last, nil
	}
	return taken, nil
}

// look says until when a bucket is empty, without taking from it, and which.
func (p *pace) look(ctx context.Context, rules []rule) (until time.Time, why string, err error) {
	seen := p.seen.Load()
	for _, r := range rules {
		// What the watch has not told of is full, but for the last moments: that
		// is what the model's margin is for. An order may have a hundred names.
		if seen != nil && seen.buckets[r.bucket].revision == "" {
			continue
		}
		err := change(ctx, p, r.bucket, func(b *bucketRecord) bool {
			b.read(time.Now())
			if at, _ := r.slot(b.Full, time.Now()); at.After(until) && at.Before(time.Now().Add(maxRetryAfter)) {
				until, why = at, r.text
			}
			return false
		})
		if err != nil {
			return until, "", err
		}
	}
	return until, why, nil
}

// mostSeen bounds the authorizations of a name that are remembered: orders
// share one, and each that finds it invalid tells of it.
const mostSeen = 8

// failed takes from a name's bucket for a validation that failed.
func (p *pace) failed(ctx context.Context, name, authorization string) {
	if p.model.failures == 0 {
		return
	}
	r := p.model.ofFailures(name)
	err := change(ctx, p, r.bucket, func(b *bucketRecord) bool {
		if slices.Contains(b.Seen, authorization) {
			return false
		}
		b.Seen = append(b.Seen[max(0, len(b.Seen)-mostSeen+1):], authorization)
		b.read(time.Now())
		_, b.Full = r.slot(b.Full, time.Now())
		b.Full = b.Full.UTC()
		return true
	})
	if err != nil {
		p.log.Warn("a failed validation cannot be counted", "issuer", p.issuer, "bucket", r.bucket, "err", err,
			"next", "the CA may refuse an order for it")
	}
}

// Paused is until when nothing can be asked of the CA, as far as this replica
// knows: package cert begins no orders before. Zero or past: it may be asked.
func (i *Issuer) Paused() time.Time {
	if until := i.pace.paused.Load(); until != nil {
		return *until
	}
	return time.Time{}
}

// admit waits for the order's turn, or says when it is.
func (m *machine) admit(ctx context.Context) error {
	p, j := m.issuer.pace, m.book.now.clone()
	exempt := j.InWindow && j.Replaces != ""
	if !exempt {
		until, why, err := p.look(ctx, p.model.failed(j.Names))
		if err != nil {
			return err
		}
		if time.Until(until) > 0 {
			return &waitError{until, fmt.Sprintf("it waits until it can be tried again: the CA allows %s", why), false, false}
		}
	}
	rules := p.model.rules(j.Names, j.Renews != "", exempt)
	if !j.Turn.IsZero() {
		turn, err := p.turn(ctx, j.Turn, rules)
		if err != nil {
			return err
		}
		if turn.After(time.Now()) {
			return &waitError{turn, "it waits for its turn at the CA", false, false}
		}
		return p.apart(ctx) // the turn is taken; a repeated newOrder is the same order
	}
	at, why, err := p.reserve(ctx, rules)
	if err != nil {
		return err
	}
	if wait := time.Until(at); wait <= patience {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		return p.apart(ctx)
	}
	j.Turn = at.UTC()
	if err := m.book.write(ctx, j); err != nil {
		return err
	}
	return &waitError{j.Turn, fmt.Sprintf("it waits for its turn: the CA allows %s", why), false, false}
}

// countFailures tells the model of the validations that failed, before the
// order is given up, and gives their names.
func (m *machine) countFailures(ctx context.Context) []string {
	var failed []string
	for url, z := range m.truth.authorizations {
		if z.Status == acmez.StatusInvalid {
			name := strings.ToLower(z.Identifier.Value)
			m.issuer.pace.failed(ctx, name, url)
			failed = append(failed, name)
		}
	}
	return among(m.book.now.Names, failed)
}
