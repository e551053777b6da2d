package wire

import (
	"io"
	"time"

	"gatehouse/internal/http1"
)

// Exchange is one request on its plain way: a parsed head that nobody needs as
// an http.Request, handed from the entry point through the proxy to a server,
// and the answer written back, all on the goroutine of the client's connection.
// It belongs to that goroutine and is over when the call returns.
type Exchange struct {
	// Set by the entry point.
	Conn    *Conn
	Req     *http1.Request
	Client  *http1.Client
	Remote  string    // address of the peer, "ip:port"
	Body    io.Reader // content of the request's body; nil: none. Its errors are the client's fault
	KeepOdd bool
	Date    []byte // now, as the value of Date
	AltSvc  []byte // value of Alt-Svc; nothing: not to be told
	Last    bool   // the connection ends after this answer; may be set by others

	// Trailers of the request, once Body has ended; nil: none.
	Trailers func() *http1.Trailers

	// Behind is what the client sent behind the head, where there is no body;
	// Tunnel is called before it is read from for an upgraded connection.
	Behind []byte
	Tunnel func()

	// Told by those who served it, for logs; the strings outlive the exchange.
	Continued bool  // "100 Continue" was sent
	Status    int   // of the final answer; 0: none was sent
	Sent      int64 // bytes of the answer's content
	Broken    bool  // the answer was cut off, or the connection taken over: it must be closed
	Router    string
	Service   string
	Server    string
	Retries   int
	Upstream  time.Duration
}
