package cert

import (
	"cmp"
	"errors"
	"hash/fnv"
	"slices"
	"time"
)

const (
	// maxDelay is the longest time between two attempts, whatever an issuer
	// asks for: Let's Encrypt's longest bucket refills within a week.
	maxDelay = 7 * 24 * time.Hour
	// maxSkew: an attempt this far in the future was written by a clock that
	// nobody should wait for.
	maxSkew = 24 * time.Hour
	// clockAhead is how far clocks of replicas may differ.
	clockAhead = 10 * time.Minute
	// journalGrace leaves the holder time to call Done itself.
	journalGrace = 30 * time.Second
	// coverPatience is how often a covering certificate may fail before the
	// names it would cover are ordered on their own. An issuer out of reach is
	// no reason to.
	coverPatience = 3
)

// want is a cleaned Want, merged with all others of the same issuer and names.
type want struct {
	key      key
	names    []string
	sources  []string
	fromRule bool
	before   []key // the same names at the issuers that are asked first
}

// renewal is what the issuer said of a certificate with this serial.
type renewal struct {
	serial string
	at     time.Time // zero: the default
	again  time.Time // when it is asked for again
}

// view is all a plan depends on. Its maps are never changed once they are in it.
type view struct {
	wants       []want
	present     map[key]*Certificate // last good, in the store or not
	attempts    map[key]attempt
	journals    map[key]string    // how far each order is
	ordered     map[key][]string  // names of the orders that were begun; only if names are packed
	sweeps      map[key]time.Time // journals from which there is something to sweep, and from when on
	orphans     map[key]orphan
	holders     map[key]string // who holds the leases of orders
	renewals    map[key]renewal
	pauses      map[key]time.Time // this replica's own, for trouble that is no attempt's failure
	requests    map[key]time.Time // when a person asked for it to be ordered now
	revocations map[key]revocation
	issuers     map[string]Issuer
	paused      map[string]time.Time // issuers of which nothing can be had before
	told        bool                 // what is wanted
	rejected    []Status             // wants nobody can fulfil
	discards    map[key]useless      // what nobody wants and nobody can use, as seen before
}

type verb int

const (
	rest    verb = iota // nothing until at
	discard             // nobody wants it and nobody can use it: delete it
	sweep               // nobody works on the order: take away what it left behind
	obtain              // an order is due
	finish              // the certificate is there, its order's journal too: call Done
	revoke              // a person wants the certificate taken back
)

// action is what to do about one certificate. at is when to look again; zero:
// only after something changed.
type action struct {
	key       key
	want      *want // nil: nobody's
	do        verb
	at        time.Time
	coveredBy string // ID of the certificate that makes an order needless
	standsBy  bool   // nothing is there, and nothing shall be while other issuers do
	orphan    *orphan
	useless   *useless
}

// plan says what to do now about every want and every journal left behind,
// most urgent first. It is pure.
func plan(now time.Time, v view, replica string) []action {
	var cover *coverage
	actions := make([]action, 0, len(v.wants))
	for i := range v.wants {
		w := &v.wants[i]
		a := action{key: w.key, want: w}
		a.do, a.at = decide(now, v.present[w.key], v.attempts[w.key], v.renewals[w.key], v.asked(w.key))
		if v.revocations[w.key].stopped(v.present[w.key], v.requests[w.key]) {
			a.do, a.at = rest, time.Time{}
		}
		if until, ok := standby(now, w, v); ok && a.do == obtain {
			a.do, a.at = rest, until
			if c := v.present[w.key]; c == nil {
				a.standsBy = true
			}
		}
		if a.do == obtain && w.fromRule {
			if cover == nil {
				cover = newCoverage(v)
			}
			if by, until, ok := cover.of(now, w); ok {
				a.do, a.at, a.coveredBy = rest, until, by
			}
		}
		if until := v.paused[w.key.issuer]; a.do == obtain && until.After(now) {
			a.do, a.at = rest, until
		}
		actions = append(actions, a.paused(now, v.pauses))
	}
	wanted := make(map[key]bool, len(actions)) // true: there is an order, or shall be
	for _, a := range actions {
		wanted[a.key] = a.coveredBy == "" && !a.standsBy
	}
	actions = append(actions, leftovers(now, v, wanted)...)
	actions = append(actions, discardable(now, v, replica, wanted)...)
	actions = append(actions, revocable(now, v)...)
	sortByUrgency(actions, v, replica)
	return actions
}

// asked is when a certificate was last wanted now: by a person, or because it
// was revoked.
func (v view) asked(kk key) time.Time {
	asked := v.requests[kk]
	if revoked := v.revocations[kk].replace(v.present[kk]); revoked.After(asked) {
		return revoked
	}
	return asked
}

func (a action) paused(now time.Time, pauses map[key]time.Time) action {
	if until := pauses[a.key]; a.do != rest && until.After(now) {
		a.do, a.at = rest, until
	}
	return a
}

// decide is the plan for one certificate: c nil if there is none, a zero if
// no attempt failed, asked zero if no person wants it now.
func decide(now time.Time, c *Certificate, a attempt, r renewal, asked time.Time) (verb, time.Time) {
	if asked.After(now.Add(maxSkew)) || c != nil && !asked.After(c.obtained(now)) {
		asked = time.Time{} // by a clock nobody should wait for, or done
	}
	if c != nil {
		at := renewTime(c, r)
		if !asked.IsZero() && asked.Before(at) {
			at = asked
		}
		if at.After(now) {
			return rest, at
		}
		if !a.Last.After(c.obtained(now)) { // failures before the last success
			a = attempt{}
		}
	}
	if a.Failures == 0 && a.Waits == "" || !a.Next.After(now) || !a.Last.Before(now.Add(maxSkew)) {
		return obtain, now
	}
	// A person's word comes before the time of the next attempt, once; a clock
	// that is ahead of ours only delays it.
	switch {
	case !asked.After(a.Last):
		return rest, a.Next
	case !asked.After(now):
		return obtain, now
	case asked.Before(a.Next):
		return rest, asked
	}
	return rest, a.Next
}

// obtained is Obtained, or when the life began if that was written by a clock that
// was ahead: else what is asked for, and what fails, until then would count for
// nothing, and be tried again at once.
func (c *Certificate) obtained(now time.Time) time.Time {
	if c.Obtained.After(now.Add(clockAhead)) {
		return c.NotBefore
	}
	return c.Obtained
}

// renewTime says when a certificate is due. All spans are parts of its own
// life; the only number of days is the one that tells short lives from long.
func renewTime(c *Certificate, r renewal) time.Time {
	life, at := c.lifetime(), c.usual()
	latest := c.NotAfter.Add(-life / 10)
	switch {
	case r.serial != c.serial:
		at = at.Add(life / 24) // the issuer was not asked yet: give it the time to answer
	case !r.at.IsZero():
		at = r.at
	}
	// A CA that hands out certificates already due must not be asked in a circle.
	if floor := c.Obtained.Add(min(life/4, time.Hour)); at.Before(floor) {
		at = floor
	}
	if at.After(latest) {
		at = latest
	}
	return at
}

// usual is when a certificate is due if its issuer has no word on it.
func (c *Certificate) usual() time.Time {
	life := c.lifetime()
	if life < 10*24*time.Hour {
		return c.NotBefore.Add(life / 2)
	}
	return c.NotBefore.Add(life / 3 * 2)
}

// leftovers finds journals to finish, whose certificate is safe: their holder
// died between storing the certificate and Done, or Done failed. All others
// that no action is about are orphans.
func leftovers(now time.Time, v view, wanted map[key]bool) []action {
	var out []action
	for k := range v.journals {
		if v.issuers[k.issuer] == nil {
			continue
		}
		c := v.present[k]
		do := obtain
		if c != nil {
			do, _ = decide(now, c, attempt{}, v.renewals[k], v.asked(k))
		}
		a := action{key: k, do: finish, at: now}
		switch {
		case do == rest:
			if ready := c.Obtained.Add(journalGrace); ready.After(now) && ready.Before(now.Add(maxSkew)) {
				a.do, a.at = rest, ready
			}
		case wanted[k]:
			continue
		default:
			from, ok := v.sweeps[k]
			if !ok || v.holders[k] != "" {
				continue // nothing to sweep, or somebody is at it
			}
			a = orphaned(now, k, v.orphans[k], from)
		}
		out = append(out, a.paused(now, v.pauses))
	}
	return out
}

// sortByUrgency puts names without a certificate first, then those that their
// issuer wants renewed much earlier than usual (it has revoked them, or will),
// then by the end of life. What has failed again and again comes after all others:
// each such attempt may take a quarter of an hour, and there may be hundreds.
// Equals are spread, so that replicas do not reach for the same lease.
func sortByUrgency(actions []action, v view, replica string) {
	type ranked struct {
		action
		failing int // 1: again and again
		end     int64
		spread  uint64
	}
	rank := make([]ranked, len(actions))
	for i, a := range actions {
		rank[i] = ranked{action: a}
		if a.do == rest {
			continue
		}
		c, tried := v.present[a.key], v.attempts[a.key]
		if tried.Failures-tried.Unreached >= coverPatience && (c == nil || tried.Last.After(c.Obtained)) {
			rank[i].failing = 1
		}
		if c != nil {
			rank[i].end = c.NotAfter.Unix()
			if r := v.renewals[a.key]; r.serial == c.serial && !r.at.IsZero() && r.at.Before(c.usual().Add(-c.lifetime()/10)) {
				rank[i].end = 1
			}
			if !v.revocations[a.key].replace(c).IsZero() {
				rank[i].end = 0
			}
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(replica + "\n" + a.key.issuer + "\n" + a.key.id))
		rank[i].spread = h.Sum64()
	}
	slices.SortStableFunc(rank, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.do, a.do), cmp.Compare(a.failing, b.failing), cmp.Compare(a.end, b.end), cmp.Compare(a.spread, b.spread))
	})
	for i := range rank {
		actions[i] = rank[i].action
	}
}

// coverage finds wants and certificates by the names they would serve.
type coverage struct {
	v      view
	wants  map[string][]*want
	others map[string][]*Certificate // present, wanted by nobody
}

func newCoverage(v view) *coverage {
	c := &coverage{v: v, wants: map[string][]*want{}, others: map[string][]*Certificate{}}
	wanted := make(map[key]bool, len(v.wants))
	for i := range v.wants {
		w := &v.wants[i]
		wanted[w.key] = true
		for _, n := range w.names {
			c.wants[n] = append(c.wants[n], w)
		}
	}
	for k, cert := range v.present {
		if !wanted[k] {
			for _, n := range cert.Names {
				c.others[n] = append(c.others[n], cert)
			}
		}
	}
	return c
}

// of tells which other certificate of the same issuer serves w's names, and
// until when that is known.
func (c *coverage) of(now time.Time, w *want) (by string, until time.Time, ok bool) {
	for _, n := range []string{w.names[0], "*." + parent(w.names[0])} {
		for _, o := range c.wants[n] {
			if o.key == w.key || o.key.issuer != w.key.issuer || !coversAll(o.names, w.names) {
				continue
			}
			if c.v.revocations[o.key].stopped(c.v.present[o.key], c.v.requests[o.key]) {
				continue
			}
			// Of two that cover each other, one has to be ordered.
			if o.fromRule && coversAll(w.names, o.names) && o.key.id > w.key.id {
				continue
			}
			if p := c.v.present[o.key]; p != nil && p.NotAfter.After(now) {
				return o.key.id, p.NotAfter, true
			}
			if a := c.v.attempts[o.key]; a.Failures-a.Unreached < coverPatience {
				return o.key.id, time.Time{}, true
			}
		}
		for _, o := range c.others[n] {
			if o.Issuer != w.key.issuer || !coversAll(o.Names, w.names) || c.v.revocations[key{o.Issuer, o.ID}].of(o) {
				continue
			}
			// Nobody renews it, so it counts only until it is due.
			if at := renewTime(o, c.v.renewals[key{o.Issuer, o.ID}]); at.After(now) {
				return o.ID, at, true
			}
		}
	}
	return "", time.Time{}, false
}

// steps are the pauses after the first, second, ... failure in a row. The
// last is for ever: nothing gives up.
var steps = [...]time.Duration{
	20 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	30 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour,
}

// While the issuer is out of reach it is asked often, so that what it has missed
// is made up for within a minute of its return; after about a quarter of an
// hour less so.
const (
	unreachedOften = 30 * time.Second
	unreachedMost  = 5 * time.Minute
	unreachedTries = 20
)

// nextAttempt says when to try again after the failures that a counts, the
// last one with err. random is in [0,1).
func nextAttempt(now time.Time, a attempt, err error, random float64) time.Time {
	d := steps[min(max(a.Failures-a.Unreached, 1), len(steps))-1]
	var retry *RetryError
	asks := errors.As(err, &retry)
	if asks && retry.Unreached {
		d = min(steps[min(a.Unreached, len(steps))-1], unreachedOften)
		if a.Unreached > unreachedTries {
			d = unreachedMost
		}
	}
	if asks && retry.Waits {
		d = steps[0] // it says when
	}
	next := now.Add(d*3/4 + time.Duration(float64(d/4)*random))
	if asks && retry.After.After(now) && (retry.Unreached || retry.Waits || retry.After.After(next)) {
		// An issuer that says when it is asked again keeps to it for all its
		// orders: no reason to wait longer.
		next = retry.After
	}
	if last := now.Add(maxDelay); next.After(last) {
		next = last
	}
	return next
}

// after is a with one more end of an attempt, err.
func (a attempt) after(err error) attempt {
	var retry *RetryError
	if errors.As(err, &retry) && retry.Waits {
		a.Waits = err.Error()
		return a
	}
	a.Failures++
	a.Error, a.Waits = err.Error(), ""
	if retry != nil && retry.Unreached {
		a.Unreached++
	}
	var about *NamesError
	if errors.As(err, &about) {
		for _, n := range about.Names {
			if !slices.Contains(a.Bad, n) {
				a.Bad = append(slices.Clip(a.Bad), n)
			}
		}
	}
	return a
}
