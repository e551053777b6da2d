// Package wire serves many sockets on one thread, for the load generator and
// the origin: both must cost far less than the proxies between them. It owns
// readiness, buffers and TLS over sockets that do not block; what the bytes
// mean is the handlers' affair. Linux only.
package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Handler is what a connection's bytes go to. Its methods are called from the
// goroutine that calls Loop.Wait.
type Handler interface {
	// Data takes what was received; b is valid during the call only.
	Data(b []byte) error
	// Turn says that all received so far was given: the time to write.
	Turn() error
	// Gone says, once, that the connection is closed: io.EOF if the other
	// side did, else the error of the socket, of Data or of Turn.
	Gone(err error)
}

// ErrClose, returned by Data or Turn, closes the connection without a fault.
var ErrClose = errors.New("closed by its handler")

const bufferSize = 256 << 10

// Loop waits for sockets. It belongs to one goroutine.
type Loop struct {
	ep     int
	conns  []*Conn // by descriptor
	accept map[int]func(fd int)
	events [256]unix.EpollEvent
	buffer []byte
}

// NewLoop makes a Loop; Close it.
func NewLoop() (*Loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll set: %w", err)
	}
	return &Loop{ep: ep, accept: map[int]func(int){}, buffer: make([]byte, bufferSize)}, nil
}

// Close closes all its sockets.
func (l *Loop) Close() {
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	for fd := range l.accept {
		_ = unix.Close(fd)
	}
	_ = unix.Close(l.ep)
}

// Accept calls take for every connection that comes in at the listening,
// non-blocking socket fd, which the loop closes.
func (l *Loop) Accept(fd int, take func(fd int)) error {
	l.accept[fd] = take
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, fd, &e)
}

// Add gives a connected socket to the loop, which closes it. session is nil
// or the finished TLS session over c.
func (l *Loop) Add(c *Conn, session *tls.Conn, h Handler) error {
	if err := unix.SetNonblock(c.fd, true); err != nil {
		return fmt.Errorf("set a socket non-blocking: %w", err)
	}
	c.loop, c.tls, c.handler, c.waits = l, session, h, true
	for len(l.conns) <= c.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[c.fd] = c
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}
	return unix.EpollCtl(l.ep, unix.EPOLL_CTL_ADD, c.fd, &e)
}

// Wait serves what is ready, after waiting for it at most timeout.
func (l *Loop) Wait(timeout time.Duration) error {
	n, err := l.poll(max(timeout, 0))
	if err != nil {
		return fmt.Errorf("wait for sockets: %w", err)
	}
	for i := range n {
		fd, what := int(l.events[i].Fd), l.events[i].Events
		if take, ok := l.accept[fd]; ok {
			l.acceptAll(fd, take)
			continue
		}
		if fd >= len(l.conns) || l.conns[fd] == nil {
			continue
		}
		c := l.conns[fd]
		if what&unix.EPOLLOUT != 0 {
			c.flush()
		}
		if what&^unix.EPOLLOUT != 0 {
			c.receive()
		}
	}
	return nil
}

// poll looks without waiting first: under load something is ready, and the
// Go scheduler need not know.
func (l *Loop) poll(timeout time.Duration) (int, error) {
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if e != 0 && e != unix.EINTR {
		return 0, e
	}
	if e == 0 && n > 0 || timeout <= 0 {
		return int(n), nil
	}
	// epoll_pwait2 takes nanoseconds: a fixed rate needs them.
	ts := unix.NsecToTimespec(int64(timeout))
	n, _, e = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.ep), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)),
		uintptr(unsafe.Pointer(&ts)), 0, 0)
	if e == unix.EINTR {
		return 0, nil
	}
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func (l *Loop) acceptAll(fd int, take func(int)) {
	for {
		s, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // EAGAIN, or one that the client took back
		}
		_ = unix.SetsockoptInt(s, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		take(s)
	}
}

// Conn is one socket.
type Conn struct {
	fd      int
	loop    *Loop
	tls     *tls.Conn
	handler Handler
	out     []byte // not yet taken by the kernel
	waits   bool   // non-blocking: in the loop
	blocked bool   // waits for room to write
	broken  error  // of a write
}

// NewConn wraps a socket for Loop.Add.
func NewConn(fd int) *Conn { return &Conn{fd: fd} }

// Write sends b, as TLS if there is a session. What the kernel does not take
// is copied and sent later.
func (c *Conn) Write(b []byte) error {
	if c.tls != nil {
		_, err := c.tls.Write(b)
		return err
	}
	return c.send(b, true)
}

// WriteStatic is Write, without TLS, for what never changes: nothing is copied.
func (c *Conn) WriteStatic(b []byte) error { return c.send(b, false) }

func (c *Conn) send(b []byte, transient bool) error {
	if c.broken != nil {
		return c.broken
	}
	if len(c.out) > 0 {
		c.out = append(c.out[:len(c.out):len(c.out)], b...)
		return nil
	}
	n, err := rawWrite(c.fd, b)
	if err != nil && err != syscall.EAGAIN {
		c.broken = err
		return err
	}
	if n == len(b) {
		return nil
	}
	c.out = b[n:]
	if transient {
		c.out = append([]byte(nil), c.out...)
	}
	return c.watch(true)
}

func (c *Conn) watch(out bool) error {
	if c.blocked == out {
		return nil
	}
	c.blocked = out
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)}
	if out {
		e.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(c.loop.ep, unix.EPOLL_CTL_MOD, c.fd, &e)
}

func (c *Conn) flush() {
	n, err := rawWrite(c.fd, c.out)
	if err != nil && err != syscall.EAGAIN {
		c.drop(err)
		return
	}
	if c.out = c.out[n:]; len(c.out) == 0 {
		c.out = nil
		_ = c.watch(false)
	}
}

// receive gives the handler what there is.
func (c *Conn) receive() {
	for {
		n, err := c.read(c.loop.buffer)
		if n > 0 {
			if err := c.handler.Data(c.loop.buffer[:n]); err != nil {
				c.drop(err)
				return
			}
		}
		if err == errWouldBlock || err == nil && c.tls == nil && n < len(c.loop.buffer) {
			break
		}
		if err != nil {
			c.drop(err)
			return
		}
	}
	if err := c.handler.Turn(); err != nil {
		c.drop(err)
	}
}

func (c *Conn) read(b []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Read(b)
	}
	return (*socket)(c).Read(b)
}

// drop closes and tells the handler.
func (c *Conn) drop(err error) {
	if c.Close() {
		c.handler.Gone(err)
	}
}

// Close closes the socket without telling the handler; false: it was closed.
func (c *Conn) Close() bool {
	if c.fd < 0 {
		return false
	}
	if c.loop != nil {
		c.loop.conns[c.fd] = nil
	}
	_ = unix.Close(c.fd)
	c.fd = -1
	return true
}

func rawWrite(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func rawRead(fd int, b []byte) (int, error) {
	n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)))
	if e != 0 {
		return 0, e
	}
	if n == 0 {
		return 0, io.EOF
	}
	return int(n), nil
}
