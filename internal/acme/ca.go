package acme

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"
)

// accountCA is the part of a CA that knows accounts (RFC 8555, section 7.3).
type accountCA interface {
	// About reads the directory's metadata.
	About(ctx context.Context) (about, error)
	// Register makes the account of the key, or finds it if there is one:
	// repeating it is safe.
	Register(ctx context.Context, a acmez.Account, eab *EAB) (acmez.Account, error)
	// Probe asks once whether the CA is there.
	Probe(ctx context.Context) error
	// Now is the CA's time, from its last answer and the time since, which no
	// step of our clock changes; false: it has not answered yet.
	Now() (time.Time, bool)
	// RenewalInfo says when the certificate of this identifier should be
	// renewed (RFC 9773), and after what time to ask again; zero: it does not say.
	RenewalInfo(ctx context.Context, id string) (window, time.Duration, error)
}

// orderCA is the part of a CA that issues (RFC 8555, section 7.4 and 7.5).
// Each method sends one request that can change anything at the CA, or none;
// only a refused nonce makes it send again. Durations are what the CA asked
// to wait before asking again; zero: it did not say.
type orderCA interface {
	// NewOrder gives an order of nothing but its Location if the rest of the
	// answer cannot be used.
	NewOrder(ctx context.Context, a acmez.Account, o acmez.Order) (acmez.Order, error)
	Order(ctx context.Context, a acmez.Account, url string) (acmez.Order, time.Duration, error)
	Authorization(ctx context.Context, a acmez.Account, url string) (acmez.Authorization, time.Duration, error)
	// Tell says that the challenge at url can be validated now.
	Tell(ctx context.Context, a acmez.Account, url string) error
	// Finalize hands in the signing request. What became of the order must be
	// read: an answer says nothing about it.
	Finalize(ctx context.Context, a acmez.Account, url string, csr []byte) error
	// Chains downloads the certificate with each chain the CA offers, PEM,
	// the CA's own choice first.
	Chains(ctx context.Context, a acmez.Account, url string) ([][]byte, error)
}

// certificationAuthority is all a CA does for us. client is the real one.
type certificationAuthority interface {
	accountCA
	orderCA
}

// about is what the directory says beside its URLs.
type about struct {
	Profiles    map[string]string
	EABRequired bool
	Revocation  bool
	Renewal     bool // has renewalInfo (RFC 9773), so it knows "replaces"

	renewalURL string
}

// callError is a call of the CA that did not succeed.
type callError struct {
	Op      string         // newOrder, finalize, ...
	Host    string         // of whom
	Status  int            // 0: no answer
	Problem *acmez.Problem // nil: the answer was none
	Text    string         // the beginning of an answer that was no problem document
	After   time.Time      // Retry-After by our clock; zero: none
	Err     error          // why there is no answer, or why it cannot be used
}

func (e *callError) Error() string {
	if next := e.next(); next != "" {
		return e.said() + "; " + next
	}
	return e.said()
}

// next tells what happens now, or who has to do what, where the CA's own words
// leave it open.
func (e *callError) next() string {
	switch link := e.unpause(); {
	case link != "":
		return fmt.Sprintf("the CA has paused the name after very many failures in a row: a person must open %s, then say \"gatehouse certs renew\"; without that it is asked again at %s",
			link, e.After.UTC().Format(time.RFC3339))
	case e.is("userActionRequired"):
		return "a person must agree to the CA's terms there; it is asked again until then"
	case e.is("externalAccountRequired"):
		return "set acme.eab.kid and acme.eab.hmacEncoded to what the CA hands out"
	case e.is("caa"):
		return "the CAA records of the name must allow this CA"
	case e.is("rejectedIdentifier", "unsupportedIdentifier"):
		return "the CA does not issue for it: take the name out, or to another CA"
	case e.is("alreadyReplaced"):
		return "it is ordered without saying what it replaces"
	case e.is("accountDoesNotExist"):
		return "the account is made again with its key"
	case e.is("orderNotReady"):
		return "the order is read again"
	case !e.After.IsZero():
		return "nothing like it is asked before " + e.After.UTC().Format(time.RFC3339)
	}
	return ""
}

func (e *callError) said() string {
	head := e.Op + ": " + e.Host
	switch {
	case e.Problem != nil:
		return fmt.Sprintf("%s said %s", head, describe(*e.Problem, e.Status))
	case e.Status >= 400 && e.Text != "":
		return fmt.Sprintf("%s said %d %s: %s", head, e.Status, http.StatusText(e.Status), e.Text)
	case e.Status >= 400:
		return fmt.Sprintf("%s said %d %s", head, e.Status, http.StatusText(e.Status))
	case e.Status != 0:
		return fmt.Sprintf("%s: cannot use its answer: %v", head, e.Err)
	}
	return fmt.Sprintf("%s gave no answer: %v", head, e.Err)
}

func (e *callError) Unwrap() error { return e.Err }

// is reports whether the CA answered with this problem type (the part behind
// "urn:ietf:params:acme:error:").
func (e *callError) is(types ...string) bool {
	if e.Problem == nil {
		return false
	}
	for _, t := range types {
		if e.Problem.Type == acmez.ProblemTypeNamespace+t {
			return true
		}
	}
	return false
}

var (
	pausedText = regexp.MustCompile(`(?i)temporarily prevented from requesting|/unpause\b`)
	httpsURL   = regexp.MustCompile(`https://[^\s"<>]+`)
)

// unpause is where a person lets names be tried again that the CA has paused,
// as Let's Encrypt does after more than a thousand failures in a row; "": it
// does not say so.
func (e *callError) unpause() string {
	if e.Problem == nil || !pausedText.MatchString(e.Problem.Detail) {
		return ""
	}
	return strings.TrimRight(httpsURL.FindString(e.Problem.Detail), ".,;)")
}

// gone reports whether the CA was asked and does not have it.
func (e *callError) gone() bool {
	return e.Op != nonceOp && (e.Status == http.StatusNotFound || e.Status == http.StatusGone)
}

// moved reports whether an address of the directory may not be the CA's any more.
func (e *callError) moved() bool {
	switch e.Op {
	case nonceOp, "newAccount", "find account", "newOrder", "keyChange", "revokeCert":
		return e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusGone
	}
	return false
}

// unreached reports whether the CA did not answer, or cannot even tell where
// its resources are.
func (e *callError) unreached() bool { return e.Status == 0 || e.Op == directoryOp }

// away reports whether the whole CA seems to be down, not one call of it: no
// answer, or the page of a server in front of it.
func (e *callError) away() bool {
	return e.unreached() || e.Status >= 500 && e.Problem == nil
}

// transient reports whether the same call may work soon. If it was one that
// changes something, the CA may have done it all the same.
func (e *callError) transient() bool {
	switch {
	case e.Status < 400: // no answer, or an unusable one
		return true
	case e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500 || e.is("badNonce", "serverInternal", "rateLimited")
}

// describe puts a problem document (RFC 8555, section 6.7) into one line,
// subproblems and link for a person included.
func describe(p acmez.Problem, status int) string {
	var b strings.Builder
	if p.Status == 0 {
		p.Status = status
	}
	if p.Status != 0 {
		fmt.Fprintf(&b, "%d ", p.Status)
	}
	b.WriteString(strings.TrimPrefix(p.Type, acmez.ProblemTypeNamespace))
	if text := firstOf(p.Detail, p.Title); text != "" {
		b.WriteString(": " + oneLine(text))
	}
	for _, sub := range p.Subproblems {
		b.WriteString("; ")
		if sub.Identifier.Value != "" {
			b.WriteString(sub.Identifier.Value + ": ")
		}
		b.WriteString(strings.TrimPrefix(sub.Type, acmez.ProblemTypeNamespace))
		if sub.Detail != "" {
			b.WriteString(": " + oneLine(sub.Detail))
		}
	}
	if p.Instance != "" {
		b.WriteString(" (see " + oneLine(p.Instance) + ")")
	}
	return b.String()
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// oneLine makes foreign text fit for a log line: no control characters, not
// longer than somebody reads.
func oneLine(s string) string {
	const most = 1000
	s = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// parseProblem reads a problem document; nil if it is none.
func parseProblem(contentType string, body []byte) *acmez.Problem {
	media, _, _ := strings.Cut(contentType, ";")
	if strings.TrimSpace(media) != "application/problem+json" {
		return nil
	}
	var p acmez.Problem
	if json.Unmarshal(body, &p) != nil {
		return nil
	}
	return &p
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	return u.Host
}
