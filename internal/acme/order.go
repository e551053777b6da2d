package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// machine drives one order: it does what next says, journals what it did, and
// looks again at the CA after whatever ended without a clear answer.
type machine struct {
	issuer *Issuer
	req    cert.Request
	book   *book
	solver solver

	account  acmez.Account
	truth    truth
	poll     time.Duration // until the next look
	asked    time.Duration // what the CA's last answer asked to wait
	polling  time.Time     // since when nothing but looking was done
	tries    int           // calls in a row that may work soon
	restarts int           // orders that may still be begun anew
	handed   int           // signing requests the CA took in this attempt
	resettle bool          // the account was settled again already
	// inherited: the order was begun by an earlier call, perhaps of a process
	// that died; what it presented may be there.
	inherited bool
	planned   map[string]bool // authorizations whose challenges fit what is configured now
	// lost: a newOrder may have been sent whose answer nobody has.
	lost bool
	// answered ends the waiting of the end of this process for the answer of
	// newOrder; nil: it does not wait.
	answered func()
	// beside is held while no other issuer may order the same names; nil: none would.
	beside store.Lease
}

// run takes step after step until the certificate is there or an error says
// why not.
func (m *machine) run(ctx context.Context) (cert.Bundle, error) {
	if err := m.begin(ctx); err != nil {
		return cert.Bundle{}, err
	}
	for {
		if err := held(ctx); err != nil {
			return cert.Bundle{}, err
		}
		a := next(m.book.now, m.truth, time.Now())
		if a.verb == doGive {
			return cert.Bundle{Chain: m.book.now.Chain, Key: m.book.now.Key}, nil
		}
		m.progress(a.verb)
		err := m.do(ctx, a)
		if err == nil {
			continue
		}
		if err := m.recover(ctx, err); err != nil {
			return cert.Bundle{}, err
		}
	}
}

// begin puts aside a journal that is not about this request, and finds the
// account.
func (m *machine) begin(ctx context.Context) error {
	why, err := m.stale(ctx)
	if err != nil {
		return err
	}
	if why != "" {
		m.issuer.log.Info("journal put aside", "order", m.book.key, "reason", why)
		if err := m.reset(ctx); err != nil {
			return err
		}
	}
	m.inherited = len(m.book.now.Key) > 0
	m.lost = m.inherited && m.book.now.Order == ""
	if len(m.book.now.Leftovers) > 0 {
		// A failure here must not stop the order: it is tried again at its end.
		if err := m.sweep(ctx, m.book.now); err != nil {
			m.issuer.log.Warn("clean up failed", "order", m.book.key, "err", err, "next", "when the order ends")
		}
	}
	if len(m.book.now.Chain) > 0 {
		return nil // nobody needs to be asked
	}
	if err := m.issuer.pace.gate(ctx, m.req.Names, m.req.Asked, m.issuer.ca.Probe); err != nil {
		return err
	}
	if err := m.step(ctx, "account"); err != nil {
		return err
	}
	for {
		found, err := m.issuer.accounts.get(ctx)
		if err == nil {
			m.account, m.truth.account, m.tries = found, found.Location, 0
			return nil
		}
		if err = m.pause(ctx, err); err != nil {
			return err
		}
	}
}

// stale says why a journal is not one to go on with; empty: it is.
func stale(j journal, req cert.Request, directory string, now time.Time) string {
	switch {
	case len(j.Key) == 0:
		return ""
	case !slices.Equal(sortedNames(j.Names), sortedNames(req.Names)):
		return "it is for other names"
	case j.Directory != directory:
		return "it is of another CA"
	case len(j.Chain) == 0:
		return ""
	}
	chain, err := parseChain(j.Chain)
	switch {
	case err != nil:
		return err.Error()
	case slices.Equal(chain[0].Raw, req.Replaces):
		return "it is the order of the certificate to be renewed"
	case now.After(chain[0].NotAfter):
		return "its certificate has expired"
	}
	return ""
}

// progress starts the time of waiting for the CA anew after each other step.
func (m *machine) progress(v verb) {
	switch v {
	case doPoll, doPollAll:
		if m.polling.IsZero() {
			m.polling, m.poll = time.Now(), m.issuer.timing.pollFirst
		}
	case doRead, doReadAll, doTell: // told again, it is the same wait
	default:
		m.polling = time.Time{}
	}
}

func (m *machine) do(ctx context.Context, a action) error {
	switch a.verb {
	case doIntend:
		return m.intend(ctx)
	case doOrder:
		return m.apart(ctx, m.order)
	case doRead:
		return m.read(ctx)
	case doReadAll:
		return m.readAll(ctx, a.urls)
	case doChoose:
		return m.choose(ctx, a.urls)
	case doPresent:
		return m.present(ctx, a.urls)
	case doTell:
		return m.tell(ctx, a.urls)
	case doPoll, doPollAll:
		if err := m.look(ctx); err != nil {
			return err
		}
		if a.verb == doPollAll {
			return m.readAll(ctx, a.urls)
		}
		return m.read(ctx)
	case doFinalize:
		return m.finalize(ctx)
	case doDownload:
		return m.download(ctx)
	case doRestart:
		return m.restart(ctx, a.why)
	case doFail:
		names := m.countFailures(ctx)
		return concerning(m.fail(ctx, a.why), names)
	}
	panic("acme: no such step: " + a.verb)
}

// intend journals what will be ordered; the key exists from here on.
func (m *machine) intend(ctx context.Context) error {
	if err := m.step(ctx, "key"); err != nil {
		return err
	}
	about, err := m.issuer.ca.About(ctx)
	if err != nil {
		return err
	}
	if err := m.issuer.onTime(ctx, m.req.Replaces); err != nil {
		return err
	}
	profile := m.issuer.opts.Profile
	if _, ok := about.Profiles[profile]; profile != "" && !ok {
		return fmt.Errorf("profile %q: %s offers %s", profile, hostOf(m.issuer.opts.Directory), listOf(about.Profiles))
	}
	key, err := newKey(m.issuer.opts.KeyType)
	if err != nil {
		return err
	}
	j := m.book.now.clone()
	j.Directory, j.Names, j.Key, j.Profile = m.issuer.opts.Directory, slices.Clone(m.req.Names), key, profile
	j.Renews = fingerprint(m.req.Replaces)
	j.Account, j.Began = m.account.Location, time.Now().UTC().Truncate(time.Second)
	if about.Renewal && m.req.Replaces != nil {
		// Without it the order is still right; the CA only knows less.
		if leaf, err := x509.ParseCertificate(m.req.Replaces); err == nil {
			j.Replaces, _ = acmez.ARIUniqueIdentifier(leaf)
			j.InWindow = m.issuer.inWindow(ctx, leaf)
		}
	}
	return m.book.write(ctx, j)
}

func (m *machine) read(ctx context.Context) error {
	if err := m.step(ctx, "read order"); err != nil {
		return err
	}
	o, wait, err := m.issuer.ca.Order(ctx, m.account, m.book.now.Order)
	if isGone(err) {
		m.truth.gone = "the CA does not know it any more: " + err.Error()
		return nil
	}
	if err != nil {
		return err
	}
	if why := overdue(o.Status, o.Expires, m.now()); why != "" {
		m.truth.gone = why
		return nil
	}
	o.Location = m.book.now.Order
	m.truth.order, m.asked = &o, wait
	return nil
}

func (m *machine) readAll(ctx context.Context, urls []string) error {
	m.asked = 0
	valid := true
	for _, url := range urls {
		if err := m.step(ctx, "read authorization"); err != nil {
			return err
		}
		z, wait, err := m.issuer.ca.Authorization(ctx, m.account, url)
		if isGone(err) {
			m.truth.gone = "the CA does not know its authorization any more: " + err.Error()
			return nil
		}
		if err != nil {
			return err
		}
		if why := overdue(z.Status, z.Expires, m.now()); why != "" {
			m.truth.gone = "its authorization of " + z.IdentifierValue() + ": " + why
			return nil
		}
		m.truth.authorizations[url] = z
		m.asked = max(m.asked, wait)
		valid = valid && z.Status == acmez.StatusValid
	}
	if valid && m.truth.order.Status == acmez.StatusPending {
		return m.read(ctx) // it should be ready now
	}
	return nil
}

// look waits before the CA is asked again: longer each time, at least as long
// as it asked for.
func (m *machine) look(ctx context.Context) error {
	t := m.issuer.timing
	if time.Since(m.polling) > t.pollWhole {
		return fmt.Errorf("the CA has not come to an end with it for %s (its order is %s); it is kept and looked at again",
			t.pollWhole, m.truth.order.Status)
	}
	if err := m.step(ctx, "wait for the CA"); err != nil {
		return err
	}
	d := max(m.poll, min(m.asked, time.Minute))
	m.poll = min(m.poll*2, t.pollMost)
	return sleep(ctx, d)
}

// finalize hands in the request for the journaled key. That it was sent is
// known before it is; what became of it is read.
func (m *machine) finalize(ctx context.Context) error {
	j := m.book.now.clone()
	key, err := parseKey(j.Key)
	if err != nil {
		return err
	}
	csr, err := signingRequest(key, j.Names)
	if err != nil {
		return err
	}
	if !j.Finalized {
		j.Finalized = true
		if err := m.book.write(ctx, j); err != nil {
			return err
		}
	}
	if m.handed > 0 { // and yet it calls the order ready
		if m.handed > m.issuer.timing.retries {
			return fmt.Errorf("finalize: %s took it %d times, and still calls the order ready; it is kept", hostOf(m.truth.order.Finalize), m.handed)
		}
		if err := sleep(ctx, m.issuer.timing.retryFirst<<m.handed); err != nil {
			return err
		}
	}
	if err := m.step(ctx, "finalize"); err != nil {
		return err
	}
	err = m.issuer.ca.Finalize(ctx, m.account, m.truth.order.Finalize, csr)
	if err != nil {
		return err
	}
	m.truth.forget()
	m.tries = 0
	m.handed++
	return nil
}

// download takes the chain if it is one that may be served.
func (m *machine) download(ctx context.Context) error {
	j := m.book.now.clone()
	if err := m.step(ctx, "download"); err != nil {
		return err
	}
	chains, err := m.issuer.ca.Chains(ctx, m.account, m.truth.order.Certificate)
	if isGone(err) {
		return m.unusable(ctx, err)
	}
	if err != nil {
		return err
	}
	text, found := preferred(chains, m.issuer.opts.PreferredChain)
	if !found {
		m.issuer.log.Warn("preferred chain not offered", "order", m.book.key, "chain", m.issuer.opts.PreferredChain,
			"next", "the CA's own choice is used")
	}
	key, err := parseKey(j.Key)
	if err != nil {
		return err
	}
	chain, err := parseChain(text)
	if err == nil {
		err = checkChain(chain, key, j.Names, m.timeFor(chain[0]))
	}
	if err != nil {
		host := hostOf(m.issuer.opts.Directory)
		return m.unusable(ctx, &callError{Op: "certificate", Host: host, Status: http.StatusOK, Err: fmt.Errorf("it must not be used: %w", err)})
	}
	j.Chain = text
	return m.book.write(ctx, j)
}

// unusable keeps an order whose certificate cannot be had as it should be: what
// is paid for may have been garbled on the way, or not be everywhere at the CA
// yet. An order that stays so is given up.
func (m *machine) unusable(ctx context.Context, why error) error {
	age := time.Since(m.book.now.Began)
	if m.tries >= m.issuer.timing.retries && (age < 0 || age > keepUnusable) {
		return m.fail(ctx, why)
	}
	return why
}

// restart begins anew in place of an order that is no more.
func (m *machine) restart(ctx context.Context, why error) error {
	m.issuer.log.Info("order is no more", "order", m.book.key, "url", m.book.now.Order, "reason", why.Error())
	if m.restarts == 0 {
		return m.fail(ctx, fmt.Errorf("the order was lost again and again: %w", why))
	}
	m.restarts--
	return m.reset(ctx)
}

// refused is an order the CA will not issue on: the next attempt orders anew.
type refused struct{ err error }

func (e *refused) Error() string { return e.err.Error() }
func (e *refused) Unwrap() error { return e.err }

func (m *machine) fail(ctx context.Context, why error) error {
	j := m.book.now.reset()
	j.Failure = why.Error()
	if err := m.replace(ctx, j); err != nil {
		return errors.Join(why, err)
	}
	return &refused{why}
}

// reset makes the journal that of no order.
func (m *machine) reset(ctx context.Context) error { return m.replace(ctx, m.book.now.reset()) }

// replace makes j, of no order, the journal, and cleans up. A failed clean up
// stays in the journal and is tried again.
func (m *machine) replace(ctx context.Context, j journal) error {
	if err := m.book.write(ctx, j); err != nil {
		return err
	}
	m.truth.forget()
	m.truth.gone = ""
	if err := m.sweep(ctx, m.book.now); err != nil {
		m.issuer.log.Warn("clean up failed", "order", m.book.key, "err", err, "next", "with the next attempt")
	}
	return nil
}

// sweep cleans up j's leftovers and makes the rest of j the journal; the
// journal goes if nothing is left.
func (m *machine) sweep(ctx context.Context, j journal) error {
	var failed []error
	var left []challenge
	for _, c := range j.Leftovers {
		if err := m.step(ctx, "clean up "+c.label()); err != nil {
			return err
		}
	}
	for i, err := range together(j.Leftovers, func(c challenge) error { return m.cleanUp(ctx, c) }) {
		if err != nil {
			failed, left = append(failed, err), append(left, j.Leftovers[i])
		}
	}
	if err := held(ctx); err != nil {
		return err
	}
	j.Leftovers = left
	if j.empty() && j.Failure == "" {
		failed = append(failed, m.book.erase(ctx))
	} else {
		failed = append(failed, m.book.write(ctx, j))
	}
	return errors.Join(failed...)
}

func (m *machine) cleanUp(ctx context.Context, c challenge) error {
	ctx, cancel := context.WithTimeout(ctx, m.issuer.timing.cleanUp)
	defer cancel()
	err := m.solver.cleanUp(ctx, c)
	if errors.Is(err, dns.ErrNoZone) {
		m.issuer.log.Warn("a record of ours cannot be removed, the provider holds its zone no more; it is forgotten",
			"order", m.book.key, "record", c.place(), "err", err)
		return nil
	}
	return err
}

// step tells of a step that is about to begin; it must not if this is an error.
func (m *machine) step(ctx context.Context, s string) error {
	if err := held(ctx); err != nil {
		return err
	}
	if m.req.Step != nil {
		m.req.Step(s)
	}
	return nil
}

func listOf(profiles map[string]string) string {
	if len(profiles) == 0 {
		return "no profiles"
	}
	var names []string
	for name := range profiles {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
