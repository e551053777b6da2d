// Package origin is the server behind the proxies: HTTP/1.1 with answers made
// beforehand, one thread, as cheap as can be so that it never is what limits.
package origin

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"gatehouse/bench/wire"
)

// The paths it knows; every other is answered with 1 KiB too.
const (
	Small = "/"   // 1 KiB
	Big   = "/1m" // 1 MiB
	Echo  = "/ws" // a WebSocket that says what it hears
)

const (
	smallBody = 1 << 10
	bigBody   = 1 << 20
)

// Serve listens on a free port of 127.0.0.1, writes "host:port\n" to out and
// serves until in ends, as it does with the process at its other side.
func Serve(in io.Reader, out io.Writer) error {
	loop, err := wire.NewLoop()
	if err != nil {
		return err
	}
	defer loop.Close()
	fd, addr, err := wire.Listen()
	if err != nil {
		return err
	}
	o := &server{small: answer(smallBody), big: answer(bigBody)}
	take := func(fd int) {
		c := &conn{server: o, Conn: wire.NewConn(fd)}
		if loop.Add(c.Conn, nil, c) != nil {
			c.Close()
		}
	}
	if err := loop.Accept(fd, take); err != nil {
		return fmt.Errorf("serve %s: %w", addr, err)
	}
	fmt.Fprintln(out, addr)
	var ended atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, in)
		ended.Store(true)
	}()
	for !ended.Load() {
		if err := loop.Wait(200 * time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

type server struct{ small, big []byte }

// answer with a head as servers send it.
func answer(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\n"+
		"Content-Type: text/plain; charset=utf-8\r\nETag: \"6742\"\r\nCache-Control: no-cache\r\nContent-Length: %d\r\n\r\n", size)
	return append([]byte(head), bytes.Repeat([]byte("gatehouse bench\n"), size/16)...)
}

// conn is one connection from a proxy.
type conn struct {
	*wire.Conn
	server *server
	kept   []byte // the start of a head, or of a WebSocket frame
	skip   int64  // bytes of a request's body still to come
	then   []byte // the answer after that body
	frames bool   // speaks WebSocket
}

var errChunked = errors.New("a chunked request: the bench sends none")

// Turn implements wire.Handler; answers are sent at once.
func (c *conn) Turn() error { return nil }

// Gone implements wire.Handler.
func (c *conn) Gone(error) {}

// Data implements wire.Handler.
func (c *conn) Data(b []byte) error {
	if len(c.kept) > 0 {
		c.kept = append(c.kept, b...)
		b, c.kept = c.kept, nil
	}
	for len(b) > 0 {
		n, err := c.step(b)
		if err != nil {
			return err
		}
		if n == 0 {
			c.kept = append([]byte(nil), b...)
			return nil
		}
		b = b[n:]
	}
	return nil
}

// step takes one thing from b and gives its size; 0: it is not whole yet.
func (c *conn) step(b []byte) (int, error) {
	switch {
	case c.frames:
		return c.echo(b)
	case c.skip > 0:
		n := min(c.skip, int64(len(b)))
		if c.skip -= n; c.skip == 0 {
			return int(n), c.WriteStatic(c.then)
		}
		return int(n), nil
	}
	h, n := wire.ParseHead(b)
	if n == 0 {
		return 0, nil
	}
	if h.Chunked {
		return n, errChunked
	}
	if h.Upgrade && h.Key != nil {
		c.frames = true
		return n, c.Write(switching(h.Key))
	}
	then := c.server.small
	if _, path, _ := bytes.Cut(h.Start, []byte(" ")); bytes.HasPrefix(path, []byte(Big+" ")) {
		then = c.server.big
	}
	if h.Length > 0 {
		c.skip, c.then = h.Length, then
		return n, nil
	}
	return n, c.WriteStatic(then)
}

func switching(key []byte) []byte {
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n\r\n")
}

// echo answers one short masked frame (RFC 6455, 5.2) with its payload.
func (c *conn) echo(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	size := int(b[1] & 0x7f)
	if size > 125 || b[1]&0x80 == 0 {
		return 0, fmt.Errorf("a frame of %d bytes, masked %t: the bench sends short masked ones", size, b[1]&0x80 != 0)
	}
	if len(b) < 6+size {
		return 0, nil
	}
	var out [127]byte
	out[0], out[1] = b[0], byte(size)
	for i := range size {
		out[2+i] = b[6+i] ^ b[2+i%4]
	}
	return 6 + size, c.Write(out[:2+size])
}
