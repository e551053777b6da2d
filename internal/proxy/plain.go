package proxy

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"unsafe"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/route"
	"gatehouse/internal/upstream"
	"gatehouse/internal/wire"
)

// Plain serves the requests of one entry point that need no http.Handler: the
// middlewares of their route, if any, let them pass in their second form, and
// its service speaks HTTP/1.1. For all others it returns false, having done
// nothing.
func (p *Proxy) Plain(entryPoint string) func(x *wire.Exchange) (served bool) {
	return func(x *wire.Exchange) bool { return p.plain(x, entryPoint) }
}

func (p *Proxy) plain(x *wire.Exchange, entryPoint string) bool {
	s := p.enter()
	if s == nil {
		return false
	}
	d := s.drain
	defer d.leave()
	h := heads.Get().(*route.Head)
	plainHead(h, x)
	found := s.matchHead(entryPoint, h)
	*h = route.Head{}
	heads.Put(h)
	if found == nil || found.plain == nil {
		return false
	}
	x.Router = found.router
	return found.plain(x)
}

// stage puts the second form of middlewares, outermost first, before the plain
// path to a service; nil where one of them has none.
func stage(next upstream.Plain, around []middleware.Middleware) upstream.Plain {
	if next == nil || len(around) == 0 {
		return next
	}
	stages := make([]middleware.Stage, len(around))
	for i, m := range around {
		if stages[i] = m.Stage; m.Stage.Pass == nil {
			return nil
		}
	}
	return (&staged{stages, next}).serve
}

// staged is the plain path to a service through middlewares.
type staged struct {
	stages []middleware.Stage
	next   upstream.Plain
}

func (s *staged) serve(x *wire.Exchange) (served bool) {
	room := wire.Buffer(wire.SmallSize)
	x.Req.BeginEdits(room)
	x.Edits = x.Edits[:0]
	passed := 0
	defer func() { s.leave(x, passed, served, room) }()
	for ; passed < len(s.stages); passed++ {
		if !s.stages[passed].Pass(x) {
			return false
		}
	}
	return s.next(x)
}

// leave leaves the stages that were passed, and makes x what it was.
func (s *staged) leave(x *wire.Exchange, passed int, served bool, room []byte) {
	for passed--; passed >= 0; passed-- {
		if leave := s.stages[passed].Leave; leave != nil {
			leave(x, served)
		}
	}
	x.Req.Undo()
	x.Edits = x.Edits[:0]
	wire.Free(room)
}

var heads = sync.Pool{New: func() any { return new(route.Head) }}

// plainHead is what rules look at. Its strings are the bytes of the request's
// buffer: they hold while the rules are matched.
func plainHead(h *route.Head, x *wire.Exchange) {
	query, _ := x.Req.Query()
	*h = route.Head{
		Method: text(x.Req.Method()), Host: text(x.Req.Host()), Path: text(x.Req.Path()), RawQuery: text(query),
		Fields: (*fields)(x.Req), RemoteAddr: x.Remote,
	}
	if strings.IndexByte(h.Path, '%') >= 0 {
		if decoded, err := url.PathUnescape(h.Path); err == nil {
			h.Path = decoded
		}
	}
}

func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// fields are those of a parsed request.
type fields http1.Request

// Field is that of route.Fields. Fields that are not passed on are not seen.
func (f *fields) Field(name string, nth int) (string, bool) {
	r := (*http1.Request)(f)
	for i := range r.Len() {
		if r.Hop(i) || http.CanonicalHeaderKey(text(r.Name(i))) != name {
			continue
		}
		if nth == 0 {
			return text(r.Value(i)), true
		}
		nth--
	}
	return "", false
}
