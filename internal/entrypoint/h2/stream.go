package h2

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"golang.org/x/net/http2"
)

// ResetError is what reading a request or writing an answer gives once the
// stream was reset.
type ResetError struct {
	Code   http2.ErrCode
	Reason string // "": the client reset it
}

func (e *ResetError) Error() string {
	if e.Reason == "" {
		return "client reset the stream: " + e.Code.String()
	}
	return fmt.Sprintf("stream reset: %v: %s", e.Code, e.Reason)
}

// stream is one request and its answer. Streams are used again, within their
// connection only, and only if nobody watched the request's context.
type stream struct {
	c  *conn
	id uint32

	// The request: written before its handler starts.
	ctx      streamContext
	req      http.Request
	url      url.URL
	head     []byte // as text, for Options.Serve
	asText   bool   // it is there, and req is not
	content  bool   // a body follows it
	header   http.Header
	values   []string // backs header
	tunnel   bool     // a WebSocket
	key      string   // of its handshake with the origin
	expects  bool     // 100-continue
	declared int64    // content-length; -1: none

	w    response
	body body

	// Under conn.mu.
	failure    error // why nothing can be read or sent any more
	remoteDone bool  // the request is whole
	localDone  bool  // the answer is
	gone       bool  // no longer in conn.streams
	handled    bool  // the handler is done with it
	hijacked   bool
	got        int64 // content so far
	recvWindow int
	sendWindow int
	chunks     []chunk // of the body, not yet taken
	buffered   int     // bytes in them
	trailer    http.Header
	deaf       bool // the body was closed: drop what comes
	readBy     time.Time
	writeBy    time.Time
	frameAt    int  // where in conn.out the last frame of the answer begins
	frameGen   uint // if conn.gen is this

	readable chan struct{} // token: look again
	writable chan struct{}
}

// chunk is a piece of a body. Chunks are small, so that little content takes
// little memory.
type chunk struct {
	buf  *chunkArray
	r, w int
}

type chunkArray = [4 << 10]byte

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// newStream gives a stream to fill with a request. c.mu is held.
func (c *conn) newStream(id uint32) *stream {
	var st *stream
	if n := len(c.free); n > 0 {
		st, c.free = c.free[n-1], c.free[:n-1]
	} else {
		st = &stream{
			c: c, header: make(http.Header), readable: make(chan struct{}, 1), writable: make(chan struct{}, 1),
		}
		st.ctx.base = c.base
		st.body.st, st.w.st = st, st
		st.w.header = make(http.Header)
	}
	st.id, st.sendWindow, st.recvWindow = id, c.initial, streamWindow
	return st
}

// begin makes the stream known. c.mu is held.
func (c *conn) begin(st *stream) {
	c.streams[st.id] = st
	c.open++
	if st.tunnel {
		c.tunnels++
	}
	if c.dead {
		st.drop(errClosed, false)
	}
}

// recycle keeps the stream for another request once nobody uses it. c.mu is
// held.
func (st *stream) recycle() {
	if !st.gone || !st.handled {
		return
	}
	st.ctx.end()
	c := st.c
	// Most connections wait for long after their first request, or for ever: its
	// stream is not kept for them.
	if st.hijacked || c.dead || c.maxID == 1 || len(c.free) >= maxStreams || !st.ctx.renew() {
		return
	}
	clear(st.header)
	clear(st.values)
	clear(st.w.header)
	st.values = st.values[:0]
	st.body.reset()
	st.w.reset()
	st.req = http.Request{}
	if st.head = st.head[:0]; cap(st.head) > 4<<10 {
		st.head = nil
	}
	st.tunnel, st.key, st.expects, st.asText = false, "", false, false
	st.failure, st.remoteDone, st.localDone, st.gone, st.handled = nil, false, false, false, false
	st.got, st.trailer, st.deaf, st.frameGen = 0, nil, false, 0
	st.readBy, st.writeBy = time.Time{}, time.Time{}
	c.free = append(c.free, st)
}

func (st *stream) addHeader(name, value string) {
	if have, ok := st.header[name]; ok {
		st.header[name] = append(have, value)
		return
	}
	n := len(st.values)
	st.values = append(st.values, value)
	st.header[name] = st.values[n : n+1 : n+1]
}

// drop takes the stream off the connection. c.mu is held.
func (st *stream) drop(why error, byReset bool) {
	if st.gone {
		return
	}
	c := st.c
	st.gone, st.failure = true, why
	delete(c.streams, st.id)
	c.remember(st.id, byReset)
	c.open--
	if st.tunnel {
		c.tunnels--
	}
	if c.open == 0 {
		c.idleSince = c.now()
		if c.draining == refusing && !c.dead {
			c.farewell()
			c.flushSoon()
		}
	}
	if c.open == c.tunnels && c.s.draining.Load() {
		signal(c.s.quiet)
	}
	c.giveBack(st.buffered)
	st.dropChunks()
	c.leaveQueue(st)
	st.ctx.end()
	signal(st.readable)
	signal(st.writable)
	st.recycle()
}

func (st *stream) dropChunks() {
	for _, k := range st.chunks {
		st.c.s.chunks.Put(k.buf)
	}
	clear(st.chunks)
	st.chunks, st.buffered = st.chunks[:0], 0
}

// abort resets the stream. c.mu is held.
func (st *stream) abort(code http2.ErrCode, reason string) {
	if st.gone {
		return
	}
	st.c.append(func(b []byte) []byte { return appendReset(b, st.id, code) })
	st.drop(&ResetError{code, reason}, true)
}

// endOfRequest: the request is whole. c.mu is held.
func (st *stream) endOfRequest() {
	st.remoteDone = true
	signal(st.readable)
	if st.localDone {
		st.drop(errStreamOver, false)
	}
}

// endOfAnswer: END_STREAM has been appended. A client that still sends its
// request is told not to. c.mu is held.
func (st *stream) endOfAnswer() {
	st.localDone = true
	switch {
	case st.remoteDone:
		st.drop(errStreamOver, false)
	case !st.hijacked:
		st.c.append(func(b []byte) []byte { return appendReset(b, st.id, http2.ErrCodeNo) })
		st.drop(errStreamOver, true)
	}
}

var errStreamOver = fmt.Errorf("request is over: %w", io.ErrClosedPipe)

// data takes a DATA frame.
func (c *conn) data(f frame, payload []byte) error {
	if f.id == 0 {
		return protocolError("DATA without a stream")
	}
	content, ok := unpad(f, payload)
	if !ok {
		return protocolError("DATA with wrong padding")
	}
	end := f.has(http2.FlagDataEndStream)
	if err := c.acc.payload(len(content), end); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.length > c.recvWindow {
		return &connError{http2.ErrCodeFlowControl, "more than the connection's window"}
	}
	c.recvWindow -= f.length
	st := c.streams[f.id]
	if st == nil {
		c.giveBack(f.length)
		if c.idle(f.id) {
			return protocolError("DATA on an idle stream")
		}
		if _, byReset := c.ended(f.id); !byReset {
			return &connError{http2.ErrCodeStreamClosed, "DATA on a closed stream"}
		}
		return nil
	}
	st.recvWindow -= f.length
	st.got += int64(len(content))
	var fault http2.ErrCode
	var reason string
	switch {
	case st.remoteDone:
		fault, reason = http2.ErrCodeStreamClosed, "DATA after the end of the stream"
	case st.recvWindow < 0:
		fault, reason = http2.ErrCodeFlowControl, "more than the stream's window"
	case st.declared >= 0 && (st.got > st.declared || end && st.got < st.declared):
		fault, reason = http2.ErrCodeProtocol, "content-length differs from the content"
	default:
		c.giveBack(f.length - len(content))
		st.body.credit.Add(int64(f.length - len(content)))
		st.keep(content)
		if end {
			st.endOfRequest()
		}
		return nil
	}
	c.giveBack(f.length)
	return c.refuseStream(st, fault, reason)
}

// keep stores content for the handler. c.mu is held.
func (st *stream) keep(content []byte) {
	if st.deaf {
		st.c.giveBack(len(content))
		return
	}
	st.buffered += len(content)
	for len(content) > 0 {
		last := len(st.chunks) - 1
		if last < 0 || st.chunks[last].w == len(chunkArray{}) {
			buf, _ := st.c.s.chunks.Get().(*chunkArray)
			if buf == nil {
				buf = new(chunkArray)
			}
			st.chunks = append(st.chunks, chunk{buf: buf})
			last++
		}
		k := &st.chunks[last]
		n := copy(k.buf[k.w:], content)
		k.w += n
		content = content[n:]
	}
	signal(st.readable)
}

// giveBack returns n bytes to the client's window for the connection.
// c.mu is held.
func (c *conn) giveBack(n int) {
	if c.consumed.Add(int64(n)) >= connUpdate {
		c.updateWindow()
	}
}

func (c *conn) updateWindow() {
	if n := c.consumed.Swap(0); n > 0 {
		c.recvWindow += int(n)
		c.append(func(b []byte) []byte { return appendWindowUpdate(b, 0, uint32(n)) })
	}
}

// wait waits for a token or a time; zero: no time. It is called without c.mu.
func wait(ch chan struct{}, until time.Time) error {
	if until.IsZero() {
		<-ch
		return nil
	}
	d := time.Until(until)
	if d <= 0 {
		return os.ErrDeadlineExceeded
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return nil
	case <-t.C:
		return os.ErrDeadlineExceeded
	}
}

// appendBlock appends a header block as HEADERS and, where it is long,
// CONTINUATION. c.mu is held.
func (st *stream) appendBlock(block []byte, end bool) {
	c := st.c
	if c.dead {
		return
	}
	c.openBuffer()
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	st.frameAt, st.frameGen = len(c.out), c.gen
	c.out = appendFrame(c.out, 0, http2.FrameHeaders, flags, st.id)
	at := st.frameAt
	if c.resize {
		c.out = append(c.out, 0x20) // dynamic table of size 0 (RFC 7541, section 6.3)
		c.resize = false
	}
	for {
		n := min(len(block), maxFrame-(len(c.out)-at-frameHeaderLen))
		c.out = append(c.out, block[:n]...)
		setFrameLength(c.out[at:], len(c.out)-at-frameHeaderLen)
		if block = block[n:]; len(block) == 0 {
			break
		}
		at = len(c.out)
		c.out = appendFrame(c.out, 0, http2.FrameContinuation, 0, st.id)
	}
	c.out[at+4] |= byte(http2.FlagHeadersEndHeaders)
	c.acc.earn(headCredit)
}

// appendData appends content, to the stream's last frame where that is still
// the last of all. c.mu is held.
func (st *stream) appendData(p []byte) {
	c := st.c
	c.openBuffer()
	if st.frameGen == c.gen && st.frameAt < len(c.out) {
		header := c.out[st.frameAt:]
		length := int(binary.BigEndian.Uint32(header) >> 8)
		if http2.FrameType(header[3]) == http2.FrameData && len(header) == frameHeaderLen+length && length+len(p) <= maxData {
			c.out = append(c.out, p...)
			setFrameLength(c.out[st.frameAt:], length+len(p))
			return
		}
	}
	st.frameAt, st.frameGen = len(c.out), c.gen
	c.out = append(appendFrame(c.out, len(p), http2.FrameData, 0, st.id), p...)
	c.acc.earn(dataCredit)
}

// appendEnd ends the answer: with the last frame where it is not yet written.
// c.mu is held.
func (st *stream) appendEnd() {
	c := st.c
	if st.frameGen == c.gen && st.frameAt < len(c.out) {
		c.out[st.frameAt+4] |= byte(http2.FlagDataEndStream)
		return
	}
	c.append(func(b []byte) []byte { return appendFrame(b, 0, http2.FrameData, http2.FlagDataEndStream, st.id) })
}
