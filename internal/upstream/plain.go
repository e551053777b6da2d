package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// Plain is a service on the plain path: it answers a request without the
// http.Handler view, or says that it cannot, having done nothing.
type Plain func(x *wire.Exchange) (served bool)

// Plain gives the service's plain path; nil where it has none: its servers
// speak HTTP/2, or cookies must be read. passHostHeader is as in Handler.
func (s *Service) Plain(passHostHeader *bool) Plain {
	p := s.pool
	if p == nil || p.sticky != nil {
		return nil
	}
	for _, srv := range p.servers {
		if srv.origin == nil {
			return nil
		}
	}
	return p.way(passHostHeader).servePlain
}

// shortBody is how large a body is sent in one piece with its head; such a
// request can be repeated.
const shortBody = 12 << 10

// relay is one request on the plain path. It is pooled.
type relay struct {
	*call
	x      *wire.Exchange
	pool   *pool
	onward http1.Onward
	tried  []int
	room   [4]int
	short  []byte  // a short body, read beforehand; nil: none
	long   *upload // any other; nil: none
	edited []byte  // memory for an answer's head that middlewares change
	left   atomic.Bool
}

var relays = sync.Pool{New: func() any { return new(relay) }}

// plain serves a request, unless a server speaks HTTP/2, or may.
func (p *pool) plain(x *wire.Exchange, keepHost bool) (served bool) {
	for _, s := range p.servers {
		if s.origin.protocol.Load() != speaksHTTP1 {
			return false
		}
	}
	x.Service = p.name
	n := p.state.inFlight.Add(1)
	defer p.state.inFlight.Add(-1)
	if p.maxConn > 0 && n > p.maxConn {
		refusePlain(x, http.StatusTooManyRequests, TooMany)
		return true
	}
	r := relays.Get().(*relay)
	r.call, r.x, r.pool, r.tried = newCall(), x, p, r.room[:0]
	r.down = r
	r.asked = http1.Asked{Head: x.Req.Kind() == http1.MethodHead, WebSocket: x.Req.WebSocket()}
	r.onward = http1.Onward{Client: x.Client, KeepOdd: x.KeepOdd, Expect: true}
	served = r.serve(keepHost)
	r.call.free()
	wire.Free(r.short)
	wire.Free(r.edited)
	r.call, r.x, r.pool, r.short, r.long, r.edited = nil, nil, nil, nil, nil, nil
	r.left.Store(false)
	relays.Put(r)
	return served
}

// serve asks servers until one answers.
func (r *relay) serve(keepHost bool) bool {
	x, p := r.x, r.pool
	if err := r.takeBody(); err != nil {
		r.fail(&askError{client: err})
		return true
	}
	start := x.Now
	if start == 0 || x.Body != nil { // the body may have taken its time
		start = wire.Now()
	}
	r.at = start
	failed := errNoServer
	for tries := 0; ; {
		i := p.next(&r.tried)
		if i < 0 {
			break
		}
		s := p.servers[i]
		if r.onward.Host = ""; !keepHost {
			r.onward.Host = s.url.Host
		}
		x.Server, x.Retries = s.text, tries
		s.state.inFlight.Add(1)
		err := r.askServer(s)
		r.at = wire.Now()
		x.Upstream = time.Duration(r.at - start)
		client := isClient(err)
		p.settle(s, err, client == nil && !r.left.Load() && err != errHTTP2)
		if err == nil {
			r.answer(s)
		}
		s.state.inFlight.Add(-1)
		if err == nil {
			return true
		}
		if err == errHTTP2 && r.short == nil {
			return false // the body has not been touched
		}
		tries++
		failed = &askError{server: s, tries: tries, client: client, err: err}
		if tries > p.retry || r.left.Load() || !isDial(err) && !(isConnection(err) && r.repeatable()) {
			break
		}
	}
	r.fail(failed)
	return true
}

// takeBody reads a short body, and prepares to send any other.
func (r *relay) takeBody() error {
	x := r.x
	if x.Body == nil {
		return nil
	}
	n := x.Req.ContentLength()
	if n >= 0 && n <= shortBody && !x.Req.Expects100() && r.pool.servers[0].origin.client == nil {
		r.short = wire.Buffer(shortBody)[:n]
		_, err := io.ReadFull(x.Body, r.short)
		return err
	}
	r.long = &upload{from: x.Body, expect: x.Req.Expects100(), interrupt: closeBody(x)}
	if x.To == nil {
		r.long.resume = x.Conn.Resume
	}
	if n < 0 {
		r.long.last = func(dst []byte) []byte { return http1.AppendLastChunk(dst, x.Trailers()) }
	}
	return nil
}

// askServer sends the request; one that met a connection the server had given
// up is sent again.
func (r *relay) askServer(s *server) error {
	for try := 0; ; try++ {
		if r.out == nil {
			r.out = wire.Buffer(wire.SmallSize + len(r.short))
		}
		r.out = http1.AppendEnd(http1.AppendRequest(r.out[:0], r.x.Req, &r.onward))
		r.out = append(r.out, r.short...)
		err := r.ask(context.Background(), s.origin, r.long)
		if err == nil || try > 1 || !isLost(err) || !r.repeatable() {
			return err
		}
	}
}

// repeatable: the request can be sent once more without harm.
func (r *relay) repeatable() bool {
	if r.long != nil && r.long.started() || r.left.Load() || r.x.Req.WebSocket() {
		return false
	}
	switch r.x.Req.Kind() {
	case http1.MethodGet, http1.MethodHead, http1.MethodOptions, http1.MethodPut, http1.MethodDelete:
		return true
	}
	return false
}

// interim passes an interim answer on.
func (r *relay) interim(res *http1.Response) {
	if r.x.Req.Minor() == 0 {
		return
	}
	if res.Status() == http.StatusContinue {
		if r.x.Continued || !r.x.Req.Expects100() {
			return
		}
		r.x.Continued = true
	}
	if r.x.To != nil {
		r.x.To.Interim(res)
		return
	}
	b := wire.Buffer(wire.SmallSize)
	r.x.Conn.Write(http1.AppendEnd(http1.AppendResponse(b[:0], res, http1.Reply{Minor: 1}))) //nolint:errcheck // the final answer will tell
	wire.Free(b)
}

// watch has somebody wait for the client to leave.
func (r *relay) watch(cut func()) (stop func()) {
	gone := func() {
		r.left.Store(true)
		cut()
	}
	if r.x.To != nil {
		return r.x.To.Watch(gone)
	}
	return r.x.Conn.Watch(gone)
}

// answer passes the answer on.
func (r *relay) answer(s *server) {
	x := r.x
	x.Status = r.res.Status()
	if len(x.Edits) > 0 {
		r.edited = wire.Buffer(wire.SmallSize)
		r.res.Edit(r.edited, x.Edits)
	}
	if x.To != nil {
		r.answerTo(s)
		return
	}
	if x.Status == http.StatusSwitchingProtocols {
		r.tunnel()
		return
	}
	if r.long != nil && !r.long.settled() || !x.Req.KeepAlive() {
		x.Last = true
	}
	framing := r.res.FramingFor(x.Req.Minor())
	if framing == http1.UntilClose {
		x.Last = true
	}
	out := http1.AppendResponse(r.out[:0], &r.res, http1.Reply{Minor: x.Req.Minor(), Close: x.Ends(), Date: x.Date, AltSvc: x.AltSvc})
	r.out = http1.AppendEnd(out)
	if err := r.content(framing == http1.Chunked); err != nil {
		x.Broken, r.odd = true, true
		if !r.left.Load() && !errors.Is(err, errClient) {
			r.pool.cutShort(s, err)
		}
	}
	r.end()
}

// errClient is a client that does not take its answer.
var errClient = errors.New("write to client")

// content writes what r.out holds and the answer's content. Nothing is held
// back while the server is silent.
func (r *relay) content(chunked bool) error {
	for {
		piece, err := r.received()
		if piece == nil && err == nil {
			if err = r.flush(); err != nil {
				return err
			}
			if !chunked && r.body.Left() >= spliceFrom {
				if err = r.splice(); err != nil {
					return err
				}
			}
			piece, err = r.next()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			r.flush() //nolint:errcheck // it is broken either way
			return err
		}
		r.x.Sent += int64(len(piece))
		switch {
		case chunked && len(r.out)+len(piece)+chunkRoom <= cap(r.out):
			r.out = http1.AppendChunk(r.out, piece)
		case chunked:
			r.out = http1.AppendChunkSize(r.out, int64(len(piece)))
			if err := r.write(piece); err != nil {
				return err
			}
			r.out = append(r.out, "\r\n"...)
		case len(r.out)+len(piece) <= cap(r.out):
			r.out = append(r.out, piece...)
		default:
			if err := r.write(piece); err != nil {
				return err
			}
		}
	}
	if chunked {
		r.out = http1.AppendLastChunk(r.out, r.trailer())
	}
	return r.flush()
}

// chunkRoom is what the framing of a chunk takes at most.
const chunkRoom = 20

// spliceFrom is from how long a rest the kernel moves it by itself.
const spliceFrom = 64 << 10

// splice has the kernel move what is left of the content, where it can.
func (r *relay) splice() error {
	r.at = 0
	for r.body.Left() > 0 {
		by := int64(0)
		if r.stop == nil {
			by = wire.Now() + int64(patience)
		}
		r.link.ReadBy(by)
		n, err := r.x.Conn.Splice(&r.link.Conn, r.body.Left())
		r.body.Advance(n)
		r.x.Sent += n
		switch {
		case err == nil:
		case errors.Is(err, wire.ErrTaker):
			return errClient
		case errors.Is(err, errors.ErrUnsupported):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded) && by != 0:
			r.silent()
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		default:
			return err
		}
	}
	return nil
}

// write writes r.out, then piece.
func (r *relay) write(piece []byte) error {
	if err := r.flush(); err != nil {
		return err
	}
	if _, err := r.x.Conn.Write(piece); err != nil {
		return errClient
	}
	return nil
}

func (r *relay) flush() error {
	if len(r.out) == 0 {
		return nil
	}
	_, err := r.x.Conn.Write(r.out)
	r.out = r.out[:0]
	if err != nil {
		return errClient
	}
	return nil
}

// tunnel joins client and server after an upgrade, until one of them ends it.
func (r *relay) tunnel() {
	x, l := r.x, r.link
	x.Broken, r.odd = true, true
	r.out = http1.AppendEnd(http1.AppendResponse(r.out[:0], &r.res, http1.Reply{Minor: 1, Date: x.Date}))
	r.out = append(r.out, r.rest...)
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
	x.Tunnel()
	if r.flush() == nil {
		join(x.Conn, &l.Conn, x.Behind)
	}
	r.end()
}

// refusePlain is Refuse on the plain path.
func refusePlain(x *wire.Exchange, status int, why Reason) {
	x.Status = status
	x.Last = x.Last || !x.Req.KeepAlive()
	text := strconv.Itoa(status) + " " + http.StatusText(status) + "\n"
	b := wire.Buffer(wire.SmallSize)
	out := append(b[:0], "HTTP/1.1 "...)
	out = append(append(out, text[:len(text)-1]...), "\r\n"...)
	out = http1.AppendField(out, "Content-Type", "text/plain; charset=utf-8")
	out = http1.AppendField(out, "Content-Length", strconv.Itoa(len(text)))
	if why != "" {
		out = http1.AppendField(out, ReasonHeader, string(why))
	}
	if status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests {
		out = http1.AppendField(out, "Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	}
	if len(x.Date) > 0 { // HTTP/2 adds its own
		out = append(append(append(out, "Date: "...), x.Date...), "\r\n"...)
	}
	switch {
	case x.Ends():
		out = http1.AppendField(out, "Connection", "close")
	case x.Req.Minor() == 0:
		out = http1.AppendField(out, "Connection", "keep-alive")
	}
	out = http1.AppendEnd(out)
	if x.To != nil {
		refuseTo(x, out, text)
		wire.Free(b)
		return
	}
	if len(x.Edits) > 0 {
		res := parseOwn(out, x.Edits)
		out = http1.AppendEnd(http1.AppendResponse(nil, &res, http1.Reply{Minor: x.Req.Minor(), Close: x.Last, Date: x.Date}))
	}
	if x.Req.Kind() != http1.MethodHead {
		out = append(out, text...)
		x.Sent = int64(len(text))
	}
	if _, err := x.Conn.Write(out); err != nil {
		x.Broken = true
	}
	wire.Free(b)
}

// fail answers for a server that did not. It is pool.fail on the plain path.
func (r *relay) fail(err error) {
	x, p := r.x, r.pool
	if r.left.Load() {
		x.Status, x.Broken = statusClientGone, true
		return
	}
	var ask *askError
	errors.As(err, &ask)
	status, why := http.StatusBadGateway, BadGateway
	switch {
	case errors.Is(err, errNoServer):
		status, why = http.StatusServiceUnavailable, NoServer
	case ask != nil && ask.client != nil:
		x.Last = true
		status, why = clientStatus(ask.client), BadRequest
	case isTimeout(err):
		status, why = http.StatusGatewayTimeout, ServerTimeout
	}
	if ask != nil && ask.client == nil {
		p.complain(ask, status)
	}
	refusePlain(x, status, why)
}

// clientStatus is what a client is told whose body could not be read.
func clientStatus(err error) int {
	var tooLarge *http.MaxBytesError
	var why http1.Reason
	switch {
	case errors.As(err, &tooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &why):
		return why.Status()
	}
	return http.StatusBadRequest
}
