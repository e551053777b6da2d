package entrypoint

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"os"
	"time"

	"gatehouse/internal/entrypoint/h3"
)

// announcement is the value of Alt-Svc, in the forms it is needed in.
type announcement struct {
	list []string
	text []byte
}

// bindHTTP3 takes the UDP port of the TCP socket's number. Where it is not to
// be had the entry point serves without, and tries again: nobody is told of
// HTTP/3 before.
func (s *Server) bindHTTP3(handler http.Handler) {
	opts := s.opts
	if !opts.HTTP3 || opts.TLS == nil {
		return
	}
	s.later = handler
	if opts.HTTP3After != nil {
		s.announceAs(h3.AltSvc(cmp.Or(opts.HTTP3Port, opts.UDPSocket.LocalAddr().(*net.UDPAddr).Port)))
		return
	}
	if err := s.takeUDP(); err != nil {
		opts.Logger.Warn("HTTP/3 is not served yet", "entryPoint", opts.Name, "err", err, "next", udpRetry)
	}
}

// takeUDP binds the UDP port, and announces it.
func (s *Server) takeUDP() error {
	udp, err := s.listenHTTP3(s.later)
	if err != nil {
		return err
	}
	s.udp.Store(udp)
	s.announceAs(udp.AltSvc(s.opts.HTTP3Port))
	return nil
}

// retryUDP tries until the port is ours or the server ends.
func (s *Server) retryUDP() (ours bool) {
	for wait := udpRetry; ; wait = min(2*wait, time.Minute) {
		select {
		case <-time.After(wait):
		case <-s.closing:
			return false
		}
		if s.takeUDP() == nil {
			s.opts.Logger.Info("HTTP/3 is served", "entryPoint", s.name, "address", s.udp.Load().Addr().String())
			return true
		}
	}
}

func (s *Server) announceAs(value string) {
	s.altSvc.Store(&announcement{[]string{value}, []byte(value)})
}

// altSvcText is the value of Alt-Svc; nothing where there is none.
func (s *Server) altSvcText() []byte {
	if a := s.altSvc.Load(); a != nil {
		return a.text
	}
	return nil
}

func (s *Server) listenHTTP3(handler http.Handler) (*h3.Server, error) {
	opts, trust := s.opts, s.gate.trust
	return h3.Listen(h3.Options{
		Name: opts.Name, Address: s.Addr().String(), Socket: opts.UDPSocket, From: opts.UDPFrom, TLS: opts.TLS, Handler: handler, Logger: opts.Logger.With("entryPoint", opts.Name),
		ConnContext: func(ctx context.Context, client net.Addr) context.Context {
			return context.WithValue(ctx, peerKey{}, trust.peer(client.String()))
		},
		BaseContext: func(ctx context.Context) context.Context {
			if opts.HostTLS != nil {
				ctx, _ = withTLSChoice(ctx)
			}
			return context.WithValue(ctx, newcomerKey{}, &newcomer{server: s})
		},
		HeadTimeout: opts.ReadHeaderTimeout, IdleTimeout: opts.IdleTimeout, ReadTimeout: opts.ReadTimeout,
		WriteTimeout: opts.WriteTimeout, StallTimeout: opts.WriteStallTimeout,
		MaxHeaderBytes: opts.MaxHeaderBytes, Admit: s.admitQUIC, Verify: opts.PerAddress.crowded,
	})
}

// admitQUIC counts a connection of HTTP/3 in, if there is room.
func (s *Server) admitQUIC(client net.Addr) (leave func(), ok bool) {
	counted, ok := s.opts.PerAddress.take(client)
	if !ok {
		s.crowd(client)
		return nil, false
	}
	if !s.room(s.conns.admitQUIC) {
		s.opts.PerAddress.giveBack(counted)
		return nil, false
	}
	return func() {
		s.conns.dismissQUIC()
		s.opts.PerAddress.giveBack(counted)
	}, true
}

// announce tells clients who came by TCP of HTTP/3. The origin's own
// announcement, if any, replaces ours or stands beside it.
func (s *Server) announce(next http.Handler) http.Handler {
	if s.later == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := s.altSvc.Load(); a != nil {
			w.Header()["Alt-Svc"] = a.list
		}
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
		switch {
		case udp != nil:
		case s.opts.HTTP3After != nil:
			select {
			case <-s.opts.HTTP3After:
			case <-s.closing:
				s.opts.UDPSocket.Close()
				return
			}
			err = s.takeUDP()
		case !s.retryUDP():
			return
		}
		if udp = s.udp.Load(); err == nil && s.draining.Load() { // nobody may have seen it to drain it
			udp.Shutdown(canceled()) //nolint:errcheck // nobody is served yet
			return
		}
		if err == nil {
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

// PassUDP has packets of HTTP/3 that are for no connection of ours go to the
// process that takes over. It is called before Retire, which closes to.
func (s *Server) PassUDP(to *net.UnixConn) {
	if udp := s.udp.Load(); udp != nil {
		udp.PassOn(to)
		return
	}
	to.Close()
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

// canceled is a context that is over.
func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}
