package entrypoint

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/wire"
)

// Addresses bounds how many connections one client address may have open, by any
// protocol, at the servers that share it; of IPv6, where a customer has a /64,
// all its addresses are one. nil bounds nothing.
type Addresses struct {
	most   int
	exempt []netip.Prefix
	shards [16]addressShard

	lastLog atomic.Int64 // when it was last told of, in the time of wire.Now
	untold  atomic.Int64 // refused since
}

type addressShard struct {
	mu   sync.Mutex
	open map[netip.Addr]int
}

// NewAddresses makes a bound of most connections; 0: nil. Those that carry many
// clients (exempt) may open any number.
func NewAddresses(most int, exempt ...netip.Prefix) *Addresses {
	if most <= 0 {
		return nil
	}
	return &Addresses{most: most, exempt: exempt}
}

// addressOf gives what an address is counted under; not valid: it is not
// counted.
func (a *Addresses) addressOf(client net.Addr) netip.Addr {
	var ip netip.Addr
	switch c := client.(type) {
	case *net.TCPAddr:
		ip = c.AddrPort().Addr()
	case *net.UDPAddr:
		ip = c.AddrPort().Addr()
	}
	ip = ip.Unmap().WithZone("")
	if slices.ContainsFunc(a.exempt, func(p netip.Prefix) bool { return p.Contains(ip) }) {
		return netip.Addr{}
	}
	if ip.Is6() {
		p, _ := ip.Prefix(64)
		return p.Addr()
	}
	return ip
}

// take counts a connection in, under the address it gives, which is to be given
// back. ok is false where the client has all it may.
func (a *Addresses) take(client net.Addr) (counted netip.Addr, ok bool) {
	if a == nil {
		return counted, true
	}
	if counted = a.addressOf(client); !counted.IsValid() {
		return counted, true
	}
	s := a.shard(counted)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[counted] >= a.most {
		return netip.Addr{}, false
	}
	if s.open == nil {
		s.open = make(map[netip.Addr]int)
	}
	s.open[counted]++
	return counted, true
}

// giveBack counts a connection out.
func (a *Addresses) giveBack(counted netip.Addr) {
	if !counted.IsValid() {
		return
	}
	s := a.shard(counted)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[counted]--; s.open[counted] <= 0 {
		delete(s.open, counted)
	}
}

// crowded tells whether a client has half of what it may: one that only says it
// has that address must not take the rest.
func (a *Addresses) crowded(client net.Addr) bool {
	if a == nil {
		return false
	}
	counted := a.addressOf(client)
	s := a.shard(counted)
	s.mu.Lock()
	defer s.mu.Unlock()
	return 2*s.open[counted] >= a.most
}

func (a *Addresses) shard(addr netip.Addr) *addressShard {
	sum := byte(0)
	for _, b := range addr.As16() {
		sum = sum*31 + b
	}
	return &a.shards[int(sum)%len(a.shards)]
}

// crowd notes a client that was refused, and tells of it once a minute.
func (s *Server) crowd(client net.Addr) {
	s.crowded.Add(1)
	a := s.opts.PerAddress
	n := a.untold.Add(1)
	now, last := wire.Now(), a.lastLog.Load()
	if last != 0 && now-last < int64(time.Minute) || !a.lastLog.CompareAndSwap(last, now) {
		return
	}
	a.untold.Add(-n)
	s.opts.Logger.Warn("connection refused: its client has as many as it may", "entryPoint", s.name,
		"client", a.addressOf(client).String(), "most", a.most, "refused", n, "next", time.Minute)
}

// Counts are a server's figures: connections open now, and those refused since
// it began, for want of room, by PerAddress or, in their handshake, by
// TLSOptions.Strangers.
type Counts struct{ Open, NoRoom, Crowded, Strangers int64 }

// Counts may be called from any goroutine.
func (s *Server) Counts() Counts {
	return Counts{Open: s.conns.open.Load() + s.conns.quic.Load(), NoRoom: s.noRoom.Load(), Crowded: s.crowded.Load(), Strangers: s.strangers.Load()}
}
