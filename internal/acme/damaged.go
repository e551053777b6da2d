package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// damage is the store's damaged/<issuer>/<id>: since when a journal that
// nobody wants is known to be damaged. It does no harm if it outlives it.
type damage struct {
	Version int       `json:"version"`
	Journal string    `json:"journal"` // SHA-256 of its value
	Since   time.Time `json:"since"`
	Why     string    `json:"why"`
}

// sweepDamaged deletes a damaged journal once it is too old to be of use, by the
// time it was first seen so. Before that the error is a *cert.RetryError that
// says when.
func (i *Issuer) sweepDamaged(ctx context.Context, req cert.Request, why *damagedError) error {
	name, note := journalKey(i.ID(), req.ID), "damaged/"+i.ID()+"/"+req.ID
	journal, err := req.Lease.Get(ctx, name)
	if err != nil {
		return ended(ctx, fmt.Errorf("read journal %s: %w", name, err))
	}
	e, err := req.Lease.Get(ctx, note)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return ended(ctx, fmt.Errorf("read %s: %w", note, err))
	}
	now := time.Now().UTC()
	var known damage
	if err != nil || json.Unmarshal(e.Value, &known) != nil || known.Journal != fingerprint(journal.Value) || known.Since.After(now) {
		known = damage{journalVersion, fingerprint(journal.Value), now, oneLine(why.Error())}
		raw, err := json.Marshal(known)
		if err != nil {
			return err
		}
		if _, err := req.Lease.Put(ctx, note, raw, e.Revision); err != nil {
			return ended(ctx, fmt.Errorf("write %s: %w", note, err))
		}
	}
	if end := known.Since.Add(orphanLife); now.Before(end) {
		return &cert.RetryError{After: end, Waits: true,
			Err: fmt.Errorf("journal %s: %w; it is deleted at %s: whoever needs its key must save it before", name, why, end.Format(time.RFC3339))}
	}
	if err := req.Lease.Delete(ctx, name, journal.Revision); err != nil && !errors.Is(err, store.ErrNotFound) {
		return ended(ctx, fmt.Errorf("delete journal %s: %w", name, err))
	}
	i.log.Warn("damaged order nobody wants deleted", "order", name, "since", known.Since, "err", why)
	if e, err := req.Lease.Get(ctx, note); err == nil {
		_ = req.Lease.Delete(ctx, note, e.Revision)
	}
	return nil
}
