package upstream

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// upload sends a request's body to a server while the answer is awaited: it
// has a goroutine of its own, so that a server may answer before it has read
// everything, or read and answer by turns.
type upload struct {
	from   io.Reader
	last   func(dst []byte) []byte // appends the last chunk; nil: the body is not chunked
	expect bool                    // not to be started before the server asks for it
	// interrupt makes from fail at once, resume ends that; both nil where from
	// needs no help to end.
	interrupt, resume func()

	done    chan struct{} // nil: not started
	reading atomic.Bool   // from is asked
	whole   atomic.Bool   // all of it was sent
	failed  atomic.Pointer[clientError]
}

// clientError is trouble with reading the client's body: not the server's fault.
type clientError struct{ error }

func (e clientError) Unwrap() error { return e.error }

// start begins sending on l.
func (u *upload) start(l *link) {
	u.done = make(chan struct{})
	go u.run(l)
}

func (u *upload) run(l *link) {
	defer close(u.done)
	buf, out := wire.Buffer(wire.LargeSize), []byte(nil)
	defer func() { wire.Free(buf); wire.Free(out) }()
	if u.last != nil {
		out = wire.Buffer(wire.LargeSize)
	}
	for {
		u.reading.Store(true)
		n, err := u.from.Read(buf[:len(buf)-64]) // a chunk's framing fits beside it
		u.reading.Store(false)
		if n > 0 {
			piece := buf[:n]
			if u.last != nil {
				piece = http1.AppendChunk(out[:0], piece)
			}
			if _, werr := l.Write(piece); werr != nil {
				return // the answer, or its absence, says why
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			u.failed.Store(&clientError{err})
			l.Sock.Close() // half a body must not be taken for one
			return
		}
	}
	if u.last != nil {
		if _, err := l.Write(u.last(out[:0])); err != nil {
			return
		}
	}
	u.whole.Store(true)
}

// started reports whether some of the body may have been read.
func (u *upload) started() bool { return u.done != nil }

// finished reports whether all of the body was sent.
func (u *upload) finished() bool { return u.whole.Load() }

// settled is finished, after patience: an answer can overtake the goroutine that
// has just sent the end of the body it answers.
func (u *upload) settled() bool {
	if u.finished() || u.done == nil {
		return u.finished()
	}
	patience := 50 * time.Millisecond
	if u.reading.Load() { // most likely for a client that has not sent all
		patience = time.Millisecond
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-u.done:
	case <-timer.C:
	}
	return u.finished()
}

// failure gives what went wrong on the client's side, nil for nothing so far.
func (u *upload) failure() error {
	if f := u.failed.Load(); f != nil {
		return *f
	}
	return nil
}

// cut ends sending, and waits for that. The connection cannot be used again.
func (u *upload) cut(l *link) {
	if u.done == nil || u.finished() {
		return
	}
	l.Sock.Close()
	if u.interrupt != nil {
		u.interrupt()
	}
	<-u.done
	if u.resume != nil {
		u.resume()
	}
}

// isClient gives the trouble with the client's body, if that is what err is.
func isClient(err error) error {
	if err == nil {
		return nil
	}
	var c clientError
	if errors.As(err, &c) {
		return c.error
	}
	return nil
}
