package cert

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"time"

	"gatehouse/internal/store"
)

// request is the value under requests/: a person wants the certificate ordered
// now, whatever the time of the next attempt is. It counts once.
type request struct {
	Version int       `json:"version"`
	Asked   time.Time `json:"asked"`
}

func decodeRequest(value []byte) (time.Time, error) {
	if len(value) > 1<<10 {
		return time.Time{}, fmt.Errorf("value has %d bytes", len(value))
	}
	var r request
	if err := strictJSON(value, &r); err != nil {
		return time.Time{}, err
	}
	if r.Version != recordVersion {
		return time.Time{}, fmt.Errorf("value has version %d (this program reads %d)", r.Version, recordVersion)
	}
	return r.Asked, nil
}

// RequestNow asks the replicas to order the certificate of an issuer with this
// ID now, if it is wanted: before it is due, and before the time of its next
// attempt. Any process may call it.
func RequestNow(ctx context.Context, s store.Store, issuerID, id string) (asked time.Time, err error) {
	name := key{issuerID, id}.under(requestsPrefix)
	asked = time.Now().UTC()
	value, err := json.Marshal(request{recordVersion, asked})
	if err != nil {
		return time.Time{}, err
	}
	return asked, replaceValue(ctx, s, name, value)
}

// Inspect reads from the store what is known of all certificates, as any
// process can: nothing of who wants them, and nothing of those that are wanted
// but not begun. issuers tell how far their orders are; they are asked nothing
// else.
func Inspect(ctx context.Context, s store.Store, issuers []Issuer) ([]Status, error) {
	index, err := NewIndex(IndexOptions{Strict: true})
	if err != nil {
		return nil, err
	}
	k := New(Options{Store: s, Issuers: issuers, Index: index, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	for _, part := range []struct {
		prefix string
		see    func([]store.Entry)
	}{
		{certificatesPrefix, k.seeCertificates}, {attemptsPrefix, k.seeAttempts}, {ordersPrefix, k.seeJournals},
		{requestsPrefix, k.seeRequests}, {revocationsPrefix, k.seeRevocations}, {store.LeaseKey(ordersPrefix), k.seeLeases},
	} {
		entries, err := store.List(ctx, s, part.prefix)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", part.prefix, err)
		}
		part.see(entries)
	}
	k.wants = k.traces()
	words, err := store.List(ctx, s, renewalsPrefix)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", renewalsPrefix, err)
	}
	for kk, c := range k.present {
		k.renewals[kk] = renewal{serial: c.serial}
	}
	for _, e := range words {
		kk, ok := parseKey(renewalsPrefix, e.Key)
		i, tells := k.issuers[kk.issuer].(Renewals)
		if c := k.present[kk]; ok && tells && c != nil {
			k.renewals[kk] = renewal{serial: c.serial, at: i.Renewal(e.Value, c.raw())}
		}
	}
	return k.Status(), nil
}

// traces are wants for all that the store has something of.
func (k *Keeper) traces() []want {
	var wants []want
	seen := map[key]bool{}
	add := func(kk key, names []string) {
		if !seen[kk] {
			seen[kk] = true
			wants = append(wants, want{key: kk, names: names})
		}
	}
	for kk, c := range k.present {
		add(kk, c.Names)
	}
	for kk, a := range k.attempts {
		add(kk, a.Names)
	}
	for kk := range k.journals {
		add(kk, nil)
	}
	for kk := range k.requests {
		add(kk, nil)
	}
	return wants
}
