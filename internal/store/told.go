package store

import "slices"

// Told is what the loop over a watch was told last, for stores: it says what the
// loop is told next. The zero Told tells values each time.
type Told struct {
	once  bool
	known bool
	last  []Entry
}

// NewTold is for a watch with these options.
func NewTold(o []WatchOption) Told { return Told{once: slices.Contains(o, ValuesOnce)} }

// Once says that values are told once: those of a state that was told need not
// be kept.
func (t *Told) Once() bool { return t.once }

// News gives what to yield of the state now, which is sorted by key; false: the
// loop knows it. The result is the loop's own; now is neither changed nor, if
// values are told once, kept.
func (t *Told) News(now []Entry) ([]Entry, bool) {
	if t.known && SameEntries(t.last, now) {
		return nil, false
	}
	out := slices.Clone(now)
	if out == nil {
		out = []Entry{}
	}
	if t.once {
		if t.known {
			leaveOut(out, t.last)
		}
		now = Bare(now)
	}
	t.last, t.known = now, true
	return out, true
}

// Trouble says that the loop is told the whole state next, even if it is the
// one it knows.
func (t *Told) Trouble() { t.known = false }

// Bare gives the entries without their values.
func Bare(entries []Entry) []Entry {
	out := make([]Entry, len(entries))
	for i, e := range entries {
		out[i] = Entry{Key: e.Key, Revision: e.Revision}
	}
	return out
}

// leaveOut takes the values out of those of now that last has too. Both are
// sorted by key.
func leaveOut(now, last []Entry) {
	for i := range now {
		for len(last) > 0 && last[0].Key < now[i].Key {
			last = last[1:]
		}
		if len(last) > 0 && last[0].Key == now[i].Key && last[0].Revision == now[i].Revision {
			now[i].Value = nil
		}
	}
}
