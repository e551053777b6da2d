package acme

import (
	"context"
	"errors"
	"net/http"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// order sends newOrder, unless it was sent before and the order that its answer
// told of can be found. Nobody else orders the same names meanwhile.
func (m *machine) order(ctx context.Context) error {
	j := m.book.now.clone()
	if j.Account != m.account.Location {
		j.Account = m.account.Location
		if err := m.book.write(ctx, j); err != nil {
			return err
		}
	}
	if m.lost {
		if o, ok := m.find(ctx); ok {
			m.issuer.log.Info("order found again", "order", m.book.key, "url", o.Location)
			return m.ordered(ctx, j, o)
		}
		m.lost = false
	}
	if err := m.step(ctx, "wait for a turn at the CA"); err != nil {
		return err
	}
	if err := m.admit(ctx); err != nil {
		return err
	}
	j.Turn = m.book.now.Turn
	if err := m.step(ctx, "newOrder"); err != nil {
		return err
	}
	o, err := m.issuer.ca.NewOrder(askedBefore(ctx, m.await), m.account, acmez.Order{
		Identifiers: identifiers(j.Names), Profile: j.Profile, Replaces: j.Replaces,
	})
	var call *callError
	if errors.As(err, &call) {
		m.lost = call.Problem == nil || call.Status >= http.StatusInternalServerError
		if j.Replaces != "" && replacesRefused(call, m.tries >= m.issuer.timing.retries-1) {
			m.issuer.log.Info("order without replaces", "order", m.book.key, "reason", call.Error())
			j.Replaces, j.InWindow = "", false
			m.lost = call.is("alreadyReplaced") || call.Status == http.StatusConflict // by an order of ours, if we are lucky
			defer m.known()
			return m.book.write(ctx, j)
		}
	}
	if err == nil {
		err = m.ownTurn(ctx, o.Location)
	}
	if err != nil {
		return err
	}
	return m.ordered(ctx, j, o)
}

// await has the end of this process wait for the answer of what is about to be
// sent; an error: it has been asked to end, nothing more is sent.
func (m *machine) await() error {
	if m.beside != nil && m.beside.Context().Err() != nil {
		return context.Cause(m.beside.Context())
	}
	if m.req.Await == nil {
		return nil
	}
	answered, err := m.req.Await()
	if err == nil {
		m.answered = answered
	}
	return err
}

// known: what newOrder was answered is in the journal, or need not be; the
// process may end.
func (m *machine) known() {
	if m.answered != nil {
		m.answered()
		m.answered = nil
	}
}

// ordered journals the order: from here on its address cannot be lost.
func (m *machine) ordered(ctx context.Context, j journal, o acmez.Order) error {
	defer m.known()
	j.Order, j.Turn, j.Ordered = o.Location, time.Time{}, time.Now().UTC().Truncate(time.Second)
	if err := m.book.write(ctx, j); err != nil {
		return err
	}
	m.lost = false
	m.truth.forget()
	m.truth.gone, m.tries, m.handed = "", 0, 0
	if o.Status != "" { // else only where it is was to be understood
		m.truth.order = &o
	}
	return nil
}

// replacesRefused reports whether newOrder was refused for what it replaces
// (RFC 9773, section 5): that is replaced already, by an order whose answer may
// be lost (the same CA then gives that order), is another account's, or not
// known. Pebble says 500 of what it does not know; a CA in trouble does too, so
// last is whether it has been tried often enough.
func replacesRefused(e *callError, last bool) bool {
	switch {
	case e.Problem == nil:
		return false
	case e.is("alreadyReplaced"), e.Status == http.StatusConflict, e.Status == http.StatusNotFound:
		return true
	case e.Status >= 500:
		return last
	}
	return e.is("malformed", "unauthorized")
}
