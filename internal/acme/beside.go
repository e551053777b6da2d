package acme

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/store"
)

const (
	// besideOften is how often it is looked whether an order beside is through.
	besideOften = 10 * time.Second
	// besideFor is how long it is waited for. One that is not through by then has
	// come to a stand, and its names are not to wait with it: whoever of the two
	// finalizes first has the order, and the other one orders anew.
	besideFor = time.Hour
)

// apart lets order run while no issuer beside this one (Options.Beside) orders
// the same names, or has an order of them that the CA would give again: that is
// one until its certificate is there. The lease makes looking and ordering one
// step; the journals tell of orders whose owner has died.
func (m *machine) apart(ctx context.Context, order func(context.Context) error) error {
	o := m.issuer.opts
	if len(o.Beside) == 0 {
		return order(ctx)
	}
	lease, err := o.Store.Acquire(ctx, "ordering/"+cmp.Or(o.Account, o.ID)+"/"+m.req.ID)
	if err != nil {
		return fmt.Errorf("order %s beside other keys: %w", m.book.key, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = lease.Release(ctx) // it ends by itself if this fails
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(lease.Context(), func() { cancel(context.Cause(lease.Context())) })()
	m.beside = lease
	defer func() { m.beside = nil }()
	if err := m.ownTurn(ctx, ""); err != nil {
		return err
	}
	return order(ctx)
}

// ownTurn is an error as long as an issuer beside this one has an open order for
// the names: one at url, if that is not empty.
func (m *machine) ownTurn(ctx context.Context, url string) error {
	for _, id := range m.issuer.opts.Beside {
		if m.beside == nil {
			return nil
		}
		e, err := m.beside.Get(ctx, journalKey(id, m.req.ID))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the journal of issuer %s: %w", id, err)
		}
		var other journal
		if json.Unmarshal(e.Value, &other) != nil {
			continue // damaged: nobody goes on with it
		}
		now := time.Now()
		if other.open(now) && (url == "" || url == other.Order) {
			return &waitError{now.Add(besideOften), fmt.Sprintf("the order of issuer %s for the same names comes first, as the CA may give both the same", id), false, false}
		}
	}
	return nil
}

// open reports whether the CA may still give the order again.
func (j journal) open(now time.Time) bool {
	return j.Order != "" && len(j.Chain) == 0 && now.Before(j.Ordered.Add(besideFor))
}
