package entrypoint

import (
	"context"
	"net"
	"net/http"

	"gatehouse/internal/entrypoint/h3"
)

// bindHTTP3 takes the UDP port of the TCP socket's number. Where it is not to
// be had the entry point goes on without: nobody is told of HTTP/3 then.
func (s *Server) bindHTTP3(handler http.Handler) {
	opts, trust := s.opts, s.gate.trust
	if !opts.HTTP3 || opts.TLS == nil {
		return
	}
	udp, err := h3.Listen(h3.Options{
		Name: opts.Name, Address: s.Addr().String(), TLS: opts.TLS, Handler: handler, Logger: opts.Logger.With("entryPoint", opts.Name),
		ConnContext: func(ctx context.Context, client net.Addr) context.Context {
			return context.WithValue(ctx, peerKey{}, trust.peer(client.String()))
		},
		HeadTimeout: opts.ReadHeaderTimeout, IdleTimeout: opts.IdleTimeout, ReadTimeout: opts.ReadTimeout,
		WriteTimeout: opts.WriteTimeout, StallTimeout: opts.WriteStallTimeout,
		MaxHeaderBytes: opts.MaxHeaderBytes, MaxConnections: opts.MaxConnections,
	})
	if err != nil {
		opts.Logger.Warn("HTTP/3 is not served", "entryPoint", opts.Name, "err", err)
		return
	}
	value := udp.AltSvc(opts.HTTP3Port)
	s.udp, s.altSvc, s.altSvcText = udp, []string{value}, []byte(value)
}

// announce tells clients who came by TCP of HTTP/3. The origin's own
// announcement, if any, replaces ours or stands beside it.
func (s *Server) announce(next http.Handler) http.Handler {
	if s.altSvc == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Alt-Svc"] = s.altSvc
		next.ServeHTTP(w, r)
	})
}

// serveHTTP3 serves in the background.
func (s *Server) serveHTTP3() {
	if s.udp == nil {
		return
	}
	go func() {
		if err := s.udp.Serve(); err != nil {
			s.opts.Logger.Error("HTTP/3 is no longer served", "entryPoint", s.name, "err", err)
		}
	}()
}

// drainHTTP3 begins to drain; the function it gives waits for the end.
func (s *Server) drainHTTP3(ctx context.Context) (wait func() error) {
	if s.udp == nil {
		return func() error { return nil }
	}
	end := make(chan error, 1)
	go func() { end <- s.udp.Shutdown(ctx) }()
	return func() error { return <-end }
}
