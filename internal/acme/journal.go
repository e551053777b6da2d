package acme

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

const journalVersion = 1

// journal is what the store knows of one order, orders/<issuer>/<id>. Each
// field is written before the step it announces is done, so whoever reads it
// after a death knows all that may have happened, asks the CA what did, and
// goes on. How far an order has come is not a field of its own: it follows
// from what is here (see next).
type journal struct {
	Version   int       `json:"version"`
	Directory string    `json:"directory,omitempty"` // of the CA
	Names     []string  `json:"names,omitempty"`
	Key       []byte    `json:"key,omitempty"` // PKCS#8 PEM, the certificate's, made before anything is ordered
	Profile   string    `json:"profile,omitempty"`
	Replaces  string    `json:"replaces,omitempty"` // RFC 9773, section 4.1: the certificate renewed
	Renews    string    `json:"renews,omitempty"`   // SHA-256 of its leaf, whether or not the CA is told of it
	InWindow  bool      `json:"inWindow,omitempty"` // begun inside the CA's window for that
	Turn      time.Time `json:"turn,omitzero"`      // when the CA's limits allow the order; zero: now
	Account   string    `json:"account,omitempty"`  // URL of the account that orders
	Order     string    `json:"order,omitempty"`    // URL; empty: not ordered, or the answer is lost
	Finalized bool      `json:"finalized,omitempty"`
	Chain     []byte    `json:"chain,omitempty"` // PEM, downloaded and checked
	Began     time.Time `json:"began,omitzero"`
	Ordered   time.Time `json:"ordered,omitzero"` // when the CA gave Order

	Challenges []challenge `json:"challenges,omitempty"`
	// Leftovers are challenges of earlier orders that are not cleaned up yet.
	Leftovers []challenge `json:"leftovers,omitempty"`
	// Failure is why the CA refused the order that was here, until that is
	// stored as a failed attempt: whoever dies in between makes nobody order anew
	// before the pause that follows a failure.
	Failure string `json:"failure,omitempty"`
}

// challenge is one chosen way to prove one name.
type challenge struct {
	Authorization string        `json:"authorization"` // URL
	Name          string        `json:"name"`          // without "*."
	Type          string        `json:"type"`
	URL           string        `json:"url"`
	Token         string        `json:"token"`
	Value         string        `json:"value"`            // key authorization, digest or TXT value, by type
	Record        *storedRecord `json:"record,omitempty"` // dns-01: where, CNAMEs followed
	Expires       time.Time     `json:"expires,omitzero"`
	State         state         `json:"state"`
}

// storedRecord is dns.Record as it is stored.
type storedRecord struct {
	Zone  string        `json:"zone"`
	Name  string        `json:"name"`
	Value string        `json:"value"`
	TTL   time.Duration `json:"ttl"`

	Domain  string `json:"domain,omitempty"`
	KeyAuth string `json:"keyAuth,omitempty"`
}

func (r storedRecord) record() dns.Record { return dns.Record(r) }

// state is how far a challenge has come; each is journaled before the step.
type state string

const (
	chosen    state = "chosen"    // it may have been presented
	presented state = "presented" // it has been
	told      state = "told"      // the CA may have been told
)

// label is how messages name a challenge.
func (c challenge) label() string { return c.Type + " " + c.Name }

// damagedError is a journal that nobody can read, now or later.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return "it is damaged: " + e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// decodeJournal gives a *damagedError for what no program wrote so. What is
// sealed under another key, or of a later version, is not damaged.
func decodeJournal(raw []byte) (journal, error) {
	if err := store.CheckSealed(raw); err != nil {
		return journal{}, err
	}
	var j journal
	if err := json.Unmarshal(raw, &j); err != nil {
		return journal{}, &damagedError{err}
	}
	if j.Version > journalVersion {
		return journal{}, later(j.Version, journalVersion)
	}
	if j.Version < 1 {
		return journal{}, &damagedError{fmt.Errorf("version %d", j.Version)}
	}
	for _, c := range slices.Concat(j.Challenges, j.Leftovers) {
		if err := c.check(); err != nil {
			return journal{}, &damagedError{fmt.Errorf("challenge of %s: %w", c.Name, err)}
		}
	}
	if len(j.Key) > 0 {
		if _, err := parseKey(j.Key); err != nil {
			return journal{}, &damagedError{err}
		}
	}
	if len(j.Key) == 0 && (j.Order != "" || len(j.Chain) > 0) {
		return journal{}, &damagedError{errors.New("an order without a key")}
	}
	return j, nil
}

// check refuses what would make us write or delete somewhere we never would.
func (c challenge) check() error {
	switch c.State {
	case chosen, presented, told:
	default:
		return fmt.Errorf("unknown state %q", c.State)
	}
	switch c.Type {
	case dns01:
		if c.Record == nil {
			return errors.New("dns-01 without a record")
		}
	case http01:
		if !validToken(c.Token) {
			return fmt.Errorf("token %.40q", c.Token)
		}
	case tlsALPN01, dnsPersist01:
		if !validName(c.Name) {
			return fmt.Errorf("name %.40q", c.Name)
		}
	default:
		return fmt.Errorf("unknown type %q", c.Type)
	}
	return nil
}

func (j journal) encode() ([]byte, error) {
	j.Version = journalVersion
	return json.Marshal(j)
}

// empty reports whether nothing is worth keeping.
func (j journal) empty() bool {
	return len(j.Key) == 0 && len(j.Challenges) == 0 && len(j.Leftovers) == 0
}

// reset is the journal after an order that leads nowhere: nothing but what
// must still be cleaned up.
func (j journal) reset() journal {
	return journal{Version: journalVersion, Leftovers: slices.Concat(j.Leftovers, j.Challenges)}
}

func (j journal) challenge(authorization string) (int, bool) {
	i := slices.IndexFunc(j.Challenges, func(c challenge) bool { return c.Authorization == authorization })
	return i, i >= 0
}

// clone lets a change be prepared and thrown away if it cannot be stored.
func (j journal) clone() journal {
	j.Challenges, j.Leftovers = slices.Clone(j.Challenges), slices.Clone(j.Leftovers)
	return j
}

// book is a journal in the store, written through the lease of its order.
type book struct {
	lease store.Lease
	key   string
	now   journal
	rev   store.Revision
	pause time.Duration // before an ambiguous write is looked at
}

func journalKey(issuer, id string) string { return "orders/" + issuer + "/" + id }

// openBook reads the journal of req. A damaged one is an error, with its key
// in the text: it may hold the only copy of a private key, so only a person
// may throw it away.
func openBook(ctx context.Context, issuer string, req cert.Request, pause time.Duration) (*book, error) {
	b := &book{lease: req.Lease, key: journalKey(issuer, req.ID), pause: pause}
	e, err := req.Lease.Get(ctx, b.key)
	if errors.Is(err, store.ErrNotFound) {
		b.now = journal{Version: journalVersion}
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal %s: %w", b.key, err)
	}
	b.now, err = decodeJournal(e.Value)
	switch {
	case errors.Is(err, errLater):
		return nil, fmt.Errorf("read journal %s: %w", b.key, err)
	case err != nil:
		return nil, fmt.Errorf("read journal %s: %w; look at it and delete it to order anew", b.key, err)
	}
	b.rev = e.Revision
	return b, nil
}

// write stores j as the journal; only then it is the present one. A write
// whose end is unknown is looked at and, if it was not done, tried again.
func (b *book) write(ctx context.Context, j journal) error {
	raw, err := j.encode()
	if err != nil {
		return err
	}
	const tries = 4
	for try := 1; ; try++ {
		rev, err := b.lease.Put(ctx, b.key, raw, b.rev)
		if err == nil {
			b.now, b.rev = j, rev
			return nil
		}
		if definite(err) || ctx.Err() != nil || try == tries {
			// A conflict may be our own write whose answer was lost.
			if rev, ok := b.written(ctx, raw); ok {
				b.now, b.rev = j, rev
				return nil
			}
			return fmt.Errorf("write journal %s: %w", b.key, err)
		}
		if rev, ok := b.written(ctx, raw); ok {
			b.now, b.rev = j, rev
			return nil
		}
		if err := sleep(ctx, b.pause); err != nil {
			return fmt.Errorf("write journal %s: %w", b.key, err)
		}
	}
}

func (b *book) written(ctx context.Context, raw []byte) (store.Revision, bool) {
	e, err := b.lease.Get(ctx, b.key)
	return e.Revision, err == nil && bytes.Equal(e.Value, raw)
}

// erase deletes the journal.
func (b *book) erase(ctx context.Context) error {
	if b.rev == "" {
		return nil
	}
	if err := b.lease.Delete(ctx, b.key, b.rev); err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("delete journal %s: %w", b.key, err)
	}
	b.now, b.rev = journal{Version: journalVersion}, ""
	return nil
}

// definite reports whether a failed write surely was not done.
func definite(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrTooLarge) || errors.Is(err, store.ErrLeaseLost)
}

// fingerprint is how a journal names a leaf.
func fingerprint(der []byte) string {
	if der == nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
