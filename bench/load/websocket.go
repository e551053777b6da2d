package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"gatehouse/bench/wire"
)

// messageSize of what is echoed: short enough for the shortest frame.
const messageSize = 100

// webSocket is a connection that sends one message at a time and waits for it
// to come back.
type webSocket struct {
	run   *run
	conn  *wire.Conn
	frame []byte // sent: masked (RFC 6455, 5.3)
	want  []byte // comes back: not masked
	kept  []byte
	busy  bool
	due   time.Duration
}

func openWebSocket(r *run) (client, error) {
	conn, session, err := r.dial()
	if err != nil {
		return nil, err
	}
	c := &webSocket{run: r, conn: conn}
	c.frames()
	if err := c.upgrade(); err != nil {
		conn.Close()
		return nil, err
	}
	if err := r.loop.Add(conn, session, c); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *webSocket) frames() {
	const binary, masked = 0x82, 0x80
	mask := []byte{1, 2, 3, 4}
	payload := bytes.Repeat([]byte("echo"), messageSize/4)
	c.want = append([]byte{binary, messageSize}, payload...)
	c.frame = append([]byte{binary, masked | messageSize}, mask...)
	for i, b := range payload {
		c.frame = append(c.frame, b^mask[i%4])
	}
}

// upgrade asks for the protocol and reads the answer's head, byte by byte:
// what follows it belongs to the loop.
func (c *webSocket) upgrade() error {
	s := c.run.spec
	stream := c.conn.Waiting()
	_, err := fmt.Fprintf(stream, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", s.Path, s.Host)
	var head []byte
	for b := make([]byte, 1); err == nil && !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, b...) {
		_, err = io.ReadFull(stream, b)
	}
	if err != nil {
		return fmt.Errorf("upgrade to a WebSocket: %w", err)
	}
	if h, _ := wire.ParseHead(head); h.Status() != 101 {
		return fmt.Errorf("upgrade to a WebSocket: %w", statusError(h.Status()))
	}
	return nil
}

func (c *webSocket) request(due time.Duration) {
	c.busy, c.due = true, due
	_ = c.conn.Write(c.frame)
}

// Data implements wire.Handler.
func (c *webSocket) Data(b []byte) error {
	if len(c.kept) > 0 {
		b = append(c.kept, b...)
		c.kept = nil
	}
	if len(b) < len(c.want) {
		c.kept = append([]byte(nil), b...)
		return nil
	}
	if !c.busy || !bytes.Equal(b, c.want) {
		return fmt.Errorf("not the message that was sent: %x", b[:min(len(b), 16)])
	}
	c.busy = false
	c.run.done(c, c.due)
	return nil
}

// Turn implements wire.Handler.
func (c *webSocket) Turn() error { return nil }

// Gone implements wire.Handler: nobody may close an open WebSocket.
func (c *webSocket) Gone(err error) {
	if c.busy {
		c.run.open--
	}
	c.run.forget(c)
	if !errors.Is(err, wire.ErrClose) {
		c.run.failed(kindOf(err), err, 1)
	}
	c.run.replace()
}
