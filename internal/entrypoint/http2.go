package entrypoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"gatehouse/internal/entrypoint/h2"
	"gatehouse/internal/wire"
)

// forEver stands for no limit where 0 would mean a default.
const forEver = 100 * 365 * 24 * time.Hour

// newHTTP2 gives the server of HTTP/2; handler is for tunnels.
func newHTTP2(s *Server, handler http.Handler) *h2.Server {
	opts := s.opts
	limit := func(d time.Duration) time.Duration {
		if d <= 0 {
			return forEver
		}
		return d
	}
	if opts.ReadTimeout > 0 || opts.WriteTimeout > 0 {
		handler = timed(opts, handler)
	}
	return h2.New(h2.Options{
		Handler: handler, Serve: s.serveStream, AltSvc: s.altSvcText, Logger: opts.Logger.With("entryPoint", opts.Name),
		MaxHeaderBytes: opts.MaxHeaderBytes, ReadHeaderTimeout: limit(opts.ReadHeaderTimeout),
		IdleTimeout: limit(opts.IdleTimeout), WriteStallTimeout: limit(opts.WriteStallTimeout),
	})
}

// timed bounds each request as a whole.
func timed(opts Options, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control, now := http.NewResponseController(w), time.Now()
		if opts.ReadTimeout > 0 {
			control.SetReadDeadline(now.Add(opts.ReadTimeout)) //nolint:errcheck // h2 knows deadlines
		}
		if opts.WriteTimeout > 0 {
			control.SetWriteDeadline(now.Add(opts.WriteTimeout)) //nolint:errcheck // as above
		}
		next.ServeHTTP(w, r)
	})
}

// serveHTTP2 is the life of an HTTP/2 connection; read has been read already.
func (c *conn) serveHTTP2(read []byte) {
	c.ReadBy(0)
	c.server.conns.part(c, connHTTP2)
	var nc net.Conn = &c.Sock
	if c.TLS() != nil {
		nc = c.TLS()
	}
	ctx := context.WithValue(context.WithValue(context.Background(), peerKey{}, c.peer), connKey{}, c)
	if c.choice != nil {
		ctx = context.WithValue(ctx, tlsChoiceKey{}, c.choice) // for tunnels
	}
	c.server.h2.ServeConn(ctx, nc, read)
}

// alpn gives what a handshake has agreed on.
func alpn(c *tls.Conn) string { return c.ConnectionState().NegotiatedProtocol }

// maybeHTTP2 looks at a plain connection's first bytes: one that begins with
// the preface of HTTP/2 is served by it to its end. It gives the bytes of any
// other.
func (c *conn) maybeHTTP2(b []byte) []byte {
	for {
		n := min(len(b), len(http2.ClientPreface))
		switch {
		case string(b[:n]) != http2.ClientPreface[:n]:
			return b
		case n == len(http2.ClientPreface):
			read := bytes.Clone(b)
			wire.Free(b)
			c.serveHTTP2(read)
			return nil
		}
		m, err := c.Read(b[len(b):cap(b)])
		if b = b[:len(b)+m]; err != nil {
			wire.Free(b)
			return nil
		}
	}
}
