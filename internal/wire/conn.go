package wire

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
)

// Conn is a Sock, under TLS or not.
type Conn struct {
	Sock
	secure *tls.Conn // nil: plain
	first  [1]byte   // what an idle connection under TLS reads into
}

// NewConn makes a Conn of a socket. onClose, if set, is called once, when the
// connection is closed.
func NewConn(c net.Conn, onClose func()) (*Conn, error) {
	w := new(Conn)
	if err := w.Init(c, onClose); err != nil {
		return nil, err
	}
	return w, nil
}

// ServeTLS makes the connection the server's side of TLS; the handshake is
// done by Handshake, or by the first read.
func (c *Conn) ServeTLS(config *tls.Config) { c.secure = tls.Server(&c.Sock, config) }

// DialTLS makes the connection the client's side of TLS.
func (c *Conn) DialTLS(config *tls.Config) { c.secure = tls.Client(&c.Sock, config) }

// Handshake does the TLS handshake within the deadlines set. The functions of
// its configuration see the values of ctx, whose end is not waited for.
func (c *Conn) Handshake(ctx context.Context) error {
	return c.secure.HandshakeContext(context.WithoutCancel(ctx))
}

// TLS is the TLS connection; nil where it is plain.
func (c *Conn) TLS() *tls.Conn { return c.secure }

// Net is the connection for those who take it over: plain or TLS, its
// deadlines set only by them.
func (c *Conn) Net() net.Conn {
	c.ReadBy(0)
	c.WriteBy(0, 0)
	if c.secure != nil {
		return c.secure
	}
	return &c.Sock
}

// Read reads what is there, or waits for it.
func (c *Conn) Read(p []byte) (int, error) {
	if c.secure != nil {
		return c.secure.Read(p)
	}
	return c.Sock.Read(p)
}

// ReadIdle waits for the first bytes without holding a buffer and reads them
// into a small one, which is the caller's; nil with an error.
func (c *Conn) ReadIdle() ([]byte, error) {
	if c.secure == nil {
		return c.Sock.ReadIdle()
	}
	c.took = false
	n, err := c.secure.Read(c.first[:])
	if n == 0 {
		return nil, err
	}
	b := Buffer(SmallSize)
	b[0] = c.first[0]
	n, _ = c.ReadNow(b[1:]) // the rest of the record; an error shows again
	return b[:1+n], nil
}

// Begun tells, after a ReadIdle that gave up, whether the other side has begun
// to send something of which TLS shows nothing before it is whole.
func (c *Conn) Begun() bool { return c.secure != nil && c.took }

// Each gives f all that comes, until f or the connection fails. See Sock.Each.
func (c *Conn) Each(f func(piece []byte) error) error {
	if c.secure == nil {
		return c.Sock.Each(f)
	}
	for {
		b, err := c.ReadIdle()
		if err != nil {
			return err
		}
		if len(b) == 1 { // the first byte came alone
			n, err := c.ReadNow(b[1:cap(b)])
			if err != nil {
				Free(b)
				return err
			}
			b = b[:1+n]
		}
		err = f(b)
		Free(b)
		if err != nil {
			return err
		}
	}
}

// Splice moves up to n bytes from one connection to another within the kernel;
// errors.ErrUnsupported where one of them is under TLS. See Sock.Splice.
func (c *Conn) Splice(from *Conn, n int64) (moved int64, err error) {
	if c.secure != nil || from.secure != nil {
		return 0, errors.ErrUnsupported
	}
	return c.Sock.Splice(&from.Sock, n)
}

// Ask writes request on an idle connection and reads the beginning of the
// answer into a medium buffer, which is the caller's. See Sock.Ask.
func (c *Conn) Ask(request []byte) (answer []byte, sent int, err error) {
	if c.secure == nil {
		return c.Sock.Ask(request)
	}
	if n, err := c.ReadNow(c.first[:]); n > 0 || err != nil {
		return nil, 0, ErrStray
	}
	if sent, err = c.secure.Write(request); err != nil {
		return nil, max(sent, 1), err
	}
	b := Buffer(MediumSize)
	n, err := c.secure.Read(b)
	if n == 0 {
		Free(b)
		return nil, len(request), err
	}
	return b[:n], len(request), nil
}

// ReadNow reads what is there without waiting; 0 and no error where that is
// nothing. Under TLS it also takes in what is not for us, such as tickets.
func (c *Conn) ReadNow(p []byte) (int, error) {
	if c.secure == nil {
		return c.Sock.Peek(p)
	}
	c.hurry = true
	n, err := c.secure.Read(p)
	c.hurry = false
	if n > 0 || errors.Is(err, errNothing) {
		return n, nil
	}
	return 0, err
}

// Write writes all of p, unless there is an error.
func (c *Conn) Write(p []byte) (int, error) {
	if c.secure != nil {
		return c.secure.Write(p)
	}
	return c.Sock.Write(p)
}

// CloseWrite tells the other side that no more will be written.
func (c *Conn) CloseWrite() error {
	if c.secure != nil {
		return c.secure.CloseWrite()
	}
	return c.Sock.CloseWrite()
}

// Close closes the connection, without a farewell under TLS where the other
// side does not take it at once.
func (c *Conn) Close() error {
	if c.secure != nil {
		return c.secure.Close()
	}
	return c.Sock.Close()
}
