package cert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"gatehouse/internal/store"
)

const (
	// turnLimit frees the lease of an issuer that hangs. The journal is kept,
	// so nothing but the pause is lost.
	turnLimit = 30 * time.Minute
	doneLimit = 5 * time.Minute
	// turnPause keeps what this replica has just done from being done again
	// before its own watch has told of it.
	turnPause    = time.Second
	slotPause    = 2 * time.Second
	troublePause = 5 * time.Second
	sealedPause  = 5 * time.Minute // for the key to open what is stored, a person is needed
	releaseLimit = 5 * time.Second
)

// turn is one go at one certificate: wait for the lease, look again, order.
type turn struct {
	key    key
	names  []string // nil: only finish, sweep, discard or revoke
	do     verb
	cancel context.CancelFunc
	await  func() (answered func(), err error) // of the lease, once it is held
	// Guarded by Keeper.mu.
	slot    bool // counts against MaxParallel
	working bool // has the lease
	step    string
	since   time.Time // of step
}

// dispatch starts a turn if there is none. Orders another replica works on
// are only waited for, which takes no slot. k.mu is held.
func (k *Keeper) dispatch(ctx context.Context, a action) {
	if k.turns[a.key] != nil {
		return
	}
	_, elsewhere := k.holders[a.key]
	if !elsewhere && k.slotsUsed() >= k.maxParallel {
		return // the end of a turn wakes the loop
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &turn{key: a.key, cancel: cancel, slot: !elsewhere, do: a.do, since: time.Now()}
	if a.do == obtain {
		t.names = a.want.names
	}
	k.turns[a.key] = t
	k.running.Go(func() {
		defer k.ended(t)
		if err := guard(func() error { k.take(ctx, t); return nil }); err != nil {
			next := time.Now().Add(steps[1])
			k.pause(t.key, next)
			k.logPanic("certificate turn panicked", err, "names", t.names, "issuer", t.key.issuer, "next", next)
		}
	})
}

// slotsUsed counts the turns that work or may do so any moment. A turn whose
// lease turned out to be another's gives its slot to those that can work.
// k.mu is held.
func (k *Keeper) slotsUsed() int {
	n := 0
	for _, t := range k.turns {
		if _, held := k.holders[t.key]; held && !t.working {
			t.slot = false
		}
		if t.slot {
			n++
		}
	}
	return n
}

// cancelNeedless ends the waiting of turns whose reason is gone: the
// certificate appeared, failed elsewhere, or is no longer wanted. An order in
// work is never broken off. k.mu is held.
func (k *Keeper) cancelNeedless(actions []action) {
	if len(k.turns) == 0 {
		return
	}
	due := make(map[key]bool, len(actions))
	for _, a := range actions {
		if a.do != rest {
			due[a.key] = true
		}
	}
	for _, t := range k.turns {
		if !t.working && !due[t.key] {
			t.cancel()
		}
	}
}

// admit lets a turn that has its lease begin to work, if there is a slot.
func (k *Keeper) admit(t *turn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !t.slot && k.slotsUsed() >= k.maxParallel {
		return false
	}
	t.slot, t.working = true, true
	return true
}

func (k *Keeper) ended(t *turn) {
	t.cancel()
	k.pause(t.key, time.Now().Add(turnPause))
	k.mu.Lock()
	delete(k.turns, t.key)
	k.mu.Unlock()
	k.wake()
}

func (k *Keeper) say(t *turn, step string) {
	k.mu.Lock()
	t.step, t.since = step, time.Now()
	k.mu.Unlock()
}

// take is one turn: no order begins but under the lease and after a look at
// what others did meanwhile.
func (k *Keeper) take(ctx context.Context, t *turn) {
	end := newParting(ctx)
	defer end.over()
	lease, err := k.store.Acquire(end.ctx, t.key.under(ordersPrefix))
	if err != nil {
		if ctx.Err() == nil {
			next := time.Now().Add(steps[1])
			k.pause(t.key, next)
			k.log.Error("lease cannot be acquired", "names", t.names, "issuer", t.key.issuer, "err", err, "next", next)
		}
		return
	}
	k.countLease(t.key.issuer, Acquired)
	t.await = end.await
	defer k.release(ctx, lease, t)
	if !k.admit(t) {
		k.pause(t.key, time.Now().Add(slotPause)) // somebody with a free slot shall have it
		return
	}
	switch t.do {
	case sweep:
		k.sweep(ctx, lease, t)
		return
	case discard:
		k.discard(ctx, lease, t)
		return
	case revoke:
		k.revoke(ctx, lease, t)
		return
	}
	now, err := k.reread(lease, t.key)
	if err != nil {
		k.storeTrouble(ctx, t, err)
		return
	}
	k.mu.Lock()
	r := k.renewals[t.key]
	revoked := k.revocations[t.key].replace(now.cert)
	k.mu.Unlock()
	if revoked.After(now.asked) {
		now.asked = revoked
	}
	if do, _ := decide(time.Now(), now.cert, attempt{}, r, now.asked); do == rest {
		if !now.journal || !k.done(lease.Context(), t, k.request(lease, t, now), now.cert) {
			return
		}
		// It does not look due from here, but an order is paid for.
		if a := now.attempt; a.Last.After(now.cert.Obtained) && a.Next.After(time.Now()) {
			k.pause(t.key, a.Next)
			return
		}
		k.order(ctx, lease, t, now)
		return
	}
	if do, _ := decide(time.Now(), now.cert, now.attempt, r, now.asked); do != obtain || t.names == nil {
		return
	}
	k.order(ctx, lease, t, now)
}

func (k *Keeper) release(ctx context.Context, lease store.Lease, t *turn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseLimit)
	defer cancel()
	if err := context.Cause(lease.Context()); errors.Is(err, store.ErrLeaseLost) {
		k.countLease(t.key.issuer, Lost)
	} else {
		k.countLease(t.key.issuer, Released)
	}
	if err := lease.Release(ctx); err != nil {
		k.log.Warn("lease cannot be released", "names", t.names, "issuer", t.key.issuer, "err", err, "next", "it runs out by itself")
	}
}

// storeTrouble is no attempt's failure: nothing was asked of the issuer.
func (k *Keeper) storeTrouble(ctx context.Context, t *turn, err error) {
	if ctx.Err() != nil {
		return // going down
	}
	pause := troublePause
	var later *laterError
	if errors.Is(err, store.ErrSealed) || errors.As(err, &later) {
		pause = sealedPause
	}
	next := time.Now().Add(pause/2 + rand.N(pause))
	k.count(t.key.issuer, Interrupted)
	k.pause(t.key, next)
	k.log.Warn("store failed during an order", "names", t.names, "issuer", t.key.issuer, "err", err, "next", next)
}

// current is what the store says under the lease.
type current struct {
	cert            *Certificate // nil: none that can be served
	revision        store.Revision
	attempt         attempt
	attemptRevision store.Revision
	journal         bool
	asked           time.Time
	askedRevision   store.Revision
}

// reread asks the store for what concerns one certificate. Only ErrNotFound
// is "absent"; a refused value is absent too, to be overwritten.
func (k *Keeper) reread(lease store.Lease, kk key) (current, error) {
	var now current
	ctx := lease.Context()
	e, err := get(ctx, lease, kk.under(certificatesPrefix))
	if err != nil {
		return now, err
	}
	now.revision = e.Revision
	if e.Revision != "" {
		now.cert, err = decodeCertificate(kk, e.Value)
		var later *laterError
		switch {
		case errors.As(err, &later):
			return now, fmt.Errorf("read %s: %w", kk.under(certificatesPrefix), err)
		case err != nil:
			now.cert = nil
		}
	}
	if e, err = get(ctx, lease, kk.under(attemptsPrefix)); err != nil {
		return now, err
	}
	now.attemptRevision = e.Revision
	if e.Revision != "" {
		if now.attempt, err = decodeAttempt(e.Value); err != nil {
			now.attempt = attempt{}
		}
	}
	if e, err = get(ctx, lease, kk.under(ordersPrefix)); err != nil {
		return now, err
	}
	now.journal = e.Revision != ""
	if e, err = get(ctx, lease, kk.under(requestsPrefix)); err != nil {
		return now, err
	}
	now.askedRevision = e.Revision
	if e.Revision != "" {
		now.asked, _ = decodeRequest(e.Value) // what cannot be read asks for nothing
	}
	return now, nil
}

// get gives the zero Entry for an absent key.
func get(ctx context.Context, lease store.Lease, name string) (store.Entry, error) {
	e, err := lease.Get(ctx, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Entry{}, nil
	case err != nil:
		return store.Entry{}, fmt.Errorf("read %s: %w", name, err)
	}
	return e, nil
}

func (k *Keeper) request(lease store.Lease, t *turn, now current) Request {
	req := Request{ID: t.key.id, Names: t.names, Lease: lease, Asked: now.asked, Step: func(s string) { k.say(t, s) }, Await: t.await}
	if now.cert != nil {
		req.Replaces = now.cert.raw()
		if req.Names == nil {
			req.Names = now.cert.Names
		}
	}
	return req
}

// order has the lease and drives one order to its end.
func (k *Keeper) order(ctx context.Context, lease store.Lease, t *turn, now current) {
	work, cancel := context.WithTimeout(lease.Context(), turnLimit)
	defer cancel()
	req := k.request(lease, t, now)
	b, fresh, err := k.obtain(work, t.key, req)
	if err == nil && now.cert != nil && bytes.Equal(fresh.raw(), now.cert.raw()) {
		// The journal was that of the certificate in service: its holder died
		// before Done. The order that is due begins now.
		if err = k.issuers[t.key.issuer].Done(work, req); err == nil {
			b, fresh, err = k.obtain(work, t.key, req)
		}
		if err == nil && bytes.Equal(fresh.raw(), now.cert.raw()) {
			err = fmt.Errorf("issuer %s gave certificate %s again, which is to be renewed", t.key.issuer, fresh.serial)
		}
	}
	if err != nil {
		if work.Err() != nil && lease.Context().Err() == nil {
			err = fmt.Errorf("the order took longer than %s and goes on with the next attempt: %w", turnLimit, err)
		}
		k.failed(ctx, lease, t, now, err)
		return
	}
	k.say(t, "store certificate")
	if err := k.save(lease, t.key, now, b, fresh); err != nil {
		if errors.Is(err, store.ErrTooLarge) {
			k.failed(ctx, lease, t, now, err)
		} else {
			k.storeTrouble(ctx, t, err)
		}
		return
	}
	k.count(t.key.issuer, Obtained)
	k.log.Info("certificate obtained", "names", t.names, "issuer", t.key.issuer,
		"serial", fresh.serial, "notAfter", fresh.NotAfter)
	req.Replaces = fresh.raw()
	k.done(lease.Context(), t, req, fresh)
	// Left behind they do no harm: they are older than the certificate.
	if now.attemptRevision != "" {
		_ = lease.Delete(lease.Context(), t.key.under(attemptsPrefix), now.attemptRevision)
	}
	k.forget(lease, t.key, now.cert)
	if now.askedRevision != "" {
		_ = lease.Delete(lease.Context(), t.key.under(requestsPrefix), now.askedRevision)
	}
}

// obtain asks the issuer and checks what it gave before anybody sees it.
func (k *Keeper) obtain(ctx context.Context, kk key, req Request) (b Bundle, fresh *Certificate, err error) {
	err = guard(func() (err error) {
		if b, err = k.issuers[kk.issuer].Obtain(ctx, req); err != nil {
			return err
		}
		if fresh, err = Check(b, req.Names); err != nil {
			return fmt.Errorf("check what issuer %s gave: %w", kk.issuer, err)
		}
		if now := time.Now(); !fresh.NotAfter.After(now) {
			return fmt.Errorf("check what issuer %s gave: certificate %s ended %s, it is %s here", kk.issuer,
				fresh.serial, fresh.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
		}
		fresh.Issuer, fresh.Obtained = kk.issuer, time.Now()
		return nil
	})
	return b, fresh, err
}

// save stores a certificate that was paid for with an order: it tries for as
// long as it has the lease, and never over a better one.
func (k *Keeper) save(lease store.Lease, kk key, now current, b Bundle, fresh *Certificate) error {
	ctx, name := lease.Context(), kk.under(certificatesPrefix)
	value, err := fresh.encode(b, lease.Epoch())
	if err != nil {
		return fmt.Errorf("encode certificate %s: %w", kk.id, err)
	}
	have := now.revision
	for {
		_, err := lease.Put(ctx, name, value, have)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, store.ErrLeaseLost), errors.Is(err, store.ErrTooLarge), ctx.Err() != nil:
			return fmt.Errorf("write %s: %w", name, err)
		}
		conflict := errors.Is(err, store.ErrConflict)
		e, err := get(ctx, lease, name)
		if !conflict || err != nil { // the store has trouble
			select {
			case <-ctx.Done():
			case <-time.After(turnPause):
			}
		}
		if err != nil {
			continue // Put tells what is wrong
		}
		if bytes.Equal(e.Value, value) {
			return nil // written after all
		}
		if c, err := decodeCertificate(kk, e.Value); err == nil && !c.NotAfter.Before(fresh.NotAfter) {
			return nil // imported meanwhile
		}
		have = e.Revision
	}
}

// done lets the issuer drop its journal, as c is safe; if that fails, the plan
// finds the journal and comes back, after a pause as long as it has been so. An
// unfinished order is to be gone on with.
func (k *Keeper) done(ctx context.Context, t *turn, req Request, c *Certificate) (unfinished bool) {
	k.say(t, "clean up")
	err := guard(func() error {
		bounded, cancel := context.WithTimeout(ctx, doneLimit)
		defer cancel()
		return k.issuers[t.key.issuer].Done(bounded, req)
	})
	if errors.Is(err, ErrUnfinished) {
		return true
	}
	if err != nil && ctx.Err() == nil {
		next := time.Now().Add(max(journalGrace, min(time.Since(c.Obtained), time.Hour)))
		k.pause(t.key, next)
		k.log.Warn("order journal stays", "names", req.Names, "issuer", t.key.issuer, "err", err, "next", next)
	}
	return false
}

// failed stores a failed attempt, so that every replica waits and nobody
// gives up. A lost lease and a shutdown are no failures, but a refusal that
// came while the process is about to end is one.
func (k *Keeper) failed(ctx context.Context, lease store.Lease, t *turn, now current, cause error) {
	gone := lease.Context().Err() != nil || errors.Is(cause, store.ErrLeaseLost)
	if ctx.Err() != nil && (gone || errors.Is(cause, ErrEnding)) {
		k.count(t.key.issuer, Interrupted)
		k.log.Info("order interrupted", "names", t.names, "issuer", t.key.issuer, "next", "another replica goes on")
		return
	}
	if gone {
		k.count(t.key.issuer, Interrupted)
		k.log.Warn("lease lost during an order", "names", t.names, "issuer", t.key.issuer, "err", cause,
			"next", "whoever has it next goes on with the order")
		return
	}
	a := now.attempt
	at := time.Now()
	if now.cert != nil && !a.Last.After(now.cert.obtained(at)) {
		a = attempt{}
	}
	k.count(t.key.issuer, outcomeOf(cause))
	a = a.after(cause)
	a.Replica, a.Last, a.Names = k.replica, at.UTC(), t.names
	a.Next = nextAttempt(at, a, cause, rand.Float64()).UTC()
	if err := k.record(lease, t.key, a, now.attemptRevision); err != nil {
		k.pause(t.key, a.Next) // at least this replica keeps to it
		k.log.Warn("attempt cannot be stored", "names", t.names, "issuer", t.key.issuer, "err", err)
	} else if r, ok := k.issuers[t.key.issuer].(Recorder); ok {
		if err := guard(func() error { return r.Recorded(lease.Context(), k.request(lease, t, now)) }); err != nil {
			k.log.Warn("order journal stays", "names", t.names, "issuer", t.key.issuer, "err", err, "next", a.Next)
		}
	}
	args := []any{"names", t.names, "issuer", t.key.issuer, "failures", a.Failures, "next", a.Next}
	var p *panicError
	if errors.As(cause, &p) {
		k.logPanic("issuer panicked", p, args...)
		return
	}
	if a.Waits != "" {
		k.log.Info("certificate order waits for its turn", append(args, "reason", a.Waits)...)
		return
	}
	k.log.Warn("certificate order failed", append(args, "err", cause)...)
}

func outcomeOf(err error) Outcome {
	var retry *RetryError
	switch {
	case !errors.As(err, &retry):
	case retry.Unreached:
		return Unreached
	case retry.Waits:
		return Waited
	}
	return Failed
}

func (k *Keeper) record(lease store.Lease, kk key, a attempt, have store.Revision) error {
	ctx, name := lease.Context(), kk.under(attemptsPrefix)
	value, err := a.encode()
	if err != nil {
		return fmt.Errorf("encode attempt %s: %w", kk.id, err)
	}
	for try := 0; ; try++ {
		_, err := lease.Put(ctx, name, value, have)
		if err == nil {
			return nil
		}
		if try == 2 || errors.Is(err, store.ErrLeaseLost) || ctx.Err() != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(turnPause / 2):
		}
		if e, err := get(ctx, lease, name); err == nil {
			have = e.Revision
		}
	}
}
