package h3

import (
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// socket is the UDP socket as quic-go reads it. While a process and its successor
// both serve on it only the older one reads: what it finds that is not for a
// connection of its own it passes on, over a pair of local sockets. Both write.
type socket struct {
	*net.UDPConn
	batches *ipv4.PacketConn
	ids     connectionIDs
	to      atomic.Pointer[net.UnixConn] // the successor; nil: everything is ours
	from    atomic.Pointer[net.UnixConn] // the predecessor; nil: we read
	room    []byte                       // of the reading goroutine
}

func newSocket(udp *net.UDPConn, from *net.UnixConn) *socket {
	s := &socket{UDPConn: udp, batches: ipv4.NewPacketConn(udp), room: make([]byte, passedSize)}
	rand.Read(s.ids[:])
	if from != nil {
		s.from.Store(from)
	}
	return s
}

// connectionIDs makes connection IDs that all begin alike, so that a process
// knows its own. They tell an observer no more than the server's address does.
type connectionIDs [4]byte

const connectionIDLen = 10

// GenerateConnectionID is that of quic.ConnectionIDGenerator.
func (c *connectionIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [connectionIDLen]byte
	rand.Read(id[copy(id[:], c[:]):])
	return quic.ConnectionIDFromBytes(id[:]), nil
}

// ConnectionIDLen is that of quic.ConnectionIDGenerator.
func (c *connectionIDs) ConnectionIDLen() int { return connectionIDLen }

// ours tells whether a packet is for a connection ID that was made here (RFC
// 8999, section 5). The first packets of a new connection have one that its
// client has made up.
func (c *connectionIDs) ours(packet []byte) bool {
	id := []byte(nil)
	switch {
	case len(packet) < 1+connectionIDLen:
	case packet[0]&0x80 == 0:
		id = packet[1 : 1+connectionIDLen]
	case len(packet) >= 6+connectionIDLen && packet[5] == connectionIDLen:
		id = packet[6 : 6+connectionIDLen]
	}
	return len(id) > 0 && string(id[:len(c)]) == string(c[:])
}

// ReadBatch reads packets, as quic-go asks for them: one at least, or an error.
func (s *socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	for {
		if from := s.from.Load(); from != nil {
			n, err := from.Read(s.room)
			if err == nil {
				if unpack(s.room[:n], &ms[0]) {
					return 1, nil
				}
				continue
			}
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				return 0, err
			}
			s.from.Store(nil) // it has ended: the socket is ours alone
			from.Close()
		}
		n, err := s.batches.ReadBatch(ms, flags)
		if err != nil {
			return n, err
		}
		if n = s.keep(ms[:n]); n > 0 {
			return n, nil
		}
	}
}

// keep passes on what is the successor's and tells how many packets are left,
// which are the first. Their buffers stay where they are: quic-go knows them by
// their place.
func (s *socket) keep(ms []ipv4.Message) int {
	to := s.to.Load()
	if to == nil {
		return len(ms)
	}
	kept := 0
	for i := range ms {
		m := &ms[i]
		if !s.ids.ours(m.Buffers[0][:m.N]) {
			s.pass(to, m)
			continue
		}
		if k := &ms[kept]; k != m {
			k.N, k.NN, k.Addr = copy(k.Buffers[0], m.Buffers[0][:m.N]), copy(k.OOB, m.OOB[:m.NN]), m.Addr
		}
		kept++
	}
	return kept
}

// passedSize is more than any packet with what goes before it.
const passedSize = 4 << 10

// pass gives a packet to the successor, unless that has more than it can take:
// then the packet is lost, as any may be.
func (s *socket) pass(to *net.UnixConn, m *ipv4.Message) {
	b, ok := pack(s.room[:0], m)
	if !ok {
		return
	}
	raw, err := to.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(fd uintptr) { //nolint:errcheck // it has ended
		unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL) //nolint:errcheck // it is lost
	})
}

// pack puts the sender's address and what the kernel told of the packet before
// it: three times a length, then so much.
func pack(b []byte, m *ipv4.Message) ([]byte, bool) {
	addr, ok := m.Addr.(*net.UDPAddr)
	if !ok {
		return nil, false
	}
	b = append(b, 0, 0)
	b, err := addr.AddrPort().AppendBinary(b)
	if err != nil {
		return nil, false
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	b = append(binary.BigEndian.AppendUint16(b, uint16(m.NN)), m.OOB[:m.NN]...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(m.N)), m.Buffers[0][:m.N]...)
	return b, len(b) <= passedSize
}

// unpack undoes pack; false: it is nothing of the kind.
func unpack(b []byte, m *ipv4.Message) bool {
	next := func() []byte {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			b = nil
			return nil
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		part := b[2:n]
		b = b[n:]
		return part
	}
	var from netip.AddrPort
	if from.UnmarshalBinary(next()) != nil {
		return false
	}
	oob, packet := next(), next()
	if len(packet) == 0 || len(packet) > len(m.Buffers[0]) || len(oob) > len(m.OOB) {
		return false
	}
	m.Addr, m.NN, m.N = net.UDPAddrFromAddrPort(from), copy(m.OOB, oob), copy(m.Buffers[0], packet)
	return true
}

// SetReadDeadline ends reading, from whomever.
func (s *socket) SetReadDeadline(t time.Time) error {
	if from := s.from.Load(); from != nil {
		from.SetReadDeadline(t) //nolint:errcheck // closed is as good
	}
	return s.UDPConn.SetReadDeadline(t)
}

// Close closes all of it; a successor reads the socket from then on.
func (s *socket) Close() error {
	if from := s.from.Load(); from != nil {
		from.Close()
	}
	err := s.UDPConn.Close()
	if to := s.to.Load(); to != nil {
		to.Close()
	}
	return err
}
