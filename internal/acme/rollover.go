package acme

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/store"
)

// keyCA is the part of a CA that knows accounts by their keys (RFC 8555,
// sections 7.3.1 and 7.3.5).
type keyCA interface {
	// FindAccount gives the account of a key; a *callError with
	// accountDoesNotExist if there is none.
	FindAccount(ctx context.Context, key crypto.Signer) (acmez.Account, error)
	// ChangeKey gives the account another key.
	ChangeKey(ctx context.Context, a acmez.Account, key crypto.Signer) error
}

var _ keyCA = (*client)(nil)

func (c *client) FindAccount(ctx context.Context, key crypto.Signer) (acmez.Account, error) {
	var found acmez.Account
	_, err := c.do(ctx, "find account", func(ctx context.Context, lib *acmez.Client) error {
		var err error
		found, err = lib.GetAccount(ctx, acmez.Account{PrivateKey: key})
		if err == nil && found.Location == "" {
			err = errors.New("the answer has no Location")
		}
		return err
	})
	return found, err
}

func (c *client) ChangeKey(ctx context.Context, a acmez.Account, key crypto.Signer) error {
	_, err := c.do(ctx, "keyChange", func(ctx context.Context, lib *acmez.Client) error {
		_, err := lib.AccountKeyRollover(ctx, a, key)
		return err
	})
	return err
}

// Rollover gives the issuer's account a new key: it is in the store before the
// CA hears of it, and takes the old one's place there once the CA has it. If
// anybody dies between, the next to need the account asks the CA which of the
// two it knows. Replicas use the new key from their next order on.
func (i *Issuer) Rollover(ctx context.Context) (account string, err error) {
	a := i.accounts
	if a.keys == nil {
		return "", errors.New("this CA cannot change keys")
	}
	lease, err := a.store.Acquire(ctx, a.key())
	if err != nil {
		return "", fmt.Errorf("account %s: %w", a.issuer, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = lease.Release(ctx) // it ends by itself if this fails
	}()
	ctx = guarded(lease)
	if err := a.finishRollover(ctx, lease); err != nil {
		return "", err
	}
	rec, e, err := a.stored(ctx, lease)
	switch {
	case err != nil:
		return "", err
	case rec.Location == "" || rec.Directory != a.directory:
		return "", fmt.Errorf("account %s: there is none at %s yet; the first order makes it", a.issuer, hostOf(a.directory))
	}
	if rec.Next, err = newKey(EC256); err != nil {
		return "", err
	}
	if _, err := a.put(ctx, lease, rec, e.Revision); err != nil {
		return "", err
	}
	return rec.Location, a.change(ctx, lease)
}

// stored reads the account's record; it is empty if there is none.
func (a *accounts) stored(ctx context.Context, lease store.Lease) (account, store.Entry, error) {
	e, err := lease.Get(ctx, a.key())
	if errors.Is(err, store.ErrNotFound) {
		return account{}, store.Entry{}, nil
	}
	if err != nil {
		return account{}, e, fmt.Errorf("read account %s: %w", a.key(), err)
	}
	rec, _, err := decodeAccount(e.Value)
	if err != nil {
		return account{}, e, fmt.Errorf("read account %s: %w", a.key(), err)
	}
	return rec, e, nil
}

// finishRollover ends a rollover that somebody began: if the CA knows the new
// key it is ours; if not, the old one is, and the new one is dropped.
func (a *accounts) finishRollover(ctx context.Context, lease store.Lease) error {
	rec, e, err := a.stored(ctx, lease)
	if err != nil || len(rec.Next) == 0 || a.keys == nil {
		return err
	}
	next, err := parseKey(rec.Next)
	if err != nil {
		return fmt.Errorf("read account %s: its next key: %w", a.key(), err)
	}
	_, err = a.keys.FindAccount(ctx, next)
	var call *callError
	switch {
	case err == nil:
		a.log.Info("account key changed", "issuer", a.issuer, "account", rec.Location)
		rec.Key = rec.Next
	case errors.As(err, &call) && call.is("accountDoesNotExist"):
		a.log.Info("account key not changed", "issuer", a.issuer, "account", rec.Location, "next", "the old one is used on")
	default:
		return err // not known is neither
	}
	rec.Next = nil
	_, err = a.put(ctx, lease, rec, e.Revision)
	return err
}

// change tells the CA of the next key and, whatever it answers, asks it which
// it has.
func (a *accounts) change(ctx context.Context, lease store.Lease) error {
	rec, _, err := a.stored(ctx, lease)
	if err != nil {
		return err
	}
	old, err := parseKey(rec.Key)
	if err != nil {
		return err
	}
	next, err := parseKey(rec.Next)
	if err != nil {
		return err
	}
	changed := a.keys.ChangeKey(ctx, acmez.Account{Location: rec.Location, PrivateKey: old}, next)
	if err := a.finishRollover(ctx, lease); err != nil {
		return errors.Join(changed, err)
	}
	now, _, err := a.stored(ctx, lease)
	if err == nil && string(now.Key) == string(rec.Next) {
		return nil // also if the answer was lost
	}
	return errors.Join(changed, err)
}
