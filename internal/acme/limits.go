package acme

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
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
type limitModel struct {
	orders   int // per 3 h, of an account
	domain   int // certificates per week, of all accounts
	set      int // the same for one set of names
	failures int // validations of one name that fail, per hour
}

const week = 7 * 24 * time.Hour

// modelOf knows Let's Encrypt's rate limits (its documentation of 2026-08-05).
func modelOf(directory string) limitModel {
	u, err := url.Parse(directory)
	switch {
	case err != nil:
	case u.Host == "acme-v02.api.letsencrypt.org":
		return limitModel{orders: 300, domain: 50, set: 5, failures: 5}
	case u.Host == "acme-staging-v02.api.letsencrypt.org":
		return limitModel{orders: 1500, domain: 30_000, set: 30_000, failures: 200}
	}
	return limitModel{}
}

// per is a bucket of n in d.
func per(bucket string, n int, d time.Duration, text string) rule {
	// One less than allowed: requests of ours may overtake each other.
	return rule{bucket: bucket, burst: max(n-1, 1), interval: d / time.Duration(n), text: text}
}

func (m limitModel) ofAccount() rule {
	return per("account", m.orders, 3*time.Hour, fmt.Sprintf("%d new orders in 3 h", m.orders))
}

func (m limitModel) ofDomain(d string) rule {
	return per(domainBucket+d, m.domain, week, fmt.Sprintf("%d certificates for %s a week", m.domain, d))
}

func (m limitModel) ofSet(bucket string) rule {
	return per(bucket, m.set, week, fmt.Sprintf("%d certificates for the same names a week", m.set))
}

func (m limitModel) ofFailures(name string) rule {
	return per(failedBucket+name, m.failures, time.Hour, fmt.Sprintf("%d failed validations of %s an hour", m.failures, name))
}

// rules are the buckets a new order takes from. One that renews in the CA's own
// window takes from none, another renewal only from that of its set of names.
func (m limitModel) rules(names []string, renewal, exempt bool) []rule {
	if m.orders == 0 || exempt {
		return nil
	}
	rules := []rule{m.ofSet(setBucket(names))}
	if renewal {
		return rules
	}
	rules = append(rules, m.ofAccount())
	for _, d := range registered(names) {
		rules = append(rules, m.ofDomain(d))
	}
	return rules
}

// failed are the buckets that failed validations of names take from. An order
// takes nothing, but is refused while one of them is empty.
func (m limitModel) failed(names []string) []rule {
	if m.failures == 0 {
		return nil
	}
	var rules []rule
	for _, n := range bareNames(names) {
		rules = append(rules, m.ofFailures(n))
	}
	return rules
}

// ruleOf is the rule of a stored bucket; false: it is none of a CA's limits.
func (m limitModel) ruleOf(bucket string) (rule, bool) {
	switch domain, isDomain := strings.CutPrefix(bucket, domainBucket); {
	case m.orders == 0:
	case bucket == "account":
		return m.ofAccount(), true
	case isDomain:
		return m.ofDomain(domain), true
	case strings.HasPrefix(bucket, setPrefix):
		return m.ofSet(bucket), true
	case strings.HasPrefix(bucket, failedBucket):
		return m.ofFailures(strings.TrimPrefix(bucket, failedBucket)), true
	}
	return rule{}, false
}

// bareNames are names without "*.", each once: what is proved is the same.
func bareNames(names []string) []string {
	var out []string
	for _, n := range names {
		if n = strings.TrimPrefix(n, "*."); !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
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
	return setPrefix + hex.EncodeToString(sum[:16])
}

// The buckets a refusal can be about, beside the account's.
const (
	everything   = "ca"
	registration = "registration"
	domainBucket = "domain-"
	nameBucket   = "name-" // what the CA said of a name
	failedBucket = "failed-"
	setPrefix    = "names-"
)

var quotedName = regexp.MustCompile(`"([A-Za-z0-9.*_:-]{1,253})"`)

// bucketsOf tells from a refusal that names a time which buckets it is about.
// The problem types do not tell, so it is read from the text as Let's Encrypt
// writes it; whatever is not understood is taken for the account's.
func bucketsOf(e *callError, names []string) []string {
	if e.unpause() != "" {
		return pausedBuckets(e.Problem.Detail, names)
	}
	if e.Status != http.StatusTooManyRequests && !e.is("rateLimited") {
		return []string{everything}
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
		return []string{registration}
	case strings.Contains(text, "exact set"):
		return []string{setBucket(names)}
	case strings.Contains(text, "failed authorizations") && named != "":
		return []string{nameBucket + named}
	case strings.Contains(text, "already issued for") && named != "":
		return []string{domainBucket + named}
	case e.Op == "newOrder":
		return []string{"account"}
	}
	return []string{everything}
}

// pausedBuckets are those of the names that a CA has paused, as it lists them
// without quotes; "and possibly others" are not known.
func pausedBuckets(text string, names []string) []string {
	var out []string
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r == ' ' || r == ',' || r == '"' })
	for _, n := range bareNames(names) {
		if slices.Contains(words, n) || slices.Contains(words, "*."+n) {
			out = append(out, nameBucket+n)
		}
	}
	if out == nil {
		out = []string{setBucket(names)}
	}
	return out
}

// touches are the buckets that an order for names is held up by.
func touches(names []string) []string {
	out := []string{everything, "account", setBucket(names)}
	for _, d := range registered(names) {
		out = append(out, domainBucket+d)
	}
	for _, n := range bareNames(names) {
		out = append(out, nameBucket+n)
	}
	return out
}
