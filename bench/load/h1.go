package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"gatehouse/bench/wire"
)

// requests makes the requests of HTTP/1.1 beforehand, one for each host.
func requests(s Spec) [][]byte {
	var list [][]byte
	for i := range max(s.Hosts, 1) {
		host := s.Host
		if s.Hosts > 0 {
			host = HostName(i, host)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n", s.Method, s.Path, host)
		if s.Kind == NewConn || s.Kind == Handshake {
			b.WriteString("Connection: close\r\n")
		}
		if s.Body > 0 {
			fmt.Fprintf(&b, "Content-Length: %d\r\n", s.Body)
		}
		b.WriteString("\r\n")
		b.Write(bytes.Repeat([]byte{'x'}, s.Body))
		list = append(list, []byte(b.String()))
	}
	return shuffle(list)
}

// shuffle spreads the hosts, the same way in every run: those that stand side
// by side in a table must not be asked one after the other.
func shuffle(list [][]byte) [][]byte {
	const step = 7919 // a prime, so that every request has its turn
	out := make([][]byte, len(list))
	for i := range list {
		out[i] = list[i*step%len(list)]
	}
	return out
}

// h1 is a connection that speaks HTTP/1.1, one request at a time.
type h1 struct {
	run  *run
	conn *wire.Conn

	busy bool
	due  time.Duration
	kept []byte // the start of a head
	body int64  // still to come; only after the head
	last bool   // the answer says that the connection ends
	ends bool   // done with, and no error
}

func openH1(r *run) (client, error) {
	conn, session, err := r.dial("http/1.1")
	if err != nil {
		return nil, err
	}
	c := &h1{run: r, conn: conn}
	if err := r.loop.Add(conn, session, c); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *h1) request(due time.Duration) {
	c.busy, c.due = true, due
	_ = c.conn.Write(c.run.next())
}

// Data implements wire.Handler.
func (c *h1) Data(b []byte) error {
	if c.body > 0 {
		return c.take(b)
	}
	if len(c.kept) > 0 {
		c.kept = append(c.kept, b...)
		b = c.kept
	}
	if !c.busy {
		return fmt.Errorf("%d bytes nobody asked for", len(b))
	}
	h, n := wire.ParseHead(b)
	if n == 0 {
		c.kept = append([]byte(nil), b...)
		return nil
	}
	if status := h.Status(); status != 200 {
		return statusError(status)
	}
	if h.Length < 0 {
		return errors.New("an answer without Content-Length")
	}
	c.body, c.last = h.Length, h.Close
	b = b[n:]
	c.kept = nil
	return c.take(b)
}

// take takes bytes of the body; with the last one the answer is whole.
func (c *h1) take(b []byte) error {
	if c.body -= int64(len(b)); c.body > 0 {
		return nil
	}
	if c.body < 0 {
		return fmt.Errorf("%d bytes after the answer", -c.body)
	}
	c.busy = false
	if c.last || c.run.spec.Kind == NewConn {
		c.ends = true
		c.run.done(nil, c.due)
		return wire.ErrClose
	}
	c.run.done(c, c.due)
	return nil
}

// Turn implements wire.Handler.
func (c *h1) Turn() error { return nil }

// Gone implements wire.Handler.
func (c *h1) Gone(err error) {
	if c.busy {
		c.run.open--
		c.run.failed(kindOf(err), err, 1)
	} else if !c.ends {
		c.run.forget(c)
		if !errors.Is(err, io.EOF) {
			c.run.failed(kindOf(err), err, 1)
		}
	}
	c.run.replace()
}

type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }
