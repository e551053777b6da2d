package cert

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// State is where one certificate stands, for people.
type State string

// The states. A certificate in service whose renewal fails stays "renewing":
// its Error and NextAttempt tell the rest.
const (
	StateWanted   State = "wanted"   // not there yet, no failure so far
	StateOrdering State = "ordering" // not there yet, a replica works on it
	StateValid    State = "valid"
	StateRenewing State = "renewing" // in service, renewal due or in work
	StateFailed   State = "failed"   // not there, the last attempt failed
	StateWaiting  State = "waiting"  // not there, its turn at the issuer is at NextAttempt
	StateCovered  State = "covered"  // not ordered: another certificate serves its names
	StateRevoked  State = "revoked"  // for good: it is not served, and nothing is ordered in its place
	StateExpired  State = "expired"  // nobody wants it, so it was not renewed; see DeleteAt
	StateStandby  State = "standby"  // not ordered: issuers before this one have not failed for long
)

// Status is all that is known about one certificate. Times are zero where
// they mean nothing.
type Status struct {
	ID          string    `json:"id"`
	Issuer      string    `json:"issuer"`
	Names       []string  `json:"names"`
	State       State     `json:"state"`
	Sources     []string  `json:"sources,omitempty"` // who wants it; empty: nobody, it is served but not renewed
	Serial      string    `json:"serial,omitempty"`
	NotBefore   time.Time `json:"notBefore,omitzero"`
	NotAfter    time.Time `json:"notAfter,omitzero"`
	RenewAt     time.Time `json:"renewAt,omitzero"`
	DeleteAt    time.Time `json:"deleteAt,omitzero"`   // then it goes from the store, unless somebody wants it
	CoveredBy   string    `json:"coveredBy,omitempty"` // ID
	Error       string    `json:"error,omitempty"`     // of the last attempt, in full
	Failures    int       `json:"failures,omitempty"`  // in a row
	Waits       string    `json:"waits,omitempty"`     // until NextAttempt, for this
	LastAttempt time.Time `json:"lastAttempt,omitzero"`
	NextAttempt time.Time `json:"nextAttempt,omitzero"`
	Holder      string    `json:"holder,omitempty"`     // the replica that works on it
	Journal     string    `json:"journal,omitempty"`    // how far its order is
	Asked       time.Time `json:"asked,omitzero"`       // when a person wanted it ordered
	Revocation  string    `json:"revocation,omitempty"` // what a person wanted revoked, and what came of it
	Step        string    `json:"step,omitempty"`       // known on the holder only
	StepSince   time.Time `json:"stepSince,omitzero"`
	Problem     string    `json:"problem,omitempty"` // why the stored value is refused, or the journal cannot be read
}

// Status tells of every certificate that is wanted or stored, sorted by
// issuer and ID. The caller owns the result.
func (k *Keeper) Status() []Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	v := k.view()
	out := slices.Clone(k.rejected)
	wanted := make(map[key]bool, len(v.wants))
	for _, a := range plan(now, v, k.replica) {
		if a.want == nil {
			continue
		}
		wanted[a.key] = true
		out = append(out, k.wantStatus(now, a))
	}
	for kk, h := range k.held {
		if wanted[kk] {
			continue
		}
		wanted[kk] = true
		s := Status{ID: kk.id, Issuer: kk.issuer, State: StateValid, Problem: joined(h.problem, k.unread[kk])}
		switch {
		case h.cert == nil:
			s.State = StateFailed
		case !h.cert.NotAfter.After(now):
			s.State = StateExpired
		}
		if k.told && s.Problem == "" {
			s.DeleteAt, _ = v.remains(kk).useless()
		}
		if r := k.revocations[kk]; !r.Asked.IsZero() {
			s.Revocation = r.text()
			if r.stopped(h.cert, k.requests[kk]) {
				s.State = StateRevoked
			}
		}
		out = append(out, k.withCertificate(s, h.cert))
	}
	for kk, trouble := range k.unread {
		if !wanted[kk] { // nor kept
			out = append(out, Status{ID: kk.id, Issuer: kk.issuer, State: StateFailed, Problem: trouble})
		}
	}
	slices.SortFunc(out, func(a, b Status) int {
		return cmp.Or(strings.Compare(a.Issuer, b.Issuer), strings.Compare(a.ID, b.ID))
	})
	return out
}

// joined puts what is wrong with the stored certificate and with its journal
// into one text.
func joined(problems ...string) string {
	return strings.Join(slices.DeleteFunc(problems, func(p string) bool { return p == "" }), "; ")
}

// wantStatus tells of one want. k.mu is held.
func (k *Keeper) wantStatus(now time.Time, a action) Status {
	h, att := k.held[a.key], k.attempts[a.key]
	s := Status{ID: a.key.id, Issuer: a.key.issuer, Names: slices.Clone(a.want.names), Sources: slices.Clone(a.want.sources),
		CoveredBy: a.coveredBy, Problem: joined(h.problem, k.unread[a.key]), Holder: k.holders[a.key], Journal: k.journals[a.key]}
	if t := k.turns[a.key]; t != nil && t.working {
		s.Step, s.StepSince = t.step, t.since
		if s.Holder == "" {
			s.Holder = k.replica
		}
	}
	s = k.withCertificate(s, h.cert)
	if h.cert != nil && !att.Last.After(h.cert.Obtained) {
		att = attempt{}
	}
	s.Error, s.Failures, s.LastAttempt, s.NextAttempt = att.Error, att.Failures, att.Last, att.Next
	if att.Next.After(now) {
		s.Waits = att.Waits
	}
	if asked := k.requests[a.key]; h.cert == nil || asked.After(h.cert.Obtained) {
		s.Asked = asked
		if !asked.IsZero() && asked.Before(s.RenewAt) {
			s.RenewAt = asked
		}
	}
	revoked := k.revocations[a.key]
	if !revoked.Asked.IsZero() {
		s.Revocation = revoked.text()
	}
	valid := h.cert != nil && s.NotAfter.After(now)
	switch {
	case revoked.stopped(h.cert, k.requests[a.key]):
		s.State = StateRevoked
	case valid && (a.coveredBy != "" || s.RenewAt.After(now)):
		s.State = StateValid
	case valid:
		s.State = StateRenewing
	case s.Holder != "":
		s.State = StateOrdering
	case a.coveredBy != "":
		s.State = StateCovered
	case a.standsBy:
		s.State = StateStandby
	case s.Waits != "":
		s.State = StateWaiting
	case s.Failures > 0:
		s.State = StateFailed
	default:
		s.State = StateWanted
	}
	return s
}

// withCertificate fills in what the certificate in service says. k.mu is held.
func (k *Keeper) withCertificate(s Status, c *Certificate) Status {
	if c == nil {
		return s
	}
	if s.Names == nil {
		s.Names = slices.Clone(c.Names)
	}
	s.Serial, s.NotBefore, s.NotAfter = c.serial, c.NotBefore, c.NotAfter
	s.RenewAt = renewTime(c, k.renewals[key{c.Issuer, c.ID}])
	return s
}
