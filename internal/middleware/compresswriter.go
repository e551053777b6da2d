package middleware

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
)

// compressWriter holds the first bytes of an answer back until it is known
// whether they are worth compressing.
type compressWriter struct {
	http.ResponseWriter
	owner    *compressor
	encoding string // what the client takes; "": nothing
	head     bool   // answer to HEAD

	status  int
	held    []byte
	enc     encoder
	decided bool // the head has been sent
}

// WriteHeader keeps the final status until the decision; interim answers pass.
func (w *compressWriter) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	if w.status != 0 || w.decided {
		return
	}
	w.status = status
	h := w.Header()
	if !w.owner.eligible(status, h) {
		w.pass()
		return
	}
	addVary(h)
	if w.encoding == "" || w.head {
		w.pass()
	}
}

// pass sends the head and everything held as it is.
func (w *compressWriter) pass() error {
	w.decided = true
	if w.status != 0 {
		w.ResponseWriter.WriteHeader(w.status)
	}
	if len(w.held) == 0 {
		return nil
	}
	_, err := w.ResponseWriter.Write(w.held)
	w.held = nil
	return err
}

// start sends a head that announces the encoding, and encodes what is held.
func (w *compressWriter) start() error {
	w.decided = true
	h := w.Header()
	h["Content-Encoding"] = []string{w.encoding}
	delete(h, "Content-Length")
	delete(h, "Accept-Ranges")
	delete(h, "Content-Md5")
	if tag := h.Get("Etag"); strings.HasPrefix(tag, `"`) {
		h["Etag"] = []string{"W/" + tag} // other bytes, same meaning
	}
	w.ResponseWriter.WriteHeader(w.status)
	w.enc = w.owner.pools[w.encoding].Get().(encoder)
	w.enc.Reset(w.ResponseWriter)
	if len(w.held) == 0 {
		return nil
	}
	_, err := w.enc.Write(w.held)
	w.held = nil
	return err
}

// Write holds, encodes or passes.
func (w *compressWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch {
	case w.enc != nil:
		return w.enc.Write(b)
	case w.decided:
		return w.ResponseWriter.Write(b)
	}
	if len(w.held)+len(b) < w.owner.params.MinResponseBodyBytes {
		w.held = append(w.held, b...)
		return len(b), nil
	}
	if err := w.start(); err != nil {
		return 0, err
	}
	return w.enc.Write(b)
}

// FlushError sends on what is there. A body that is flushed before the least
// size is a stream: more will come, so it is compressed.
func (w *compressWriter) FlushError() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !w.decided {
		if err := w.start(); err != nil {
			return err
		}
	}
	if w.enc != nil {
		if err := w.enc.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is FlushError for callers of the older interface.
func (w *compressWriter) Flush() { w.FlushError() }

// Hijack hands the connection over; nothing is held any more.
func (w *compressWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.decided = true
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap serves http.ResponseController.
func (w *compressWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// finish ends the encoding, or sends a short answer as it is.
func (w *compressWriter) finish() {
	switch {
	case w.enc != nil:
		if w.enc.Close() == nil {
			w.enc.Reset(io.Discard) // the pool must not keep the answer alive
			w.owner.pools[w.encoding].Put(w.enc)
		}
	case !w.decided && w.status != 0:
		w.pass()
	case !w.decided && w.head:
		w.WriteHeader(http.StatusOK) // an answer to HEAD varies as its GET does
	}
}

// addVary says that the answer depends on what the client accepts.
func addVary(h http.Header) {
	for _, line := range h["Vary"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Accept-Encoding") {
				return
			}
		}
	}
	h.Add("Vary", "Accept-Encoding")
}
