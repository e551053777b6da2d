package entrypoint

import (
	"net"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// callOff has the kernel begin no more connections on a socket that is about to
// be closed, so that all it has let in can still be accepted: whoever waits in
// the queue when a socket is closed is reset. A client whose SYN is dropped asks
// again a second later and is told that nobody listens; one that is refused at
// once goes elsewhere at once, so this is for the last moment only.
func callOff(socket *net.TCPListener) {
	const flags, syn = 13, 0x02 // in the TCP header, where the filter begins
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: flags, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: syn, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		panic("entrypoint: filter of constants: " + err.Error())
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // without it a few clients have to connect anew
		unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, //nolint:errcheck // the same
			&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
}

// callOn undoes callOff. A filter belongs to the socket, not to our descriptor of
// it: it would stay for who else holds the socket (systemd, a successor).
func callOn(socket *net.TCPListener) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // it is closed
		unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) //nolint:errcheck // there may be none
	})
}

// closeSocket closes the socket. One that others may hold too is left to them as
// it was; the moment in between is short, if it is ours alone.
func (s *Server) closeSocket() {
	if s.opts.Socket != nil {
		callOn(s.tcp)
	}
	s.socket.Close()
}

// anybodyWaits tells whether a connection could be accepted at once.
func anybodyWaits(socket *net.TCPListener) (yes bool) {
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		list := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(list, 0)
		yes = err == nil && n == 1 && list[0].Revents == unix.POLLIN
	})
	return yes && err == nil
}
