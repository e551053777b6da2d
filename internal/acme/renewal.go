package acme

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

const renewalVersion = 1

// How often a CA is asked when to renew, whatever it wishes.
const (
	askAgainLeast = time.Minute
	askAgainMost  = 24 * time.Hour
	askAgainUsual = 6 * time.Hour
	askClaim      = time.Minute // one replica asks, the others have its answer
	// askQuiet is how long a replica asks for no certificate at all once the CA
	// gave no answer: thousands that are due would be as many calls.
	askQuiet = 2 * time.Minute
)

// window is when a CA would have a certificate renewed (RFC 9773, section 4.2).
type window struct {
	Start       time.Time
	End         time.Time
	Explanation string
}

// renewalInfo is the store's renewals/<issuer>/<id>: the CA's word on the
// present certificate of a set of names, asked by one replica for all.
type renewalInfo struct {
	Version     int       `json:"version"`
	Leaf        string    `json:"leaf"` // SHA-256
	Start       time.Time `json:"start,omitzero"`
	End         time.Time `json:"end,omitzero"`
	At          time.Time `json:"at,omitzero"` // chosen once, so that all replicas mean the same
	Next        time.Time `json:"next"`        // when the CA is asked again
	Failures    int       `json:"failures,omitempty"`
	Explanation string    `json:"explanation,omitempty"`
}

// RenewAt is the time within the CA's window at which the certificate is to be
// renewed; zero if the CA has none, cannot be asked, or the store cannot.
func (i *Issuer) RenewAt(ctx context.Context, leafDER []byte) time.Time {
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return time.Time{}
	}
	key := "renewals/" + i.ID() + "/" + cert.ID(sortedNames(namesOf(leaf)))
	known, rev, err := i.knownRenewal(ctx, key)
	if err != nil {
		i.log.Debug("renewal time not read", "key", key, "err", err, "next", "the default time, or the last known")
		return time.Time{}
	}
	now := time.Now()
	if known.Leaf != fingerprint(leafDER) {
		known = renewalInfo{Leaf: fingerprint(leafDER)}
	}
	// A time further away than we ever store was written by another clock.
	if known.Next.After(now) && known.Next.Before(now.Add(askAgainMost+time.Hour)) {
		return known.At
	}
	if quiet := i.quiet.Load(); quiet != nil && quiet.After(now) || i.Paused().After(now) {
		return known.At
	}
	claim := known
	claim.Next = now.Add(askClaim)
	if rev, err = i.putRenewal(ctx, key, claim, rev); err != nil {
		return known.At // another replica asks
	}
	fresh := i.askRenewal(ctx, leaf, known)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel() // the time may be up because the CA did not answer: that is to be known
	if _, err := i.putRenewal(ctx, key, fresh, rev); err != nil {
		i.log.Debug("renewal time not stored", "key", key, "err", err, "next", "it is asked again")
	}
	return fresh.At
}

// Renewal is cert.Renewals': what RenewAt has stored.
func (i *Issuer) Renewal(word, leafDER []byte) time.Time {
	var known renewalInfo
	if json.Unmarshal(word, &known) != nil || known.Version != renewalVersion || known.Leaf != fingerprint(leafDER) {
		return time.Time{}
	}
	return known.At
}

// inWindow tells whether the CA's window for leaf is open.
func (i *Issuer) inWindow(ctx context.Context, leaf *x509.Certificate) bool {
	known, _, err := i.knownRenewal(ctx, "renewals/"+i.ID()+"/"+cert.ID(sortedNames(namesOf(leaf))))
	now := time.Now()
	return err == nil && known.Leaf == fingerprint(leaf.Raw) && now.After(known.Start) && now.Before(known.End)
}

// clockStep is how far our clock may be from the CA's before a renewal is
// doubted.
const clockStep = 10 * time.Minute

// onTime refuses a renewal that is due by our clock only: one that has made a
// step would have every certificate renewed at once. Renewals before their
// time by both clocks are a person's wish.
func (i *Issuer) onTime(ctx context.Context, leafDER []byte) error {
	leaf, err := x509.ParseCertificate(leafDER)
	if err != nil {
		return nil // a first certificate
	}
	due := usual(leaf)
	if known, _, err := i.knownRenewal(ctx, "renewals/"+i.ID()+"/"+cert.ID(sortedNames(namesOf(leaf)))); err == nil &&
		known.Leaf == fingerprint(leafDER) && !known.At.IsZero() {
		due = known.At
	}
	if theirs, ok := i.ca.Now(); !ok || !early(due, time.Now(), theirs) {
		return nil
	}
	if err := i.ca.Probe(ctx); err != nil { // our clock may have stood still in a suspended machine
		return err
	}
	now := time.Now()
	theirs, _ := i.ca.Now()
	if !early(due, now, theirs) {
		return nil
	}
	return &waitError{until: now.Add(time.Hour), person: true, why: fmt.Sprintf(
		"it is due at %s, which is past by our clock (%s) and not by the CA's (%s): set the clock",
		due.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), theirs.UTC().Format(time.RFC3339))}
}

func early(due, ours, theirs time.Time) bool {
	return ours.After(due) && theirs.Before(due.Add(-clockStep)) && ours.Sub(theirs) > clockStep
}

// usual is package cert's time without a word of the CA.
func usual(leaf *x509.Certificate) time.Time {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	if life < 10*24*time.Hour {
		return leaf.NotBefore.Add(life / 2)
	}
	return leaf.NotBefore.Add(life / 3 * 2)
}

// askRenewal asks the CA. What it said last stays true if it cannot be asked.
func (i *Issuer) askRenewal(ctx context.Context, leaf *x509.Certificate, known renewalInfo) renewalInfo {
	id, err := acmez.ARIUniqueIdentifier(leaf)
	var w window
	var wait time.Duration
	if err == nil {
		w, wait, err = i.ca.RenewalInfo(ctx, id)
	}
	now := time.Now()
	if err != nil {
		known.Failures = min(known.Failures+1, 10)
		known.Next = now.Add(min(askAgainLeast<<known.Failures, askAgainUsual))
		var call *callError
		called := errors.As(err, &call)
		if called && call.After.After(known.Next) {
			known.Next = call.After
			if most := now.Add(askAgainMost); known.Next.After(most) {
				known.Next = most
			}
		}
		if called && (call.away() || call.Status == http.StatusTooManyRequests || call.Status >= 500) || errors.Is(err, context.DeadlineExceeded) {
			until := now.Add(askQuiet)
			if called && call.After.After(until) {
				until = known.Next
			}
			i.quiet.Store(&until)
		}
		i.log.Debug("renewal time not given", "names", namesOf(leaf), "err", err, "next", known.Next)
		return known
	}
	if wait == 0 {
		wait = askAgainUsual
	}
	known.Next = now.Add(min(max(wait, askAgainLeast), askAgainMost))
	known.Failures = 0
	if known.At.IsZero() || !known.Start.Equal(w.Start) || !known.End.Equal(w.End) {
		known.Start, known.End, known.At, known.Explanation = w.Start, w.End, within(w, rand.Float64()), w.Explanation
	}
	if w.End.Before(now) {
		i.log.Warn("the CA wants a certificate renewed at once", "names", namesOf(leaf), "explanation", oneLine(w.Explanation), "next", "it is ordered first")
	}
	return known
}

// within chooses the time in a window: not in its first twentieth, as clocks
// differ, and not in its last fifth, as an order may have to wait its turn and
// only inside the window are the CA's limits waived.
func within(w window, random float64) time.Time {
	width := w.End.Sub(w.Start)
	return w.Start.Add(width/20 + time.Duration(random*float64(width)*0.75)).UTC().Truncate(time.Second)
}

func (i *Issuer) knownRenewal(ctx context.Context, key string) (renewalInfo, store.Revision, error) {
	var known renewalInfo
	e, err := i.opts.Store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return known, "", nil
	}
	if err != nil {
		return known, "", err
	}
	if json.Unmarshal(e.Value, &known) != nil || known.Version != renewalVersion {
		known = renewalInfo{} // it is asked for again and overwritten
	}
	return known, e.Revision, nil
}

func (i *Issuer) putRenewal(ctx context.Context, key string, r renewalInfo, have store.Revision) (store.Revision, error) {
	r.Version = renewalVersion
	raw, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	return i.opts.Store.Put(ctx, key, raw, have)
}

// errNoRenewalInfo: the CA has no such thing.
var errNoRenewalInfo = errors.New("the CA does not say when to renew")

func (c *client) RenewalInfo(ctx context.Context, id string) (window, time.Duration, error) {
	_, about, err := c.ready(ctx)
	if err != nil {
		return window{}, 0, err
	}
	if about.renewalURL == "" {
		return window{}, 0, errNoRenewalInfo
	}
	callCtx, r := newRecord(ctx, headTime)
	defer r.cancel()
	req, err := http.NewRequestWithContext(callCtx, http.MethodGet, about.renewalURL+"/"+id, nil)
	if err != nil {
		return window{}, 0, err
	}
	req.Header.Set("User-Agent", c.userAgent)
	resp, err := c.http.Do(req)
	if err != nil {
		return window{}, 0, r.failure(ctx, "renewalInfo", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return window{}, 0, r.failure(ctx, "renewalInfo", fmt.Errorf("status %d", resp.StatusCode))
	}
	w, err := decodeWindow(body)
	if err != nil {
		return window{}, 0, r.failure(ctx, "renewalInfo", err)
	}
	return w, r.wait(), nil
}

func decodeWindow(body []byte) (window, error) {
	var answer struct {
		SuggestedWindow struct{ Start, End time.Time }
		ExplanationURL  string
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return window{}, fmt.Errorf("it is no renewal information: %w", err)
	}
	w := window{answer.SuggestedWindow.Start, answer.SuggestedWindow.End, answer.ExplanationURL}
	if w.Start.IsZero() || !w.End.After(w.Start) {
		return window{}, fmt.Errorf("its window ends (%s) before it begins (%s)", w.End, w.Start)
	}
	return w, nil
}
