// Package cert keeps certificates alive: which names are wanted, what is
// there, what to do next (a pure plan), and the index a TLS handshake reads.
// It knows issuers only by the Issuer contract and never sees routing.
//
// In the store it owns certificates/<issuer>/<id> (chain, key and what is known
// of them in one value) and attempts/<issuer>/<id> (the failures in a row, the
// last error in full, the next attempt), requests/<issuer>/<id> (a person wants
// it ordered now), ondemand/<id> (a name that was let in), budgets/ondemand (how many were of
// late), revocations/<issuer>/<id> (a person wants it revoked) and tickets/keys (those of TLS session tickets). The journals under orders/ are the
// issuers'; it only sees whether there is one. What is at renewals/<issuer>/<id> is theirs
// too; it goes with the certificate.
package cert

import (
	"context"
	"errors"
	"time"

	"gatehouse/internal/store"
)

// Want is one certificate somebody needs: its names and who shall issue it.
type Want struct {
	Names  []string // lower case; the first is the main name
	Issuer string   // Issuer.ID
	// Fallback are the issuers to ask if Issuer keeps failing, in this order.
	Fallback []string
	Source   string // who wants it, for people: "acme.domains", "router web@file"
	// FromRule: the names were derived from a host rule, nobody listed them.
	// Such a want is not ordered while another certificate of the same issuer
	// covers its names.
	FromRule bool
}

// Request is what an Issuer is asked for. ID is stable for a name set and
// issuer: it is the last segment of the keys certificates/<issuer>/<id>,
// orders/<issuer>/<id> and attempts/<issuer>/<id>.
type Request struct {
	ID       string
	Names    []string
	Replaces []byte // DER of the leaf being renewed; nil: a first certificate
	// Lease is held on "orders/<issuer>/<id>" for the whole call. All writes
	// of the order's state go through it; its context bounds the work.
	Lease store.Lease
	// Asked is when a person wanted it ordered now; zero: nobody did.
	Asked time.Time
	// Step is told each step before it is done ("newOrder", "present dns-01
	// a.example.com", ...), for status pages. It never blocks.
	Step func(step string)
	// Await is called right before each sending of a request whose answer nobody
	// can ask for again. From then on until answered is called the end of this
	// process takes the lease away only after some seconds; its loss does at
	// once. On an error, ErrEnding, it must not be sent. Whoever returns an error
	// of the issuer's may leave answered out: then it is stored as the attempt's
	// before the lease goes. Nil: nothing needs to be awaited.
	Await func() (answered func(), err error)
}

// Bundle is an issued certificate: PEM chain, leaf first, and PKCS#8 PEM key.
type Bundle struct {
	Chain []byte
	Key   []byte
}

// Issuer obtains certificates. Obtain drives one order from wherever its
// journal says it stands to the end; it is called again after an error,
// perhaps by another process, with the same ID and Names. It must not return
// a Bundle whose key and names do not fit. It keeps its journal until Done.
type Issuer interface {
	ID() string
	Obtain(ctx context.Context, req Request) (Bundle, error)
	// Done is called once the bundle is safe in the store: the journal of the
	// order may go. It is called again if it failed, perhaps by another process,
	// under a lease of the same name; without a journal it does nothing.
	// Request.Replaces is the leaf that is in the store by now. If the journal is
	// of an order to renew that very leaf, it is kept and the error is
	// ErrUnfinished: somebody found the renewal due and died on it.
	Done(ctx context.Context, req Request) error
	// RenewAt says when a certificate should be renewed, or zero for the
	// default (two thirds of its lifetime; half if that is under 10 days).
	RenewAt(ctx context.Context, leafDER []byte) time.Time
}

// NamesError is an issuer's refusal that is about some of the names only.
type NamesError struct {
	Err   error
	Names []string // as in Request.Names
}

func (e *NamesError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *NamesError) Unwrap() error { return e.Err }

// Progress is an Issuer that can tell from the value of a journal how far the
// order is, for people; an error: it cannot be read. It changes nothing and
// asks nobody.
type Progress interface {
	Progress(journal []byte) (string, error)
	// Ordered are the names of an order that was begun; nil: none was.
	Ordered(journal []byte) []string
}

// Renewals is an Issuer whose word on a renewal is in the store for all, at
// renewals/<issuer>/<id>.
type Renewals interface {
	// Renewal gives the time a stored word tells for a leaf (DER); zero: none.
	// It changes nothing and asks nobody.
	Renewal(word, leaf []byte) time.Time
}

// Recorder is an Issuer that keeps a refused order in mind until the failure is
// stored as an attempt: only then may the order be forgotten.
type Recorder interface {
	// Recorded is called under the lease of req after a failure of Obtain was
	// stored.
	Recorded(ctx context.Context, req Request) error
}

// Sweeper is an Issuer whose orders leave things behind that somebody must take
// away if nobody goes on with the order: its names are not wanted any more.
type Sweeper interface {
	// Orphaned tells from the value of a journal from when on there is something
	// to sweep, should nobody work on it; false: never. It asks nobody.
	Orphaned(journal []byte) (from time.Time, ok bool)
	// Sweep takes that away, under the lease of Request, and forgets it; what
	// could not be taken away stays in the journal, and is the error; a
	// *RetryError that Waits says when there is something to do. What was paid
	// for stays too: an Obtain may follow, and goes on with the order.
	// Of req only ID and Lease matter.
	Sweep(ctx context.Context, req Request) error
}

// Pauser is an Issuer that may be out of reach as a whole: no order is begun
// before the time it says. It is asked often and must answer at once.
type Pauser interface {
	Paused() time.Time
}

// Clock is an Issuer that knows the time by its CA's clock. It answers at once.
type Clock interface {
	// Now is false while the CA has not told the time.
	Now() (time.Time, bool)
}

// Limiter is an Issuer that knows how much it may be asked for.
type Limiter interface {
	// Limits answers at once; the caller owns the result.
	Limits() []Limit
}

// Limit is one of an issuer's limits, as all replicas have used it up, or
// something it said to wait for.
type Limit struct {
	Issuer string `json:"issuer"`
	// Kind is "account" (new orders), "domain" (certificates of a registered
	// domain), "names" (of a set of names), "failures" (failed validations of a
	// name), "hold" (what the issuer said to wait for) or "down" (it does not
	// answer).
	Kind string    `json:"kind"`
	Name string    `json:"name,omitempty"` // of what: a domain, a name, a set's hash, the bucket held
	Used int       `json:"used"`
	Size int       `json:"size"` // 0: of a hold
	Free time.Time `json:"free"` // when the next one may pass; past: now
	Text string    `json:"text"` // what the issuer allows, or said
	Link string    `json:"link,omitempty"`
}

// ErrUnfinished: the order must be gone on with, not cleaned up.
var ErrUnfinished = errors.New("the order is not finished")

// RetryError is an error that knows when another attempt makes sense.
type RetryError struct {
	Err   error
	After time.Time // not before; zero: the back-off decides
	// Unreached: the issuer was not reached, or did not answer. Asking it again
	// costs nothing, and it may be back any moment: such failures do not make
	// the pause after others longer, and have short ones themselves.
	Unreached bool
	// Waits: nothing was refused, and nothing asked for: the order waits until
	// After for its turn. It is no failure.
	Waits bool
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *RetryError) Unwrap() error { return e.Err }
