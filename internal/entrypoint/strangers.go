package entrypoint

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"gatehouse/internal/wire"
)

// Bounds of handshakes for names nobody knows. The processors they get are a
// share; the queue for them is what one of today does in strangerWait.
const (
	strangerShare = 4    // of so many processors, one
	strangerQueue = 256  // wait, for each of those
	strangerAgain = 2    // times as many, with those who were let in before
	alertFatal    = 2    // RFC 8446, section 6
	alertUnknown  = 112  // unrecognized_name: RFC 6066, section 3
	recordAlert   = 21   // RFC 8446, section 5.1
	recordVersion = 0x03 // and 1, as long as none is agreed on

	strangerWait = 250 * time.Millisecond
	// quicTurn is how long a handshake of HTTP/3 counts: when its work is done
	// cannot be seen.
	quicTurn = time.Millisecond
)

// StrangersOptions make Strangers.
type StrangersOptions struct {
	// Knows tells whether a server name, or the address where there is none, is
	// one that is served. It is called in every handshake, from any goroutine.
	Knows func(*tls.ClientHelloInfo) bool
	// Strict refuses all others at once.
	Strict bool
	// Processors is how many there are; 0: GOMAXPROCS.
	Processors int
}

// Strangers bounds what handshakes cost whose server name nobody knows, in the
// whole process: they take turns at a quarter of the processors, before any
// key is computed. The turn is held while there is work, not while the client
// is waited for. Who finds the queue too long is refused with
// unrecognized_name. Handshakes for known names take no notice of it. Its
// methods may be called from any goroutine.
type Strangers struct {
	o       StrangersOptions
	turns   chan struct{} // one in it for each handshake at work
	waiting atomic.Int64

	untold  atomic.Int64 // refused since the log last told
	lastLog atomic.Int64 // in the time of wire.Now
}

// NewStrangers makes one for all entry points.
func NewStrangers(o StrangersOptions) *Strangers {
	if o.Processors <= 0 {
		o.Processors = runtime.GOMAXPROCS(0)
	}
	return &Strangers{o: o, turns: make(chan struct{}, max(1, o.Processors/strangerShare))}
}

// errStranger ends a handshake. HTTP/3 reads the alert out of it.
var errStranger = fmt.Errorf("nobody knows the server name: %w", tls.AlertError(alertUnknown))

// errStrangers ends a handshake that was let in, and came back to a queue that
// is full.
var errStrangers = errors.New("too many handshakes for unknown names")

// newcomer is what is known of a client in its handshake, beside what it says.
type newcomer struct {
	server *Server
	conn   *conn  // nil: HTTP/3
	place  *place // nil: it needs none
}

type newcomerKey struct{}

// trusted: the client carries many others, such as a load balancer's checks,
// which ask for no name.
func (n *newcomer) trusted() bool {
	if n.conn == nil {
		return false
	}
	addr, err := netip.ParseAddr(n.conn.peer.ip)
	holds := func(p netip.Prefix) bool { return p.Contains(addr) }
	o := &n.server.opts
	return err == nil && (slices.ContainsFunc(o.ForwardedTrusted, holds) || slices.ContainsFunc(o.ProxyTrusted, holds))
}

// leave ends the handshake's part in Strangers.
func (n *newcomer) leave() {
	if n.place != nil {
		n.conn.Pace(nil)
		n.place.Rest()
	}
}

// admit lets a handshake go on, perhaps after a wait, or refuses it.
func (s *Strangers) admit(hello *tls.ClientHelloInfo) error {
	if s.o.Knows(hello) {
		return nil
	}
	n, _ := hello.Context().Value(newcomerKey{}).(*newcomer)
	switch {
	case n == nil:
		return errStranger
	case s.o.Strict:
		s.refuse(n, hello)
		return errStranger
	case n.trusted():
		return nil
	case !s.enter(strangerQueue, strangerWait):
		s.refuse(n, hello)
		return errStranger
	case n.conn == nil:
		time.AfterFunc(quicTurn, func() { <-s.turns })
	default:
		n.place = &place{strangers: s, held: true}
		n.conn.Pace(n.place)
	}
	return nil
}

// atSight refuses a client whose first message shows that it would be, and
// leaves the others as they are. Without crypto/tls that costs half as much.
func (s *Strangers) atSight(n *newcomer) (refused bool) {
	if s == nil || !s.o.Strict && (len(s.turns) < cap(s.turns) || s.waiting.Load() < int64(strangerQueue*cap(s.turns))) {
		return false
	}
	b, err := n.conn.Look()
	if err != nil {
		return false // the handshake finds the same
	}
	defer wire.Free(b)
	name, ok := serverName(b)
	if !ok || n.server.opts.HostTLS.has(name) {
		return false
	}
	hello := &tls.ClientHelloInfo{ServerName: name, Conn: &n.conn.Sock}
	if s.o.Knows(hello) || !s.o.Strict && n.trusted() {
		return false
	}
	n.conn.Peek(b) //nolint:errcheck // what is left unread resets the connection, and the client sees no alert
	s.refuse(n, hello)
	return true
}

// enter takes a turn, unless so many wait already, for each that may work.
func (s *Strangers) enter(most int, wait time.Duration) bool {
	select {
	case s.turns <- struct{}{}:
		return true
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > int64(most*cap(s.turns)) {
		return false
	}
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case s.turns <- struct{}{}:
		return true
	case <-late.C:
		return false
	}
}

// place is one handshake's part: it works, or waits for its client. It belongs
// to the goroutine of the handshake.
type place struct {
	strangers *Strangers
	held      bool
}

// Rest gives the turn to others.
func (p *place) Rest() {
	if p.held {
		p.held = false
		<-p.strangers.turns
	}
}

// Resume takes a turn again. There is room for those who were let in once.
func (p *place) Resume() error {
	if !p.held && !p.strangers.enter(strangerAgain*strangerQueue, strangerAgain*strangerWait) {
		return errStrangers
	}
	p.held = true
	return nil
}

// refuse tells the client, and closes its connection: crypto/tls would say
// internal_error. It tells of that once a minute, unless it is what is wanted.
func (s *Strangers) refuse(n *newcomer, hello *tls.ClientHelloInfo) {
	n.server.strangers.Add(1)
	if n.conn != nil {
		n.conn.Farewell([]byte{recordAlert, recordVersion, 1, 0, 2, alertFatal, alertUnknown})
	}
	if s.o.Strict {
		return
	}
	refused := s.untold.Add(1)
	now, last := wire.Now(), s.lastLog.Load()
	if last != 0 && now-last < int64(time.Minute) || !s.lastLog.CompareAndSwap(last, now) {
		return
	}
	s.untold.Add(-refused)
	n.server.opts.Logger.Warn("TLS handshake refused: too many at once are for names that are not served", "entryPoint", n.server.name,
		"serverName", hello.ServerName, "refused", refused, "atOnce", cap(s.turns), "next", time.Minute)
}
