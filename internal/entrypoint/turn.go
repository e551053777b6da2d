package entrypoint

import (
	"net/http"
	"sync"

	"gatehouse/internal/http1"
	"gatehouse/internal/middleware"
	"gatehouse/internal/wire"
)

// turn is the work on one request: about 4 KiB and its buffers, held only
// while there is a request.
type turn struct {
	conn *conn
	req  http1.Request
	last bool // no request may follow on the connection

	// Bytes received: the head is in[:at], what follows is in[at:end].
	in      []byte
	at, end int
	unread  bool // the client may be sending what nobody reads

	incoming incoming
	heading  sync.Mutex // held to begin the answer, and to say "100 Continue" before
	answer   answer
	shape    http.Request // its maps are used again
	plain    wire.Exchange
	entry    middleware.Entry // what is told to Options.Observe
	view     *view            // of the request under way; nil: it has none
}

// turns is shared by all servers: the work is alike everywhere.
var turns = sync.Pool{New: func() any {
	x := new(turn)
	x.plain.Trailers, x.plain.Tunnel = x.theTrailers, x.tunnel // made once
	return x
}}

// release gives everything back.
func (x *turn) release() {
	wire.Free(x.in)
	wire.Free(x.incoming.spare)
	x.answer.end()
	x.req.Reset()
	x.in, x.incoming.spare, x.incoming.rest, x.incoming.failed = nil, nil, nil, nil
	x.view, x.conn, x.at, x.end, x.unread, x.last = nil, nil, 0, 0, false, false
	x.entry = middleware.Entry{}
	turns.Put(x)
}

// next makes what came behind the request the beginning of in.
func (x *turn) next() {
	rest := x.incoming.rest
	if len(rest) > len(x.in) {
		b := wire.Buffer(len(rest))
		copy(b, rest)
		wire.Free(x.in)
		x.in = b
	} else {
		copy(x.in, rest)
	}
	x.end, x.at, x.incoming.rest = len(rest), 0, nil
}
