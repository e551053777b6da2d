package entrypoint

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"os"

	"gatehouse/internal/entrypoint/h3"
)

// bindHTTP3 takes the UDP port of the TCP socket's number. Where it is not to
// be had the entry point goes on without: nobody is told of HTTP/3 then.
func (s *Server) bindHTTP3(handler http.Handler) {
	opts := s.opts
	if !opts.HTTP3 || opts.TLS == nil {
		return
	}
	value := ""
	if opts.HTTP3After != nil {
		s.later = handler
		value = h3.AltSvc(cmp.Or(opts.HTTP3Port, opts.UDPSocket.LocalAddr().(*net.UDPAddr).Port))
	} else {
		udp, err := s.listenHTTP3(handler)
		if err != nil {
			opts.Logger.Warn("HTTP/3 is not served", "entryPoint", opts.Name, "err", err)
			return
		}
		s.udp.Store(udp)
		value = udp.AltSvc(opts.HTTP3Port)
	}
	s.altSvc, s.altSvcText = []string{value}, []byte(value)
}

func (s *Server) listenHTTP3(handler http.Handler) (*h3.Server, error) {
	opts, trust := s.opts, s.gate.trust
	return h3.Listen(h3.Options{
		Name: opts.Name, Address: s.Addr().String(), Socket: opts.UDPSocket, TLS: opts.TLS, Handler: handler, Logger: opts.Logger.With("entryPoint", opts.Name),
		ConnContext: func(ctx context.Context, client net.Addr) context.Context {
			return context.WithValue(ctx, peerKey{}, trust.peer(client.String()))
		},
		HeadTimeout: opts.ReadHeaderTimeout, IdleTimeout: opts.IdleTimeout, ReadTimeout: opts.ReadTimeout,
		WriteTimeout: opts.WriteTimeout, StallTimeout: opts.WriteStallTimeout,
		MaxHeaderBytes: opts.MaxHeaderBytes, MaxConnections: opts.MaxConnections,
	})
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
	udp := s.udp.Load()
	if udp == nil && s.later == nil {
		return
	}
	go func() {
		var err error
		if udp == nil {
			select {
			case <-s.opts.HTTP3After:
			case <-s.closing:
				s.opts.UDPSocket.Close()
				return
			}
			if udp, err = s.listenHTTP3(s.later); err == nil {
				s.udp.Store(udp)
			}
		}
		if err == nil && !s.closed.Load() {
			err = udp.Serve()
		}
		if err != nil {
			s.opts.Logger.Error("HTTP/3 is no longer served", "entryPoint", s.name, "err", err)
		}
	}()
}

// UDPFile is the socket of HTTP/3, for a process that is to take it over; nil
// where there is none. The caller closes it.
func (s *Server) UDPFile() (*os.File, error) {
	if udp := s.udp.Load(); udp != nil {
		return udp.File()
	}
	return nil, nil
}

// drainHTTP3 begins to drain; the function it gives waits for the end.
func (s *Server) drainHTTP3(ctx context.Context) (wait func() error) {
	udp := s.udp.Load()
	if udp == nil {
		return func() error { return nil }
	}
	end := make(chan error, 1)
	go func() { end <- udp.Shutdown(ctx) }()
	return func() error { return <-end }
}
