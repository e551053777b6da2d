package acme

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"
)

// rule is a token bucket at a CA, as we model it: burst at once, then one in
// every interval.
type rule struct {
	bucket   string // segment of the store's key limits/<issuer>/<bucket>
	burst    int
	interval time.Duration
	text     string // what the CA allows
}

// slot is when the next one may pass, and what tat (when the bucket will be full
// again) is once that is taken.
func (r rule) slot(tat, now time.Time) (at, next time.Time) {
	if tat.Before(now) {
		tat = now
	}
	at = tat.Add(-time.Duration(r.burst-1) * r.interval)
	if at.Before(now) {
		at = now
	}
	return at, tat.Add(r.interval)
}

// limitModel is what a CA allows; zero: it is not known.
type limitModel struct{ orders, domain, set int } // per 3 h, week, week

const week = 7 * 24 * time.Hour

// modelOf knows Let's Encrypt's rate limits (its documentation of 2026-08-05).
func modelOf(directory string) limitModel {
	u, err := url.Parse(directory)
	switch {
	case err != nil:
	case u.Host == "acme-v02.api.letsencrypt.org":
		return limitModel{orders: 300, domain: 50, set: 5}
	case u.Host == "acme-staging-v02.api.letsencrypt.org":
		return limitModel{orders: 1500, domain: 30_000, set: 30_000}
	}
	return limitModel{}
}

// rules are the buckets a new order takes from. One that renews in the CA's own
// window takes from none, another renewal only from that of its set of names.
func (m limitModel) rules(names []string, renewal, exempt bool) []rule {
	if m.orders == 0 || exempt {
		return nil
	}
	per := func(bucket string, n int, d time.Duration, text string) rule {
		// One less than allowed: requests of ours may overtake each other.
		return rule{bucket: bucket, burst: max(n-1, 1), interval: d / time.Duration(n), text: text}
	}
	rules := []rule{per(setBucket(names), m.set, week, fmt.Sprintf("%d certificates for the same names a week", m.set))}
	if renewal {
		return rules
	}
	rules = append(rules, per("account", m.orders, 3*time.Hour, fmt.Sprintf("%d new orders in 3 h", m.orders)))
	for _, d := range registered(names) {
		rules = append(rules, per("domain-"+d, m.domain, week, fmt.Sprintf("%d certificates for %s a week", m.domain, d)))
	}
	return rules
}

// paceRule is our own: no CA is asked for more, even if all is due at once, and
// for half of it while a CA has just come back.
func paceRule(careful bool) rule {
	if careful {
		return rule{bucket: "pace", burst: 1, interval: 150 * time.Millisecond}
	}
	return rule{bucket: "pace", burst: 5, interval: 50 * time.Millisecond}
}

// registered are the domains a CA counts by.
func registered(names []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, n := range names {
		d := strings.TrimPrefix(n, "*.")
		if net.ParseIP(d) == nil {
			if r, err := publicsuffix.EffectiveTLDPlusOne(d); err == nil {
				d = r
			}
		}
		if !seen[d] {
			seen[d] = true
			out = append(out, d)
		}
	}
	return out
}

func setBucket(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(sortedNames(names), "\n")))
	return "names-" + hex.EncodeToString(sum[:16])
}

// The buckets a refusal can be about, beside those of rules.
const (
	everything   = "ca"
	registration = "registration"
)

var quotedName = regexp.MustCompile(`"([A-Za-z0-9.*_:-]{1,253})"`)

// bucketOf tells from a refusal that names a time which bucket it is about. The
// problem types do not tell, so it is read from the text as Let's Encrypt
// writes it; whatever is not understood is taken for the account's.
func bucketOf(e *callError, names []string) string {
	if e.Status != http.StatusTooManyRequests && !e.is("rateLimited") {
		return everything
	}
	text := ""
	if e.Problem != nil {
		text = e.Problem.Detail
	}
	named := ""
	if m := quotedName.FindStringSubmatch(text); m != nil {
		named = strings.TrimPrefix(strings.ToLower(m[1]), "*.")
	}
	switch {
	case e.Op == "newAccount":
		return registration
	case strings.Contains(text, "exact set"):
		return setBucket(names)
	case strings.Contains(text, "failed authorizations") && named != "":
		return "name-" + named
	case strings.Contains(text, "already issued for") && named != "":
		return "domain-" + named
	case e.Op == "newOrder":
		return "account"
	}
	return everything
}

// touches are the buckets that an order for names is held up by.
func touches(names []string) []string {
	out := []string{everything, "account", setBucket(names)}
	for _, d := range registered(names) {
		out = append(out, "domain-"+d)
	}
	for _, n := range names {
		out = append(out, "name-"+strings.TrimPrefix(n, "*."))
	}
	return out
}
