package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
)

var (
	_ cert.Sweeper = (*Issuer)(nil)
	_ cert.Clock   = (*Issuer)(nil)
)

// Now is the time by the CA's clock, once it has answered anything.
func (i *Issuer) Now() (time.Time, bool) { return i.ca.Now() }

// orphanLife is how long the order of a name nobody wants is kept once nothing
// is left of it but the journal: if the name is wanted again, the order is gone
// on with, and nothing that was paid for is lost. CAs keep orders no longer.
const orphanLife = 7 * 24 * time.Hour

// Orphaned says from when on there is something to sweep from a journal that
// nobody works on: at once while something is presented, or to note the time of
// a damaged one, else when the order is too old to be of use.
func (i *Issuer) Orphaned(raw []byte) (from time.Time, ok bool) {
	j, err := decodeJournal(raw)
	var damaged *damagedError
	switch {
	case errors.As(err, &damaged):
		return time.Time{}, true
	case err != nil:
		return time.Time{}, false
	case len(j.Challenges)+len(j.Leftovers) > 0, j.empty():
		return time.Time{}, true
	case j.Began.IsZero():
		return time.Time{}, false
	}
	return j.Began.Add(orphanLife), true
}

// Sweep takes away what an order presented that nobody goes on with. What is
// gone is forgotten; what could not be taken away stays in the journal, and is
// the error. The key and the order stay until they are too old to be of use;
// then the journal goes. So does a damaged one, after as long: until then it may hold the only
// copy of a private key that a person can still make out.
func (i *Issuer) Sweep(ctx context.Context, req cert.Request) error {
	ctx, stop := during(ctx, req.Lease)
	defer stop()
	b, err := openBook(ctx, i.ID(), req, i.timing.readBack)
	var damaged *damagedError
	if errors.As(err, &damaged) {
		return i.sweepDamaged(ctx, req, damaged)
	}
	if err != nil {
		return ended(ctx, err)
	}
	if b.rev == "" {
		return nil
	}
	// All of it is a leftover from now on: what is half taken away must not
	// look as if it were there to whoever goes on with the order.
	all, j := b.now.reset().Leftovers, b.now.clone()
	j.Challenges, j.Leftovers = nil, nil
	var gone []string
	var failed []error
	for n, err := range i.sweep(ctx, req, all) {
		if err != nil {
			failed, j.Leftovers = append(failed, err), append(j.Leftovers, all[n])
		} else {
			gone = append(gone, all[n].place())
		}
	}
	if err := held(ctx); err != nil {
		return err
	}
	next, err := b.keep(ctx, j, time.Now())
	if err != nil {
		failed = append(failed, err)
	} else if next != "" {
		i.log.Info("order nobody wants cleaned up", "order", b.key, "names", j.Names, "removed", gone, "left", len(j.Leftovers), "next", next)
	}
	if len(failed) > 0 {
		return ended(ctx, errors.Join(failed...))
	}
	return nil
}

// keep stores what a sweep left of a journal, or deletes it if that is nothing
// of use, and says what comes next; empty: nothing has changed.
func (b *book) keep(ctx context.Context, j journal, now time.Time) (next string, err error) {
	old := !j.Began.IsZero() && !now.Before(j.Began.Add(orphanLife))
	same := len(b.now.Challenges) == 0 && len(j.Leftovers) == len(b.now.Leftovers)
	switch {
	case same && (len(j.Leftovers) > 0 || !j.empty() && !old): // swept by another just now, or in vain
		return "", nil
	case len(j.Leftovers) > 0:
		return "what is left is tried again", b.write(ctx, j)
	case j.empty() || old:
		return "its journal is gone", b.erase(ctx)
	}
	return "the order goes on if its names are wanted again", b.write(ctx, j)
}

// sweep bounds the clean-up of all challenges together.
func (i *Issuer) sweep(ctx context.Context, req cert.Request, all []challenge) []error {
	ctx, cancel := context.WithTimeout(ctx, i.timing.cleanUp)
	defer cancel()
	return i.solver(req).sweep(ctx, all)
}

// sweep cleans up challenges and gives the errors in the same order. All DNS
// records go to the provider together.
func (s solver) sweep(ctx context.Context, all []challenge) []error {
	errs := make([]error, len(all))
	if err := held(ctx); err != nil {
		for n := range errs {
			errs[n] = err
		}
		return errs
	}
	var recs []dns.Record
	var at []int
	for n, c := range all {
		if c.Type == dns01 && s.dns != nil {
			recs, at = append(recs, c.Record.record()), append(at, n)
		} else {
			errs[n] = s.cleanUp(ctx, c)
		}
	}
	if len(recs) == 0 {
		return errs
	}
	for n, swept := range s.dns.Sweep(ctx, recs) {
		if swept.Err != nil {
			errs[at[n]] = fmt.Errorf("%s: clean up: %w", all[at[n]].label(), swept.Err)
		}
	}
	return errs
}

// place is where a challenge is presented, for people.
func (c challenge) place() string {
	switch {
	case c.Type == dns01:
		return "TXT " + c.Record.Name + " in zone " + c.Record.Zone
	case c.Type == dnsPersist01:
		return c.label()
	}
	return c.entryKey()
}
