package h2

import (
	"bufio"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// response is the answer to one request as its handler sees it: an
// http.ResponseWriter that also flushes, hands tunnels over, and takes
// deadlines (http.ResponseController).
type response struct {
	st     *stream
	header http.Header

	head     bool     // the request's method is HEAD
	status   int      // 0: not yet written
	bodyless bool     // the status allows no content
	refused  bool     // of a tunnel: content is not sent on
	declared int64    // content-length; -1: none
	wrote    int64    // content so far
	block    []byte   // the head, encoded
	trailers []string // announced
	tail     []byte   // trailers, encoded
	sent     bool     // the head is appended; under conn.mu
}

func (w *response) start(head bool) { w.head, w.declared = head, -1 }

func (w *response) reset() {
	*w = response{st: w.st, header: w.header, block: w.block[:0], trailers: w.trailers[:0], tail: w.tail[:0]}
	if cap(w.block) > 4<<10 {
		w.block = nil
	}
}

// Header is what WriteHeader will send.
func (w *response) Header() http.Header { return w.header }

// EnableFullDuplex does nothing: requests and answers are never in each
// other's way here.
func (w *response) EnableFullDuplex() error { return nil }

// WriteHeader fixes the answer's head. It goes out with the first content, a
// flush or the end, so that one without content ends its stream at once.
func (w *response) WriteHeader(status int) {
	if status < 100 || status > 999 {
		panic("h2: status " + strconv.Itoa(status) + " is no HTTP status")
	}
	st := w.st
	switch {
	case w.status != 0:
		return
	case st.tunnel && status == http.StatusSwitchingProtocols:
		status = http.StatusOK
	case status == http.StatusSwitchingProtocols, st.tunnel && status >= 200 && status < 300:
		// To the client of a tunnel this would mean that it stands.
		status, w.refused = http.StatusBadGateway, true
	case status < 200:
		st.c.mu.Lock()
		st.appendInterim(status, w.header)
		st.c.flush(1)
		st.c.mu.Unlock()
		return
	}
	w.status = status
	w.bodyless = status == http.StatusNoContent || status == http.StatusNotModified
	w.encode()
}

// encode makes the head's block.
func (w *response) encode() {
	b := appendStatus(w.block[:0], w.status)
	for name, values := range w.header {
		switch name {
		case "Content-Length":
			if len(values) == 0 || w.refused || w.status == http.StatusNoContent {
				continue
			}
			n, err := strconv.ParseInt(values[0], 10, 64)
			if err != nil || n < 0 {
				continue
			}
			w.declared, values = n, values[:1]
		case "Connection":
			if w.asksClose(values) {
				w.st.c.mu.Lock()
				w.st.c.drain()
				w.st.c.mu.Unlock()
			}
			continue
		case "Trailer":
			w.announce(values)
		}
		b = appendValues(b, name, values)
	}
	if _, has := w.header["Date"]; !has {
		b = appendField(b, "Date", w.st.c.s.date())
	}
	w.block = b
}

func (w *response) asksClose(values []string) bool {
	for _, v := range values {
		for token := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.TrimSpace(token), "close") {
				return true
			}
		}
	}
	return false
}

// announce notes the names of trailers to come.
func (w *response) announce(values []string) {
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			switch name = http.CanonicalHeaderKey(strings.TrimSpace(name)); name {
			case "", "Content-Length", "Transfer-Encoding", "Trailer":
			default:
				w.trailers = append(w.trailers, name)
			}
		}
	}
}

// appendValues appends a header's lines but those HTTP/2 must not carry, and
// those that are none.
func appendValues(b []byte, name string, values []string) []byte {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
		return b
	}
	if _, known := names[name]; !known && (strings.HasPrefix(name, http.TrailerPrefix) || !all(name, tokenByte)) {
		return b
	}
	for _, v := range values {
		if v = strings.Trim(v, " \t"); validValue(v) {
			b = appendField(b, name, v)
		}
	}
	return b
}

// appendHead appends the head. conn.mu is held.
func (w *response) appendHead(end bool) {
	w.sent = true
	w.st.appendBlock(w.block, end)
}

// Write sends content. It waits for the client's windows, and for its turn.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.bodyless:
		return 0, http.ErrBodyNotAllowed
	case w.declared >= 0 && w.wrote+int64(len(p)) > w.declared:
		return 0, http.ErrContentLength
	}
	w.wrote += int64(len(p))
	if w.head || w.refused || len(p) == 0 {
		return len(p), nil
	}
	st := w.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if st.failure != nil {
		return 0, st.failure
	}
	if !w.sent {
		w.appendHead(false)
	}
	return st.send(p)
}

// WriteString is Write for strings.
func (w *response) WriteString(s string) (int, error) { return w.Write([]byte(s)) }

// FlushError sends what is there, the head at least.
func (w *response) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	st := w.st
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	if st.failure != nil {
		return st.failure
	}
	if !w.sent {
		w.appendHead(false)
	}
	st.c.flush(1)
	return nil
}

// Flush is FlushError for callers of the older interface.
func (w *response) Flush() { w.FlushError() }

// SetReadDeadline bounds reads of the request's body; zero: no bound.
func (w *response) SetReadDeadline(t time.Time) error {
	w.st.c.mu.Lock()
	defer w.st.c.mu.Unlock()
	w.st.readBy = t
	signal(w.st.readable)
	return nil
}

// SetWriteDeadline bounds writes; zero: only the stall time does.
func (w *response) SetWriteDeadline(t time.Time) error {
	w.st.c.mu.Lock()
	defer w.st.c.mu.Unlock()
	w.st.writeBy = t
	signal(w.st.writable)
	return nil
}

// Hijack hands a WebSocket's stream over as a connection; other streams have
// none to give.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.st.hijack()
}

// finish ends the answer after its handler has returned.
func (st *stream) finish() {
	c, w := st.c, &st.w
	if st.hijacked { // it ends with the connection the handler was given
		c.mu.Lock()
		defer c.mu.Unlock()
		c.running--
		st.ctx.end()
		return
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	trailers := w.trailerBlock()
	st.body.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	st.handled = true
	switch short := w.declared > w.wrote && !w.head && !w.bodyless; {
	case st.gone:
		st.recycle()
	case short:
		st.abort(http2.ErrCodeInternal, "answer shorter than declared")
	default:
		if !w.sent {
			w.appendHead(len(trailers) == 0)
		} else if len(trailers) == 0 {
			st.appendEnd()
		}
		if len(trailers) > 0 {
			st.appendBlock(trailers, true)
		}
		st.endOfAnswer()
	}
	if c.running > 0 && !c.writing {
		// Others may be about to finish as well: one write does for all.
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	c.flush(maxFlushes)
}

// trailerBlock encodes the trailers; nil: none.
func (w *response) trailerBlock() []byte {
	b := w.tail
	for _, name := range w.trailers {
		b = appendValues(b, name, w.header[name])
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok {
			b = appendValues(b, http.CanonicalHeaderKey(name), values)
		}
	}
	return b
}

// answer answers without a handler. conn.mu is held.
func (st *stream) answer(status int) {
	block := appendField(appendStatus(nil, status), "Date", st.c.s.date())
	st.appendBlock(appendField(block, "Content-Length", "0"), true)
	st.endOfAnswer()
}
