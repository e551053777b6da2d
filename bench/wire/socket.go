package wire

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds a handshake; a socket in the loop never waits.
const patience = 10 * time.Second

// Dial connects to addr, from the address from if that is valid, and, with a
// configuration, shakes hands. It waits for both. The session is nil without.
func Dial(addr netip.AddrPort, from netip.Addr, config *tls.Config) (*Conn, *tls.Conn, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open a socket: %w", err)
	}
	c := NewConn(fd)
	wait := unix.NsecToTimeval(int64(patience))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &wait)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if from.IsValid() {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}); err != nil {
			c.Close()
			return nil, nil, fmt.Errorf("bind to %s: %w", from, err)
		}
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	if config == nil {
		return c, nil, nil
	}
	session := tls.Client((*socket)(c), config)
	if err := session.Handshake(); err != nil {
		c.Close()
		return nil, nil, fmt.Errorf("shake hands with %s: %w", addr, err)
	}
	return c, session, nil
}

// Waiting gives the plain bytes of a connection that is not in a loop yet;
// reading and writing wait.
func (c *Conn) Waiting() io.ReadWriter { return (*socket)(c) }

// Listen opens a listening socket on a free port of 127.0.0.1.
func Listen() (fd int, addr netip.AddrPort, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, addr, fmt.Errorf("open a socket: %w", err)
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()})
	if err == nil {
		err = unix.Listen(fd, 4096)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, addr, fmt.Errorf("listen on %s: %w", loopback, err)
	}
	return fd, netip.AddrPortFrom(loopback, uint16(sa.(*unix.SockaddrInet4).Port)), nil
}

// socket is the side of a Conn that crypto/tls reads and writes. In the loop
// reading gives errWouldBlock, which a tls.Conn passes on without harm.
type socket Conn

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "would block" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

func (s *socket) Read(b []byte) (int, error) {
	if s.waits {
		n, err := rawRead(s.fd, b)
		if err == syscall.EAGAIN {
			return 0, errWouldBlock
		}
		return n, err
	}
	n, err := unix.Read(s.fd, b)
	for err == syscall.EINTR {
		n, err = unix.Read(s.fd, b)
	}
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (s *socket) Write(b []byte) (int, error) {
	if s.waits {
		// crypto/tls uses its buffer again.
		if err := (*Conn)(s).send(b, true); err != nil {
			return 0, err
		}
		return len(b), nil
	}
	for sent := 0; sent < len(b); {
		n, err := unix.Write(s.fd, b[sent:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return sent, err
		}
		sent += n
	}
	return len(b), nil
}

func (s *socket) Close() error                     { (*Conn)(s).Close(); return nil }
func (s *socket) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (s *socket) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (s *socket) SetDeadline(time.Time) error      { return nil }
func (s *socket) SetReadDeadline(time.Time) error  { return nil }
func (s *socket) SetWriteDeadline(time.Time) error { return nil }
