package h2

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// maxTunnelHead bounds the head a handler writes to a tunnel.
const maxTunnelHead = 64 << 10

// tunnel is a WebSocket's stream as the connection its handler has hijacked.
// The handler first writes the HTTP/1.1 head that answers the upgrade; the
// client is told the same in HTTP/2's words.
type tunnel struct {
	st *stream

	mu    sync.Mutex // of writers; taken before conn.mu
	head  []byte     // as far as it is written
	state tunnelState
}

type tunnelState byte

const (
	handshaking tunnelState = iota
	open
	refused // what is written goes nowhere
)

func (st *stream) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !st.tunnel {
		return nil, nil, http.ErrNotSupported
	}
	c := st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.hijacked {
		return nil, nil, http.ErrHijacked
	}
	if st.failure != nil {
		return nil, nil, st.failure
	}
	t := &tunnel{st: st}
	switch {
	case st.w.status == http.StatusOK: // WriteHeader(101) before
		t.state = open
		if !st.w.sent {
			st.w.appendHead(false)
			c.flush(1)
		}
	case st.w.status != 0:
		return nil, nil, errors.New("hijack: an answer has been written")
	}
	st.hijacked = true
	return t, bufio.NewReadWriter(bufio.NewReader(t), bufio.NewWriter(t)), nil
}

// Read gives what the client sends.
func (t *tunnel) Read(p []byte) (int, error) { return t.st.body.Read(p) }

// Write sends to the client, at once.
func (t *tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := p
	if t.state == handshaking {
		var err error
		if rest, err = t.handshake(p); err != nil {
			return 0, err
		}
	}
	if t.state != open || len(rest) == 0 {
		return len(p), nil
	}
	c := t.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.st.localDone {
		return 0, net.ErrClosed
	}
	n, err := t.st.send(rest)
	c.flush(1)
	return len(p) - len(rest) + n, err
}

// handshake collects the head and, when it is whole, sends it on. It gives
// what follows the head.
func (t *tunnel) handshake(p []byte) (rest []byte, err error) {
	t.head = append(t.head, p...)
	end := bytes.Index(t.head, []byte("\r\n\r\n"))
	switch {
	case end < 0 && len(t.head) > maxTunnelHead:
		return nil, errors.New("answer to an upgrade: head too large")
	case end < 0:
		return nil, nil
	}
	head := t.head[:end+4]
	rest = p[len(p)-(len(t.head)-len(head)):]
	t.head = nil
	res, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), nil)
	if err != nil {
		return nil, fmt.Errorf("answer to an upgrade: %w", err)
	}
	res.Body.Close()
	w := &t.st.w
	w.header = res.Header
	delete(res.Header, "Content-Length") // no content follows, only the other protocol
	switch accept := res.Header.Get("Sec-Websocket-Accept"); {
	case res.StatusCode != http.StatusSwitchingProtocols:
		w.WriteHeader(res.StatusCode)
		t.state = refused
	case accept != acceptFor(t.st.key):
		w.WriteHeader(http.StatusBadGateway)
		t.state = refused
	default:
		delete(res.Header, "Sec-Websocket-Accept")
		w.WriteHeader(http.StatusSwitchingProtocols)
		t.state = open
	}
	c := t.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.st.failure != nil {
		return nil, t.st.failure
	}
	w.appendHead(t.state == refused)
	if t.state == refused {
		t.st.endOfAnswer()
	}
	c.flush(1)
	return rest, nil
}

// acceptFor is what a WebSocket server answers to a key (RFC 6455, section 4.2.2).
func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// CloseWrite tells the client that nothing more comes.
func (t *tunnel) CloseWrite() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closeWrite()
}

// closeWrite is CloseWrite with t.mu held.
func (t *tunnel) closeWrite() error {
	st, c := t.st, t.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case st.failure != nil:
		return st.failure
	case st.localDone:
		return nil
	case t.state == handshaking:
		st.abort(http2.ErrCodeInternal, "tunnel closed before it stood")
	default:
		st.appendEnd()
		st.endOfAnswer()
	}
	c.flush(1)
	return nil
}

// Close ends the tunnel; a Write that waits is cut off.
func (t *tunnel) Close() error {
	t.st.body.Close()
	if t.mu.TryLock() {
		t.closeWrite() //nolint:errcheck // then it is closed already
		t.mu.Unlock()
	}
	st, c := t.st, t.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !st.gone {
		st.abort(http2.ErrCodeNo, "tunnel closed")
		c.flush(1)
	}
	return nil
}

// LocalAddr is the connection's.
func (t *tunnel) LocalAddr() net.Addr { return t.st.c.nc.LocalAddr() }

// RemoteAddr is the connection's.
func (t *tunnel) RemoteAddr() net.Addr { return t.st.c.nc.RemoteAddr() }

// SetDeadline is both deadlines.
func (t *tunnel) SetDeadline(at time.Time) error {
	t.SetReadDeadline(at)
	return t.SetWriteDeadline(at)
}

// SetReadDeadline bounds reads.
func (t *tunnel) SetReadDeadline(at time.Time) error { return t.st.w.SetReadDeadline(at) }

// SetWriteDeadline bounds writes.
func (t *tunnel) SetWriteDeadline(at time.Time) error { return t.st.w.SetWriteDeadline(at) }
