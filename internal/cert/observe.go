package cert

import (
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"gatehouse/internal/spread"
	"gatehouse/internal/store"
)

// held is one certificate as this replica knows it.
type held struct {
	cert     *Certificate   // the last good one; nil: there never was one
	revision store.Revision // of the value last seen; zero: it is gone from the store
	problem  string         // why that value is refused; cert is then an older one
}

// watch feeds apply with the whole state under prefix for as long as ctx
// lasts. Trouble changes nothing: what was known stays known.
func (k *Keeper) watch(ctx context.Context, prefix string, apply func([]store.Entry), o ...store.WatchOption) {
	for k.follow(ctx, prefix, apply, o...) {
	}
}

// follow is one loop, and says whether there shall be another: where values come
// once, what apply could not take over does not come again in this one.
func (k *Keeper) follow(ctx context.Context, prefix string, apply func([]store.Entry), o ...store.WatchOption) (again bool) {
	trouble, missed := false, false
	for entries, err := range k.store.Watch(ctx, prefix, o...) {
		if missed { // with the next change
			return true
		}
		if err != nil {
			if !trouble && ctx.Err() == nil {
				k.log.Warn("store cannot be watched; serving what is known", "prefix", prefix, "err", err)
			}
			trouble = true
			continue
		}
		if trouble {
			trouble = false
			k.log.Info("store is watched again", "prefix", prefix)
		}
		began := time.Now()
		if err := guard(func() error { apply(entries); return nil }); err != nil {
			k.logPanic("stored state panicked; serving what is known", err, "prefix", prefix)
			missed = true
		}
		k.wake()
		store.Sleep(ctx, restFor(time.Since(began)))
	}
	return false
}

// restFor is the pause after a state that took so long to take over: with
// thousands of certificates a state is work, and changes that come meanwhile are
// the next one together. What is small makes no pause.
func restFor(took time.Duration) time.Duration {
	const small, most = 2 * time.Millisecond, 200 * time.Millisecond
	if took < small {
		return 0
	}
	return min(4*took, most)
}

// seeCertificates takes over what the store holds. Only its watch calls it.
func (k *Keeper) seeCertificates(entries []store.Entry) {
	k.mu.Lock()
	before, first := k.held, !k.knowsCertificates
	wanted := make(map[key]bool, len(k.wants))
	for _, w := range k.wants {
		wanted[w.key] = true
	}
	k.mu.Unlock()

	after := make(map[key]held, len(entries))
	present := make(map[key]*Certificate, len(entries))
	fresh := decodeFresh(entries, before)
	for n, e := range entries {
		kk, ok := parseKey(certificatesPrefix, e.Key)
		if !ok {
			kk = key{id: e.Key} // shown, never ordered: no issuer has this ID
		}
		h, known := before[kk]
		if !known || h.revision != e.Revision {
			h = k.judge(kk, ok, e, h, first, fresh[n])
		}
		after[kk] = h
		if h.cert != nil {
			present[kk] = h.cert
		}
	}
	for kk, h := range before {
		if _, ok := after[kk]; !ok && h.cert != nil && wanted[kk] {
			// Somebody deleted it: it is ordered again, and served until then.
			after[kk] = held{cert: h.cert}
		}
	}
	k.mu.Lock()
	k.held, k.present, k.knowsCertificates = after, present, true
	k.mu.Unlock()
	k.serve()
	k.loaded.Store(true)
	k.somethingToAsk()
}

func (k *Keeper) somethingToAsk() {
	select {
	case k.arrived <- struct{}{}:
	default:
	}
}

// decoded is what became of a stored value.
type decoded struct {
	cert *Certificate
	err  error
}

// decodeFresh decodes those of the entries that are not known yet, side by side:
// a replica that starts may find ten thousand, some 0.1 ms each.
func decodeFresh(entries []store.Entry, before map[key]held) map[int]decoded {
	var at []int
	for n, e := range entries {
		if kk, ok := parseKey(certificatesPrefix, e.Key); ok && before[kk].revision != e.Revision {
			at = append(at, n)
		}
	}
	out := slices.Concat(spread.Over(at, func(part []int) []decoded {
		list := make([]decoded, len(part))
		for i, n := range part {
			list[i].err = guard(func() (err error) {
				kk, _ := parseKey(certificatesPrefix, entries[n].Key)
				list[i].cert, err = decodeCertificate(kk, entries[n].Value)
				return err
			})
		}
		return list
	})...)
	fresh := make(map[int]decoded, len(at))
	for i, n := range at {
		fresh[n] = out[i]
	}
	return fresh
}

// judge takes over a changed value; a refused one leaves the last good in place.
func (k *Keeper) judge(kk key, validKey bool, e store.Entry, last held, first bool, fresh decoded) held {
	h := held{cert: last.cert, revision: e.Revision}
	if !validKey {
		h.problem = "key " + e.Key + " is not " + certificatesPrefix + "/<issuer>/<id>"
		k.log.Warn("stored certificate refused", "key", e.Key, "err", h.problem)
		return h
	}
	c, err := fresh.cert, fresh.err
	if err != nil {
		h.problem = err.Error()
		next := "it is ordered anew"
		var later *laterError
		switch {
		case errors.As(err, &later):
			next = "nothing is ordered in its place; the last good one is served, if there is one"
		case store.SealedUnder(e.Value) != "":
			next = "it is served once it can be opened; nothing is ordered in its place without the key"
		case last.cert != nil:
			next = "the last good one is served until it is due"
		}
		k.log.Warn("stored certificate refused", "key", e.Key, "err", err, "next", next)
		return h
	}
	if !first {
		k.log.Info("certificate in service", "names", c.Names, "issuer", c.Issuer, "notAfter", c.NotAfter)
	}
	k.share(c)
	c.former = k.issuers[kk.issuer] == nil
	h.cert = c
	return h
}

// mostShared bounds the intermediates that are known: CAs have few.
const mostShared = 1000

// share lets certificates of one CA have its intermediates in common: of ten
// thousand, their copies would be most of the memory.
func (k *Keeper) share(c *Certificate) {
	chain := c.TLS.Certificate
	for i := 1; i < len(chain); i++ {
		sum := sha256.Sum256(chain[i])
		if known, ok := k.shared[sum]; ok {
			chain[i] = known
			continue
		}
		if len(k.shared) >= mostShared {
			clear(k.shared)
		}
		k.shared[sum] = chain[i]
	}
}

// readAttempt is a stored failure as it was read last.
type readAttempt struct {
	revision store.Revision
	attempt  attempt
	refused  bool
}

// seeAttempts takes over the stored failures; what has not changed is not read
// again. Only its watch calls it.
func (k *Keeper) seeAttempts(entries []store.Entry) {
	attempts := make(map[key]attempt, len(entries))
	read := make(map[key]readAttempt, len(entries))
	for _, e := range entries {
		kk, ok := parseKey(attemptsPrefix, e.Key)
		if !ok {
			continue
		}
		r := k.tried[kk]
		if r.revision != e.Revision {
			a, err := decodeAttempt(e.Value)
			if err != nil {
				k.log.Warn("stored attempt refused", "key", e.Key, "err", err, "next", "the certificate is tried as if for the first time")
			}
			r = readAttempt{e.Revision, a, err != nil}
		}
		read[kk] = r
		if !r.refused {
			attempts[kk] = r.attempt
		}
	}
	k.tried = read
	k.mu.Lock()
	k.attempts, k.knowsAttempts = attempts, true
	k.mu.Unlock()
}

// readJournal is what the issuer made of a journal.
type readJournal struct {
	revision store.Revision
	progress string
	names    []string  // as of Progress.Ordered, if names are packed
	trouble  string    // why it cannot be read
	from     time.Time // as of Sweeper.Orphaned
	sweeps   bool
}

// seeJournals takes over how far the orders are; what has not changed is not
// read again, as there may be thousands. Only its watch calls it.
func (k *Keeper) seeJournals(entries []store.Entry) {
	journals, sweeps := make(map[key]string, len(entries)), map[key]time.Time{}
	read, unread, ordered := make(map[key]readJournal, len(entries)), map[key]string{}, map[key][]string{}
	for _, e := range entries {
		kk, ok := parseKey(ordersPrefix, e.Key)
		if !ok {
			continue
		}
		r := k.read[kk]
		if r.revision != e.Revision {
			r = readJournal{revision: e.Revision}
			r.progress, r.trouble = k.progress(kk, e.Value)
			r.names = k.ordersOf(kk, e.Value)
			r.from, r.sweeps = k.sweepable(kk, e.Value)
			if r.trouble != "" {
				k.log.Warn("order journal cannot be read", "key", e.Key, "err", r.trouble,
					"next", "a person looks at it, and deletes it to have the names ordered anew; if nobody wants them it goes after a week")
			}
		}
		if r.names != nil {
			ordered[kk] = r.names
		}
		if r.trouble != "" {
			unread[kk] = r.trouble
		}
		read[kk], journals[kk] = r, r.progress
		if r.sweeps {
			sweeps[kk] = r.from
		}
	}
	k.read = read
	k.mu.Lock()
	k.journals, k.sweeps, k.unread, k.ordered, k.knowsJournals = journals, sweeps, unread, ordered, true
	k.mu.Unlock()
}

// progress says how far the order of a journal is, if its issuer can tell, or
// why it cannot be read.
func (k *Keeper) progress(kk key, journal []byte) (text, trouble string) {
	p, ok := k.issuers[kk.issuer].(Progress)
	if !ok {
		return "", ""
	}
	err := guard(func() (err error) { text, err = p.Progress(journal); return err })
	if err != nil {
		return "", "journal " + kk.under(ordersPrefix) + ": " + err.Error()
	}
	return text, ""
}

// ordersOf are the names of the order of a journal, where they matter.
func (k *Keeper) ordersOf(kk key, journal []byte) (names []string) {
	p, ok := k.issuers[kk.issuer].(Progress)
	if !ok || k.pack[kk.issuer] == 0 {
		return nil
	}
	_ = guard(func() error { names = p.Ordered(journal); return nil }) // progress tells of it
	return names
}

// decodeAll decodes the values below a prefix; refused is told of each that
// cannot be, which is left out.
func decodeAll[T any](prefix string, entries []store.Entry, decode func([]byte) (T, error), refused func(e store.Entry, err error)) map[key]T {
	all := make(map[key]T, len(entries))
	for _, e := range entries {
		kk, ok := parseKey(prefix, e.Key)
		if !ok {
			continue
		}
		v, err := decode(e.Value)
		if err != nil {
			refused(e, err)
			continue
		}
		all[kk] = v
	}
	return all
}

func (k *Keeper) seeRequests(entries []store.Entry) {
	requests := decodeAll(requestsPrefix, entries, decodeRequest, func(e store.Entry, err error) {
		k.log.Warn("stored request refused", "key", e.Key, "err", err, "next", "it asks for nothing")
	})
	k.mu.Lock()
	k.requests = requests
	k.mu.Unlock()
}

func (k *Keeper) seeLeases(entries []store.Entry) {
	holders := make(map[key]string, len(entries))
	for _, e := range entries {
		if kk, ok := parseKey(store.LeaseKey(ordersPrefix), e.Key); ok {
			holders[kk] = string(e.Value[:min(len(e.Value), 256)])
		}
	}
	k.mu.Lock()
	k.holders = holders
	k.mu.Unlock()
}

const (
	askTimeout = 10 * time.Second
	// askEvery is how old an issuer's word on a renewal may be: Let's Encrypt
	// asks clients to look at least twice a day.
	askEvery = 6 * time.Hour
	// askUnknown is the same for one that has said nothing: it may not have been
	// within reach, or the store was not.
	askUnknown = time.Hour
)

// askRenewals asks the issuers when the wanted certificates should be
// renewed: each soon after it is first seen, then every few hours. It is apart
// from the plan because an issuer may have to ask its CA.
func (k *Keeper) askRenewals(ctx context.Context) {
	for ctx.Err() == nil {
		for kk, c := range k.unasked() {
			if ctx.Err() != nil {
				return
			}
			k.askRenewal(ctx, kk, c)
		}
		select {
		case <-ctx.Done():
		case <-k.arrived:
		case <-time.After(askEvery / 24):
		}
	}
}

// unasked gives the certificates whose issuer has not been asked of late.
func (k *Keeper) unasked() map[key]*Certificate {
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	out := map[key]*Certificate{}
	for _, w := range k.wants {
		c := k.present[w.key]
		if c == nil {
			continue
		}
		if r := k.renewals[w.key]; r.serial != c.serial || !now.Before(r.again) {
			out[w.key] = c
		}
	}
	return out
}

func (k *Keeper) askRenewal(ctx context.Context, kk key, c *Certificate) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	r, began := renewal{serial: c.serial}, time.Now()
	err := guard(func() error {
		r.at = k.issuers[kk.issuer].RenewAt(ctx, c.raw())
		return nil
	})
	if err != nil {
		k.logPanic("renewal time panicked", err, "names", c.Names, "issuer", kk.issuer)
	}
	every := askEvery
	if r.at.IsZero() {
		every = askUnknown
	}
	r.again = began.Add(every - rand.N(every/6))
	k.mu.Lock()
	k.renewals[kk] = r
	k.mu.Unlock()
	k.wake()
}
