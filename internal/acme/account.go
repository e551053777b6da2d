package acme

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/store"
)

const accountVersion = 1

// EAB is an external account binding (RFC 8555, section 7.3.4).
type EAB struct {
	KeyID  string
	MACKey string // base64url, as CAs hand it out
}

// LogValue keeps the key out of logs.
func (e EAB) LogValue() slog.Value { return slog.StringValue(e.KeyID) }

// account is what the store keeps at accounts/<issuer>. The key is there
// before the CA has ever seen it, so that whatever dies, the account can be
// found again by its key.
type account struct {
	Version   int      `json:"version"`
	Directory string   `json:"directory"`      // where Location is valid
	Key       []byte   `json:"key"`            // PKCS#8 PEM
	Next      []byte   `json:"next,omitempty"` // PKCS#8 PEM: the CA may have been told that it takes the place of Key
	Location  string   `json:"location,omitempty"`
	Contact   []string `json:"contact,omitempty"`
}

func decodeAccount(raw []byte) (account, crypto.Signer, error) {
	var a account
	if err := json.Unmarshal(raw, &a); err != nil {
		return account{}, nil, fmt.Errorf("it is damaged: %w", err)
	}
	if a.Version > accountVersion {
		return account{}, nil, later(a.Version, accountVersion)
	}
	if a.Version < 1 {
		return account{}, nil, fmt.Errorf("it is damaged: version %d", a.Version)
	}
	key, err := parseKey(a.Key)
	if err != nil {
		return account{}, nil, fmt.Errorf("it is damaged: %w", err)
	}
	return a, key, nil
}

// errLater is what only replicas of a later version can read: deleting it, as
// may help against what is damaged, would lose it.
var errLater = errors.New("a later version of this program wrote it; bring this replica up to that")

func later(have, known int) error {
	return fmt.Errorf("it has version %d, this program knows %d: %w", have, known, errLater)
}

// accounts keeps the one account of an issuer.
type accounts struct {
	issuer    string
	directory string
	contact   []string
	eab       *EAB
	store     store.Store
	ca        accountCA
	log       *slog.Logger

	keys keyCA // nil: this CA cannot change keys

	known atomic.Pointer[knownAccount]
}

// knownAccount is the account as it was stored at a revision.
type knownAccount struct {
	acmez.Account
	revision store.Revision
}

func (a *accounts) key() string { return "accounts/" + a.issuer }

// url is the account's, as far as it is known.
func (a *accounts) url() string {
	if known := a.known.Load(); known != nil {
		return known.Location
	}
	return ""
}

// get gives the account, making it if there is none. What is known is used for
// as long as it is what is stored: its key may have been changed.
func (a *accounts) get(ctx context.Context) (acmez.Account, error) {
	if known := a.known.Load(); known != nil {
		e, err := a.store.Get(ctx, a.key())
		if err == nil && e.Revision == known.revision || err != nil && !errors.Is(err, store.ErrNotFound) {
			return known.Account, nil
		}
	}
	return a.settle(ctx, "")
}

// settle makes sure that there is an account whose URL is not stale, the URL
// the CA does not know (any more). One replica at a time does it.
func (a *accounts) settle(ctx context.Context, stale string) (acmez.Account, error) {
	if found, ok, err := a.load(ctx, a.store.Get, stale); err != nil || ok {
		return found, err
	}
	lease, err := a.store.Acquire(ctx, a.key())
	if err != nil {
		return acmez.Account{}, fmt.Errorf("account %s: %w", a.issuer, err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = lease.Release(ctx) // it ends by itself if this fails
	}()
	ctx = guarded(lease)
	if err := a.finishRollover(ctx, lease); err != nil {
		return acmez.Account{}, err
	}
	if found, ok, err := a.load(ctx, lease.Get, stale); err != nil || ok {
		return found, err
	}
	return a.register(ctx, lease)
}

// load takes the account from the store if it is usable.
func (a *accounts) load(ctx context.Context, get func(context.Context, string) (store.Entry, error), stale string) (acmez.Account, bool, error) {
	e, err := get(ctx, a.key())
	if errors.Is(err, store.ErrNotFound) {
		return acmez.Account{}, false, nil
	}
	if err != nil {
		return acmez.Account{}, false, fmt.Errorf("read account %s: %w", a.key(), err)
	}
	rec, key, err := decodeAccount(e.Value)
	switch {
	case errors.Is(err, errLater):
		return acmez.Account{}, false, fmt.Errorf("read account %s: %w", a.key(), err)
	case err != nil:
		return acmez.Account{}, false, fmt.Errorf("read account %s: %w; mend it, or delete it to register anew", a.key(), err)
	}
	if rec.Location == "" || rec.Location == stale || rec.Directory != a.directory || len(rec.Next) > 0 {
		return acmez.Account{}, false, nil
	}
	found := acmez.Account{Status: acmez.StatusValid, Contact: rec.Contact, Location: rec.Location, PrivateKey: key}
	a.known.Store(&knownAccount{found, e.Revision})
	return found, true, nil
}

// register stores a key if there is none, then makes the CA's account of it.
// With a key the CA knows this finds the account: it can be repeated.
func (a *accounts) register(ctx context.Context, lease store.Lease) (acmez.Account, error) {
	rec := account{Version: accountVersion, Directory: a.directory, Contact: a.contact}
	e, err := lease.Get(ctx, a.key())
	switch {
	case errors.Is(err, store.ErrNotFound):
		if rec.Key, err = newKey(EC256); err != nil {
			return acmez.Account{}, err
		}
		if e.Revision, err = a.put(ctx, lease, rec, ""); err != nil {
			return acmez.Account{}, err
		}
	case err != nil:
		return acmez.Account{}, fmt.Errorf("read account %s: %w", a.key(), err)
	default:
		old, _, err := decodeAccount(e.Value)
		if err != nil {
			return acmez.Account{}, fmt.Errorf("read account %s: %w", a.key(), err)
		}
		rec.Key = old.Key
	}
	key, err := parseKey(rec.Key)
	if err != nil {
		return acmez.Account{}, err
	}
	if meta, err := a.ca.About(ctx); err != nil {
		return acmez.Account{}, err
	} else if meta.EABRequired && a.eab == nil {
		return acmez.Account{}, fmt.Errorf("newAccount: %s asks for an external account binding: set its key id and MAC key", hostOf(a.directory))
	}
	made, err := a.ca.Register(ctx, acmez.Account{Contact: a.contact, PrivateKey: key}, a.eab)
	if err != nil {
		return acmez.Account{}, err
	}
	rec.Location = made.Location
	rev, err := a.put(ctx, lease, rec, e.Revision)
	if err != nil {
		return acmez.Account{}, err
	}
	a.log.Info("account registered", "issuer", a.issuer, "account", made.Location)
	found := acmez.Account{Status: acmez.StatusValid, Contact: rec.Contact, Location: rec.Location, PrivateKey: key}
	a.known.Store(&knownAccount{found, rev})
	return found, nil
}

func (a *accounts) put(ctx context.Context, lease store.Lease, rec account, have store.Revision) (store.Revision, error) {
	raw, err := json.Marshal(rec)
	if err != nil {
		return "", err
	}
	rev, err := lease.Put(ctx, a.key(), raw, have)
	if err != nil {
		return "", fmt.Errorf("write account %s: %w", a.key(), err)
	}
	return rev, nil
}
