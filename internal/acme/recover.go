package acme

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/store"
)

// recover decides what a failed step means: nil to look at the CA again and go
// on from what it says, else the attempt's error. Whatever is journaled stays.
func (m *machine) recover(ctx context.Context, err error) error {
	var no *refused
	var call *callError
	switch {
	case held(ctx) != nil, errors.As(err, &no), errors.Is(err, store.ErrLeaseLost), errors.Is(err, store.ErrConflict):
		return err
	case !errors.As(err, &call):
		return m.pauseBusy(ctx, err)
	case call.is("accountDoesNotExist") && !m.resettle:
		return m.settle(ctx)
	case call.is("badCSR", "badPublicKey"):
		return m.fail(ctx, err) // another key may do
	case !soon(call) && m.book.now.Order != "":
		return m.ask(ctx, err)
	}
	return m.pause(ctx, err)
}

// soon reports whether it is worth looking again: the call may work next time,
// or was refused because the CA is further than we know.
func soon(e *callError) bool {
	return e.transient() || e.is("orderNotReady") || e.Op == "challenge" && e.is("malformed") || e.Op == "certificate" && e.gone()
}

// settle finds or makes the account again. The journal tells next that the
// order was another account's.
func (m *machine) settle(ctx context.Context) error {
	m.known()
	m.resettle = true
	if err := m.step(ctx, "account"); err != nil {
		return err
	}
	found, err := m.issuer.accounts.settle(ctx, m.account.Location)
	if err != nil {
		return err
	}
	m.account, m.truth.account = found, found.Location
	m.truth.forget()
	return nil
}

// ask looks whether a refusal has ended the order: then it is given up now,
// not when the next attempt finds out.
func (m *machine) ask(ctx context.Context, refusal error) error {
	m.truth.forget()
	if err := m.read(ctx); err != nil {
		return refusal
	}
	if m.truth.gone != "" || m.truth.order.Status == "invalid" {
		return m.fail(ctx, refusal)
	}
	return refusal
}

// pauseBusy waits for another order that is just proving the same name;
// everything else that is no call of the CA is the attempt's error.
func (m *machine) pauseBusy(ctx context.Context, err error) error {
	var busy *busyError
	if !errors.As(err, &busy) {
		return err
	}
	return m.pause(ctx, err)
}

// pause waits before a step that may work soon is looked at again; err if it
// has been tried often enough, or the CA asks for more time than an attempt
// should hold its lease for.
func (m *machine) pause(ctx context.Context, err error) error {
	t := m.issuer.timing
	var call *callError
	var busy *busyError
	d := t.retryFirst << min(m.tries, 10)
	switch {
	case errors.As(err, &call):
		if !soon(call) {
			return err
		}
		if wait := time.Until(call.After); wait > t.retryAfterMost {
			return err
		} else {
			d = max(d, wait)
		}
	case errors.As(err, &busy):
	default:
		return err
	}
	if m.tries++; m.tries > t.retries {
		return fmt.Errorf("%w; tried %d times, the order is kept", err, m.tries)
	}
	m.truth.forget()
	m.known()
	return sleep(ctx, d)
}

func isGone(err error) bool {
	var call *callError
	return errors.As(err, &call) && call.gone()
}
