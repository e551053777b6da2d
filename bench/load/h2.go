package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/bench/wire"
)

// What the client grants is never what limits: bodies are small.
const (
	window     = 1 << 30
	windowLow  = 1 << 29
	frameHead  = 9
	tableSize  = 4096 // of hpack, unless the server wants less
	firstFresh = 62   // hpack: the newest entry of the dynamic table
)

// h2 is a connection that speaks HTTP/2, with some streams at a time. It
// reads frames itself: the Framer would wait for the rest of one.
type h2 struct {
	run  *run
	conn *wire.Conn

	kept   []byte
	out    []byte // frames to write at the end of the turn
	inTurn bool
	first  []byte // the request's fields, to be remembered by the server
	again  []byte // the same by reference
	stream uint32 // the next
	due    map[uint32]time.Duration
	taken  int  // of the connection's window
	last   bool // GOAWAY has come
}

func openH2(r *run) (client, error) {
	conn, session, err := r.dial("h2")
	if err != nil {
		return nil, err
	}
	if p := session.ConnectionState().NegotiatedProtocol; p != "h2" {
		conn.Close()
		return nil, fmt.Errorf("%s: no HTTP/2, but %q", r.spec.Addr, p)
	}
	c := &h2{run: r, conn: conn, stream: 1, due: map[uint32]time.Duration{}}
	c.fields()
	if err := r.loop.Add(conn, session, c); err != nil {
		conn.Close()
		return nil, err
	}
	return c, c.preface()
}

// preface grants large windows and nothing pushed.
func (c *h2) preface() error {
	var b bytes.Buffer
	b.WriteString(http2.ClientPreface)
	f := http2.NewFramer(&b, nil)
	err := errors.Join(
		f.WriteSettings(http2.Setting{ID: http2.SettingEnablePush}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}),
		f.WriteWindowUpdate(0, window))
	if err != nil {
		return err
	}
	return c.conn.Write(b.Bytes())
}

// fields writes the request as browsers do: in full once, then by reference.
func (c *h2) fields() {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	write := func() []byte {
		b.Reset()
		s := c.run.spec
		for _, f := range [][2]string{{":method", s.Method}, {":scheme", "https"}, {":authority", s.Host}, {":path", s.Path}, {"user-agent", "bench"}, {"accept", "*/*"}} {
			_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return bytes.Clone(b.Bytes())
	}
	c.first, c.again = write(), write()
}

func (c *h2) request(due time.Duration) {
	block := c.again
	if c.stream == 1 {
		block = c.first
	}
	c.out = append(c.out, byte(len(block)>>16), byte(len(block)>>8), byte(len(block)), byte(http2.FrameHeaders),
		byte(http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream))
	c.out = binary.BigEndian.AppendUint32(c.out, c.stream)
	c.out = append(c.out, block...)
	c.due[c.stream] = due
	c.stream += 2
	if !c.inTurn {
		_ = c.Turn()
	}
}

// Turn implements wire.Handler: it writes what the turn brought, at once.
func (c *h2) Turn() error {
	c.inTurn = false
	if c.taken > windowLow {
		c.out = append(c.out, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0)
		c.out = binary.BigEndian.AppendUint32(c.out, uint32(c.taken))
		c.taken = 0
	}
	if len(c.out) == 0 {
		return nil
	}
	err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// Data implements wire.Handler.
func (c *h2) Data(b []byte) error {
	c.inTurn = true
	if len(c.kept) > 0 {
		c.kept = append(c.kept, b...)
		b = c.kept
	}
	for len(b) >= frameHead {
		size := frameHead + int(b[0])<<16 + int(b[1])<<8 + int(b[2])
		if len(b) < size {
			break
		}
		id := binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1)
		if err := c.frame(http2.FrameType(b[3]), http2.Flags(b[4]), id, b[frameHead:size]); err != nil {
			return err
		}
		b = b[size:]
	}
	c.kept = append([]byte(nil), b...)
	return nil
}

func (c *h2) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload []byte) error {
	switch kind {
	case http2.FrameSettings:
		if flags&http2.FlagSettingsAck == 0 {
			c.out = append(c.out, 0, 0, 0, byte(http2.FrameSettings), byte(http2.FlagSettingsAck), 0, 0, 0, 0)
		}
		return c.settings(payload)
	case http2.FramePing:
		if flags&http2.FlagPingAck == 0 {
			c.out = append(c.out, 0, 0, 8, byte(http2.FramePing), byte(http2.FlagPingAck), 0, 0, 0, 0)
			c.out = append(c.out, payload...)
		}
	case http2.FrameGoAway:
		return c.goAway(payload)
	case http2.FrameRSTStream:
		return c.ended(id, fmt.Errorf("stream reset: %s", http2.ErrCode(binary.BigEndian.Uint32(payload))))
	case http2.FrameData:
		c.taken += len(payload)
	case http2.FrameHeaders:
		if !isOK(payload, flags) {
			return c.ended(id, fmt.Errorf("an answer that does not start with :status 200: %x", payload[:min(len(payload), 16)]))
		}
	default:
		return nil
	}
	if (kind == http2.FrameData || kind == http2.FrameHeaders) && flags&http2.FlagDataEndStream != 0 {
		return c.ended(id, nil)
	}
	return nil
}

// isOK looks at the first field only, which is :status (RFC 9113, 8.3): as an
// index of hpack's static table, the one form servers write for 200.
func isOK(block []byte, flags http2.Flags) bool {
	if flags&http2.FlagHeadersPadded != 0 {
		block = block[1:]
	}
	if flags&http2.FlagHeadersPriority != 0 {
		block = block[5:]
	}
	for len(block) > 0 && block[0]&0xe0 == 0x20 { // a new size of the table
		more := block[0]&0x1f == 0x1f
		for block = block[1:]; more && len(block) > 0; block = block[1:] {
			more = block[0]&0x80 != 0
		}
	}
	return len(block) > 0 && block[0] == 0x88
}

// settings of the server that the client's constants would break.
func (c *h2) settings(payload []byte) error {
	for ; len(payload) >= 6; payload = payload[6:] {
		id, v := http2.SettingID(binary.BigEndian.Uint16(payload)), binary.BigEndian.Uint32(payload[2:])
		switch {
		case id == http2.SettingHeaderTableSize && v < tableSize:
			return fmt.Errorf("a header table of %d bytes: the bench wants %d", v, tableSize)
		case id == http2.SettingMaxConcurrentStreams && int(v) < c.run.spec.Streams:
			return fmt.Errorf("%d streams: the bench wants %d", v, c.run.spec.Streams)
		}
	}
	return nil
}

// goAway: streams up to the last one named are still answered, the others are
// to be sent again, which is no fault.
func (c *h2) goAway(payload []byte) error {
	last, code := binary.BigEndian.Uint32(payload)&(1<<31-1), http2.ErrCode(binary.BigEndian.Uint32(payload[4:]))
	if code != http2.ErrCodeNo {
		return fmt.Errorf("GOAWAY %s %q", code, payload[8:])
	}
	c.last = true
	c.run.forget(c)
	for id := range c.due {
		if id > last {
			delete(c.due, id)
			c.run.open--
		}
	}
	return c.endIfEmpty()
}

func (c *h2) endIfEmpty() error {
	if c.last && len(c.due) == 0 {
		return wire.ErrClose
	}
	return nil
}

// ended notes that a stream's answer is whole, or how it failed.
func (c *h2) ended(id uint32, err error) error {
	due, ok := c.due[id]
	if !ok {
		return fmt.Errorf("stream %d, which is not open", id)
	}
	delete(c.due, id)
	var next client = c
	if c.last {
		next = nil
	}
	if err != nil {
		c.run.failed("stream", err, 1)
		c.run.release(next)
	} else {
		c.run.done(next, due)
	}
	return c.endIfEmpty()
}

// Gone implements wire.Handler.
func (c *h2) Gone(err error) {
	c.run.forget(c)
	if n := len(c.due); n > 0 || !errors.Is(err, wire.ErrClose) && !errors.Is(err, io.EOF) {
		c.run.open -= n
		c.run.failed(kindOf(err), err, max(n, 1))
	}
	c.run.replace()
}
