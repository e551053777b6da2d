package h2

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	maxStreams   = 100
	maxRunning   = 2 * maxStreams // handlers, those of reset streams included
	streamWindow = 64 << 10
	connWindow   = 1 << 20
	streamUpdate = streamWindow / 4 // consumed bytes worth a window update
	connUpdate   = connWindow / 8
	// tickEvery is how often a connection in use looks at its deadlines.
	tickEvery = 5 * time.Second
	// maxPast is how many streams that are over a connection remembers.
	maxPast = 128
	// A drained connection goes step by step, each as soon as a ping is answered:
	// drainWait is how long a client may take to see the first GOAWAY, farewellWait
	// to see the last one, or its last answer, before the connection is closed;
	// retireTime the same where others need its place.
	drainWait    = 500 * time.Millisecond
	farewellWait = 500 * time.Millisecond
	retireTime   = 20 * time.Millisecond
	// linger is how long a client may take to read a GOAWAY.
	linger = 500 * time.Millisecond
)

// drainPing is the payload of the ping that tells when the client has seen the
// first GOAWAY.
const drainPing = "draining"

// farewellPing is that of the ping behind the last that a client gets: once it is
// answered, closing takes nothing away.
const farewellPing = "farewell"

// conn is one connection. The goroutine in serve reads it; whoever has
// something to send writes it.
type conn struct {
	s      *Server
	nc     net.Conn
	base   context.Context
	remote string
	tls    *tls.ConnectionState
	start  time.Time

	// Of the reading goroutine.
	in      reader
	dec     *hpack.Decoder
	block   block
	learned map[string]string
	acc     account
	settled bool // the client's SETTINGS have come

	partial  atomic.Int64 // since when the client owes the rest of a frame or header block; 0: it does not
	consumed atomic.Int64 // received bytes to give back to the client's window

	mu         sync.Mutex
	streams    map[uint32]*stream
	free       []*stream
	past       []uint32 // streams that ended last, at most maxPast, then a ring; the high bit: by our reset
	pastNext   byte
	maxID      uint32 // the highest stream seen
	lastID     uint32 // the highest stream served, once GOAWAY has said so
	open       int    // streams
	tunnels    int    // of them
	running    int    // handlers
	idleSince  time.Duration
	sendWindow int
	recvWindow int
	initial    int // window of the client's new streams

	out     []byte // not yet written; nil: no buffer
	box     *[]byte
	gen     uint // counts what was written
	writing bool
	extend  time.Duration // when to move the write deadline; of who is writing
	written sync.Cond     // writing has ended
	turn    *stream       // whose turn it is to send
	waiting []*stream
	resize  bool // say that we use no dynamic table

	draining drainState
	drainAt  time.Duration
	dead     bool
	timer    *time.Timer
}

type drainState byte

const (
	serving  drainState = iota
	leaving             // the first GOAWAY is out: nothing new, please
	refusing            // the second is out: what is new is not served
)

func newConn(s *Server, ctx context.Context, nc net.Conn) *conn {
	c := &conn{
		s: s, nc: nc, base: ctx, start: time.Now(),
		streams:    make(map[uint32]*stream),
		sendWindow: 65535, initial: 65535, recvWindow: connWindow,
		resize: true, gen: 1,
	}
	c.written.L = &c.mu
	if addr := nc.RemoteAddr(); addr != nil {
		c.remote = addr.String()
	}
	if t, ok := nc.(interface{ ConnectionState() tls.ConnectionState }); ok {
		state := t.ConnectionState()
		c.tls = &state
	}
	c.in.conn, c.in.pool = nc, &s.large
	c.dec = hpack.NewDecoder(4096, c.field)
	c.dec.SetMaxStringLength(maxHeaderBlock)
	return c
}

// now is the time since the connection began.
func (c *conn) now() time.Duration { return time.Since(c.start) }

// serve reads until the connection ends.
func (c *conn) serve(read []byte) error {
	if c.tls != nil && c.tls.Version < tls.VersionTLS12 {
		return &connError{http2.ErrCodeInadequateSecurity, "TLS is older than 1.2"}
	}
	c.mu.Lock()
	c.openBuffer()
	c.out = appendSettings(c.out,
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.s.opts.MaxHeaderBytes)},
		http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	c.out = appendWindowUpdate(c.out, 0, connWindow-65535)
	c.partial.Store(1) // the preface and SETTINGS
	c.timer = time.AfterFunc(min(c.s.opts.ReadHeaderTimeout, c.s.opts.IdleTimeout), c.tick)
	if c.s.draining.Load() {
		c.drain()
	}
	c.mu.Unlock()
	if err := c.in.push(read); err != nil {
		return err
	}
	if !c.in.whole() {
		c.pause()
	}
	if err := c.in.fill(len(preface)); err != nil {
		return err
	}
	if string(c.in.take(len(preface))) != preface {
		return protocolError("no HTTP/2 preface")
	}
	for {
		f, payload, err := c.next()
		if err == nil {
			err = c.handle(f, payload)
		}
		if err != nil {
			return err
		}
	}
}

// next reads a frame. Its payload is valid until the next call.
func (c *conn) next() (frame, []byte, error) {
	if !c.in.whole() {
		c.pause()
	}
	if err := c.in.fill(frameHeaderLen); err != nil {
		return frame{}, nil, err
	}
	f, _ := c.in.header()
	if f.length > maxFrame {
		return f, nil, &connError{http2.ErrCodeFrameSize, "frame too large"}
	}
	if !c.in.whole() {
		owes := f.kind != http2.FrameData && c.settled && c.block.id == 0
		if owes {
			c.owe()
		}
		if err := c.in.fill(frameHeaderLen + f.length); err != nil {
			return f, nil, err
		}
		if owes {
			c.partial.Store(0)
		}
	}
	c.in.take(frameHeaderLen)
	return f, c.in.take(f.length), nil
}

// owe notes that the client must send the rest of something soon.
func (c *conn) owe() {
	c.partial.Store(int64(c.now()))
	c.timer.Reset(c.s.opts.ReadHeaderTimeout)
}

// pause is called when nothing whole is left to handle: the answers to what
// was handled go out together.
func (c *conn) pause() {
	c.mu.Lock()
	idle := c.open == 0
	c.flushSoon()
	c.mu.Unlock()
	if idle && c.block.id == 0 {
		c.in.shrink()
	}
}

func (c *conn) handle(f frame, payload []byte) error {
	switch {
	case c.block.id != 0 && (f.kind != http2.FrameContinuation || f.id != c.block.id):
		return protocolError("header block interrupted")
	case !c.settled && (f.kind != http2.FrameSettings || f.has(http2.FlagSettingsAck)):
		return protocolError("no SETTINGS after the preface")
	}
	switch f.kind {
	case http2.FrameData:
		return c.data(f, payload)
	case http2.FrameHeaders:
		return c.headers(f, payload)
	case http2.FrameContinuation:
		return c.continuation(f, payload)
	case http2.FrameRSTStream:
		return c.reset(f, payload)
	case http2.FrameWindowUpdate:
		return c.windowUpdate(f, payload)
	case http2.FrameSettings:
		return c.settings(f, payload)
	case http2.FramePing:
		return c.ping(f, payload)
	case http2.FramePriority:
		return c.priority(f, payload)
	case http2.FramePushPromise:
		return protocolError("PUSH_PROMISE from a client")
	case http2.FrameGoAway:
		if f.id != 0 {
			return protocolError("GOAWAY on a stream")
		}
		if f.length < 8 {
			return &connError{http2.ErrCodeFrameSize, "GOAWAY of wrong size"}
		}
	}
	return c.acc.frame(c.now()) // GOAWAY, and what we do not know
}

func (c *conn) reset(f frame, payload []byte) error {
	if f.id == 0 {
		return protocolError("RST_STREAM without a stream")
	}
	if f.length != 4 {
		return &connError{http2.ErrCodeFrameSize, "RST_STREAM of wrong size"}
	}
	if err := c.acc.reset(c.now()); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle(f.id) {
		return protocolError("RST_STREAM on an idle stream")
	}
	if st := c.streams[f.id]; st != nil {
		st.drop(&ResetError{Code: http2.ErrCode(binary.BigEndian.Uint32(payload))}, false)
	}
	return nil
}

// idle tells whether a stream has not begun. c.mu is held.
func (c *conn) idle(id uint32) bool { return id > c.maxID || id%2 == 0 }

func (c *conn) windowUpdate(f frame, payload []byte) error {
	if f.length != 4 {
		return &connError{http2.ErrCodeFrameSize, "WINDOW_UPDATE of wrong size"}
	}
	n := int(binary.BigEndian.Uint32(payload) & maxWindow)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.acc.answer(c.now()); err != nil {
		return err
	}
	if f.id == 0 {
		if n == 0 {
			return protocolError("WINDOW_UPDATE of 0")
		}
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "window too large"}
		}
		c.kick()
		return nil
	}
	if c.idle(f.id) {
		return protocolError("WINDOW_UPDATE on an idle stream")
	}
	st := c.streams[f.id]
	switch {
	case st == nil:
		return nil
	case n == 0:
		return c.refuseStream(st, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	}
	if st.sendWindow += n; st.sendWindow > maxWindow {
		return c.refuseStream(st, http2.ErrCodeFlowControl, "window too large")
	}
	signal(st.writable)
	return nil
}

func (c *conn) settings(f frame, payload []byte) error {
	switch {
	case f.id != 0:
		return protocolError("SETTINGS on a stream")
	case f.has(http2.FlagSettingsAck) && f.length != 0, f.length%6 != 0:
		return &connError{http2.ErrCodeFrameSize, "SETTINGS of wrong size"}
	}
	if err := c.acc.frame(c.now()); err != nil || f.has(http2.FlagSettingsAck) {
		return err
	}
	if !c.settled {
		c.settled = true
		c.partial.Store(0)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	initial := c.initial
	for ; len(payload) > 0; payload = payload[6:] {
		s := http2.Setting{ID: http2.SettingID(binary.BigEndian.Uint16(payload)), Val: binary.BigEndian.Uint32(payload[2:])}
		if s.ID == http2.SettingInitialWindowSize && s.Val > maxWindow {
			return &connError{http2.ErrCodeFlowControl, "initial window too large"}
		}
		if s.Valid() != nil {
			return protocolError("invalid " + s.ID.String())
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			initial = int(s.Val)
		case http2.SettingHeaderTableSize:
			c.resize = true
		}
	}
	if change := initial - c.initial; change != 0 {
		c.initial = initial
		for _, st := range c.streams {
			if st.sendWindow += change; st.sendWindow > maxWindow {
				return &connError{http2.ErrCodeFlowControl, "window too large"}
			}
			signal(st.writable)
		}
	}
	c.append(func(b []byte) []byte { return appendFrame(b, 0, http2.FrameSettings, http2.FlagSettingsAck, 0) })
	return nil
}

func (c *conn) ping(f frame, payload []byte) error {
	switch {
	case f.id != 0:
		return protocolError("PING on a stream")
	case f.length != 8:
		return &connError{http2.ErrCodeFrameSize, "PING of wrong size"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.acc.answer(c.now()); err != nil {
		return err
	}
	if f.has(http2.FlagPingAck) {
		switch {
		case c.draining == leaving && string(payload) == drainPing:
			c.goAway()
		case c.draining == refusing && c.open == 0 && string(payload) == farewellPing:
			c.hangUp(errDrained)
		}
		return nil
	}
	c.append(func(b []byte) []byte { return appendPing(b, http2.FlagPingAck, payload) })
	return nil
}

func (c *conn) priority(f frame, payload []byte) error {
	switch {
	case f.id == 0:
		return protocolError("PRIORITY without a stream")
	case f.length != 5:
		return &connError{http2.ErrCodeFrameSize, "PRIORITY of wrong size"}
	case binary.BigEndian.Uint32(payload)&maxWindow == f.id:
		return protocolError("stream depends on itself")
	}
	if c.acc.priority++; c.acc.priority > maxPriority*(1+c.acc.opened) {
		return calm("too many PRIORITY frames")
	}
	return c.acc.frame(c.now())
}

// append appends a frame that nobody waits for; it goes out with the next
// flush. c.mu is held.
func (c *conn) append(f func([]byte) []byte) {
	if c.dead {
		return
	}
	c.openBuffer()
	c.out = f(c.out)
}

// refuseStream resets a stream for what the client did, which counts.
// c.mu is held.
func (c *conn) refuseStream(st *stream, code http2.ErrCode, reason string) error {
	st.abort(code, reason)
	return c.acc.reset(c.now())
}

// tick looks at the deadlines; the timer calls it.
func (c *conn) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return
	}
	now, o := c.now(), &c.s.opts
	owes := c.partial.Load()
	quiet := now - c.idleSince
	switch {
	case owes > 0 && now-time.Duration(owes) >= o.ReadHeaderTimeout:
		c.hangUp(errHeadTimeout)
		return
	case c.draining == leaving && now-c.drainAt >= drainWait:
		c.goAway()
	case c.draining == refusing && c.open == 0 && now-c.drainAt >= farewellWait:
		c.hangUp(errDrained)
		return
	case c.open == 0 && quiet >= o.IdleTimeout && c.draining == serving:
		c.drain()
	}
	next := tickEvery
	switch {
	case c.draining != serving:
		next = farewellWait
	case c.open == 0 && quiet >= tickEvery && owes == 0:
		c.free = nil
		next = max(o.IdleTimeout-quiet, time.Millisecond)
	}
	c.timer.Reset(min(next, max(o.IdleTimeout, time.Millisecond)))
}

// drain begins to end the connection: what is under way finishes. c.mu is held.
func (c *conn) drain() {
	if c.draining != serving || c.dead {
		return
	}
	c.draining, c.drainAt = leaving, c.now()
	c.append(func(b []byte) []byte {
		return appendPing(appendGoAway(b, maxWindow, http2.ErrCodeNo), 0, []byte(drainPing))
	})
	c.timer.Reset(drainWait)
	c.flushSoon()
}

// retire ends a connection that is idle, as soon as its client can know: what it
// may be asking now is not served, and it is told so. c.mu is held.
func (c *conn) retire() bool {
	if c.open > 0 || c.dead || c.draining != serving || c.maxID == 0 {
		return false
	}
	c.goAway()
	c.drainAt -= farewellWait
	c.timer.Reset(retireTime)
	return true
}

// goAway tells the client the last stream that is served. c.mu is held.
func (c *conn) goAway() {
	c.draining, c.lastID, c.drainAt = refusing, c.maxID, c.now()
	c.append(func(b []byte) []byte { return appendGoAway(b, c.lastID, http2.ErrCodeNo) })
	if c.open == 0 {
		c.farewell()
	}
	c.flushSoon()
}

// farewell begins the end of a connection that has nothing more to send. c.mu is
// held.
func (c *conn) farewell() {
	c.drainAt = c.now()
	c.append(func(b []byte) []byte { return appendPing(b, 0, []byte(farewellPing)) })
	c.timer.Reset(farewellWait)
}

var (
	errHeadTimeout = errors.New("client did not finish a frame or header block in time")
	errDrained     = errors.New("drained")
	errClosed      = errors.New("connection closed")
)

// hangUp ends everything at once. c.mu is held.
func (c *conn) hangUp(why error) {
	if c.dead {
		return
	}
	c.dead = true
	c.timer.Stop()
	for _, st := range c.streams {
		st.drop(why, false)
	}
	c.waiting, c.turn, c.free = nil, nil, nil
	c.written.Broadcast()
	c.nc.Close()
}

// finish ends the connection for err: with a last GOAWAY where it is the
// client's error.
func (c *conn) finish(err error) {
	var fault *connError
	if !errors.As(err, &fault) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hangUp(errClosed)
		return
	}
	c.s.opts.Logger.Debug("connection refused", "client", c.remote, "error", err)
	c.nc.SetDeadline(time.Now().Add(linger))
	c.mu.Lock()
	for _, st := range c.streams {
		st.drop(errClosed, false)
	}
	c.append(func(b []byte) []byte { return appendGoAway(b, c.maxID, fault.code) })
	for c.writing && !c.dead {
		c.written.Wait()
	}
	c.extend = 1 << 62 // the deadline above stays
	c.flush(maxFlushes)
	dead := c.dead
	c.mu.Unlock()
	if !dead {
		c.drown()
	}
	c.mu.Lock()
	c.hangUp(errClosed)
	c.mu.Unlock()
}

// drown reads what the client still sends, slowly and without a look at it, so
// that it can read our GOAWAY: closing now would take that back.
func (c *conn) drown() {
	raw := c.nc
	if t, ok := raw.(*tls.Conn); ok {
		t.CloseWrite()
		raw = t.NetConn()
	}
	c.in.reserve(largeBuffer)
	for end := time.Now().Add(linger); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if _, err := raw.Read(c.in.buf); err != nil {
			return
		}
	}
}
