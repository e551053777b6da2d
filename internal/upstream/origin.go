package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/wire"
)

// origin is a server as HTTP/1.1 reaches it: an address and the connections to
// it that wait for the next request, the last used first. All methods may be
// called from any goroutine.
type origin struct {
	address  string
	refs     int         // servers of pools in use; under transport.mu
	client   *tls.Config // nil: plain
	dialer   *net.Dialer
	idleTime time.Duration
	maxIdle  int64
	answer   time.Duration // for an answer's head

	protocol atomic.Int32 // what TLS agreed on
	closed   atomic.Bool
	idle     atomic.Int64
	sweeping atomic.Bool
	shards   atomic.Pointer[shards] // nil: nothing was idle yet
}

// What an origin speaks.
const (
	speaksUnknown int32 = iota // TLS has not yet agreed on anything
	speaksHTTP1
	speaksHTTP2 // not for us
)

// originShards spreads the lock; a power of two.
const originShards = 8

// shards are made when they are first wanted: most of many servers wait for
// their first request.
type shards [originShards]shard

type shard struct {
	mu    sync.Mutex
	links []*link
	_     [32]byte // so that neighbours share no cache line
}

// link is one connection to an origin, used by one exchange at a time.
type link struct {
	wire.Conn
	origin  *origin
	since   int64 // when it became idle
	reused  bool
	scratch [1]byte
}

// errHTTP2 is given by dial where the server speaks HTTP/2.
var errHTTP2 = errors.New("the server chose HTTP/2")

func newOrigin(opts Options, dialer *net.Dialer, address string) *origin {
	o := &origin{
		address:  address,
		dialer:   dialer,
		idleTime: cmp.Or(opts.IdleTimeout, 90*time.Second),
		maxIdle:  int64(cmp.Or(opts.MaxIdle, 256)),
		answer:   cmp.Or(opts.AnswerTimeout, 60*time.Second),
	}
	o.protocol.Store(speaksHTTP1)
	return o
}

// secure makes the origin be reached by TLS.
func (o *origin) secure(config *tls.Config) {
	c := config.Clone()
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(o.address)
	}
	o.client = c
	o.protocol.Store(speaksUnknown)
	if !slices.Contains(c.NextProtos, "h2") {
		o.protocol.Store(speaksHTTP1)
	}
}

// take gives an idle connection, nil where there is none.
func (o *origin) take(now int64) *link {
	if o.idle.Load() == 0 {
		return nil
	}
	start, all := rand.Uint32(), o.shards.Load()
	if all == nil {
		return nil
	}
	for i := range uint32(originShards) {
		s := &all[(start+i)%originShards]
		s.mu.Lock()
		for n := len(s.links); n > 0; n = len(s.links) {
			l := s.links[n-1]
			s.links[n-1] = nil
			s.links = s.links[:n-1]
			o.idle.Add(-1)
			if now-l.since < int64(o.idleTime) {
				s.mu.Unlock()
				l.reused = true
				return l
			}
			l.Close()
		}
		s.mu.Unlock()
	}
	return nil
}

// put keeps a connection for the next exchange.
func (o *origin) put(l *link, now int64) {
	if o.closed.Load() {
		l.Close()
		return
	}
	if o.idle.Add(1) > o.maxIdle {
		o.idle.Add(-1)
		l.Close()
		return
	}
	l.since = now
	s := &o.room()[rand.Uint32()%originShards]
	s.mu.Lock()
	s.links = append(s.links, l)
	s.mu.Unlock()
	if o.closed.Load() {
		o.close()
		return
	}
	if !o.sweeping.Load() && o.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(o.idleTime/2, o.sweep)
	}
}

// room gives the shards, made if they are not there.
func (o *origin) room() *shards {
	if all := o.shards.Load(); all != nil {
		return all
	}
	o.shards.CompareAndSwap(nil, new(shards))
	return o.shards.Load()
}

// sweep closes what was not used for too long.
func (o *origin) sweep() {
	o.drop(wire.Now() - int64(o.idleTime))
	o.sweeping.Store(false)
	if o.idle.Load() > 0 && o.sweeping.CompareAndSwap(false, true) {
		time.AfterFunc(o.idleTime/2, o.sweep)
	}
}

// drop closes the connections that are idle since before then.
func (o *origin) drop(then int64) {
	all := o.shards.Load()
	if all == nil {
		return
	}
	var old []*link
	for i := range all {
		s := &all[i]
		s.mu.Lock()
		kept := s.links[:0]
		for _, l := range s.links {
			if l.since < then {
				old = append(old, l)
			} else {
				kept = append(kept, l)
			}
		}
		clear(s.links[len(kept):])
		s.links = kept
		s.mu.Unlock()
	}
	o.idle.Add(-int64(len(old)))
	for _, l := range old {
		l.Close()
	}
}

// close drops all idle connections; none is kept any more.
func (o *origin) close() {
	o.closed.Store(true)
	o.drop(1<<63 - 1)
}

// dial opens a connection.
func (o *origin) dial(ctx context.Context) (*link, error) {
	c, err := o.dialer.DialContext(ctx, "tcp", o.address)
	if err != nil {
		return nil, dialError{err}
	}
	l := &link{origin: o}
	if err := l.Init(c, nil); err != nil {
		c.Close()
		return nil, dialError{err}
	}
	l.WriteBy(0, writeStall)
	if o.client == nil {
		return l, nil
	}
	l.DialTLS(o.client)
	l.ReadBy(wire.Now() + int64(handshakeTime))
	if err := l.Handshake(context.Background()); err != nil {
		l.Close()
		return nil, dialError{err}
	}
	if l.TLS().ConnectionState().NegotiatedProtocol == "h2" {
		o.protocol.Store(speaksHTTP2)
		l.Close()
		return nil, errHTTP2
	}
	o.protocol.Store(speaksHTTP1)
	return l, nil
}
