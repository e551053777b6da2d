package middleware

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// headEditor changes the head of an answer just before it is sent.
type headEditor interface {
	editHead(h http.Header)
}

// headHook calls its editor once, before the answer's head goes out. Interim
// answers (1xx) pass untouched.
type headHook struct {
	http.ResponseWriter
	editor headEditor
	done   bool
}

func (h *headHook) fire() {
	if !h.done {
		h.done = true
		h.editor.editHead(h.Header())
	}
}

// WriteHeader edits before the final status.
func (h *headHook) WriteHeader(status int) {
	if status >= 200 || status == http.StatusSwitchingProtocols {
		h.fire()
	}
	h.ResponseWriter.WriteHeader(status)
}

// Write edits before an implicit 200.
func (h *headHook) Write(b []byte) (int, error) {
	h.fire()
	return h.ResponseWriter.Write(b)
}

// ReadFrom keeps the fast path of the writer below.
func (h *headHook) ReadFrom(src io.Reader) (int64, error) {
	h.fire()
	return io.Copy(h.ResponseWriter, src)
}

// FlushError sends what is there, the head at least.
func (h *headHook) FlushError() error {
	h.fire()
	return http.NewResponseController(h.ResponseWriter).Flush()
}

// Flush is FlushError for callers of the older interface.
func (h *headHook) Flush() { h.FlushError() }

// Hijack hands the connection over: whoever upgrades it writes the head, and
// takes it from Header.
func (h *headHook) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.fire()
	return http.NewResponseController(h.ResponseWriter).Hijack()
}

// Unwrap serves http.ResponseController.
func (h *headHook) Unwrap() http.ResponseWriter { return h.ResponseWriter }
