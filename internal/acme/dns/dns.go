// Package dns answers DNS-01 (RFC 8555, section 8.4): it finds the zone a
// challenge record belongs to, has a Provider write the record, and waits
// until the zone's servers show it. It owns every question put to the DNS and
// the Provider contract; the providers themselves are in its subpackages, one
// each, listed in package providers. It knows nothing of orders.
package dns

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Record is one TXT value at one name. Names are fully qualified, lower case,
// without the trailing dot.
type Record struct {
	Zone  string // the zone the record is written to
	Name  string // _acme-challenge.office.example.com, CNAMEs already followed
	Value string // unquoted
	TTL   time.Duration

	// What Name and Value come from, for providers whose service wants to
	// work them out for itself. Both may be empty in a record of old.
	Domain  string // office.example.com, without "*."
	KeyAuth string // key authorization (RFC 8555, section 8.1)
}

// Provider writes to one DNS service. Both methods change single values,
// never a whole record set: other values at the same name (apex and wildcard,
// another issuer) survive. Both are idempotent: presenting what is there and
// cleaning up what is gone are successes. Present returns when the service
// says the change is done (Route 53: INSYNC), as far as it can tell. Both may
// be called from many goroutines at once; providers batch such calls if their
// service likes that.
type Provider interface {
	Present(ctx context.Context, rec Record) error
	CleanUp(ctx context.Context, rec Record) error
}

// ErrNoZone says that a definite answer was had: no zone holds the name. Not
// being able to ask is another error, never this one.
var ErrNoZone = errors.New("no zone holds the name")

// ZoneLister is implemented by providers that can ask their service which
// zone holds a name, with no query to the DNS. ErrNoZone: the service was
// asked and holds none.
type ZoneLister interface {
	FindZone(ctx context.Context, name string) (zone string, err error)
}

// Confirmer is implemented by providers whose Present returns only once the
// service itself has confirmed that its name servers carry the change. Our own
// propagation check is then a courtesy that cannot fail an order.
type Confirmer interface {
	Confirms() bool
}

// within says whether name is zone or lies below it.
func within(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}

// canonical is the form names have in a Record.
func canonical(name string) string {
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// ancestors lists name and its parents, longest first, down to two labels: a
// single label is a top-level domain and never a zone of ours.
func ancestors(name string) []string {
	var names []string
	for strings.Contains(name, ".") {
		names = append(names, name)
		_, name, _ = strings.Cut(name, ".")
	}
	return names
}

func labels(name string) int { return strings.Count(name, ".") + 1 }
