// Package handover owns how listening sockets come to this process and go on to
// the one that replaces it: socket activation by systemd, and an upgrade in
// which a new process takes the sockets over while the old one drains. It knows
// sockets by name, not what is served on them.
//
// Both ways use systemd's protocol (sd_listen_fds(3)): sockets from descriptor
// 3 on, LISTEN_FDS their number, LISTEN_FDNAMES their names. systemd says by
// LISTEN_PID who is meant; a predecessor, who cannot know our number before we
// says its own in GATEHOUSE_PREDECESSOR, and in GATEHOUSE_PACKETS which sockets
// come with one over which it passes datagrams on while it drains.
package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// The variables by which processes talk at a start.
const (
	envCount       = "LISTEN_FDS"
	envPID         = "LISTEN_PID"
	envNames       = "LISTEN_FDNAMES"
	envPredecessor = "GATEHOUSE_PREDECESSOR"
	envPackets     = "GATEHOUSE_PACKETS"
	envNotify      = "NOTIFY_SOCKET"
)

const firstFD = 3

// Inherited is what this process was started with. Its methods may be called
// from any goroutine.
type Inherited struct {
	upgrade bool          // there was a predecessor
	drained chan struct{} // closed when it has nothing more under way
	notify  string        // systemd's socket for news; "": none

	mu      sync.Mutex
	sockets []*socket
	report  *os.File // where a predecessor waits for news; nil: it has them
}

type socket struct {
	name  string
	file  *os.File
	tcp   bool
	bound net.Addr
	// packets is where a predecessor passes on datagrams; nil: nowhere.
	packets *os.File
}

// Take finds what the process was started with and removes the traces from the
// environment. It is called once, before anything else opens files.
func Take() (*Inherited, error) {
	in := &Inherited{notify: os.Getenv(envNotify)}
	count, pid, names, predecessor := os.Getenv(envCount), os.Getenv(envPID), os.Getenv(envNames), os.Getenv(envPredecessor)
	packets := os.Getenv(envPackets)
	for _, name := range []string{envCount, envPID, envNames, envPredecessor, envPackets} {
		os.Unsetenv(name) //nolint:errcheck // the names are well formed
	}
	in.upgrade = predecessor != "" && predecessor == strconv.Itoa(os.Getppid())
	if count == "" || !in.upgrade && pid != strconv.Itoa(os.Getpid()) {
		return in, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > 1024 {
		return in, fmt.Errorf("take over sockets: %s=%q is no number of sockets", envCount, count)
	}
	after := firstFD + n
	for fd := firstFD; fd < after; fd++ {
		unix.CloseOnExec(fd)
	}
	if in.upgrade {
		unix.CloseOnExec(after)
		unix.CloseOnExec(after + 1)
		in.report, in.drained = os.NewFile(uintptr(after), "report"), make(chan struct{})
		alive := os.NewFile(uintptr(after+1), "predecessor")
		go func() {
			alive.Read(make([]byte, 1)) //nolint:errcheck // any end is the end
			alive.Close()
			close(in.drained)
		}()
	}
	list := strings.Split(names, ":")
	for i := range n {
		name := ""
		if i < len(list) {
			name = list[i]
		}
		s, err := takeSocket(firstFD+i, name)
		if err != nil {
			return in, err
		}
		in.sockets = append(in.sockets, s)
	}
	if in.upgrade {
		in.takePackets(after+2, packets)
	}
	return in, nil
}

// takePackets takes the sockets that begin with descriptor fd, and belong to
// those whose numbers are in list.
func (in *Inherited) takePackets(fd int, list string) {
	for of := range strings.SplitSeq(list, ":") {
		i, err := strconv.Atoi(of)
		if err != nil || i < 0 || i >= len(in.sockets) || in.sockets[i].packets != nil {
			return
		}
		unix.CloseOnExec(fd)
		in.sockets[i].packets = os.NewFile(uintptr(fd), in.sockets[i].name)
		fd++
	}
}

func takeSocket(fd int, name string) (*socket, error) {
	fail := func(err error) error {
		return fmt.Errorf("take over socket %q (descriptor %d): %w", name, fd, err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fail(err)
	}
	file := os.NewFile(uintptr(fd), name)
	s := &socket{name: name, file: file, tcp: kind == unix.SOCK_STREAM}
	if s.tcp {
		if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
			return nil, fail(errors.New("nobody can connect to it: for a systemd socket unit Accept=no is needed"))
		}
	} else if kind != unix.SOCK_DGRAM {
		return nil, fail(errors.New("it is neither TCP nor UDP"))
	}
	if s.bound, err = boundTo(fd, s.tcp); err != nil {
		return nil, fail(err)
	}
	return s, nil
}

func boundTo(fd int, tcp bool) (net.Addr, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, err
	}
	var ip net.IP
	var port int
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		ip, port = sa.Addr[:], sa.Port
	case *unix.SockaddrInet6:
		ip, port = sa.Addr[:], sa.Port
	default:
		return nil, errors.New("it is no IP socket")
	}
	if tcp {
		return &net.TCPAddr{IP: ip, Port: port}, nil
	}
	return &net.UDPAddr{IP: ip, Port: port}, nil
}

// TCP gives the listening socket of a name; nil: there is none, or a
// predecessor had the name bound to another address. What systemd has bound
// holds, whatever address is asked for.
func (in *Inherited) TCP(name, address string) (*net.TCPListener, error) {
	s := in.find(name, address, true)
	if s == nil {
		return nil, nil
	}
	l, err := net.FileListener(s.file)
	s.file.Close()
	if err != nil {
		return nil, fmt.Errorf("take over socket %q (%v): %w", name, s.bound, err)
	}
	return l.(*net.TCPListener), nil
}

// UDP is TCP for datagrams. packets is where a predecessor, who reads the socket
// until it closes that, passes on what is not its own; nil: it passes nothing on.
func (in *Inherited) UDP(name, address string) (socket *net.UDPConn, packets *net.UnixConn, err error) {
	s := in.find(name, address, false)
	if s == nil {
		return nil, nil, nil
	}
	c, err := net.FilePacketConn(s.file)
	s.file.Close()
	if err == nil && s.packets != nil {
		var p net.Conn
		if p, err = net.FileConn(s.packets); err == nil {
			packets = p.(*net.UnixConn)
		}
		s.packets.Close()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("take over socket %q (%v): %w", name, s.bound, err)
	}
	return c.(*net.UDPConn), packets, nil
}

// Packets makes a pair of sockets: what is written to ours the successor reads
// from theirs, packet by packet.
func Packets() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "packets")
	theirs = os.NewFile(uintptr(fds[1]), "packets")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("make a pair of sockets: %w", err)
	}
	return c.(*net.UnixConn), theirs, nil
}

func (in *Inherited) find(name, address string, tcp bool) *socket {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for i, s := range in.sockets {
		if s.name == name && s.tcp == tcp && (!in.upgrade || s.serves(address)) {
			in.sockets = append(in.sockets[:i:i], in.sockets[i+1:]...)
			return s
		}
	}
	return nil
}

// serves tells whether the socket is bound to the address that is asked for.
func (s *socket) serves(address string) bool {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return false
	}
	var ip net.IP
	var port int
	switch a := s.bound.(type) {
	case *net.TCPAddr:
		ip, port = a.IP, a.Port
	case *net.UDPAddr:
		ip, port = a.IP, a.Port
	}
	every := want.IP == nil || want.IP.IsUnspecified()
	return (want.Port == port || want.Port == 0) && (every && ip.IsUnspecified() || ip.Equal(want.IP))
}

// Rest closes the sockets nobody asked for and names them.
func (in *Inherited) Rest() []string {
	if in == nil {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	var list []string
	for _, s := range in.sockets {
		list = append(list, fmt.Sprintf("%s %s (%s)", s.name, s.bound, s.bound.Network()))
		s.file.Close()
		if s.packets != nil {
			s.packets.Close()
		}
	}
	in.sockets = nil
	return list
}

// Upgrade tells whether a predecessor served until Ready.
func (in *Inherited) Upgrade() bool { return in != nil && in.upgrade }

// Predecessor tells whether the process before this one still drains.
func (in *Inherited) Predecessor() bool {
	select {
	case <-in.Alone():
		return false
	default:
		return true
	}
}

// Alone is closed once the predecessor has nothing more under way; at once
// where there was none.
func (in *Inherited) Alone() <-chan struct{} {
	if in == nil || in.drained == nil {
		none := make(chan struct{})
		close(none)
		return none
	}
	return in.drained
}

// Ready tells a predecessor, or systemd, that this process serves.
func (in *Inherited) Ready() error {
	if in == nil {
		return nil
	}
	err := in.Notify(fmt.Sprintf("READY=1\nMAINPID=%d", os.Getpid()))
	return errors.Join(err, in.tell(readyWord))
}

// Fail tells a predecessor why this process will not serve.
func (in *Inherited) Fail(why error) error {
	if in == nil {
		return nil
	}
	return in.tell(why.Error())
}

const readyWord = "ready"

func (in *Inherited) tell(word string) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.report == nil {
		return nil
	}
	_, err := io.WriteString(in.report, word)
	err = errors.Join(err, in.report.Close())
	in.report = nil
	if err != nil {
		return fmt.Errorf("tell the predecessor: %w", err)
	}
	return nil
}

// Notify tells systemd of a state (sd_notify(3)); without systemd it does
// nothing.
func (in *Inherited) Notify(state string) error {
	if in == nil || in.notify == "" {
		return nil
	}
	name := in.notify
	if name[0] == '@' {
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		_, err = io.WriteString(c, state)
		c.Close()
	}
	if err != nil {
		return fmt.Errorf("tell systemd %q: %w", state, err)
	}
	return nil
}
