package h2

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What is told of a request beyond net/http's limits.
const (
	maxLines = 128
	maxPath  = 8 << 10
)

// block is the header block being read, and what has been understood of it.
type block struct {
	id   uint32 // 0: none is being read
	kind blockKind
	end  bool // END_STREAM
	st   *stream
	buf  []byte // fragments, where there are several

	malformed string // why it is
	regular   bool   // a line that is no pseudo-header was seen
	size      int    // of all lines, as RFC 9113, section 6.5.2, counts it
	lines     int
	tooMany   bool

	method, scheme, authority, path, protocol string
	seen                                      byte // pseudo-headers
	host                                      string
	hosts                                     int
	cookies                                   []string
	length                                    int64 // content-length; -1: none
	trailer                                   http.Header
}

type blockKind byte

const (
	discarded blockKind = iota // only to keep the table right
	request
	trailers
)

// headers begins a header block.
func (c *conn) headers(f frame, payload []byte) error {
	if f.id%2 == 0 {
		return protocolError("HEADERS on no stream of a client")
	}
	fragment, ok := unpad(f, payload)
	if !ok {
		return protocolError("HEADERS with wrong padding")
	}
	if f.has(http2.FlagHeadersPriority) {
		if len(fragment) < 5 {
			return &connError{http2.ErrCodeFrameSize, "HEADERS too short"}
		}
		if binary.BigEndian.Uint32(fragment)&maxWindow == f.id {
			return protocolError("stream depends on itself")
		}
		fragment = fragment[5:]
	}
	kind, st, err := c.streamFor(f)
	if err != nil {
		return err
	}
	c.block = block{
		id: f.id, kind: kind, st: st, end: f.has(http2.FlagHeadersEndStream), length: -1,
		buf: c.block.buf[:0], cookies: c.block.cookies[:0],
	}
	return c.fragment(f, fragment)
}

// streamFor finds out what a HEADERS frame means for its stream.
func (c *conn) streamFor(f frame) (blockKind, *stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if st := c.streams[f.id]; st != nil {
		switch {
		case st.remoteDone:
			return discarded, nil, c.refuseStream(st, http2.ErrCodeStreamClosed, "HEADERS after the end of the stream")
		case !f.has(http2.FlagHeadersEndStream):
			return discarded, nil, c.refuseStream(st, http2.ErrCodeProtocol, "trailers that do not end the stream")
		}
		return trailers, st, nil
	}
	if f.id <= c.maxID {
		switch ended, byReset := c.ended(f.id); {
		case byReset:
			return discarded, nil, nil
		case ended:
			return discarded, nil, &connError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
		}
		return discarded, nil, protocolError("stream identifier goes down")
	}
	c.maxID = f.id
	c.acc.opened++
	if c.draining == refusing {
		c.remember(f.id, true)
		return discarded, nil, nil
	}
	if c.open >= maxStreams || c.running >= maxRunning {
		c.remember(f.id, true)
		c.append(func(b []byte) []byte { return appendReset(b, f.id, http2.ErrCodeRefusedStream) })
		return discarded, nil, c.acc.reset(c.now())
	}
	return request, c.newStream(f.id), nil
}

// remember notes a stream that is over. c.mu is held.
func (c *conn) remember(id uint32, byReset bool) {
	if byReset {
		id |= 1 << 31
	}
	if len(c.past) < maxPast {
		c.past = append(c.past, id)
		return
	}
	c.past[int(c.pastNext)%maxPast] = id
	c.pastNext++
}

// ended tells whether a stream is known to be over, and whether by our reset:
// the client may then not know it yet. c.mu is held.
func (c *conn) ended(id uint32) (ended, byReset bool) {
	for _, p := range c.past {
		if p&maxWindow == id {
			return true, p>>31 == 1
		}
	}
	return false, false
}

func (c *conn) continuation(f frame, payload []byte) error {
	if c.block.id == 0 {
		return protocolError("CONTINUATION of nothing")
	}
	return c.fragment(f, payload)
}

// fragment takes a part of the block, and reads the block with its last one.
func (c *conn) fragment(f frame, part []byte) error {
	last := f.has(http2.FlagHeadersEndHeaders)
	if err := c.acc.payload(len(part), last && f.kind == http2.FrameHeaders); err != nil {
		return err
	}
	b := &c.block
	if len(b.buf)+len(part) > maxHeaderBlock {
		return calm("header block too large")
	}
	if !last {
		if f.kind == http2.FrameHeaders {
			c.owe()
		}
		b.buf = append(b.buf, part...)
		return nil
	}
	if f.kind == http2.FrameContinuation {
		c.partial.Store(0)
		b.buf = append(b.buf, part...)
		part = b.buf
	}
	c.dec.SetEmitEnabled(b.kind != discarded)
	_, err := c.dec.Write(part)
	if err == nil {
		err = c.dec.Close()
	}
	if cap(b.buf) > smallBuffer {
		b.buf = nil
	}
	if b.size > maxHeaderBlock {
		return calm("header lines too large")
	}
	if err != nil {
		return &connError{http2.ErrCodeCompression, err.Error()}
	}
	return c.endBlock()
}

// field takes one line of the block.
func (c *conn) field(f hpack.HeaderField) {
	b := &c.block
	if b.size += len(f.Name) + len(f.Value) + 32; b.size > maxHeaderBlock {
		c.dec.SetEmitEnabled(false)
		return
	}
	if b.malformed != "" {
		return
	}
	if !validValue(f.Value) {
		b.malformed = "invalid header value"
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudo(f.Name, f.Value)
		return
	}
	b.regular = true
	if !all(f.Name, nameByte) {
		b.malformed = "invalid header name"
		return
	}
	if b.lines++; b.size > c.s.opts.MaxHeaderBytes || b.lines > maxLines && f.Name != "cookie" {
		b.tooMany = true
		return
	}
	if b.special(f.Name, f.Value) {
		return
	}
	if b.kind == trailers {
		if b.trailer == nil {
			b.trailer = make(http.Header)
		}
		name := c.canonical(f.Name)
		b.trailer[name] = append(b.trailer[name], f.Value)
		return
	}
	if c.inText(b) {
		b.st.addText(b, f.Name, f.Value)
		return
	}
	b.st.addHeader(c.canonical(f.Name), f.Value)
}

// pseudo takes a pseudo-header: each once, all before other lines, none in
// trailers (RFC 9113, section 8.3).
func (b *block) pseudo(name, value string) {
	var bit byte
	switch name {
	case ":method":
		bit, b.method = 1, value
	case ":scheme":
		bit, b.scheme = 2, value
	case ":authority":
		bit, b.authority = 4, value
	case ":path":
		bit, b.path = 8, value
	case ":protocol":
		bit, b.protocol = 16, value
	}
	if bit == 0 || b.regular || b.kind == trailers || b.seen&bit != 0 {
		b.malformed = "misplaced or unknown pseudo-header"
	}
	b.seen |= bit
}

// special takes lines that mean something to the connection or are not kept
// as they come (RFC 9113, section 8.2.2).
func (b *block) special(name, value string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		b.malformed = "header of a connection: " + name
	case "te":
		if value != "trailers" {
			b.malformed = "te other than trailers"
		}
		return false
	case "host":
		b.host = value
		b.hosts++
	case "content-length":
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || b.length >= 0 || value[0] == '+' || b.kind == trailers {
			b.malformed = "wrong content-length"
			return true
		}
		b.length = int64(n)
		return false
	case "cookie":
		if b.cookies = append(b.cookies, value); len(b.cookies) > 1 {
			b.lines--
		}
	default:
		return false
	}
	return true
}

// endBlock acts on a whole block.
func (c *conn) endBlock() error {
	b := &c.block
	b.id = 0
	st := b.st
	b.st = nil
	switch b.kind {
	case trailers:
		return c.endTrailers(st)
	case request:
		if b.malformed == "" {
			b.check()
		}
	default:
		return nil
	}
	st.remoteDone = b.end
	if b.malformed == "" && !b.tooMany && st.request(b) {
		c.mu.Lock()
		c.begin(st)
		c.running++
		c.mu.Unlock()
		c.s.workers.run(task{stream: st})
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begin(st)
	st.handled = true
	if b.malformed != "" {
		return c.refuseStream(st, http2.ErrCodeProtocol, b.malformed)
	}
	st.answer(b.refusal())
	return nil
}

// refusal is the status for a request that is well-formed and not served.
func (b *block) refusal() int {
	switch {
	case b.tooMany && len(b.path) > maxPath:
		return http.StatusRequestURITooLong
	case b.tooMany:
		return http.StatusRequestHeaderFieldsTooLarge
	case b.protocol != "" && b.protocol != "websocket":
		return http.StatusNotImplemented
	}
	return http.StatusBadRequest
}

// check finds what makes a request malformed as a whole.
func (b *block) check() {
	const method, scheme, authority, path, protocol = 1, 2, 4, 8, 16
	wrong := func(reason string) { b.malformed = reason }
	connect := b.method == http.MethodConnect
	switch {
	case b.hosts > 1, b.hosts == 1 && b.seen&authority != 0 && !strings.EqualFold(b.host, b.authority):
		wrong("host and :authority differ")
	case b.seen&authority != 0 && b.authority == "", strings.IndexByte(b.authority, '@') >= 0:
		wrong("invalid :authority")
	case !all(b.method, tokenByte):
		wrong("invalid :method")
	case connect && b.seen&protocol == 0:
		if b.seen != method|authority {
			wrong("CONNECT with more or less than :authority")
		}
	case b.seen&(scheme|path) != scheme|path:
		wrong("no :scheme or no :path")
	case b.seen&protocol != 0 && (!connect || b.seen&authority == 0 || b.protocol == ""):
		wrong("misplaced :protocol")
	case b.scheme != "http" && b.scheme != "https":
		wrong("invalid :scheme")
	case !validPath(b.path, b.method):
		wrong("invalid :path")
	case b.end && b.length > 0:
		wrong("content-length without content")
	case b.seen&protocol != 0 && (b.end || b.length >= 0):
		wrong("tunnel with content")
	}
	if b.hosts == 1 && b.seen&authority == 0 {
		b.authority = b.host
	}
}

// validPath: origin form, or * for OPTIONS; bytes that are no text are
// malformed already here, what else is refused is for the gate to tell.
func validPath(path, method string) bool {
	return strings.HasPrefix(path, "/") && strings.IndexByte(path, ' ') < 0 && strings.IndexByte(path, '\t') < 0 ||
		path == "*" && method == http.MethodOptions
}

// request makes the net/http view of the block; false: it cannot be told so.
func (st *stream) request(b *block) bool {
	c := st.c
	if c.inText(b) {
		st.endText(b)
		return true
	}
	tunnel := b.protocol != ""
	if tunnel && b.protocol != "websocket" {
		return false
	}
	if b.method != http.MethodConnect || tunnel {
		if !st.setURL(b.path) {
			return false
		}
	} else {
		st.url, b.path = url.URL{Host: b.authority}, b.authority
	}
	switch len(b.cookies) {
	case 0:
	case 1:
		st.addHeader("Cookie", b.cookies[0])
	default:
		st.addHeader("Cookie", strings.Join(b.cookies, "; "))
	}
	clear(b.cookies)
	req := http.Request{
		Method: b.method, URL: &st.url, Proto: "HTTP/2.0", ProtoMajor: 2, Header: st.header, Body: &st.body,
		ContentLength: b.length, Host: b.authority, RequestURI: b.path, RemoteAddr: c.remote, TLS: c.tls,
	}
	st.declared = b.length
	if !b.end && !tunnel {
		req.Trailer = announced(st.header["Trailer"])
	}
	switch {
	case tunnel:
		st.upgrade(&req)
	case b.end:
		req.ContentLength, req.Body = 0, http.NoBody
	default:
		st.expects = len(st.header["Expect"]) > 0
	}
	st.req = *req.WithContext(&st.ctx)
	st.w.start(req.Method == http.MethodHead)
	return true
}

// announced gives the map that trailers will be put into, at the body's end.
func announced(values []string) http.Header {
	h := make(http.Header)
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			if name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name != "" {
				h[name] = nil
			}
		}
	}
	return h
}

// upgrade makes a WebSocket's CONNECT (RFC 8441) the upgrade that HTTP/1.1
// knows, so that handlers and origins need to know no other.
func (st *stream) upgrade(req *http.Request) {
	st.tunnel = true
	var key [16]byte
	rand.Read(key[:]) // never fails
	st.key = base64.StdEncoding.EncodeToString(key[:])
	delete(st.header, "Sec-Websocket-Key")
	st.addHeader("Sec-Websocket-Key", st.key)
	st.addHeader("Connection", "Upgrade")
	st.addHeader("Upgrade", "websocket")
	req.Method, req.ContentLength, req.Body = http.MethodGet, 0, http.NoBody
}

// setURL parses a path; most need no parsing.
func (st *stream) setURL(target string) bool {
	path, query, hasQuery := strings.Cut(target, "?")
	if all(path, plainPath) && strings.IndexByte(query, '#') < 0 {
		st.url = url.URL{Path: path, RawQuery: query, ForceQuery: hasQuery && query == ""}
		return true
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return false
	}
	st.url = *u
	return true
}

// endTrailers ends a request's body with trailers.
func (c *conn) endTrailers(st *stream) error {
	b := &c.block
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.gone {
		return nil
	}
	switch {
	case b.malformed != "":
		return c.refuseStream(st, http2.ErrCodeProtocol, b.malformed)
	case b.tooMany:
		return c.refuseStream(st, http2.ErrCodeEnhanceYourCalm, "trailers too large")
	case st.declared >= 0 && st.got != st.declared:
		return c.refuseStream(st, http2.ErrCodeProtocol, "content-length differs from the content")
	}
	st.trailer = b.trailer
	st.endOfRequest()
	return nil
}
