// Package wire owns connections as the engine uses them on both sides: a read
// is tried before it waits, no buffer is held while a connection is idle,
// deadlines cost nothing until they are needed, and what was read but not asked
// for shows. It
// knows TLS; of HTTP only that an Exchange has a request.
package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// epoch is what Now counts from.
var epoch = time.Now()

// Now is the time in nanoseconds since some moment before the first call; it
// does not follow the wall clock's steps. It is never 0.
func Now() int64 { return int64(time.Since(epoch)) + 1 }

// At is a moment in the time of Now; 0 for the zero time.
func At(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(t.Sub(epoch))+1, 1)
}

// Sock is a TCP connection. One goroutine may read while another writes; Close
// and the SetDeadline methods may be called by any.
//
// Its own deadlines, ReadBy and WriteBy, are lazy: the poller's timer is set
// only when a call has to wait, and left where it is while it is early enough;
// when it fires too early it is set anew. A connection that is busy therefore
// sets it about once in the time of its deadline. Deadlines of the net.Conn
// interface (crypto/tls and people who took the connection over) are the
// poller's own and win.
type Sock struct {
	conn net.Conn
	raw  syscall.RawConn

	readFn, writeFn func(fd uintptr) bool // method values, made once

	// Of the reading goroutine.
	in     []byte
	how    how
	ask    []byte // what to write before waiting
	one    [1]byte
	n      int
	err    error
	readBy int64 // 0: never
	took   bool  // some bytes have come; for Conn, which TLS keeps them from

	// Of the writing goroutine.
	out     []byte
	sent    int
	werr    error
	stall   time.Duration
	writeBy int64 // 0: never
	waited  bool  // this write has set the deadline

	hurry bool // reads do not wait: for crypto/tls, which cannot be asked
	pace  Pacer

	readArmed    atomic.Int64 // where the poller's timer stands; 0: nowhere
	foreign      atomic.Bool  // somebody else sets the read deadline
	interrupted  atomic.Bool  // Interrupt was called, and not yet Resume
	foreignWrite atomic.Bool  // somebody else sets the write deadline
	closed       atomic.Bool
	onClose      func()
}

// how a read goes about its work.
type how uint8

const (
	toRead how = iota // try, then wait
	toIdle            // the same, with a buffer only when there is something to read
	toLook            // the same, and leave it there
	toPeek            // try only
	toAsk             // nothing must be there; write, then wait
)

// nothing is an error that crypto/tls knows to pass.
type nothing struct{}

var errNothing error = nothing{}

func (nothing) Error() string   { return "nothing to read yet" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// Pacer has the work between a connection's waits take turns with others'.
type Pacer interface {
	Rest()         // before a read or a write waits; it must not
	Resume() error // after a Read, which fails with the error
}

// Pace has p called by the goroutine that reads and writes, which is one; nil:
// nobody.
func (s *Sock) Pace(p Pacer) { s.pace = p }

// Init makes it the Sock of a connection that is a socket. onClose, if set, is
// called once, when the connection is closed.
func (s *Sock) Init(c net.Conn, onClose func()) error {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return fmt.Errorf("use connection of %v: a %T is no socket", c.RemoteAddr(), c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return fmt.Errorf("use connection of %v: %w", c.RemoteAddr(), err)
	}
	s.conn, s.raw, s.onClose = c, raw, onClose
	s.readFn, s.writeFn = s.tryRead, s.tryWrite
	return nil
}

// ReadBy sets when reads give up, in the time of Now; 0: never.
func (s *Sock) ReadBy(t int64) { s.readBy = t }

// WriteBy sets when writes give up, in the time of Now; 0: never. stall bounds
// the wait for any progress; 0: no bound.
func (s *Sock) WriteBy(t int64, stall time.Duration) { s.writeBy, s.stall = t, stall }

// Read reads what is there, or waits for it.
func (s *Sock) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if s.hurry {
		n, err := s.Peek(p)
		if n == 0 && err == nil {
			err = errNothing
		}
		return n, err
	}
	s.in, s.how = p, toRead
	n, err := s.read()
	s.in = nil
	if s.pace != nil && err == nil {
		if err = s.pace.Resume(); err != nil {
			n = 0
		}
	}
	return n, err
}

// ReadIdle waits for the first bytes without holding a buffer, then reads them
// into a small one. The buffer is the caller's; nil with an error.
func (s *Sock) ReadIdle() ([]byte, error) { return s.first(toIdle) }

// Look is ReadIdle that leaves the bytes to be read.
func (s *Sock) Look() ([]byte, error) { return s.first(toLook) }

func (s *Sock) first(how how) ([]byte, error) {
	s.in, s.how = nil, how
	n, err := s.read()
	b := s.in
	s.in = nil
	if err != nil {
		Free(b)
		return nil, err
	}
	return b[:n], nil
}

// Each gives f all that comes, piece by piece, until f or the connection fails,
// whose error it returns. While nothing comes no buffer is held. A piece is f's
// until f returns.
func (s *Sock) Each(f func(piece []byte) error) error {
	var failed error
	step := func(fd uintptr) bool {
		size := SmallSize
		for {
			b := Buffer(size)
			n, errno := sysRead(fd, b)
			switch {
			case errno == syscall.EINTR:
				Free(b)
				continue
			case errno == syscall.EAGAIN:
				Free(b)
				return false
			case errno != 0:
				failed = s.wrap("read", errno)
			case n == 0:
				failed = io.EOF
			default:
				failed = f(b[:n])
			}
			Free(b)
			if failed != nil {
				return true
			}
			// The poller would not tell once more of an end that came with
			// this: only a read that finds nothing may wait.
			if n == size {
				size = LargeSize
			}
		}
	}
	for {
		err := s.raw.Read(step)
		if err == nil {
			return failed
		}
		if s.foreign.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		s.setRead(0) // a deadline left behind by an earlier read
	}
}

// spliced is how much goes from one connection to another in one call, so that
// deadlines are looked at now and then.
const spliced = 1 << 20

// ErrTaker wraps what went wrong in Splice on the side that is written to.
var ErrTaker = errors.New("write spliced")

// Splice moves up to n bytes from one connection to another within the kernel,
// waiting as read and write do. Progress may come with an error; after one that
// is ErrTaker bytes may be lost.
func (s *Sock) Splice(from *Sock, n int64) (moved int64, err error) {
	to, ok := s.conn.(*net.TCPConn)
	in, ok2 := from.conn.(*net.TCPConn)
	if !ok || !ok2 {
		return 0, errors.ErrUnsupported
	}
	if !from.foreign.Load() {
		from.setRead(from.readBy)
	}
	by := s.giveUp()
	if by != 0 {
		s.conn.SetWriteDeadline(wall(by))          //nolint:errcheck // a closed connection says so when written
		defer s.conn.SetWriteDeadline(time.Time{}) //nolint:errcheck // likewise
	}
	moved, err = to.ReadFrom(&io.LimitedReader{R: in, N: min(n, spliced)})
	switch {
	case err == nil && moved == 0:
		return 0, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded) && by != 0 && Now() >= by,
		err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && s.lost():
		err = fmt.Errorf("%w: %w", ErrTaker, err)
	}
	return moved, err
}

// lost tells whether the connection is over, without waiting.
func (s *Sock) lost() (over bool) {
	err := s.raw.Control(func(fd uintptr) { over = sysGone(fd) })
	return over || err != nil
}

// Peek reads without waiting: 0 and no error where nothing is there.
func (s *Sock) Peek(p []byte) (int, error) {
	s.in, s.how = p, toPeek
	n, err := s.read()
	s.in = nil
	return n, err
}

// ErrStray: the other side sent something, or closed, while it was its turn to
// wait.
var ErrStray = errors.New("connection was closed or written to while idle")

// Ask writes request on an idle connection and reads the beginning of what is
// answered into a medium buffer, which is the caller's. Nothing is written and
// the error is ErrStray where anything came before. With another error sent
// tells how much was written.
func (s *Sock) Ask(request []byte) (answer []byte, sent int, err error) {
	s.in, s.how, s.ask, s.sent = nil, toAsk, request, 0
	n, err := s.read()
	b := s.in
	s.in, s.ask = nil, nil
	if err == nil && s.sent < len(request) {
		Free(b)
		_, err = s.Write(request[s.sent:])
		if err != nil {
			return nil, 1, err
		}
		b = Buffer(MediumSize)
		n, err = s.Read(b)
	}
	if err != nil {
		Free(b)
		return nil, s.sent, err
	}
	return b[:n], len(request), nil
}

func (s *Sock) read() (int, error) {
	for {
		err := s.raw.Read(s.readFn)
		if err == nil {
			return s.n, s.err
		}
		if s.foreign.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		// The timer fired: in time, or too early because it was left behind.
		if s.readBy != 0 && Now() >= s.readBy {
			s.readArmed.Store(-1) // it must be set before the next wait
			if s.how != toPeek {
				return 0, err
			}
			s.setRead(0)
			continue
		}
		s.setRead(s.readBy)
	}
}

// tryRead is called with the socket; false waits until it can be read.
func (s *Sock) tryRead(fd uintptr) bool {
	if s.ask != nil {
		return s.tryAsk(fd)
	}
	if s.in == nil {
		size := MediumSize
		if s.how == toIdle || s.how == toLook {
			size = SmallSize
		}
		s.in = Buffer(size)
	}
	for {
		var n int
		var errno syscall.Errno
		if s.how == toLook {
			n, errno = sysLook(fd, s.in)
		} else {
			n, errno = sysRead(fd, s.in)
		}
		switch errno {
		case 0:
			s.n, s.err, s.took = n, nil, true
			if n == 0 {
				s.err = io.EOF
			}
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return s.wait()
		}
		s.n, s.err = 0, s.wrap("read", errno)
		return true
	}
}

// wait gives up what is not needed while nothing is there to be read.
func (s *Sock) wait() bool {
	switch s.how {
	case toPeek:
		s.n, s.err = 0, nil
		return true
	case toIdle, toLook, toAsk:
		Free(s.in)
		s.in = nil
	}
	if armed := s.readArmed.Load(); s.readBy != 0 && (armed <= 0 || armed > s.readBy) && !s.foreign.Load() {
		s.setRead(s.readBy)
	}
	if s.pace != nil {
		s.pace.Rest()
	}
	return false
}

// tryAsk writes, if nothing came before.
func (s *Sock) tryAsk(fd uintptr) bool {
	s.n, s.err = 0, nil
	errno := syscall.EINTR
	for errno == syscall.EINTR {
		_, errno = sysRead(fd, s.one[:])
	}
	if errno != syscall.EAGAIN {
		s.err = ErrStray
		return true
	}
	n, errno := sysWrite(fd, s.ask)
	if errno == 0 {
		s.sent = n
	} else if errno != syscall.EAGAIN && errno != syscall.EINTR {
		s.err = s.wrap("write", errno)
		return true
	}
	if s.sent < len(s.ask) {
		return true
	}
	s.ask = nil
	return s.wait()
}

func (s *Sock) wrap(op string, errno syscall.Errno) error {
	return &net.OpError{Op: op, Net: "tcp", Source: s.conn.LocalAddr(), Addr: s.conn.RemoteAddr(), Err: os.NewSyscallError(op, errno)}
}

// setRead sets the poller's timer.
func (s *Sock) setRead(t int64) {
	s.readArmed.Store(t)
	s.conn.SetReadDeadline(wall(t)) //nolint:errcheck // a closed connection says so when read
	if s.interrupted.Load() {       // in between: it must not be undone
		s.conn.SetReadDeadline(longAgo) //nolint:errcheck // likewise
	}
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

func wall(t int64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(t))
}

// Write writes all of p, unless there is an error.
func (s *Sock) Write(p []byte) (int, error) {
	s.out, s.sent, s.werr, s.waited = p, 0, nil, false
	for {
		err := s.raw.Write(s.writeFn)
		if err == nil {
			s.out = nil
			return s.sent, s.werr
		}
		if s.waited || s.foreignWrite.Load() || !errors.Is(err, os.ErrDeadlineExceeded) {
			s.out = nil
			return s.sent, err
		}
		// A deadline left behind by an earlier write.
		s.conn.SetWriteDeadline(time.Time{}) //nolint:errcheck // a closed connection says so when written
	}
}

// tryWrite is called with the socket; false waits until it can be written.
func (s *Sock) tryWrite(fd uintptr) bool {
	for s.sent < len(s.out) {
		n, errno := sysWrite(fd, s.out[s.sent:])
		switch errno {
		case 0:
			s.sent += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			s.armWrite()
			if s.pace != nil {
				s.pace.Rest()
			}
			return false
		default:
			s.werr = s.wrap("write", errno)
			return true
		}
	}
	return true
}

// armWrite sets the deadline of a write that has to wait.
func (s *Sock) armWrite() {
	if s.foreignWrite.Load() || s.stall == 0 && s.writeBy == 0 {
		return
	}
	s.waited = true
	s.conn.SetWriteDeadline(wall(s.giveUp())) //nolint:errcheck // a closed connection says so when written
}

// giveUp is when a write that makes no progress from now on fails; 0: never.
func (s *Sock) giveUp() int64 {
	by := s.writeBy
	if s.stall > 0 {
		if stalled := Now() + int64(s.stall); by == 0 || stalled < by {
			by = stalled
		}
	}
	return by
}

// Close closes the connection, once.
func (s *Sock) Close() error {
	if !s.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	if s.onClose != nil {
		s.onClose()
	}
	return s.conn.Close()
}

// Farewell writes some last bytes, if there is room for them, and closes the
// connection, both in one packet.
func (s *Sock) Farewell(p []byte) {
	s.raw.Write(func(fd uintptr) bool { //nolint:errcheck // the other side may be gone
		unix.Send(int(fd), p, unix.MSG_MORE|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) //nolint:errcheck // likewise
		return true
	})
	s.Close() //nolint:errcheck // likewise
}

// Closed reports whether Close was called.
func (s *Sock) Closed() bool { return s.closed.Load() }

// CloseWrite tells the other side that no more will be written.
func (s *Sock) CloseWrite() error {
	if c, ok := s.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// Interrupt makes reads of another goroutine, now and later, fail with a
// deadline error, until Resume.
func (s *Sock) Interrupt() {
	s.foreign.Store(true)
	s.interrupted.Store(true)
	s.conn.SetReadDeadline(longAgo) //nolint:errcheck // closed is as good
}

// Resume ends Interrupt, or an expired deadline; the reading goroutine calls
// it.
func (s *Sock) Resume() {
	s.interrupted.Store(false)
	s.foreign.Store(false)
	s.readArmed.Store(0)
	s.conn.SetReadDeadline(time.Time{}) //nolint:errcheck // closed is as good
}

// SetDeadline, SetReadDeadline and SetWriteDeadline are those of net.Conn.
func (s *Sock) SetDeadline(t time.Time) error {
	s.foreign.Store(!t.IsZero())
	s.foreignWrite.Store(!t.IsZero())
	s.readArmed.Store(0)
	return s.conn.SetDeadline(t)
}

// SetReadDeadline is that of net.Conn.
func (s *Sock) SetReadDeadline(t time.Time) error {
	s.foreign.Store(!t.IsZero())
	s.readArmed.Store(0)
	return s.conn.SetReadDeadline(t)
}

// SetWriteDeadline is that of net.Conn.
func (s *Sock) SetWriteDeadline(t time.Time) error {
	s.foreignWrite.Store(!t.IsZero())
	return s.conn.SetWriteDeadline(t)
}

// LocalAddr is our side.
func (s *Sock) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr is the other side.
func (s *Sock) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// NetConn is the connection below.
func (s *Sock) NetConn() net.Conn { return s.conn }

// Gone waits until the other side has closed the connection, or Interrupt: it
// tells which. It may be called where nobody else reads; what is there to be
// read stays.
func (s *Sock) Gone() bool {
	gone := false
	err := s.raw.Read(func(fd uintptr) bool {
		gone = sysGone(fd)
		return gone
	})
	return gone || err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// Watch has a goroutine wait for the other side to close the connection, and
// call gone then. stop ends that and waits for it; nobody may read before.
func (s *Sock) Watch(gone func()) (stop func()) {
	s.Resume()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if s.Gone() {
			gone()
		}
	}()
	return func() {
		s.Interrupt()
		<-done
		s.Resume()
	}
}
