package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// bind binds the address, unless that was done by others.
func (o Options) bind() (*net.TCPListener, error) {
	if o.Socket != nil {
		callOn(o.Socket) // who had it before may have been killed at the end
		return o.Socket, nil
	}
	// Keep-alive probes of TCP would cost four system calls a connection; the
	// idle deadline does their work.
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false) // such sockets take no filter (callOff)
	socket, err := lc.Listen(context.Background(), "tcp", o.Address)
	if err != nil {
		return nil, bindError(o.Name, o.Address, err)
	}
	return socket.(*net.TCPListener), nil
}

// File is the socket, for a process that is to take it over; the caller closes
// it.
func (s *Server) File() (*os.File, error) { return s.tcp.File() }

// bindError says what was asked and what a person can do about it.
func bindError(name, address string, err error) error {
	hint := ""
	var addrErr *net.AddrError
	var dnsErr *net.DNSError
	switch {
	case errors.Is(err, os.ErrPermission):
		hint = "; ports below 1024 need a privilege: run `setcap cap_net_bind_service=+ep` on the binary, " +
			"set sysctl net.ipv4.ip_unprivileged_port_start, or choose a higher port"
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "; stop the process that has it (`ss -ltnp` names it) or choose another port"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "; no interface of this machine has that address"
	case errors.As(err, &addrErr), errors.As(err, &dnsErr):
		hint = `; an address is host:port, such as ":80" or "127.0.0.1:8000"`
	}
	// The operation error repeats the address; its cause is enough.
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	return fmt.Errorf("bind entry point %s to %q: %w%s", name, address, err, hint)
}

// Name is the entry point's, from the configuration.
func (s *Server) Name() string { return s.name }
