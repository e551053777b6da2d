package cert

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/store"
)

const revocationsPrefix = "revocations"

// revokeLimit bounds one go at a revocation.
const revokeLimit = 2 * time.Minute

// Reason is why a certificate is revoked (RFC 5280, section 5.3.1).
type Reason string

// reasons are those a subscriber may give to a public CA, with their codes.
var reasons = map[Reason]int{
	"unspecified": 0, "keyCompromise": 1, "affiliationChanged": 3, "superseded": 4, "cessationOfOperation": 5,
}

// Reasons are the allowed ones, spelled out.
func Reasons() []string {
	return []string{"unspecified", "keyCompromise", "affiliationChanged", "superseded", "cessationOfOperation"}
}

// ParseReason reads a reason, in any case; "" is unspecified.
func ParseReason(text string) (Reason, error) {
	if text == "" {
		return "unspecified", nil
	}
	for r := range reasons {
		if strings.EqualFold(string(r), text) {
			return r, nil
		}
	}
	return "", fmt.Errorf("reason %q is none a certificate is revoked for: give %s", text, strings.Join(Reasons(), ", "))
}

// Code is the number of RFC 5280.
func (r Reason) Code() int { return reasons[r] }

// Revoker is an Issuer that can take back what it issued.
type Revoker interface {
	// Revoke says what the issuer answered; an error that is a *RefusedError is
	// its last word, after any other it is called again.
	Revoke(ctx context.Context, r Revocation) (said string, err error)
}

// Revocation is what a Revoker is asked for. It is made under Lease, which is
// that of the certificate's orders.
type Revocation struct {
	Leaf   []byte // DER
	Key    []byte // of the leaf, PKCS#8 PEM; nil: it is not there any more
	Reason Reason
	Lease  store.Lease
}

// RefusedError is an issuer's last word.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RefusedError) Unwrap() error { return e.Err }

// revocation is the value under revocations/: that a person wants a certificate
// revoked, and what came of it. It stays until the certificate after the one
// that took the revoked one's place.
type revocation struct {
	Version int       `json:"version"`
	Asked   time.Time `json:"asked"`
	Leaf    []byte    `json:"leaf"` // DER of what is to be revoked
	Reason  Reason    `json:"reason"`
	Stop    bool      `json:"stop,omitempty"` // nothing is ordered in its place, and it is not served
	Done    time.Time `json:"done,omitzero"`  // the issuer has had its last word
	Refused bool      `json:"refused,omitempty"`
	Said    string    `json:"said,omitempty"` // by the issuer, at last or so far
	// Of goes that failed.
	Failures int       `json:"failures,omitempty"`
	Next     time.Time `json:"next,omitzero"`
	Replica  string    `json:"replica,omitempty"`

	leaf string // fingerprint of Leaf
}

func decodeRevocation(value []byte) (revocation, error) {
	if len(value) > maxValue {
		return revocation{}, fmt.Errorf("value has %d bytes (at most %d)", len(value), maxValue)
	}
	var r revocation
	if err := strictJSON(value, &r); err != nil {
		return revocation{}, err
	}
	_, known := reasons[r.Reason]
	switch {
	case r.Version != recordVersion:
		return revocation{}, fmt.Errorf("value has version %d (this program reads %d)", r.Version, recordVersion)
	case len(r.Leaf) == 0 || !known || r.Failures < 0:
		return revocation{}, errors.New("value is no revocation")
	case r.Next.After(r.Asked.Add(10 * 365 * 24 * time.Hour)):
		return revocation{}, fmt.Errorf("next go at %s", r.Next.Format(time.RFC3339))
	}
	r.leaf = fingerprint(r.Leaf)
	return r, nil
}

func (r revocation) encode() ([]byte, error) {
	r.Version = recordVersion
	if len(r.Said) > maxErrorText {
		r.Said = strings.ToValidUTF8(r.Said[:maxErrorText], "") + " ..."
	}
	return json.Marshal(r)
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// of reports whether c is what was, or is to be, revoked.
func (r revocation) of(c *Certificate) bool {
	return r.leaf != "" && c != nil && r.leaf == fingerprint(c.raw())
}

// revoked: the issuer has taken it back.
func (r revocation) revoked() bool { return !r.Done.IsZero() && !r.Refused }

// stopped reports whether nothing is to be ordered: c was revoked for good, and
// no person has asked for one since.
func (r revocation) stopped(c *Certificate, asked time.Time) bool {
	return r.Stop && r.revoked() && r.of(c) && !asked.After(r.Asked)
}

// replace is when somebody wanted c replaced because it is revoked; zero: no.
func (r revocation) replace(c *Certificate) time.Time {
	if r.revoked() && !r.Stop && r.of(c) {
		return r.Done
	}
	return time.Time{}
}

// text tells people of it.
func (r revocation) text() string {
	head := fmt.Sprintf("asked for at %s, reason %s: ", r.Asked.UTC().Format(time.RFC3339), r.Reason)
	switch {
	case r.Refused:
		return head + "refused: " + r.Said
	case !r.Done.IsZero() && r.Stop:
		return head + "revoked: " + r.Said + "; nothing is ordered in its place before \"gatehouse certs renew\""
	case !r.Done.IsZero():
		return head + "revoked: " + r.Said
	case r.Failures > 0:
		return fmt.Sprintf("%snot yet (%d tries, next %s): %s", head, r.Failures, r.Next.UTC().Format(time.RFC3339), r.Said)
	}
	return head + "not yet"
}

// Revoke asks the replicas to have the certificate that is in the store now for
// an issuer and ID revoked, and replaced unless stop is set. Any process may
// call it.
func Revoke(ctx context.Context, s store.Store, issuerID, id string, reason Reason, stop bool) (asked time.Time, err error) {
	kk := key{issuerID, id}
	e, err := s.Get(ctx, kk.under(certificatesPrefix))
	if err != nil {
		return time.Time{}, fmt.Errorf("read %s: %w", kk.under(certificatesPrefix), err)
	}
	c, err := decodeCertificate(kk, e.Value)
	if err != nil {
		return time.Time{}, fmt.Errorf("read %s: %w", kk.under(certificatesPrefix), err)
	}
	asked = time.Now().UTC()
	value, err := revocation{Asked: asked, Leaf: c.raw(), Reason: reason, Stop: stop}.encode()
	if err != nil {
		return time.Time{}, err
	}
	return asked, replaceValue(ctx, s, kk.under(revocationsPrefix), value)
}

// replaceValue writes over whatever is there.
func replaceValue(ctx context.Context, s store.Store, name string, value []byte) error {
	for {
		e, err := s.Get(ctx, name)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		_, err = s.Put(ctx, name, value, e.Revision)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrConflict):
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
}

// seeRevocations takes over what people want revoked, and what was. Only its
// watch calls it.
func (k *Keeper) seeRevocations(entries []store.Entry) {
	revocations := decodeAll(revocationsPrefix, entries, decodeRevocation, func(e store.Entry, err error) {
		k.log.Warn("stored revocation refused", "key", e.Key, "err", err, "next", "nothing is revoked for it")
	})
	k.mu.Lock()
	k.revocations = revocations
	k.mu.Unlock()
	k.serve()
}

// revocable are the revocations somebody has to ask an issuer for.
func revocable(now time.Time, v view) []action {
	var out []action
	for kk, r := range v.revocations {
		if _, can := v.issuers[kk.issuer].(Revoker); !r.Done.IsZero() || !can {
			continue
		}
		a := action{key: kk, do: revoke, at: now}
		if r.Next.After(now) && r.Next.Before(now.Add(maxSkew)) {
			a.do, a.at = rest, r.Next
		}
		out = append(out, a.paused(now, v.pauses))
	}
	return out
}

// revoke has the lease of an order and asks its issuer to take the certificate
// back. What came of it is stored.
func (k *Keeper) revoke(ctx context.Context, lease store.Lease, t *turn) {
	k.say(t, "revoke")
	name := t.key.under(revocationsPrefix)
	e, err := get(lease.Context(), lease, name)
	if err != nil {
		k.storeTrouble(ctx, t, err)
		return
	}
	r, err := decodeRevocation(e.Value)
	if err != nil || !r.Done.IsZero() || r.Next.After(time.Now()) {
		return // the watch has told, or will
	}
	key, err := k.keyOf(lease, t.key, r)
	if err != nil {
		k.storeTrouble(ctx, t, err)
		return
	}
	var said string
	err = guard(func() (err error) {
		bounded, cancel := context.WithTimeout(lease.Context(), revokeLimit)
		defer cancel()
		said, err = k.issuers[t.key.issuer].(Revoker).Revoke(bounded, Revocation{Leaf: r.Leaf, Key: key, Reason: r.Reason, Lease: lease})
		return err
	})
	if ctx.Err() != nil || lease.Context().Err() != nil {
		return // whoever comes next asks again: a second time does no harm
	}
	now := time.Now()
	var no *RefusedError
	r.Replica, r.Said = k.replica, said
	args := []any{"id", t.key.id, "issuer", t.key.issuer, "reason", r.Reason}
	switch {
	case err == nil:
		r.Done = now.UTC()
		k.log.Info("certificate revoked", append(args, "said", said, "stop", r.Stop)...)
	case errors.As(err, &no):
		r.Done, r.Refused, r.Said = now.UTC(), true, err.Error()
		k.log.Error("certificate not revoked", append(args, "err", err)...)
	default:
		r.Failures++
		r.Said = err.Error()
		a := attempt{Failures: r.Failures}
		if outcomeOf(err) == Unreached {
			a.Unreached = r.Failures
		}
		r.Next = nextAttempt(now, a, err, rand.Float64()).UTC()
		k.log.Warn("certificate not revoked yet", append(args, "err", err, "next", r.Next)...)
	}
	value, err := r.encode()
	if err == nil {
		_, err = lease.Put(lease.Context(), name, value, e.Revision)
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		k.storeTrouble(ctx, t, err)
	}
}

// keyOf is the private key of what is to be revoked, if it is still there.
func (k *Keeper) keyOf(lease store.Lease, kk key, r revocation) ([]byte, error) {
	e, err := get(lease.Context(), lease, kk.under(certificatesPrefix))
	if err != nil {
		return nil, err
	}
	c, err := decodeCertificate(kk, e.Value)
	if err != nil || !r.of(c) {
		return nil, nil
	}
	_, key, _ := Pair(e.Value)
	return key, nil
}

// forget deletes the revocation of a certificate before the one that a new one
// takes the place of. It does no harm if it stays.
func (k *Keeper) forget(lease store.Lease, kk key, replaced *Certificate) {
	k.mu.Lock()
	r, ok := k.revocations[kk]
	k.mu.Unlock()
	if !ok || r.Done.IsZero() || replaced == nil || r.of(replaced) || !replaced.Obtained.After(r.Done) {
		return
	}
	if e, err := get(lease.Context(), lease, kk.under(revocationsPrefix)); err == nil && e.Revision != "" {
		_ = lease.Delete(lease.Context(), kk.under(revocationsPrefix), e.Revision)
	}
}

// serve tells the index of all that is to be served: not what was revoked for
// good.
func (k *Keeper) serve() {
	k.serving.Lock()
	defer k.serving.Unlock()
	k.mu.Lock()
	list := make([]*Certificate, 0, len(k.held))
	for kk, h := range k.held {
		if h.cert == nil || k.revocations[kk].stopped(h.cert, time.Time{}) {
			continue
		}
		list = append(list, h.cert)
	}
	known := k.knowsCertificates
	k.mu.Unlock()
	if known {
		k.index.SetManaged(slices.Clip(list))
	}
}

// RevocationState is what came of a revocation so far.
type RevocationState struct {
	Asked         time.Time
	Done, Refused bool
	Said          string // by the issuer
}

// RevocationOf reads it from the store, as any process can.
func RevocationOf(ctx context.Context, s store.Store, issuerID, id string) (RevocationState, error) {
	name := key{issuerID, id}.under(revocationsPrefix)
	e, err := s.Get(ctx, name)
	if err != nil {
		return RevocationState{}, fmt.Errorf("read %s: %w", name, err)
	}
	r, err := decodeRevocation(e.Value)
	if err != nil {
		return RevocationState{}, fmt.Errorf("read %s: %w", name, err)
	}
	return RevocationState{Asked: r.Asked, Done: r.revoked(), Refused: r.Refused, Said: r.Said}, nil
}
