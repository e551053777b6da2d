package acme

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/store"
)

// The challenge types we can do.
const (
	http01    = acmez.ChallengeTypeHTTP01
	dns01     = acmez.ChallengeTypeDNS01
	tlsALPN01 = acmez.ChallengeTypeTLSALPN01
)

// entryLife bounds how long an entry is answered if its order is forgotten.
const entryLife = 24 * time.Hour

// seenWithin is how long a successor looks for records that may be there.
const seenWithin = 2 * time.Second

// DNSSolver does DNS-01. All methods may be called from any goroutine and
// repeated: presenting what is there and cleaning up what is gone succeed.
type DNSSolver interface {
	// Plan finds the zone and follows CNAMEs for the challenge of domain
	// (without "_acme-challenge." and "*."); it changes nothing.
	Plan(ctx context.Context, domain, value string) (dns.Record, error)
	Present(ctx context.Context, rec dns.Record) error
	// Wait returns once the CA can see all the records, or with ctx.
	Wait(ctx context.Context, recs []dns.Record) error
	CleanUp(ctx context.Context, rec dns.Record) error
	// Seen reports, soon, whether all the records can be seen already.
	Seen(ctx context.Context, recs []dns.Record) bool
	// Sweep cleans up what nobody works on any more, and says of each record
	// what became of it.
	Sweep(ctx context.Context, recs []dns.Record) []dns.Swept
}

// solver presents and cleans up challenges of one order.
type solver struct {
	dns   DNSSolver
	lease store.Lease
	order string // the journal's key
	// barrier waits until every replica has entries of the store; nil: no wait.
	barrier func(ctx context.Context, keys []string)
	// For dns-persist-01: the TXT records at a name, and our account's URL.
	texts   func(ctx context.Context, name string) ([]string, error)
	account func() string
}

// choose makes the journal's challenge for an authorization.
func (s solver) choose(ctx context.Context, z acmez.Authorization, kind string) (challenge, error) {
	offered := make([]string, 0, len(z.Challenges))
	for _, c := range z.Challenges {
		if c.Type != kind || c.Token == "" && kind != dnsPersist01 {
			offered = append(offered, c.Type)
			continue
		}
		chosen := challenge{
			Authorization: z.Location, Name: strings.ToLower(z.Identifier.Value), Type: kind,
			URL: c.URL, Token: c.Token, Expires: z.Expires, State: chosen,
		}
		switch kind {
		case dnsPersist01:
			var err error
			if chosen.Value, err = s.choosePersist(z, c); err != nil {
				return challenge{}, err
			}
		case http01:
			chosen.Value = c.KeyAuthorization
		case tlsALPN01:
			chosen.Value = digest(c.KeyAuthorization)
		case dns01:
			chosen.Value = c.DNS01KeyAuthorization()
			rec, err := s.dns.Plan(ctx, chosen.Name, chosen.Value)
			if err != nil {
				return challenge{}, fmt.Errorf("%s: %w", chosen.label(), err)
			}
			rec.KeyAuth = c.KeyAuthorization
			frozen := storedRecord(rec)
			chosen.Record = &frozen
		}
		if err := chosen.check(); err != nil {
			return challenge{}, fmt.Errorf("%s: cannot use the CA's challenge: %w", chosen.label(), err)
		}
		return chosen, nil
	}
	return challenge{}, fmt.Errorf("%s %s: the CA does not offer it, only %s", kind, z.IdentifierValue(), strings.Join(offered, ", "))
}

// present makes the challenge answerable.
func (s solver) present(ctx context.Context, c challenge, now time.Time) error {
	err := held(ctx) // nothing else fences the DNS
	if err != nil {
		return err
	}
	switch c.Type {
	case dns01:
		err = s.dns.Present(ctx, c.Record.record())
	case dnsPersist01:
		err = s.lookPersist(ctx, c)
	default:
		err = s.putEntry(ctx, c, now)
	}
	if err != nil {
		return fmt.Errorf("%s: present: %w", c.label(), err)
	}
	return nil
}

func (s solver) putEntry(ctx context.Context, c challenge, now time.Time) error {
	e := entry{Version: entryVersion, Order: s.order, Name: c.Name, Value: c.Value, Expires: now.Add(entryLife)}
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	key := c.entryKey()
	have, err := s.lease.Get(ctx, key)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if err == nil {
		// A TLS-ALPN-01 name can answer for one order at a time.
		other, err := decodeEntry(key, have.Value)
		if err == nil && other.Order != s.order && now.Before(other.Expires) {
			return &busyError{name: c.Name, order: other.Order}
		}
	}
	_, err = s.lease.Put(ctx, key, raw, have.Revision)
	if errors.Is(err, store.ErrConflict) {
		return &busyError{name: c.Name, order: "of another"}
	}
	return err
}

// wait returns once the CA can see what is presented.
func (s solver) wait(ctx context.Context, cs []challenge) error {
	if keys := entries(cs); len(keys) > 0 && s.barrier != nil {
		s.barrier(ctx, keys)
	}
	recs, names := records(cs)
	if len(recs) == 0 {
		return nil
	}
	if err := s.dns.Wait(ctx, recs); err != nil {
		return fmt.Errorf("%s %s: wait until it can be seen: %w", dns01, strings.Join(names, ", "), err)
	}
	return nil
}

// entries are the store's keys of challenges that replicas answer.
func entries(cs []challenge) (keys []string) {
	for _, c := range cs {
		if c.Type == http01 || c.Type == tlsALPN01 {
			keys = append(keys, c.entryKey())
		}
	}
	return keys
}

// records are the DNS records of challenges, with the names they prove.
func records(cs []challenge) (recs []dns.Record, names []string) {
	for _, c := range cs {
		if c.Type == dns01 {
			recs, names = append(recs, c.Record.record()), append(names, c.Name)
		}
	}
	return recs, names
}

// seen reports whether DNS records can be seen already, without writing: those
// of a process that died need not be written, and waited for, again.
func (s solver) seen(ctx context.Context, cs []challenge) bool {
	recs, _ := records(cs)
	if len(recs) == 0 || len(recs) < len(cs) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, seenWithin)
	defer cancel()
	return s.dns.Seen(ctx, recs)
}

// cleanUp takes away what present wrote, if it is still ours.
func (s solver) cleanUp(ctx context.Context, c challenge) error {
	err := held(ctx)
	if err != nil || c.Type == dnsPersist01 { // which stays
		return err
	}
	if c.Type == dns01 {
		if s.dns == nil {
			err = errors.New("no DNS provider is configured any more")
		} else {
			err = s.dns.CleanUp(ctx, c.Record.record())
		}
	} else {
		err = s.deleteEntry(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("%s: clean up: %w", c.label(), err)
	}
	return nil
}

func (s solver) deleteEntry(ctx context.Context, c challenge) error {
	key := c.entryKey()
	have, err := s.lease.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if e, err := decodeEntry(key, have.Value); err == nil && e.Order != s.order {
		return nil // another order's by now
	}
	err = s.lease.Delete(ctx, key, have.Revision)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

func (c challenge) entryKey() string {
	if c.Type == http01 {
		return httpKey(c.Token)
	}
	return alpnKey(c.Name)
}

// busyError: another order is just proving the same name by TLS-ALPN-01.
type busyError struct{ name, order string }

func (e *busyError) Error() string {
	return fmt.Sprintf("the order %s is just proving %s", e.order, e.name)
}

// checkNames refuses, before anything is spent, what the challenge type can
// never prove.
func checkNames(names []string, kind string) error {
	if len(names) == 0 {
		return errors.New("an order without names")
	}
	for _, name := range names {
		base, wildcard := strings.CutPrefix(name, "*.")
		ip := net.ParseIP(name) != nil
		switch {
		case !validName(base) || wildcard && net.ParseIP(base) != nil:
			return fmt.Errorf("%q is no name a certificate can have", name)
		case wildcard && kind != dns01 && kind != dnsPersist01:
			return fmt.Errorf("%s %s: a wildcard can only be proved by dns-01", kind, name)
		case ip && (kind == dns01 || kind == dnsPersist01):
			return fmt.Errorf("%s %s: an address can only be proved by http-01 or tls-alpn-01", kind, name)
		}
	}
	return nil
}

func identifiers(names []string) []acmez.Identifier {
	ids := make([]acmez.Identifier, len(names))
	for i, name := range names {
		ids[i] = acmez.Identifier{Type: "dns", Value: name}
		if net.ParseIP(name) != nil {
			ids[i].Type = "ip"
		}
	}
	return ids
}
