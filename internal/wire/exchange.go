package wire

import (
	"io"
	"sync/atomic"
	"time"

	"gatehouse/internal/http1"
)

// Exchange is one request on its plain way: a parsed head that nobody needs as
// an http.Request, handed from the entry point through the proxy to a server,
// and the answer written back, all on the goroutine of the client's connection.
// It belongs to that goroutine and is over when the call returns.
type Exchange struct {
	// Set by the entry point.
	Conn    *Conn    // nil where To is set
	To      Answerer // nil: the client speaks HTTP/1.1 on Conn
	Req     *http1.Request
	Client  *http1.Client
	Remote  string    // address of the peer, "ip:port"
	Body    io.Reader // content of the request's body; nil: none. Its errors are the client's fault
	KeepOdd bool
	Date    []byte // now, as the value of Date
	Now     int64  // now, in the time of Now; 0: ask
	AltSvc  []byte // value of Alt-Svc; nothing: not to be told
	Last    bool   // the connection ends after this answer; may be set by others
	// Stopping, if set, tells that no connection is kept any more. That can come
	// about under way: see Ends.
	Stopping *atomic.Bool

	// Trailers of the request, once Body has ended; nil: none.
	Trailers func() *http1.Trailers

	// Behind is what the client sent behind the head, where there is no body;
	// Tunnel is called before it is read from for an upgraded connection.
	Behind []byte
	Tunnel func()

	// Edits change the head of the final answer, ours or a server's; of two
	// lists the first is applied last. Middlewares add to them by EditAnswer.
	Edits [][]http1.Edit

	// Told by those who served it, for logs; the strings outlive the exchange.
	Continued bool  // "100 Continue" was sent
	Status    int   // of the final answer; 0: none was sent
	Sent      int64 // bytes of the answer's content
	Broken    bool  // the answer was cut off, or the connection taken over: it must be closed
	Router    string
	Service   string
	Server    string
	User      string // who has shown a password
	Retries   int
	Upstream  time.Duration
}

// Ends tells, when the answer is begun, whether the connection ends after it.
func (x *Exchange) Ends() bool {
	x.Last = x.Last || x.Stopping != nil && x.Stopping.Load()
	return x.Last
}

// EditAnswer adds to Edits; ok is false where there would be too many.
func (x *Exchange) EditAnswer(list []http1.Edit) (ok bool) {
	x.Edits = append(x.Edits, list)
	n := 0
	for _, list := range x.Edits {
		n += len(list)
	}
	return n <= http1.MaxEdits
}

// Answerer is the client's side of an exchange that is not an HTTP/1.1
// connection: a stream of HTTP/2. All but Watch are for the goroutine of the
// exchange; what they are given is used up when they return.
type Answerer interface {
	// Interim passes an interim answer on.
	Interim(res *http1.Response)
	// Begin begins the answer; its head may wait for content.
	Begin(res *http1.Response)
	// Write sends content, which may wait for Flush.
	Write(p []byte) (int, error)
	// Flush sends what is there, the head at least.
	Flush() error
	// End ends the content; t nil: no trailers.
	End(t *http1.Trailers)
	// Watch calls gone when the client has left, until stop is called, which
	// waits for it.
	Watch(gone func()) (stop func())
}
