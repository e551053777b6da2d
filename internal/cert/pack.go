package cert

import (
	"cmp"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"
)

// splitAfter is how often a packed certificate is refused, without a word on
// which name it is for, before its names are ordered in halves.
const splitAfter = 2

// pack puts names (cleaned) that were wanted one by one into shared certificates,
// size[issuer] in each. It is pure: all replicas that know the same make the same of it.
//
//   - A certificate that is there stays as it is until it is due, and so does an
//     order that was begun: a name does not move without a reason.
//   - When it is due, names that are not wanted any more leave. If less than
//     half is left, its names go where new ones go.
//   - New names fill certificates in the order of their domains.
//   - A name that the issuer refused is ordered alone from then on; if the issuer
//     did not say which it was, all names of that certificate in halves, and
//     again.
func pack(now time.Time, size map[string]int, list []Want, v view) []Want {
	if len(size) == 0 {
		return list
	}
	out := make([]Want, 0, len(list))
	byIssuer := map[string]*packing{}
	listed := coveredNames(list)
	for _, w := range list {
		if !w.FromRule || len(w.Names) != 1 || size[w.Issuer] < 2 || isCovered(listed[w.Issuer], w.Names[0]) {
			out = append(out, w)
			continue
		}
		n := w.Names[0]
		id := w.Issuer + "\n" + strings.Join(w.Fallback, "\n")
		p := byIssuer[id]
		if p == nil {
			p = &packing{issuer: w.Issuer, fallback: w.Fallback, size: min(size[w.Issuer], maxNames), free: map[string]string{}}
			byIssuer[id] = p
		}
		if old, twice := p.free[n]; twice && old <= w.Source {
			continue
		}
		p.free[n] = w.Source
	}
	for _, id := range slices.Sorted(maps.Keys(byIssuer)) {
		out = append(out, byIssuer[id].fill(now, v)...)
	}
	return out
}

// coveredNames are, by issuer, the names of certificates that somebody listed,
// and wildcards of host rules: names they cover are not ordered by themselves.
func coveredNames(list []Want) map[string]map[string]bool {
	listed := map[string]map[string]bool{}
	for _, w := range list {
		for _, n := range w.Names {
			if w.FromRule && !strings.HasPrefix(n, "*.") {
				continue
			}
			if listed[w.Issuer] == nil {
				listed[w.Issuer] = map[string]bool{}
			}
			listed[w.Issuer][n] = !w.FromRule
		}
	}
	return listed
}

// isCovered reports whether n is listed, or below a wildcard.
func isCovered(listed map[string]bool, n string) bool {
	if listed[n] {
		return true
	}
	_, below := listed["*."+parent(n)]
	return below && !strings.HasPrefix(n, "*.") && !isIP(n)
}

// packing is the names of one issuer that are to be packed.
type packing struct {
	issuer   string
	fallback []string
	size     int
	free     map[string]string // names that are in no certificate yet: who wants them
	wants    []Want
	bad      map[string]bool      // the issuer has refused them
	obtained map[string]time.Time // when a name was last put into a certificate
	limits   map[string]int       // how many may be in one certificate with a name; none: size
}

func (p *packing) fill(now time.Time, v view) []Want {
	p.learn(v)
	sources := maps.Clone(p.free)
	var due []*Certificate
	for _, c := range p.certificates(v) {
		kk := key{c.Issuer, c.ID}
		do, _ := decide(now, c, attempt{}, v.renewals[kk], v.asked(kk))
		switch {
		case v.revocations[kk].stopped(c, v.requests[kk]), do == rest:
			p.take(c.Names, sources)
		default:
			due = append(due, c)
		}
	}
	p.begun(v, sources)
	for _, c := range due {
		left := p.left(c.Names)
		tooFew, tooMany := 2*len(left) < p.size, slices.ContainsFunc(left, func(n string) bool { return p.limit(n) < len(left) })
		if !tooFew && !tooMany {
			p.take(left, sources)
		}
	}
	p.broken(v, sources)
	p.rest(sources)
	return p.wants
}

// certificates are the issuer's, those first that last longest: a name is in the
// last one it was ordered in.
func (p *packing) certificates(v view) []*Certificate {
	var list []*Certificate
	for kk, c := range v.present {
		if kk.issuer == p.issuer && slices.ContainsFunc(c.Names, func(n string) bool { _, ok := p.free[n]; return ok }) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *Certificate) int {
		return cmp.Or(b.NotAfter.Compare(a.NotAfter), strings.Compare(a.ID, b.ID))
	})
	return list
}

// left are those of names that are in no certificate yet.
func (p *packing) left(names []string) []string {
	var out []string
	for _, n := range names {
		if _, ok := p.free[n]; ok {
			out = append(out, n)
		}
	}
	return out
}

// take wants a certificate for names, if any of them is in none yet.
func (p *packing) take(names []string, sources map[string]string) {
	if len(p.left(names)) == 0 {
		return
	}
	var who []string
	for _, n := range names {
		delete(p.free, n)
		if s, ok := sources[n]; ok && !slices.Contains(who, s) {
			who = append(who, s)
		}
	}
	slices.Sort(who)
	p.wants = append(p.wants, Want{Names: slices.Clone(names), Issuer: p.issuer, Fallback: p.fallback,
		Source: strings.Join(who, ", "), FromRule: len(names) == 1})
}

// begun are the orders under way that were not refused: they are gone on with.
func (p *packing) begun(v view, sources map[string]string) {
	for _, kk := range p.keys(maps.Keys(v.ordered)) {
		names := v.ordered[kk]
		if a := v.attempts[kk]; a.Failures > a.Unreached || ID(names) != kk.id || len(names) > p.size {
			continue
		}
		p.take(names, sources)
	}
}

// broken are certificates that were refused: what may stay together does, so
// that nothing else moves for it.
func (p *packing) broken(v view, sources map[string]string) {
	for _, kk := range p.keys(maps.Keys(v.attempts)) {
		a := v.attempts[kk]
		if a.Failures <= a.Unreached || len(a.Names) < 2 {
			continue
		}
		limit, together := p.size, []string{}
		for _, n := range p.left(a.Names) {
			if l := p.limit(n); l > 1 && a.Last.After(p.obtained[n]) {
				limit, together = min(limit, l), append(together, n)
			}
		}
		slices.SortFunc(together, byDomain)
		for some := range slices.Chunk(together, limit) {
			p.take(some, sources)
		}
	}
}

// keys are those of the issuer, in order.
func (p *packing) keys(all iter.Seq[key]) []key {
	var keys []key
	for kk := range all {
		if kk.issuer == p.issuer {
			keys = append(keys, kk)
		}
	}
	slices.SortFunc(keys, func(a, b key) int { return strings.Compare(a.id, b.id) })
	return keys
}

// rest packs what is left: the refused alone, the others by domain.
func (p *packing) rest(sources map[string]string) {
	byLimit := map[int][]string{}
	for n := range p.free {
		byLimit[p.limit(n)] = append(byLimit[p.limit(n)], n)
	}
	for _, l := range slices.Sorted(maps.Keys(byLimit)) {
		slices.SortFunc(byLimit[l], byDomain)
		for some := range slices.Chunk(byLimit[l], l) {
			p.take(some, sources)
		}
	}
}

// learn takes from what is stored what the names of the packing have met with
// since they were last in a certificate: refused, or in one that was.
func (p *packing) learn(v view) {
	p.obtained = map[string]time.Time{}
	for kk, c := range v.present {
		if kk.issuer != p.issuer {
			continue
		}
		for _, n := range c.Names {
			if c.Obtained.After(p.obtained[n]) {
				p.obtained[n] = c.Obtained
			}
		}
	}
	p.bad, p.limits = map[string]bool{}, map[string]int{}
	for kk, a := range v.attempts {
		refused := a.Failures - a.Unreached
		if kk.issuer != p.issuer || refused <= 0 {
			continue
		}
		for _, n := range a.Bad {
			p.bad[n] = p.bad[n] || a.Last.After(p.obtained[n])
		}
		if len(a.Bad) > 0 || refused < splitAfter || len(a.Names) < 2 {
			continue
		}
		for _, n := range a.Names {
			if half := (len(a.Names) + 1) / 2; a.Last.After(p.obtained[n]) && (p.limits[n] == 0 || half < p.limits[n]) {
				p.limits[n] = half
			}
		}
	}
}

// limit is how many names may be in a certificate with n.
func (p *packing) limit(n string) int {
	switch l := p.limits[n]; {
	case p.bad[n]:
		return 1
	case l > 0:
		return min(l, p.size)
	}
	return p.size
}

// byDomain compares names by their labels in the order of the DNS tree.
func byDomain(a, b string) int {
	restA, restB := a, b
	for restA != "" || restB != "" {
		la, lb := last(&restA), last(&restB)
		if c := strings.Compare(la, lb); c != 0 {
			return c
		}
	}
	return 0
}

// last takes the last label off a name.
func last(name *string) string {
	i := strings.LastIndexByte(*name, '.')
	label := (*name)[i+1:]
	*name = (*name)[:max(i, 0)]
	return label
}
