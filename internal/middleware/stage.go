package middleware

import (
	"net/http"
	"strings"
	"unsafe"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// asked is what middlewares decide by, whichever form a request has. Its texts
// may be bytes of a buffer: they hold until the decision is made.
type asked interface {
	host() string
	// scheme is the client's: the entry point has set X-Forwarded-Proto, or
	// believed a trusted peer's.
	scheme() string
	// first is the first value of a field, by its canonical name; "": none.
	first(name string) string
	// tls: the connection to us is one of TLS.
	tls() bool
}

// viewed is a request as handlers see it.
type viewed http.Request

func (v *viewed) host() string             { return v.Host }
func (v *viewed) first(name string) string { return v.Header.Get(name) }
func (v *viewed) tls() bool                { return v.TLS != nil }

func (v *viewed) scheme() string {
	if scheme := schemeSaid(v.Header.Get("X-Forwarded-Proto")); scheme != "" {
		return scheme
	}
	if v.TLS != nil {
		return "https"
	}
	return "http"
}

// staged is a request as stages see it.
type staged wire.Exchange

func (s *staged) host() string   { return text(s.Req.Host()) }
func (s *staged) scheme() string { return schemeSaid(text(s.Req.Proto(s.Client))) }
func (s *staged) tls() bool      { return s.Client.TLS() }

func (s *staged) first(name string) string {
	if name == "X-Forwarded-Proto" {
		return text(s.Req.Proto(s.Client))
	}
	return text(s.Req.Passed(name, &http1.Onward{Client: s.Client, KeepOdd: s.KeepOdd}))
}

// stagedFields tells whether first has them for staged requests: others that
// say where a request came from are not there yet.
func stagedFields(names ...string) bool {
	for _, name := range names {
		if _, ok := http1.NewEdit(name, ""); !ok && http.CanonicalHeaderKey(name) != "X-Forwarded-Proto" {
			return false
		}
	}
	return true
}

// schemeSaid reads X-Forwarded-Proto; "": it says none.
func schemeSaid(proto string) string {
	switch proto {
	case "https", "wss":
		return "https"
	case "http", "ws":
		return "http"
	}
	return ""
}

// text is b without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// stagedEdits prepares changes of a head for a stage, where it can make them.
func stagedEdits(edits headerEdits) (list []http1.Edit, ok bool) {
	for _, e := range edits {
		value := ""
		if e.values != nil {
			value = e.values[0]
		}
		edit, ok := http1.NewEdit(e.name, value)
		if !ok || strings.TrimSpace(value) != value {
			return nil, false
		}
		list = append(list, edit)
	}
	return list, true
}
