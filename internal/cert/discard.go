package cert

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/store"
)

const (
	// uselessAfter is how long all that the store has of a certificate must have
	// been of no use: its life is over, no attempt is due, nobody asked for
	// anything. A replica that wants it after all would have tried meanwhile, and
	// the record of that is younger.
	uselessAfter = 30 * 24 * time.Hour
	// discardGrace is how long a replica must have seen it so before it deletes:
	// a configuration comes in parts, and a clock that made a step is set right.
	discardGrace = time.Hour
	// discardWindow is what deletions are spread over, by chance but alike on
	// all replicas, however many there are: of ten thousand two in three seconds.
	discardWindow = 4 * time.Hour
	// discardTurns keeps two replicas from reaching for the same lease.
	discardTurns = time.Minute
	// discardAgain is the pause after what could not be deleted.
	discardAgain = 24 * time.Hour
)

// renewalsPrefix is the issuers'; what is below it is of no use without the
// certificate.
const renewalsPrefix = "renewals"

// useless is what a replica remembers of what it is going to delete.
type useless struct {
	since time.Time // when it first saw it so
	again time.Time // not before; zero: it was not tried yet
}

// remains is what there is of a certificate that nobody wants.
type remains struct {
	cert       *Certificate // nil: none
	attempt    attempt
	asked      time.Time
	revocation revocation
}

func (v view) remains(kk key) remains {
	return remains{v.present[kk], v.attempts[kk], v.requests[kk], v.revocations[kk]}
}

// useless says from when on nobody can have any use for it; false: never. All
// of it goes together, the youngest decides. What was revoked for good is kept:
// it is all that keeps the name from being ordered.
func (r remains) useless() (from time.Time, ok bool) {
	if r.revocation.stopped(r.cert, r.asked) {
		return time.Time{}, false
	}
	last := r.attempt.Next
	ends, ok := r.revocation.ends()
	if !ok {
		return time.Time{}, false
	}
	if r.cert != nil && r.cert.NotAfter.After(last) {
		last = r.cert.NotAfter
	}
	for _, t := range []time.Time{r.attempt.Last, r.asked, ends} {
		if t.After(last) {
			last = t
		}
	}
	if last.IsZero() {
		return time.Time{}, false
	}
	return last.Add(uselessAfter), true
}

// ends is when a revocation is over: a CA revokes nothing that has expired.
// False: that cannot be known.
func (r revocation) ends() (time.Time, bool) {
	if len(r.Leaf) == 0 || !r.Done.IsZero() {
		return r.Done, true
	}
	leaf, err := x509.ParseCertificate(r.Leaf)
	if err != nil {
		return time.Time{}, false
	}
	return leaf.NotAfter, true
}

// names are those it is about, as far as it says.
func (r remains) names() []string {
	if r.cert != nil {
		return r.cert.Names
	}
	return r.attempt.Names
}

// discardable finds what nobody wants and nobody can use any more, of
// whichever issuer: of one that is not configured any more too, as nobody else
// would ever delete those keys, and whoever still has it configured wants or
// tries. wanted has the keys that are somebody's.
func discardable(now time.Time, v view, replica string, wanted map[key]bool) []action {
	if !v.told {
		return nil
	}
	var out []action
	consider := func(kk key) {
		_, named := wanted[kk]
		_, journal := v.journals[kk]
		if named || journal || kk.issuer == "" {
			return
		}
		if from, ok := v.remains(kk).useless(); !ok || from.After(now) || v.rejects(kk) {
			return
		}
		u := v.discards[kk]
		if u.since.IsZero() {
			u.since = now
		}
		a := action{key: kk, do: discard, useless: &u, at: u.since.Add(discardGrace + discardTurn(kk, replica))}
		if u.again.After(a.at) {
			a.at = u.again
		}
		if holder := v.holders[kk]; holder != "" && holder != replica || a.at.After(now) {
			a.do = rest
		}
		out = append(out, a.paused(now, v.pauses))
	}
	for kk := range v.present {
		consider(kk)
	}
	for kk := range v.attempts {
		if v.present[kk] == nil {
			consider(kk)
		}
	}
	for kk := range v.revocations {
		if _, tried := v.attempts[kk]; !tried && v.present[kk] == nil {
			consider(kk)
		}
	}
	for kk := range v.requests {
		_, tried := v.attempts[kk]
		if _, revoked := v.revocations[kk]; !revoked && !tried && v.present[kk] == nil {
			consider(kk)
		}
	}
	return out
}

// rejects: it is named by a want that nobody can fulfil as things are.
func (v view) rejects(kk key) bool {
	return slices.ContainsFunc(v.rejected, func(s Status) bool { return s.Issuer == kk.issuer && s.ID == kk.id })
}

// discardTurn is when within the window it is the turn of a certificate.
func discardTurn(kk key, replica string) time.Duration {
	chance := func(text string, within time.Duration) time.Duration {
		h := fnv.New64a()
		_, _ = h.Write([]byte(text))
		return time.Duration(h.Sum64() % uint64(within))
	}
	name := kk.under(certificatesPrefix)
	return chance(name, discardWindow) + chance(replica+"\n"+name, discardTurns)
}

// keepDiscards remembers since when the plan found what. k.mu is held.
func (k *Keeper) keepDiscards(actions []action) {
	k.discards = map[key]useless{}
	for _, a := range actions {
		if a.useless != nil {
			k.discards[a.key] = *a.useless
		}
	}
}

// putOff has the plan leave a certificate alone for some time. Unlike a pause it
// is forgotten once somebody wants it.
func (k *Keeper) putOff(kk key, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if u, ok := k.discards[kk]; ok {
		u.again = until
		k.discards[kk] = u
	}
}

// unwanted reports whether nobody wants a certificate as far as is known now,
// and which of its names are of use nowhere else.
func (k *Keeper) unwanted(now time.Time, kk key, names []string) (free map[string]bool, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := k.view()
	if !k.told || v.rejects(kk) {
		return nil, false
	}
	free = make(map[string]bool, len(names))
	for _, n := range names {
		free[n] = true
	}
	used := func(names []string) {
		for _, n := range names {
			delete(free, n)
		}
	}
	for _, w := range k.wants {
		if w.key == kk {
			return nil, false
		}
		used(w.names)
	}
	for _, w := range k.listed { // those that were not packed yet
		used(w.Names)
	}
	for other, c := range v.present {
		if c.NotAfter.Add(uselessAfter).After(now) {
			used(v.remains(other).names())
		}
	}
	for _, a := range v.attempts {
		if a.Next.Add(uselessAfter).After(now) {
			used(a.Names)
		}
	}
	return free, true
}

// earliest is our time, or that of a CA if it says an earlier one: what is
// deleted is gone, so no clock of ours alone decides what has expired.
func (k *Keeper) earliest(now time.Time) time.Time {
	for _, i := range k.issuers {
		if c, is := i.(Clock); is {
			if theirs, ok := c.Now(); ok && theirs.Before(now) {
				now = theirs
			}
		}
	}
	return now
}

// discard has the lease of an order, and deletes what there is of it if that is
// still of no use to anybody.
func (k *Keeper) discard(ctx context.Context, lease store.Lease, t *turn) {
	k.say(t, "delete")
	now := time.Now()
	sure := k.earliest(now)
	r, entries, until, err := k.uselessNow(sure, lease, t.key)
	var unreadable *unreadableError
	switch {
	case errors.As(err, &unreadable), errors.Is(err, store.ErrSealed):
		k.putOff(t.key, now.Add(discardAgain))
		k.log.Warn("what there is of a certificate that nobody wants stays", "issuer", t.key.issuer, "err", err,
			"next", "a person looks at it, and deletes it")
		return
	case err != nil:
		k.storeTrouble(ctx, t, err)
		return
	case until.After(sure):
		if !until.After(now) { // our clock is ahead
			until = now.Add(discardAgain)
		}
		k.putOff(t.key, until)
		return
	}
	var deleted []string
	for _, e := range entries {
		err := lease.Delete(lease.Context(), e.Key, e.Revision)
		switch {
		case err == nil:
			deleted = append(deleted, e.Key)
		case errors.Is(err, store.ErrConflict):
			return // the watch tells what it is now
		case !errors.Is(err, store.ErrNotFound):
			k.storeTrouble(ctx, t, fmt.Errorf("delete %s: %w", e.Key, err))
			return
		}
	}
	switch {
	case len(deleted) == 0: // another replica did
	case r.cert != nil:
		k.log.Info("expired certificate that nobody wants deleted", "names", r.cert.Names, "issuer", t.key.issuer,
			"notAfter", r.cert.NotAfter, "deleted", deleted)
	default:
		k.log.Info("records of a certificate that nobody wants deleted", "names", r.names(), "issuer", t.key.issuer, "deleted", deleted)
	}
	k.putOff(t.key, now.Add(discardGrace)) // the watch tells before
}

// unreadableError is about a stored value that stays, as a person may make
// something of it.
type unreadableError struct {
	key string
	err error
}

func (e *unreadableError) Error() string { return "read " + e.key + ": " + e.err.Error() }
func (e *unreadableError) Unwrap() error { return e.err }

// uselessNow asks the store, under the lease, for all there is of a
// certificate, in the order in which it can be deleted: whoever is cut off leaves
// what the plan finds again. until is in the future if somebody has use for it.
func (k *Keeper) uselessNow(now time.Time, lease store.Lease, kk key) (r remains, entries []store.Entry, until time.Time, err error) {
	for _, prefix := range []string{ordersPrefix, requestsPrefix, revocationsPrefix, attemptsPrefix, certificatesPrefix} {
		e, err := get(lease.Context(), lease, kk.under(prefix))
		switch {
		case err != nil:
			return r, nil, until, err
		case e.Revision == "":
			continue
		case prefix == ordersPrefix: // begun meanwhile
			return r, nil, now.Add(discardAgain), nil
		}
		if err := r.read(prefix, kk, e.Value); err != nil {
			return r, nil, until, &unreadableError{e.Key, err}
		}
		entries = append(entries, e)
	}
	free, ok := k.unwanted(now, kk, r.names())
	from, ever := r.useless()
	switch {
	case len(entries) == 0:
		return r, nil, until, nil
	case !ok, !ever:
		return r, nil, now.Add(discardAgain), nil
	case from.After(now):
		return r, nil, from, nil
	}
	more, until, err := k.companions(lease, kk, r, free)
	return r, append(more, entries...), until, err
}

// read takes in a stored value.
func (r *remains) read(prefix string, kk key, value []byte) (err error) {
	switch prefix {
	case requestsPrefix:
		r.asked, err = decodeRequest(value)
	case revocationsPrefix:
		r.revocation, err = decodeRevocation(value)
	case attemptsPrefix:
		r.attempt, err = decodeAttempt(value)
	case certificatesPrefix:
		r.cert, err = decodeCertificate(kk, value)
	}
	return err
}

// companions are what stands beside a certificate in the store: the issuer's
// word on its renewal, and that its names were let in on demand, if those are free.
// A name that was let in a short while ago keeps all of it until then.
func (k *Keeper) companions(lease store.Lease, kk key, r remains, free map[string]bool) (entries []store.Entry, until time.Time, err error) {
	names := []string{kk.under(renewalsPrefix)}
	if r.cert != nil {
		if id := ID(r.cert.carried); id != kk.id {
			names = append(names, key{kk.issuer, id}.under(renewalsPrefix))
		}
	}
	for n := range free {
		names = append(names, onDemandKey(n))
	}
	for _, name := range names {
		e, err := get(lease.Context(), lease, name)
		if err != nil {
			return nil, until, err
		}
		if e.Revision == "" {
			continue
		}
		if strings.HasPrefix(name, onDemandPrefix+"/") {
			var let onDemandRecord
			if json.Unmarshal(e.Value, &let) != nil || let.Version != recordVersion || onDemandKey(let.Name) != name {
				continue // shown by who reads them; it is left
			}
			if from := let.Since.Add(uselessAfter); from.After(until) {
				until = from
			}
		}
		entries = append(entries, e)
	}
	return entries, until, nil
}
