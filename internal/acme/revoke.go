package acme

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/cert"
)

var _ cert.Revoker = (*Issuer)(nil)

// revokeCA is the part of a CA that takes certificates back (RFC 8555, section
// 7.6). key is the certificate's; nil: the account asks.
type revokeCA interface {
	Revoke(ctx context.Context, a acmez.Account, leaf *x509.Certificate, key crypto.Signer, reason int) error
}

var _ revokeCA = (*client)(nil)

func (c *client) Revoke(ctx context.Context, a acmez.Account, leaf *x509.Certificate, key crypto.Signer, reason int) error {
	if _, about, err := c.ready(ctx); err != nil {
		return err
	} else if !about.Revocation {
		return &cert.RefusedError{Err: fmt.Errorf("%s takes no certificates back: its directory has no revokeCert", hostOf(c.url))}
	}
	_, err := c.do(ctx, "revokeCert", func(ctx context.Context, lib *acmez.Client) error {
		return lib.RevokeCertificate(ctx, a, leaf, key, reason)
	})
	return err
}

// Revoke has the CA take a certificate back. The account asks; where it may not
// (another account ordered it, or it is gone), the certificate's own key does.
// That it is revoked already is a success.
func (i *Issuer) Revoke(ctx context.Context, r cert.Revocation) (said string, err error) {
	ctx, stop := during(ctx, r.Lease)
	defer stop()
	leaf, err := x509.ParseCertificate(r.Leaf)
	if err != nil {
		return "", &cert.RefusedError{Err: err}
	}
	if i.revoker == nil {
		return "", &cert.RefusedError{Err: errors.New("this CA takes no certificates back")}
	}
	account, err := i.accounts.get(ctx)
	if err == nil {
		err = i.revoker.Revoke(ctx, account, leaf, nil, r.Reason.Code())
	}
	if said, done := i.taken(err, "the account"); done {
		return said, nil
	}
	var call *callError
	if held(ctx) != nil || !errors.As(err, &call) || call.transient() || call.is("badRevocationReason") || len(r.Key) == 0 {
		return "", i.lastWord(err)
	}
	key, parsed := parseKey(r.Key)
	if parsed != nil {
		return "", i.lastWord(err)
	}
	byAccount := err
	err = i.revoker.Revoke(ctx, account, leaf, key, r.Reason.Code())
	if said, done := i.taken(err, "the certificate's key, as the account may not: "+byAccount.Error()); done {
		return said, nil
	}
	return "", i.lastWord(fmt.Errorf("asked by the account: %w; asked by the certificate's key: %w", byAccount, cmp.Or(err, byAccount)))
}

// taken tells whether the CA has taken the certificate back, and what it said.
func (i *Issuer) taken(err error, by string) (said string, ok bool) {
	var call *callError
	switch {
	case err == nil:
		return fmt.Sprintf("%s took it back (200), asked by %s", hostOf(i.opts.Directory), by), true
	case errors.As(err, &call) && call.is("alreadyRevoked"):
		return call.said() + ", asked by " + by, true
	}
	return "", false
}

// lastWord makes an error that asking again cannot change a *cert.RefusedError.
func (i *Issuer) lastWord(err error) error {
	var call *callError
	if errors.As(err, &call) && !call.transient() && call.Status >= http.StatusBadRequest {
		return &cert.RefusedError{Err: err}
	}
	return i.timed(err)
}
