package entrypoint

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// incoming is the body of the request under way, read from the connection.
type incoming struct {
	framed  http1.Body
	rest    []byte // received behind the head, or in spare, and not yet used
	content int    // so much of rest is content, found already
	spare   []byte // where a chunked body is received; nil: not needed yet

	trailers   http1.Trailers
	hasTrailer bool
	expects    atomic.Bool // the client waits for "100 Continue"
	failed     error

	by     int64         // the whole request's deadline; 0: none
	pause  time.Duration // between reads; 0: any
	waited time.Duration // in this window, for the client alone
	bytes  int64         // in this window
}

// begin makes the incoming ready for a request; rest is what came behind its
// head.
func (in *incoming) begin(req *http1.Request, rest []byte) {
	in.framed, in.rest, in.content = req.Body(), rest, 0
	in.hasTrailer, in.failed = false, nil
	in.expects.Store(req.Expects100())
	in.waited, in.bytes = 0, 0
}

var continueAnswer = []byte("HTTP/1.1 100 Continue\r\n\r\n") // a constant

// readBody reads content; io.EOF at its end. Errors stay.
func (x *turn) readBody(p []byte) (int, error) {
	in := &x.incoming
	if in.failed != nil {
		return 0, in.failed
	}
	n, err := x.content(p)
	if err != nil && err != io.EOF {
		in.failed = err
	}
	return n, err
}

func (x *turn) content(p []byte) (int, error) {
	in := &x.incoming
	for {
		if in.content > 0 {
			n := copy(p, in.rest[:in.content])
			in.rest, in.content = in.rest[n:], in.content-n
			return n, nil
		}
		if in.framed.Done() {
			return 0, io.EOF
		}
		if in.framed.InTrailers() {
			if err := x.readTrailers(); err != nil {
				return 0, err
			}
			continue
		}
		if len(in.rest) > 0 {
			skip, payload, why := in.framed.Next(in.rest)
			if why != 0 {
				return 0, why
			}
			in.rest, in.content = in.rest[skip:], payload
			continue
		}
		if left := in.framed.Left(); left > 0 && in.framed.Framing() == http1.Length {
			n, err := x.receive(p[:min(int64(len(p)), left)])
			in.framed.Advance(int64(n))
			return n, err
		}
		if in.spare == nil {
			in.spare = wire.Buffer(wire.MediumSize)
		}
		n, err := x.receive(in.spare)
		if err != nil {
			return 0, err
		}
		in.rest = in.spare[:n]
	}
}

func (x *turn) readTrailers() error {
	in := &x.incoming
	if in.spare == nil {
		in.spare = wire.Buffer(wire.MediumSize)
	}
	in.rest = in.spare[:copy(in.spare, in.rest)]
	in.trailers.Reset()
	for {
		n, why := in.trailers.Parse(in.rest)
		switch {
		case why != 0:
			return why
		case n > 0:
			in.rest = in.rest[n:]
			in.hasTrailer = true
			in.framed.EndTrailers()
			return nil
		}
		n, err := x.receive(in.spare[len(in.rest):])
		if err != nil {
			return err
		}
		in.rest = in.spare[:len(in.rest)+n]
	}
}

// receive reads from the connection within the deadlines of a body.
func (x *turn) receive(p []byte) (int, error) {
	in := &x.incoming
	if err := x.sayContinue(); err != nil {
		return 0, err
	}
	start := wire.Now()
	by := in.by
	if in.pause > 0 && by == 0 {
		by = start + int64(in.pause)
	}
	x.conn.ReadBy(by)
	n, err := x.conn.Read(p)
	if n == 0 {
		if err == io.EOF {
			err = http1.Truncated
		}
		return 0, err
	}
	return n, in.pace(n, wire.Now()-start)
}

// sayContinue tells a client that waits for it to send its body, unless it is
// being answered. Whoever reads the body may be another goroutine than the one
// that answers.
func (x *turn) sayContinue() error {
	in := &x.incoming
	if !in.expects.Load() || !in.expects.CompareAndSwap(true, false) || x.plain.Continued {
		return nil
	}
	x.heading.Lock()
	defer x.heading.Unlock()
	if x.answered() {
		return nil
	}
	_, err := x.conn.Write(continueAnswer)
	return err
}

// pace cuts a body off that is slower than any honest one.
func (in *incoming) pace(n int, took int64) error {
	if in.pause == 0 {
		return nil
	}
	in.bytes += int64(n)
	if in.waited += time.Duration(took); in.waited < minRateWindow {
		return nil
	}
	if in.bytes < minBodyRate*int64(in.waited/time.Second) {
		return fmt.Errorf("read request body: under %d bytes a second for %v: %w",
			minBodyRate, in.waited.Round(time.Second), os.ErrDeadlineExceeded)
	}
	in.waited, in.bytes = 0, 0
	return nil
}

// drain reads what is left of a short body, so that the connection can go on.
// It tells whether the body has ended.
func (x *turn) drain() bool {
	in := &x.incoming
	if in.expects.Load() || in.failed != nil {
		return in.framed.Done() && in.content == 0
	}
	var b []byte
	defer func() { wire.Free(b) }()
	for seen := 0; seen < drainBytes; {
		if in.framed.Done() && in.content == 0 {
			return true
		}
		if b == nil {
			b = wire.Buffer(wire.MediumSize)
		}
		n, err := x.readBody(b)
		if seen += n; errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}
