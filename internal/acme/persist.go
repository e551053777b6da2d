package acme

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// dnsPersist01 proves a name by a TXT record that stays
// (draft-ietf-acme-dns-persist): a person makes it once, we only look whether it
// is there, and nothing is cleaned up.
const dnsPersist01 = acmez.ChallengeTypeDNSPersist01

// persistName is where the record of a domain stands.
func persistName(domain string) string {
	return "_validation-persist." + strings.TrimPrefix(domain, "*.")
}

// persistValue is what it has to say.
func persistValue(issuer, account string, wildcard bool) string {
	value := issuer + "; accounturi=" + account
	if wildcard {
		value += "; policy=wildcard"
	}
	return value
}

// PersistRecord is the TXT record that lets this issuer's account have
// certificates for domain, or for all below it if that is a wildcard. issuer is
// the CA's name in it, as in CAA records.
func (i *Issuer) PersistRecord(ctx context.Context, domain, issuer string) (name, value string, err error) {
	e, err := i.accounts.store.Get(ctx, i.accounts.key())
	if err != nil {
		return "", "", fmt.Errorf("read account %s: %w", i.accounts.key(), err)
	}
	rec, _, err := decodeAccount(e.Value)
	if err != nil {
		return "", "", fmt.Errorf("read account %s: %w", i.accounts.key(), err)
	}
	if rec.Location == "" {
		return "", "", errors.New("there is no account yet; the first order makes it")
	}
	return persistName(domain), persistValue(issuer, rec.Location, strings.HasPrefix(domain, "*.")), nil
}

// Persisted says whether one of the TXT values at a name is what the record has
// to say, and still holds.
func Persisted(values []string, want string, now time.Time) bool {
	for _, v := range values {
		if persists(v, want, now) {
			return true
		}
	}
	return false
}

func persists(value, want string, now time.Time) bool {
	have, needed := issueValue(value), issueValue(want)
	if have[""] != needed[""] {
		return false
	}
	for key, text := range needed {
		if have[key] != text {
			return false
		}
	}
	if until, ok := have["persistuntil"]; ok {
		seconds, err := strconv.ParseInt(until, 10, 64)
		return err == nil && now.Before(time.Unix(seconds, 0))
	}
	return true
}

// issueValue takes apart what RFC 8659, section 4.2, calls an issue-value; the
// issuer's name is under "".
func issueValue(text string) map[string]string {
	parts := map[string]string{}
	for i, part := range strings.Split(text, ";") {
		part = strings.TrimSpace(part)
		if i == 0 {
			parts[""] = strings.ToLower(strings.TrimSuffix(part, "."))
			continue
		}
		key, value, _ := strings.Cut(part, "=")
		parts[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	return parts
}

// choosePersist makes the journal's challenge of one the CA offers.
func (s solver) choosePersist(z acmez.Authorization, c acmez.Challenge) (string, error) {
	if len(c.IssuerDomainNames) == 0 {
		return "", fmt.Errorf("%s %s: the CA does not say which name of its own to look for", dnsPersist01, z.IdentifierValue())
	}
	account := s.account()
	if account == "" {
		return "", errors.New("the account is not known")
	}
	return persistValue(c.IssuerDomainNames[0], account, z.Wildcard), nil
}

// lookPersist fails, before the CA is told, where the record is not there: a
// validation that must fail is not spent.
func (s solver) lookPersist(ctx context.Context, c challenge) error {
	name := persistName(c.Name)
	values, err := s.texts(ctx, name)
	if err != nil {
		return fmt.Errorf("look for the record: %w", err)
	}
	if !Persisted(values, c.Value, time.Now()) {
		found := "there is none"
		if len(values) > 0 {
			found = "there is " + strconv.Quote(strings.Join(values, `", "`))
		}
		return fmt.Errorf("create the record %s TXT %q; %s", name, c.Value, found)
	}
	return nil
}
