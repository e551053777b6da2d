package acme

import (
	"errors"
	"fmt"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// truth is what the CA was last seen to say of the journaled order. What is
// not known is asked for; after anything that may have changed it, it is not
// known.
type truth struct {
	account        string // URL of our account
	gone           string // why the journaled order is no more; empty: it is, or is not known
	order          *acmez.Order
	authorizations map[string]acmez.Authorization
	// tellAgain is when an authorization that was told, but is still
	// untouched, is told again: the first telling may be lost.
	tellAgain map[string]time.Time
}

// forget makes everything unknown but what cannot change.
func (t *truth) forget() {
	t.order, t.authorizations = nil, map[string]acmez.Authorization{}
}

// verb is what is done next.
type verb string

const (
	doIntend   verb = "intend"    // journal what will be ordered, with its key
	doOrder    verb = "newOrder"  // order it
	doRead     verb = "read"      // read the order
	doReadAll  verb = "read all"  // read the authorizations in urls
	doChoose   verb = "choose"    // choose and journal challenges for the authorizations in urls
	doPresent  verb = "present"   // present the challenges of urls
	doTell     verb = "tell"      // wait until the challenges of urls can be seen, and tell the CA
	doPoll     verb = "poll"      // wait, then read the order
	doPollAll  verb = "poll all"  // wait, then read the authorizations in urls
	doFinalize verb = "finalize"  // hand in the signing request
	doDownload verb = "download"  // download and journal the chain
	doGive     verb = "give"      // the journal holds what was asked for
	doRestart  verb = "restart"   // the order is no more: clean up, order anew
	doFail     verb = "fail with" // the CA will not issue on this order: clean up, say why
)

type action struct {
	verb verb
	urls []string
	why  error // of doRestart and doFail
}

// next is the order's transition function: from the journal and what the CA
// says to the one next step. It does nothing itself. doGive comes before all
// else, and no step comes before the journal has announced it.
func next(j journal, t truth, now time.Time) action {
	switch {
	case len(j.Chain) > 0:
		return action{verb: doGive}
	case len(j.Key) == 0:
		return action{verb: doIntend}
	case j.Order == "":
		return action{verb: doOrder}
	case j.Account != t.account:
		return action{verb: doRestart, why: fmt.Errorf("it belongs to the account %s, ours is %s now", j.Account, t.account)}
	case t.gone != "":
		return action{verb: doRestart, why: errors.New(t.gone)}
	case t.order == nil:
		return action{verb: doRead}
	}
	switch t.order.Status {
	case acmez.StatusReady:
		return action{verb: doFinalize}
	case acmez.StatusProcessing:
		return action{verb: doPoll}
	case acmez.StatusValid:
		if t.order.Certificate == "" {
			return action{verb: doPoll} // some CAs say so before it is there
		}
		return action{verb: doDownload}
	case acmez.StatusInvalid:
		return nextOfInvalid(t, now)
	}
	return nextOfPending(j, t, now)
}

// nextOfInvalid finds out why: the authorizations know more than the order.
func nextOfInvalid(t truth, now time.Time) action {
	if unread := unread(t); len(unread) > 0 {
		return action{verb: doReadAll, urls: unread}
	}
	for _, url := range t.order.Authorizations {
		if err := refusal(t.authorizations[url]); err != nil {
			return action{verb: doFail, why: err}
		}
	}
	switch {
	case t.order.Error != nil:
		return action{verb: doFail, why: fmt.Errorf("the CA made the order invalid: %s", describe(*t.order.Error, 0))}
	case !t.order.Expires.IsZero() && now.After(t.order.Expires):
		return action{verb: doRestart, why: fmt.Errorf("it expired on %s", t.order.Expires.UTC().Format(time.RFC3339))}
	}
	return action{verb: doFail, why: errors.New("the CA made the order invalid and does not say why")}
}

// nextOfPending proves the names: all that can be done for all of them
// together is one step.
func nextOfPending(j journal, t truth, now time.Time) action {
	if unread := unread(t); len(unread) > 0 {
		return action{verb: doReadAll, urls: unread}
	}
	var open, choose, present, tell []string
	for _, url := range t.order.Authorizations {
		z := t.authorizations[url]
		if err := refusal(z); err != nil {
			return action{verb: doFail, why: err}
		}
		if z.Status == acmez.StatusValid {
			continue
		}
		open = append(open, url)
		i, ok := j.challenge(url)
		switch {
		case !ok:
			choose = append(choose, url)
		case j.Challenges[i].State == chosen:
			present = append(present, url)
		case j.Challenges[i].State == presented:
			tell = append(tell, url)
		case untouched(z, j.Challenges[i]) && now.After(t.tellAgain[url]):
			tell = append(tell, url)
		}
	}
	switch {
	case len(choose) > 0:
		return action{verb: doChoose, urls: choose}
	case len(present) > 0:
		return action{verb: doPresent, urls: present}
	case len(tell) > 0:
		return action{verb: doTell, urls: tell}
	case len(open) > 0:
		return action{verb: doPollAll, urls: open}
	}
	return action{verb: doPoll} // all are valid: the order will be ready
}

func unread(t truth) []string {
	var urls []string
	for _, url := range t.order.Authorizations {
		if _, ok := t.authorizations[url]; !ok {
			urls = append(urls, url)
		}
	}
	return urls
}

// untouched reports whether the CA has not begun with the challenge.
func untouched(z acmez.Authorization, c challenge) bool {
	for _, offered := range z.Challenges {
		if offered.URL == c.URL {
			return offered.Status == acmez.StatusPending || offered.Status == ""
		}
	}
	return false
}

// refusal is why an authorization will never be valid; nil if it may be.
// Statuses nobody knows yet are waited out like pending.
func refusal(z acmez.Authorization) error {
	switch z.Status {
	case acmez.StatusInvalid:
		for _, c := range z.Challenges {
			if c.Error != nil {
				return fmt.Errorf("%s %s: the CA could not validate it: %s", c.Type, z.IdentifierValue(), describe(*c.Error, 0))
			}
		}
		return fmt.Errorf("%s: the CA could not validate it and does not say why", z.IdentifierValue())
	case acmez.StatusExpired, acmez.StatusDeactivated, acmez.StatusRevoked:
		return fmt.Errorf("%s: the CA's authorization is %s", z.IdentifierValue(), z.Status)
	}
	return nil
}
