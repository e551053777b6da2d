package entrypoint

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/wire"
)

// view is what of a request may outlive it, in the hands of a handler that
// keeps it: made anew for each, so that it leads to no other request.
type view struct {
	writer
	body    viewBody
	context viewContext
	record  middleware.Record
}

// compat serves the request by the http.Handler, and tells whether the
// connection may carry another.
func (x *turn) compat(now int64) bool {
	v := new(view)
	v.x.Store(x)
	v.body.v, v.context.v = v, v
	v.context.quiet, v.context.since = x.req.Framing() == http1.NoBody, now
	x.view = v
	x.answer.begin()
	r := x.request(v)
	v.record.Start = x.entry.Start
	defer v.leave()
	defer x.observed(v)
	x.conn.server.compat.ServeHTTP(&v.writer, r)
	v.body.leave()
	v.context.unwatch()
	keep := x.finishAnswer()
	if x.answer.hijack {
		return false
	}
	if in := &x.incoming; !in.framed.Done() || in.content > 0 {
		if keep = keep && x.drain(); !keep {
			x.unread = true
		}
	}
	x.answer.end()
	return keep
}

// observed takes what is known of an answer into the entry.
func (x *turn) observed(v *view) {
	o := &x.conn.server.opts
	if o.Observe == nil {
		return
	}
	x.entry.Record = v.record
	x.entry.Status, x.entry.Size = x.answer.status, x.answer.written
	cause := recover()
	switch {
	case x.answer.status != 0:
	case x.answer.hijack:
		x.entry.Status = http.StatusSwitchingProtocols
	case cause != nil:
		x.entry.Status = http.StatusInternalServerError
	default:
		x.entry.Status = http.StatusOK
	}
	if cause != nil {
		x.entry.Took = time.Since(x.entry.Start)
		o.Observe(&x.entry)
		panic(cause)
	}
}

// request describes the request to handlers, as it would go on to a server.
// What Expect asks for is passed on, so that the server may decide.
func (x *turn) request(v *view) *http.Request {
	c, req := x.conn, &x.req
	req.Fill(&x.shape, &http1.Onward{Client: &c.client, KeepOdd: c.server.opts.KeepOddHeaders})
	r := x.shape.WithContext(&v.context)
	r.RemoteAddr, r.TLS, r.Body = c.remote, c.tlsState(), http.NoBody
	if req.Framing() != http1.NoBody {
		r.Body = &v.body
	}
	if req.Expects100() {
		r.Header["Expect"] = []string{"100-continue"}
	}
	if r.Trailer != nil {
		v.body.trailer = r.Trailer
	}
	return r
}

// leave ends all ways from the view to the connection.
func (v *view) leave() {
	v.body.leave()
	v.context.unwatch()
	v.x.Store(nil)
	v.context.over()
}

// viewBody is the request's body. A transport may still be reading it when the
// handler has gone.
type viewBody struct {
	v       *view
	trailer http.Header // filled at the end; nil: none was announced
	mu      sync.Mutex
	over    bool
}

// Read is that of io.Reader.
func (b *viewBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.v.x.Load()
	if x == nil || b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := x.readBody(p)
	if in := &x.incoming; err == io.EOF || err == nil && in.framed.Done() && in.content == 0 {
		b.v.context.silent()
	}
	if err == io.EOF && b.trailer != nil && x.incoming.hasTrailer {
		x.incoming.trailers.AddTo(b.trailer)
	}
	return n, err
}

// leave ends reading by others, and waits for it.
func (b *viewBody) leave() {
	x := b.v.x.Load()
	if x == nil {
		return
	}
	if !b.mu.TryLock() {
		x.conn.Interrupt()
		b.mu.Lock()
		x.conn.Resume()
	}
	b.over = true
	b.mu.Unlock()
}

// Close ends reading, that of another goroutine too; the loop reads what is
// left.
func (b *viewBody) Close() error {
	b.leave()
	return nil
}

// patience is how long a client may say that it has nothing more to say, by
// closing its side of the connection, and still wait for its answer: the plain
// path looks no earlier either. From then on it counts as gone.
const patience = time.Second

// viewContext is the request's context. The client is watched only if somebody
// asks for the end of the context, and some time after its body has been read.
type viewContext struct {
	v     *view
	mu    sync.Mutex
	quiet bool          // the client has nothing more to say
	since int64         // when that began, in the time of wire.Now
	done  chan struct{} // nil: nobody has asked
	later *time.Timer   // begins the watch; nil: it has begun, or need not
	stop  func()        // ends the watch; nil: there is none
	ended bool          // nobody is to watch any more
	err   error
}

// Deadline is that of context.Context: none.
func (c *viewContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed when the client has gone, or the request is over.
func (c *viewContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
		c.watch()
	}
	return c.done
}

// silent: the body has been read.
func (c *viewContext) silent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.quiet {
		c.quiet, c.since = true, wire.Now()
		c.watch()
	}
}

// watch has somebody wait for the client to leave, now or when patience ends;
// c.mu is held.
func (c *viewContext) watch() {
	x := c.v.x.Load()
	if x == nil || !c.quiet || c.ended || c.done == nil || c.err != nil || c.stop != nil || c.later != nil {
		return
	}
	if left := c.since + int64(patience) - wire.Now(); left > 0 {
		c.later = time.AfterFunc(time.Duration(left), c.patienceEnded)
		return
	}
	c.stop = x.conn.Watch(c.over)
}

func (c *viewContext) patienceEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.later = nil
	c.watch()
}

// unwatch ends the watch, and has none begin.
func (c *viewContext) unwatch() {
	c.mu.Lock()
	stop := c.stop
	c.stop, c.ended = nil, true
	if c.later != nil {
		c.later.Stop()
		c.later = nil
	}
	c.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// Err is that of context.Context.
func (c *viewContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Value knows the connection's peer, and the record of the request.
func (c *viewContext) Value(key any) any {
	switch key.(type) {
	case peerKey:
		if x := c.v.x.Load(); x != nil {
			return x.conn.peer
		}
	case middleware.RecordKey:
		return &c.v.record
	}
	return nil
}

func (c *viewContext) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.done != nil {
		close(c.done)
	}
}
