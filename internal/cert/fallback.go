package cert

import "time"

const (
	// fallbackPatience is how often an issuer may refuse before the next one is
	// asked for what it would not give.
	fallbackPatience = 3
	// fallbackUnreached is the same for an issuer that does not answer: it is
	// asked twice a minute at first, so this is some ten minutes.
	fallbackUnreached = 20
	// fallbackReserve is the part of a life that must be left, else the next
	// issuer is asked for the renewal that the ones before do not get done.
	fallbackReserve = 5
)

// standby says whether w, a want at an issuer that is not the first for its
// names, can rest because of those before it, and until when that is known.
// Each issuer in the order is asked only while all before it have kept failing
// and what there is, from whichever, does not last much longer.
func standby(now time.Time, w *want, v view) (until time.Time, ok bool) {
	if len(w.before) == 0 {
		return time.Time{}, false
	}
	for _, k := range append(w.before[:len(w.before):len(w.before)], w.key) {
		if c := v.present[k]; c != nil {
			if low := c.NotAfter.Add(-c.lifetime() / fallbackReserve); low.After(until) {
				until = low
			}
		}
	}
	if until.After(now) {
		return until, true
	}
	for _, k := range w.before {
		a := v.attempts[k]
		if c := v.present[k]; c != nil && !a.Last.After(c.Obtained) {
			a = attempt{}
		}
		if a.Failures-a.Unreached < fallbackPatience && a.Unreached < fallbackUnreached {
			return time.Time{}, true // the end of its next attempt makes a new plan
		}
	}
	return time.Time{}, false
}
