// Package acme obtains certificates from a CA by ACME (RFC 8555): accounts,
// orders that survive the death of whoever works on them, and the answers to
// HTTP-01 and TLS-ALPN-01 challenges, given by every replica.
//
// An order is a journal in the store, a pure function that says from the
// journal and from what the CA says what is next, and the effects at the
// edge. It does not decide when a certificate is due, and keeps none: that is
// package cert's. DNS zones and records are package dns's.
package acme

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/killpoint"
	"gatehouse/internal/store"
)

// Options are the settings of one issuer.
type Options struct {
	// ID names the issuer in the store's keys; empty: made of Directory.
	ID string
	// Account is the ID of the issuer whose account this one uses; empty: ID.
	Account string
	// Beside are the IDs of issuers that order certificates for the same names
	// with the same account, for other keys: one order at a time.
	Beside         []string
	Directory      string         // the CA's directory URL, https only
	Roots          *x509.CertPool // whom the CA's own server may be certified by; nil: the system's
	Email          string         // contact of the account; may be empty
	KeyType        KeyType        // of certificates; empty: EC256
	EAB            *EAB           // nil: none
	Profile        string         // empty: the CA's choice
	PreferredChain string         // common name of the topmost issuer; empty: the CA's choice
	Challenge      string         // "dns-01", "http-01" or "tls-alpn-01"
	DNS            DNSSolver      // for dns-01
	// Texts gives the TXT records at a name; for dns-persist-01.
	Texts func(ctx context.Context, name string) ([]string, error)
	// Barrier waits, within bounds, until every replica answers for these
	// entries (see Barrier.Wait); nil: there is no other replica.
	Barrier   func(ctx context.Context, keys []string)
	Store     store.Store
	Logger    *slog.Logger // nil: none
	UserAgent string
}

// Issuer is an ACME CA with an account there. It implements cert.Issuer; its
// methods may be called from any goroutine.
type Issuer struct {
	opts     Options
	ca       certificationAuthority
	accounts *accounts
	lists    listCA // nil: this CA cannot list orders
	revoker  revokeCA
	ordersOf atomic.Pointer[ordersOf]
	pace     *pace
	log      *slog.Logger
	timing   timing
	close    func()
	quiet    atomic.Pointer[time.Time] // until when this replica asks when to renew nothing
	inUse    context.Context           // ends with Close
	strays   sync.WaitGroup            // of lookAfter
}

// timing is how patient an issuer is.
type timing struct {
	pollFirst, pollMost time.Duration // between looks at an order that is under way
	pollWhole           time.Duration // until an attempt gives back what it is waiting for
	retryFirst          time.Duration // after a call that may work soon; doubles
	retries             int           // of such calls in a row
	retryAfterMost      time.Duration // a Retry-After that is waited out at once
	tellAgain           time.Duration // a challenge the CA has not touched is told again
	tellInherited       time.Duration // the same if another process was to tell it
	dnsWait             time.Duration // for the records to be seen
	cleanUp             time.Duration // for one challenge
	readBack            time.Duration // before an ambiguous write is looked at
	strayFirst          time.Duration // before records written too late are looked after
}

var (
	_ cert.Issuer   = (*Issuer)(nil)
	_ cert.Recorder = (*Issuer)(nil)
	_ cert.Renewals = (*Issuer)(nil)
)

var idForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// New checks the settings. It reaches neither the CA nor the store.
func New(o Options) (*Issuer, error) {
	dir, err := url.Parse(o.Directory)
	if err != nil || dir.Scheme != "https" || dir.Host == "" {
		return nil, fmt.Errorf("directory %q: must be an https URL", o.Directory)
	}
	if o.ID == "" {
		o.ID = idOf(dir)
	}
	if !idForm.MatchString(o.ID) {
		return nil, fmt.Errorf("issuer %q: must be letters, digits, dot, dash and underscore, at most 100", o.ID)
	}
	switch o.Challenge {
	case http01, tlsALPN01:
	case dnsPersist01:
		if o.Texts == nil {
			return nil, errors.New("challenge dns-persist-01 needs somebody to ask for TXT records")
		}
	case dns01:
		if o.DNS == nil {
			return nil, errors.New("challenge dns-01 needs a DNS provider")
		}
	default:
		return nil, fmt.Errorf("challenge %q: must be dns-01, http-01 or tls-alpn-01", o.Challenge)
	}
	switch o.KeyType {
	case "", EC256, EC384, RSA2048, RSA4096, RSA8192:
	default:
		return nil, fmt.Errorf("key type %q: must be EC256, EC384, RSA2048, RSA4096 or RSA8192", o.KeyType)
	}
	if o.Store == nil {
		return nil, errors.New("an issuer needs a store")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := newClient(o.Directory, o.UserAgent, o.Roots)
	return assemble(o, c, c.base.CloseIdleConnections), nil
}

// assemble puts an issuer together around a CA.
func assemble(o Options, ca certificationAuthority, closeCA func()) *Issuer {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	keys, _ := ca.(keyCA)
	lists, _ := ca.(listCA)
	revoker, _ := ca.(revokeCA)
	if killpoint.On {
		ca = pointCA{ca, killpoint.Do}
		if o.DNS != nil {
			o.DNS = pointDNS{o.DNS, killpoint.Do}
		}
	}
	log := o.Logger.With("issuer", o.ID)
	a := &accounts{issuer: cmp.Or(o.Account, o.ID), directory: o.Directory, eab: o.EAB, store: o.Store, ca: ca, keys: keys, log: o.Logger}
	if o.Email != "" {
		a.contact = []string{"mailto:" + o.Email}
	}
	inUse, end := context.WithCancel(context.Background())
	return &Issuer{
		opts: o, ca: ca, accounts: a, lists: lists, revoker: revoker, log: log, inUse: inUse, close: func() { end(); closeCA() },
		pace: &pace{issuer: a.issuer, store: o.Store, model: modelOf(o.Directory), log: o.Logger},
		timing: timing{
			pollFirst: time.Second, pollMost: 10 * time.Second, pollWhole: 15 * time.Minute,
			retryFirst: time.Second, retries: 4, retryAfterMost: 10 * time.Second,
			tellAgain: 30 * time.Second, tellInherited: 2 * time.Second,
			dnsWait: 15 * time.Minute, cleanUp: 2 * time.Minute, readBack: 200 * time.Millisecond, strayFirst: 2 * time.Second,
		},
	}
}

// IssuerID is the ID of an issuer that is given only its directory.
func IssuerID(directory string) (string, error) {
	dir, err := url.Parse(directory)
	if err != nil || dir.Host == "" {
		return "", fmt.Errorf("directory %q: must be an https URL", directory)
	}
	return idOf(dir), nil
}

// idOf makes a key segment of a directory URL: its host, port and path.
func idOf(dir *url.URL) string {
	id := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '.', r == '-':
			return r
		}
		return '-'
	}, strings.ToLower(dir.Host+strings.TrimRight(dir.Path, "/")))
	return strings.Trim(id[:min(len(id), 100)], "-.")
}

// Close ends what runs in the background and gives up idle connections.
func (i *Issuer) Close() {
	i.close()
	i.strays.Wait()
}

// ID is the issuer's segment in the store's keys.
func (i *Issuer) ID() string { return i.opts.ID }

// Obtain drives the order of req from where its journal says it is to the
// certificate. On an error everything that may be of use is kept, and the next
// call goes on; only if the CA refused is the order given up, and the next
// call orders anew. An error the CA gave a time for is a *cert.RetryError.
// When the lease of req ends it stops at once and changes nothing more, at the
// CA, in the DNS or in the store.
func (i *Issuer) Obtain(ctx context.Context, req cert.Request) (cert.Bundle, error) {
	if err := checkNames(req.Names, i.opts.Challenge); err != nil {
		return cert.Bundle{}, err
	}
	ctx, stop := during(ctx, req.Lease)
	defer stop()
	m, err := i.open(ctx, req)
	if err != nil {
		return cert.Bundle{}, ended(ctx, err)
	}
	if text := m.book.now.Failure; text != "" {
		return cert.Bundle{}, &refused{errors.New(text)}
	}
	bundle, err := m.run(ctx)
	if err != nil {
		if held(ctx) == nil {
			i.pace.note(ctx, err, req.Names)
		}
		return cert.Bundle{}, ended(ctx, concerning(i.timed(err), namedIn(err, req.Names)))
	}
	return bundle, nil
}

// Done cleans up what the order presented and deletes its journal. The journal
// of an order to renew the very leaf that is in the store stays:
// cert.ErrUnfinished.
func (i *Issuer) Done(ctx context.Context, req cert.Request) error {
	ctx, stop := during(ctx, req.Lease)
	defer stop()
	b, err := openBook(ctx, i.ID(), req, i.timing.readBack)
	if err != nil {
		return ended(ctx, err)
	}
	if len(b.now.Key) > 0 && b.now.Renews != "" && b.now.Renews == fingerprint(req.Replaces) {
		return cert.ErrUnfinished
	}
	m := &machine{issuer: i, req: req, book: b, solver: i.solver(req)}
	if err := m.sweep(ctx, b.now.reset()); err != nil {
		return ended(ctx, err)
	}
	return nil
}

// Recorded forgets an order that the CA refused: the failure is stored.
func (i *Issuer) Recorded(ctx context.Context, req cert.Request) error {
	ctx, stop := during(ctx, req.Lease)
	defer stop()
	b, err := openBook(ctx, i.ID(), req, i.timing.readBack)
	if err == nil && b.now.Failure != "" {
		m := &machine{issuer: i, req: req, book: b, solver: i.solver(req)}
		err = m.sweep(ctx, b.now.reset())
	}
	if err != nil {
		return ended(ctx, err)
	}
	return nil
}

func (i *Issuer) open(ctx context.Context, req cert.Request) (*machine, error) {
	b, err := openBook(ctx, i.ID(), req, i.timing.readBack)
	if err != nil {
		return nil, err
	}
	m := &machine{issuer: i, req: req, book: b, solver: i.solver(req), restarts: 2, planned: map[string]bool{}}
	m.truth.tellAgain = map[string]time.Time{}
	for _, c := range b.now.Challenges {
		m.truth.tellAgain[c.Authorization] = time.Now().Add(i.timing.tellInherited)
	}
	m.truth.forget()
	return m, nil
}

func (i *Issuer) solver(req cert.Request) solver {
	return solver{dns: i.opts.DNS, lease: req.Lease, order: journalKey(i.ID(), req.ID), barrier: i.opts.Barrier,
		texts: i.opts.Texts, account: i.accounts.url}
}

// timed puts the CA's Retry-After where package cert finds it, and whether the
// CA was there at all.
func (i *Issuer) timed(err error) error {
	var wait *waitError
	if errors.As(err, &wait) {
		return &cert.RetryError{Err: err, After: wait.until, Unreached: wait.down, Waits: !wait.down && !wait.person}
	}
	var call *callError
	if !errors.As(err, &call) || call.After.IsZero() && !call.unreached() {
		return err
	}
	return &cert.RetryError{Err: err, After: call.After, Unreached: call.unreached()}
}

// during is the lease's context, which ends with ctx too. It descends from the
// lease's so that no step begins once that has ended.
func during(ctx context.Context, lease store.Lease) (context.Context, func()) {
	both, cancel := context.WithCancelCause(guarded(lease))
	unhook := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return both, func() {
		unhook()
		cancel(nil)
	}
}

type guardKey struct{}

// guarded is the lease's context, which also carries itself for held.
func guarded(lease store.Lease) context.Context {
	ctx := lease.Context()
	return dns.Guard(context.WithValue(ctx, guardKey{}, ctx), func() error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	})
}

// held is nil while ctx lasts and the lease it comes from is surely ours. It
// asks the lease's own clock: a process that was stopped for longer than its
// lease finds out here before any timer or goroutine had time to tell it.
func held(ctx context.Context) error {
	if lease, ok := ctx.Value(guardKey{}).(context.Context); ok && lease.Err() != nil {
		return context.Cause(lease)
	}
	return context.Cause(ctx)
}

// ended says why ctx ended, if that is what err comes from.
func ended(ctx context.Context, err error) error {
	cause := held(ctx)
	if cause == nil || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}
