package entrypoint

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// stdHTTP2 serves HTTP/2 by net/http's server. It is given connections that
// have shaken hands, as if it had accepted them.
type stdHTTP2 struct {
	server *http.Server
	queue  *connQueue
}

func newStdHTTP2(opts Options, trust trust, handler http.Handler, addr net.Addr) *stdHTTP2 {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &stdHTTP2{
		queue: &connQueue{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})},
		server: &http.Server{
			Handler:      handler,
			ReadTimeout:  opts.ReadTimeout,
			WriteTimeout: opts.WriteTimeout,
			IdleTimeout:  opts.IdleTimeout,
			// net/http lets 4 KiB more through than it is told.
			MaxHeaderBytes: max(opts.MaxHeaderBytes-4096, 1),
			ConnContext: func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, peerKey{}, trust.peer(c.RemoteAddr().String()))
			},
			// What net/http has to say concerns single clients.
			ErrorLog:  slog.NewLogLogger(opts.Logger.With("entryPoint", opts.Name).Handler(), slog.LevelDebug),
			Protocols: protocols,
			HTTP2: &http.HTTP2Config{
				MaxConcurrentStreams:          100,
				MaxReceiveBufferPerConnection: 1 << 20,
				MaxReceiveBufferPerStream:     64 << 10,
				WriteByteTimeout:              opts.WriteStallTimeout,
			},
		},
	}
}

func (h *stdHTTP2) serve() {
	h.server.Serve(h.queue) //nolint:errcheck // it ends with the queue
}

func (h *stdHTTP2) shutdown(ctx context.Context) error {
	h.queue.Close()
	err := h.server.Shutdown(ctx)
	if err != nil {
		h.server.Close()
	}
	return err
}

// take hands a connection over.
func (h *stdHTTP2) take(c *tls.Conn) {
	select {
	case h.queue.conns <- c:
	case <-h.queue.closed:
		c.Close()
	}
}

// connQueue is a net.Listener of connections accepted elsewhere.
type connQueue struct {
	addr   net.Addr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

// Accept gives the next connection.
func (q *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *connQueue) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// Addr is the entry point's.
func (q *connQueue) Addr() net.Addr { return q.addr }
