package entrypoint

import (
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// gate is the one place where a request from outside that package http1 has not
// read (HTTP/3, and WebSockets over HTTP/2) is made safe: refused if hostile, its
// path brought to one form, headers that only a proxy may set deleted and set
// anew. Everything behind it may believe what it reads.
type gate struct {
	name     string
	next     http.Handler
	logger   *slog.Logger
	trust    trust
	tls      bool
	opts     Options
	draining *atomic.Bool
	lastLog  atomic.Int64 // when a panic's stack was last logged, unix s
}

func newGate(opts Options, draining *atomic.Bool) *gate {
	return &gate{
		name: opts.Name, next: opts.Handler, logger: opts.Logger, trust: newTrust(opts),
		tls: opts.TLS != nil, opts: opts, draining: draining,
	}
}

// ServeHTTP lets the request through or answers it.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer g.recovered(w, r)
	from, _ := r.Context().Value(peerKey{}).(*peer)
	if from == nil {
		from = g.trust.peer(r.RemoteAddr)
	}
	if g.draining.Load() || from.worn(wire.Now()) {
		w.Header().Set("Connection", "close") // HTTP/2: GOAWAY
	}
	if g.relieved(w) {
		return
	}
	if why := inspect(r); why.status != 0 {
		g.refuse(w, r, why)
		return
	}
	if sweep(r.Header, from.trusted, g.opts.KeepOddHeaders) > maxHeaderLines {
		g.refuse(w, r, refusal{http.StatusRequestHeaderFieldsTooLarge, "too many header lines"})
		return
	}
	if g.misdirected(r) {
		g.refuse(w, r, refusal{http1.Misdirected.Status(), http1.Misdirected.Error()})
		return
	}
	path, ok := normalPath(r.URL.EscapedPath(), g.opts.AllowEncodedSlash)
	if !ok {
		g.refuse(w, r, refusal{http.StatusBadRequest, "path with encoded or raw separators or control bytes"})
		return
	}
	setPath(r, path)
	upgrade := cleanHops(r)
	from.forward(r, g.tls, upgrade)
	if g.opts.BodyReadTimeout <= 0 || r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody || isGRPC(r) {
		g.next.ServeHTTP(w, r)
		return
	}
	body := newPacedBody(r.Body, w, g.opts.BodyReadTimeout)
	r.Body = body
	g.next.ServeHTTP(w, r)
	body.leave()
}

// guarded serves a request that is safe already.
func (g *gate) guarded(w http.ResponseWriter, r *http.Request) {
	defer g.recovered(w, r)
	g.next.ServeHTTP(w, r)
}

// refusal is why a request goes no further.
type refusal struct {
	status int
	reason string
}

// refuse answers and ends the connection: what follows on it is not to be
// believed either.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	g.logger.Debug("request refused", "entryPoint", g.name, "client", r.RemoteAddr, "status", why.status, "reason", why.reason)
	h := w.Header()
	h.Set("Connection", "close")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if why.status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	w.WriteHeader(why.status)
	if r.Method != http.MethodHead {
		w.Write([]byte(http.StatusText(why.status) + ": " + why.reason + "\n"))
	}
}

// recovered turns a panic of a handler into an answer: that request only.
func (g *gate) recovered(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler {
		panic(cause)
	}
	now := time.Now().Unix()
	if last := g.lastLog.Load(); now-last >= 60 && g.lastLog.CompareAndSwap(last, now) {
		g.logger.Error("request handler panicked", "entryPoint", g.name, "method", r.Method,
			"host", r.Host, "path", r.URL.Path, "panic", cause, "stack", string(debug.Stack()))
	}
	// Where no answer has begun this is a whole one; where one has, it writes
	// nothing, and the abort below cuts the answer so that nobody takes it for
	// complete.
	h := w.Header()
	clear(h)
	h.Set("Content-Length", "0")
	w.WriteHeader(http.StatusInternalServerError)
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// inspect finds what cannot be let through whatever the route.
func inspect(r *http.Request) refusal {
	bad := func(reason string) refusal { return refusal{http.StatusBadRequest, reason} }
	switch r.Method {
	case http.MethodConnect, http.MethodTrace, "TRACK":
		return refusal{http.StatusMethodNotAllowed, "method " + r.Method + " is not served"}
	}
	switch {
	case len(r.RequestURI) > maxTarget:
		return refusal{http.StatusRequestURITooLong, "request target too long"}
	case !http1.ValidHost(r.Host):
		return bad("missing or malformed Host")
	case strings.IndexByte(r.RequestURI, '#') >= 0:
		return bad("fragment in the request target")
	case !asciiPath(r.RequestURI):
		return bad("path with bytes outside ASCII")
	case r.URL.Path == "*" && r.Method != http.MethodOptions:
		return bad("request target * without OPTIONS")
	case r.URL.Scheme != "" && r.URL.Scheme != "http" && r.URL.Scheme != "https", r.URL.User != nil:
		return bad("absolute request target that is no http URL")
	}
	if hosts := r.Header["Host"]; len(hosts) > 0 { // HTTP/2: beside :authority
		if len(hosts) > 1 || !strings.EqualFold(hosts[0], r.Host) {
			return bad("Host and :authority differ")
		}
		delete(r.Header, "Host")
	}
	if expect := r.Header["Expect"]; len(expect) > 0 && (len(expect) > 1 || !strings.EqualFold(expect[0], "100-continue")) {
		return refusal{http.StatusExpectationFailed, "unknown expectation"}
	}
	return refusal{}
}

// asciiPath looks at the target as it came: net/url has escaped the rest.
func asciiPath(target string) bool {
	for i := 0; i < len(target) && target[i] != '?'; i++ {
		if target[i] >= 0x80 {
			return false
		}
	}
	return true
}

// normalPath is http1.NormalPath for what net/http gives: a path may be missing
// there, and OPTIONS has one that is none.
func normalPath(escaped string, allowEncodedSlash bool) (string, bool) {
	switch escaped {
	case "":
		return "/", true
	case "*":
		return escaped, true
	}
	path, why := http1.NormalPath(escaped, allowEncodedSlash)
	return path, why == 0
}

// setPath gives the request its one path; the query stays.
func setPath(r *http.Request, escaped string) {
	if escaped == r.URL.EscapedPath() {
		return
	}
	decoded, err := url.PathUnescape(escaped)
	if err != nil { // normalPath has checked every escape
		panic("entrypoint: normal path does not decode: " + err.Error())
	}
	u := *r.URL
	u.Path, u.RawPath = decoded, ""
	if u.EscapedPath() != escaped {
		u.RawPath = escaped
	}
	r.URL = &u
	r.RequestURI = u.RequestURI()
}
