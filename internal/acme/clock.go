package acme

import (
	"context"
	"crypto/x509"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

const (
	// keepUnusable is how old an order may get whose certificate cannot be used.
	keepUnusable = time.Hour
	// Orders and authorizations that the CA still calls open so long after their
	// end are no more; a CA may be long in issuing.
	openGrace       = 10 * time.Minute
	processingGrace = 24 * time.Hour
)

// now is the earlier of the CA's time and ours: what is over by both is over.
func (m *machine) now() time.Time {
	now := time.Now()
	if theirs, ok := m.issuer.ca.Now(); ok && theirs.Before(now) {
		return theirs
	}
	return now
}

// timeFor is the time a new certificate is judged by: ours, or the CA's if only
// by that it is valid. No clock of ours that is wrong throws away what is paid
// for, to order it again.
func (m *machine) timeFor(leaf *x509.Certificate) time.Time {
	now := time.Now()
	if !now.After(leaf.NotAfter) && !leaf.NotBefore.After(now.Add(skew)) {
		return now
	}
	if theirs, ok := m.issuer.ca.Now(); ok {
		return theirs
	}
	return now
}

// stale says why the journal is not one to go on with; empty: it is. What has
// expired by our clock only has not.
func (m *machine) stale(ctx context.Context) (string, error) {
	why := stale(m.book.now, m.req, m.issuer.opts.Directory, time.Now())
	if why == "" || stale(m.book.now, m.req, m.issuer.opts.Directory, time.Time{}) != "" {
		return why, nil
	}
	if _, ok := m.issuer.ca.Now(); !ok {
		if err := m.issuer.ca.Probe(ctx); err != nil {
			return "", err
		}
	}
	return stale(m.book.now, m.req, m.issuer.opts.Directory, m.now()), nil
}

// overdue says why something that is open at the CA is no more; empty: it may
// be. Who believed a CA that never says so would wait for ever.
func overdue(status string, expires, now time.Time) string {
	grace := openGrace
	switch status {
	case acmez.StatusPending, acmez.StatusReady:
	case acmez.StatusProcessing:
		grace = processingGrace
	default:
		return ""
	}
	if expires.IsZero() || now.Before(expires.Add(grace)) {
		return ""
	}
	return "it expired on " + expires.UTC().Format(time.RFC3339) + ", and the CA still calls it " + status
}
