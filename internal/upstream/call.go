package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

const (
	writeStall    = 60 * time.Second // a server that takes nothing for so long
	handshakeTime = 10 * time.Second
	// patience is how long a server may be silent before somebody watches
	// whether the client is still there.
	patience = time.Second
	// expectTime is how long a server may take to say whether it wants the
	// body (RFC 9110, section 10.1.1).
	expectTime = time.Second
)

// call is one exchange with a server, on the caller's goroutine: ask sends the
// request and reads the answer's head, next gives the answer's content piece by
// piece, end keeps or closes the connection. It is pooled; one goroutine uses
// it, but for the upload, which has its own.
type call struct {
	link  *link
	asked http1.Asked
	res   http1.Response
	body  http1.Body // what is left of the answer's body
	trail http1.Trailers

	buf   []byte // what was received; the head is at its start
	rest  []byte // received and not yet used
	extra []byte // a further buffer, for long bodies

	out     []byte // the request's head, and the body if it is short
	answer  time.Duration
	upload  *upload
	down    downstream // nil: nobody
	stop    func()     // ends the watch; nil: there is none
	odd     bool       // the connection must not be used again
	started bool       // some of the answer has come
	at      int64      // now, or nearly; 0: not known
}

// downstream is who waits for the answer.
type downstream interface {
	// interim is told of interim answers.
	interim(*http1.Response)
	// watch calls cut when the client has gone, until stop is called.
	watch(cut func()) (stop func())
}

var calls = sync.Pool{New: func() any { return new(call) }}

func newCall() *call { return calls.Get().(*call) }

// free gives the call's memory back. end must have been called if ask succeeded.
func (c *call) free() {
	wire.Free(c.buf)
	wire.Free(c.extra)
	wire.Free(c.out)
	c.res.Reset()
	c.link, c.buf, c.rest, c.extra, c.out = nil, nil, nil, nil, nil
	c.upload, c.down, c.stop, c.odd, c.started, c.at = nil, nil, nil, false, false, 0
	calls.Put(c)
}

// sendError is a request that was not sent: the connection had ended before.
type sendError struct{ error }

func (e sendError) Unwrap() error { return e.error }

// lostError is a connection that was used before and ended without an answer:
// the server may have closed it before the request came.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// isLost tells whether the request may be sent once more on another connection.
func isLost(err error) bool {
	var lost lostError
	return errors.As(err, &lost)
}

// badAnswer is an answer that has no safe reading.
type badAnswer struct{ why http1.Reason }

func (e badAnswer) Error() string { return "malformed answer: " + e.why.Error() }

// ask sends c.out, and body behind it (nil: none, or it is in c.out), on a
// connection to o, and reads the head of the final answer. On an error no
// connection is held.
func (c *call) ask(ctx context.Context, o *origin, body *upload) error {
	if c.at == 0 {
		c.at = wire.Now()
	}
	l := o.take(c.at)
	c.answer = o.answer
	for {
		if l == nil {
			var err error
			if l, err = o.dial(ctx); err != nil {
				return err
			}
			c.at = wire.Now()
		}
		c.link = l
		err := c.exchange(body)
		if err == nil {
			return nil
		}
		c.abandon()
		if _, unsent := err.(sendError); !unsent {
			return err
		}
		c.at = wire.Now() // abandon forgot it
		l = o.take(c.at)  // one that was closed or odd while it waited costs nothing
	}
}

// exchange sends the request and reads the answer's head.
func (c *call) exchange(body *upload) error {
	l := c.link
	if body != nil {
		if n, err := l.ReadNow(l.scratch[:]); n > 0 || err != nil {
			return sendError{wire.ErrStray}
		}
		if _, err := l.Write(c.out); err != nil {
			return c.unanswered(err)
		}
		c.upload = body
		if !body.expect {
			body.start(l)
		}
	}
	now := c.at
	by := now + int64(c.answer)
	l.ReadBy(now + int64(c.wait(patience)))
	if body == nil {
		b, sent, err := l.Ask(c.out)
		switch {
		case err == nil:
			c.buf, c.rest = b[:cap(b)], b
		case sent == len(c.out) && errors.Is(err, os.ErrDeadlineExceeded):
			c.silent()
		case sent == 0:
			return sendError{err}
		default:
			return c.unanswered(err)
		}
	}
	return c.head(by)
}

// wait is d, or less where the server has less time.
func (c *call) wait(d time.Duration) time.Duration {
	if c.answer > 0 && c.answer < d {
		return c.answer
	}
	return d
}

// unanswered wraps the error of a connection that ended before any answer.
func (c *call) unanswered(err error) error {
	if c.link.reused && !c.started && !errors.Is(err, os.ErrDeadlineExceeded) {
		return lostError{err}
	}
	return err
}

// head reads up to the head of the final answer, by then.
func (c *call) head(by int64) error {
	c.res.Reset()
	interim := 0
	if c.buf == nil {
		c.buf = wire.Buffer(wire.MediumSize)
		c.rest = c.buf[:0]
	}
	for {
		n, why := 0, http1.Reason(0)
		if len(c.rest) > 0 {
			c.started = true
			n, why = c.res.Parse(c.rest, http1.DefaultAnswerHead, c.asked)
		}
		switch {
		case why != 0:
			return badAnswer{why}
		case n == 0:
			if err := c.more(by); err != nil {
				return err
			}
		case c.res.Interim():
			if interim++; interim > http1.MaxInterim {
				return badAnswer{http1.TooManyInterim}
			}
			if c.down != nil {
				c.down.interim(&c.res)
			}
			c.wanted(c.res.Status() == 100)
			c.rest = c.buf[:copy(c.buf, c.rest[n:])]
			c.res.Reset()
		default:
			c.rest = c.rest[n:]
			c.body = c.res.Body()
			c.trail.Reset()
			return nil
		}
	}
}

// wanted starts an upload that waited for the server's word.
func (c *call) wanted(yes bool) {
	if yes && c.upload != nil && c.upload.expect {
		c.upload.expect = false
		c.upload.start(c.link)
	}
}

// goOn has the client told to send its body, although the server has not said
// so. It is this goroutine that answers: were it left to the upload's, that
// could come after the answer, or in the middle of it.
func (c *call) goOn() {
	if c.down == nil {
		return
	}
	text := []byte("HTTP/1.1 100 Continue\r\n\r\n")
	var res http1.Response
	res.Reset()
	if n, why := res.Parse(text, len(text), http1.Asked{}); n == 0 || why != 0 {
		panic("upstream: our own interim answer does not parse: " + why.Error())
	}
	c.down.interim(&res)
}

// more reads further bytes of the head behind c.rest, which begins where c.buf
// does.
func (c *call) more(by int64) error {
	if len(c.rest) == len(c.buf) {
		b := wire.Buffer(max(wire.LargeSize, len(c.buf)+1))
		copy(b, c.rest)
		wire.Free(c.buf)
		c.buf, c.rest = b, b[:len(c.rest)]
	}
	for {
		now := wire.Now()
		if c.answer > 0 && now >= by {
			return fmt.Errorf("no answer within %v: %w", c.answer, os.ErrDeadlineExceeded)
		}
		step := by
		if c.answer <= 0 {
			step = 0
		}
		if c.upload != nil && c.upload.expect {
			step = earlier(step, now+int64(expectTime))
		} else if c.down != nil && c.stop == nil {
			step = earlier(step, now+int64(patience))
		}
		c.link.ReadBy(step)
		n, err := c.link.Read(c.buf[len(c.rest):])
		if n > 0 {
			c.rest = c.buf[:len(c.rest)+n]
			return nil
		}
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			if err == io.EOF && c.started {
				err = io.ErrUnexpectedEOF
			}
			return c.unanswered(c.gone(err))
		case c.upload != nil && c.upload.expect:
			c.goOn()
			c.wanted(true)
		default:
			c.silent()
		}
	}
}

func earlier(a, b int64) int64 {
	if a == 0 || b < a {
		return b
	}
	return a
}

// silent has the client watched.
func (c *call) silent() {
	if c.down == nil || c.stop != nil || c.upload != nil && !c.upload.finished() {
		return // whoever reads the body sees the client go
	}
	l := c.link
	c.stop = c.down.watch(func() { l.Sock.Close() })
}

// gone prefers what went wrong on the client's side: the connection may have
// ended for that.
func (c *call) gone(err error) error {
	if c.upload != nil {
		if own := c.upload.failure(); own != nil {
			return own
		}
	}
	return err
}

// next gives the next piece of the answer's content, which holds until the next
// call; io.EOF where it has ended.
func (c *call) next() ([]byte, error) {
	for {
		piece, err := c.received()
		if piece != nil || err != nil {
			return piece, err
		}
		if err := c.refill(); err != nil {
			return nil, err
		}
	}
}

// received is next without waiting: nothing where refill must be called first.
// A piece is what one read gave: nothing is held back.
func (c *call) received() ([]byte, error) {
	for {
		switch {
		case c.body.Done():
			return nil, io.EOF
		case len(c.rest) == 0:
			return nil, nil
		case c.body.InTrailers():
			n, why := c.trail.Parse(c.rest)
			if why != 0 {
				c.odd = true
				return nil, badAnswer{why}
			}
			if n == 0 {
				return nil, nil
			}
			c.rest = c.rest[n:]
			c.body.EndTrailers()
			continue
		}
		skip, payload, why := c.body.Next(c.rest)
		if why != 0 {
			c.odd = true
			return nil, badAnswer{why}
		}
		piece := c.rest[skip : skip+payload]
		c.rest = c.rest[skip+payload:]
		if payload > 0 {
			return piece, nil
		}
	}
}

// refill reads further bytes of the body.
func (c *call) refill() error {
	c.at = 0
	if c.extra == nil {
		c.extra = wire.Buffer(wire.LargeSize)
	}
	kept := copy(c.extra, c.rest) // of trailers; else nothing is left
	n, err := c.read(c.extra[kept:])
	c.rest = c.extra[:kept+n]
	if n > 0 {
		return nil
	}
	c.odd = true
	if err == io.EOF {
		if c.body.End() != 0 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	return err
}

// read waits for bytes of the body, which have no deadline but the client's
// patience.
func (c *call) read(p []byte) (int, error) {
	for {
		by := int64(0)
		if c.down != nil && c.stop == nil {
			by = wire.Now() + int64(patience)
		}
		c.link.ReadBy(by)
		n, err := c.link.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || by == 0 {
			return n, err
		}
		c.silent()
	}
}

// trailer gives the trailers of the answer, nil for none.
func (c *call) trailer() *http1.Trailers {
	if c.trail.Len() == 0 {
		return nil
	}
	return &c.trail
}

// end keeps the connection where nothing odd has happened on it, else closes
// it. It returns when the upload has ended.
func (c *call) end() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
	l := c.link
	whole := c.body.Done() && len(c.rest) == 0 && c.res.Reusable() && !c.odd
	if c.upload != nil && !c.upload.finished() {
		whole = false
		c.upload.cut(l)
	}
	c.link = nil
	if !whole {
		l.Close()
		return
	}
	if c.at == 0 {
		c.at = wire.Now()
	}
	l.origin.put(l, c.at)
}

// abandon ends a call that failed.
func (c *call) abandon() {
	if c.stop != nil {
		c.stop()
		c.stop = nil
	}
	if c.upload != nil {
		c.upload.cut(c.link)
	}
	if c.link != nil {
		c.link.Close()
		c.link = nil
	}
	wire.Free(c.buf)
	c.buf, c.rest, c.at = nil, nil, 0
}
