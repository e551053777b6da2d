package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/store"
)

// choose journals how each name will be proved, before anything is presented.
func (m *machine) choose(ctx context.Context, urls []string) error {
	j := m.book.now.clone()
	for _, url := range urls {
		z := m.truth.authorizations[url]
		if err := m.step(ctx, "choose "+m.issuer.opts.Challenge+" "+z.IdentifierValue()); err != nil {
			return err
		}
		c, err := m.solver.choose(ctx, z, m.issuer.opts.Challenge)
		if err != nil {
			return err
		}
		j.Challenges = append(j.Challenges, c)
		// What is about to be presented again is no leftover any more.
		j.Leftovers = slices.DeleteFunc(j.Leftovers, func(l challenge) bool { return l.place() == c.place() && l.Value == c.Value })
		m.planned[url] = true
	}
	return m.book.write(ctx, j)
}

// present makes the challenges of urls answerable, together: a DNS provider
// makes one change of them.
func (m *machine) present(ctx context.Context, urls []string) error {
	if other, err := m.replan(ctx, urls); other || err != nil {
		return err
	}
	j := m.book.now.clone()
	var all []challenge
	for _, url := range urls {
		i, _ := j.challenge(url)
		if err := m.step(ctx, "present "+j.Challenges[i].label()); err != nil {
			return err
		}
		all = append(all, j.Challenges[i])
		j.Challenges[i].State = presented
	}
	err := m.write(ctx, all)
	if err == nil {
		err = m.book.write(ctx, j)
	}
	if err != nil && (held(ctx) != nil || errors.Is(err, store.ErrLeaseLost)) {
		m.issuer.lookAfter(m.book.key, all)
	}
	return err
}

// write presents challenges, unless whoever had the order before did.
func (m *machine) write(ctx context.Context, all []challenge) error {
	if m.inherited && m.solver.seen(ctx, all) {
		return nil
	}
	return errors.Join(together(all, func(c challenge) error { return m.solver.present(ctx, c, time.Now()) })...)
}

// tell waits until all can be seen, and tells the CA of each.
func (m *machine) tell(ctx context.Context, urls []string) error {
	if other, err := m.replan(ctx, urls); other || err != nil {
		return err
	}
	j := m.book.now.clone()
	var all []challenge
	changed := false
	for _, url := range urls {
		i, _ := j.challenge(url)
		all = append(all, j.Challenges[i])
		changed = changed || j.Challenges[i].State != told
		j.Challenges[i].State = told
	}
	if changed {
		if err := m.step(ctx, "wait until "+m.issuer.opts.Challenge+" can be seen"); err != nil {
			return err
		}
		if err := m.wait(ctx, all); err != nil {
			return err
		}
		if err := m.book.write(ctx, j); err != nil {
			return err
		}
	}
	for _, c := range all {
		if err := m.step(ctx, "tell the CA of "+c.label()); err != nil {
			return err
		}
		m.truth.tellAgain[c.Authorization] = time.Now().Add(m.issuer.timing.tellAgain)
		if err := m.issuer.ca.Tell(ctx, m.account, c.URL); err != nil {
			m.truth.tellAgain[c.Authorization] = time.Now().Add(m.issuer.timing.tellInherited)
			return fmt.Errorf("%s: %w", c.label(), err)
		}
		delete(m.truth.authorizations, c.Authorization)
	}
	m.tries = 0
	return nil
}

// wait is bounded by the lives of the authorizations.
func (m *machine) wait(ctx context.Context, all []challenge) error {
	until := time.Now().Add(m.issuer.timing.dnsWait)
	for _, c := range all {
		if c.Expires.IsZero() {
			continue
		}
		if end := time.Now().Add(c.Expires.Sub(m.now())); end.Before(until) {
			until = end
		}
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	return m.solver.wait(ctx, all)
}

// together does what is to be done for each challenge and gives the errors in
// the same order. DNS records are written side by side, so that a provider can
// take them as one change; entries of the store one after another.
func together(all []challenge, do func(challenge) error) []error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, c := range all {
		if c.Type != dns01 {
			errs[i] = do(c)
			continue
		}
		wg.Go(func() { errs[i] = do(c) })
	}
	wg.Wait()
	return errs
}
