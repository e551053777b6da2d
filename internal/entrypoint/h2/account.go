package h2

import (
	"time"

	"golang.org/x/net/http2"
)

// What a client may do before it is cut off with ENHANCE_YOUR_CALM.
const (
	maxResets      = 500      // in a second: by the client, or by us because of its errors
	maxControl     = 1000     // control frames in a second that no traffic of ours explains
	maxPriority    = 100      // PRIORITY frames for each stream ever opened, and for none
	maxEmpty       = 10       // empty frames in a row
	maxHeaderBlock = 64 << 10 // of one header block, compressed and as header lines
	maxCredit      = 20_000   // control frames that traffic of ours has earned
	dataCredit     = 10       // for each DATA frame sent: a client answers with window updates and pings
	headCredit     = 2        // for each answer
)

// connError ends the connection with GOAWAY.
type connError struct {
	code   http2.ErrCode
	reason string
}

func (e *connError) Error() string { return e.code.String() + ": " + e.reason }

func protocolError(reason string) error {
	return &connError{http2.ErrCodeProtocol, reason}
}

func calm(reason string) error {
	return &connError{http2.ErrCodeEnhanceYourCalm, reason}
}

// rate allows so many events in a second, after a pause at once.
type rate struct{ full time.Duration }

// take counts an event at the time now; false: it is one too many.
func (r *rate) take(now time.Duration, perSecond int) bool {
	r.full = max(r.full, now) + time.Second/time.Duration(perSecond)
	return r.full-now <= time.Second
}

// account is what a connection's client has done so far. It belongs to the
// reading goroutine, but for credit.
type account struct {
	resets   rate
	control  rate
	priority int
	empty    int
	opened   int
	credit   int // under conn.mu
}

// reset counts a stream's reset.
func (a *account) reset(now time.Duration) error {
	if !a.resets.take(now, maxResets) {
		return calm("streams reset too often")
	}
	return nil
}

// frame counts a control frame that nothing of ours explains.
func (a *account) frame(now time.Duration) error {
	if !a.control.take(now, maxControl) {
		return calm("too many control frames")
	}
	return nil
}

// answer counts a control frame that may be an answer to what we sent. conn.mu
// is held.
func (a *account) answer(now time.Duration) error {
	if a.credit > 0 {
		a.credit--
		return nil
	}
	return a.frame(now)
}

// earn adds credit for what we sent. conn.mu is held.
func (a *account) earn(n int) { a.credit = min(a.credit+n, maxCredit) }

// payload counts frames that should carry something.
func (a *account) payload(n int, last bool) error {
	if n > 0 || last {
		a.empty = 0
		return nil
	}
	if a.empty++; a.empty > maxEmpty {
		return calm("empty frames in a row")
	}
	return nil
}
