// Package dns writes the TXT records of DNS-01 (RFC 8555, section 8.4): the
// Provider contract, the zone finder, propagation checks, and the providers
// kept in the default build.
package dns

import (
	"context"
	"time"
)

// Record is one TXT value at one name. Names are fully qualified, lower case,
// without the trailing dot.
type Record struct {
	Zone  string // the zone the record is written to
	Name  string // _acme-challenge.office.example.com, CNAMEs already followed
	Value string // unquoted
	TTL   time.Duration
}

// Provider writes to one DNS service. Both methods change single values,
// never a whole record set: other values at the same name (apex and wildcard,
// another issuer) survive. Both are idempotent: presenting what is there and
// cleaning up what is gone are successes. Present returns when the service
// says the change is done (Route 53: INSYNC), as far as it can tell.
type Provider interface {
	Present(ctx context.Context, rec Record) error
	CleanUp(ctx context.Context, rec Record) error
}

// ZoneLister is implemented by providers that can ask their service which
// zone holds a name, with no query to the DNS. ErrNoZone: the service was
// asked and holds none.
type ZoneLister interface {
	FindZone(ctx context.Context, name string) (zone string, err error)
}
