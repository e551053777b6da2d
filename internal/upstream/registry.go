// Package upstream owns running services: pools of servers, their balancing,
// health, stickiness, retries and the connections to them. What users feel
// (requests in flight, balancer position, health) is kept in a Registry under
// the identity of a service and its server, and outlives the snapshots that
// use it. Package upstream knows neither rules nor routes; a service is an
// http.Handler to those above, a server is an http.RoundTripper below.
package upstream

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are settings of all services. The zero value of each is its default.
type Options struct {
	Logger *slog.Logger // nil: none
	// DialTimeout bounds connecting to a server; 0: 5 s.
	DialTimeout time.Duration
	// AnswerTimeout bounds the wait for an answer's head once the request is
	// sent; 0: 60 s. Bodies and streams have no bound.
	AnswerTimeout time.Duration
	// IdleTimeout ends an unused connection to a server; 0: 90 s.
	IdleTimeout time.Duration
	// MaxIdle bounds the unused connections kept to one server; 0: 256.
	MaxIdle int
}

// Registry holds the state of running services. Its methods may be called from
// any goroutine; requests never wait for them.
type Registry struct {
	options Options
	logger  *slog.Logger
	buffers buffers

	mu         sync.Mutex
	services   map[string]*serviceState
	transports map[string]*transport

	probing sync.Mutex // held while probes are replaced
	probes  map[*serverState]*probe
	active  *Set
	closed  bool
}

// NewRegistry gives an empty registry. Close it when no request is under way.
func NewRegistry(o Options) *Registry {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Registry{
		options:    o,
		logger:     o.Logger,
		services:   map[string]*serviceState{},
		transports: map[string]*transport{},
		probes:     map[*serverState]*probe{},
	}
}

// Close ends all health checks and closes unused connections.
func (r *Registry) Close() {
	r.probing.Lock()
	r.closed, r.active = true, nil
	r.replaceProbes(nil)
	r.probing.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.transports {
		t.closeIdle()
	}
}

// serviceState is what outlives a snapshot about one service.
type serviceState struct {
	name     string
	refs     int     // sets using it as a weighted service; under Registry.mu
	pools    []*pool // in use by some set, oldest first; under Registry.mu
	room     [1]*pool
	inFlight atomic.Int64
	position atomic.Uint64 // of the balancer
	health   atomic.Uint64 // counts changes of any server's health
}

// serverState is what outlives a snapshot about one server: the pools of a
// service in use share it.
type serverState struct {
	service  *serviceState
	inFlight atomic.Int64
	down     atomic.Bool // its health check says
	circuit  circuit
	checked  atomic.Pointer[check] // the last health check; nil: none yet
	complain atomic.Int64          // unix nanoseconds of the last warning
	silent   atomic.Int64          // failures not logged since
}

// check is the outcome of one health check.
type check struct {
	at  time.Time
	err error
}

// up reports whether the server may be given requests.
func (s *serverState) up() bool { return !s.down.Load() && s.circuit.passes() }

// setDown changes the health; the count of changes follows the change, so
// that a balancer that sees the count also sees the health.
func (s *serverState) setDown(down bool) (changed bool) {
	changed = s.down.Swap(down) != down
	if changed {
		s.service.health.Add(1)
	}
	return changed
}

// service gives the state of a service. r.mu is held.
func (r *Registry) service(name string) *serviceState {
	s := r.services[name]
	if s == nil {
		s = &serviceState{name: name}
		s.pools = s.room[:0]
		r.services[name] = s
	}
	return s
}

// join gives a new pool what outlives it: the state of its service and of its
// servers, and the ways to them. r.mu is held.
func (r *Registry) join(p *pool) {
	p.state = r.service(p.name)
	p.balancer.position = &p.state.position
	p.transport.refs++
	p.transport.join(p.servers)
	fresh := p.state.known(p.servers)
	p.state.pools = append(p.state.pools, p)
	if fresh == 0 {
		return
	}
	block := make([]serverState, fresh)
	for _, s := range p.servers {
		if s.state == nil {
			s.state, block = &block[0], block[1:]
			s.state.service = p.state
		}
	}
}

// known sets the state of the servers that pools in use have, and gives the
// number of the others.
func (st *serviceState) known(servers []*server) (fresh int) {
	fresh = len(servers)
	if len(st.pools) == 0 {
		return fresh
	}
	have := map[identity]*serverState{}
	for _, p := range st.pools {
		for _, s := range p.servers {
			have[s.identity()] = s.state
		}
	}
	for _, s := range servers {
		if s.state = have[s.identity()]; s.state != nil {
			fresh--
		}
	}
	return fresh
}

// drop takes back a set's use of a pool. r.mu is held.
func (r *Registry) drop(p *pool) {
	if p.refs--; p.refs > 0 {
		return
	}
	if i := slices.Index(p.state.pools, p); i >= 0 {
		p.state.pools = slices.Delete(p.state.pools, i, i+1)
	}
	r.dropService(p.state)
	p.transport.leave(p.servers)
	if p.transport.refs--; p.transport.refs == 0 {
		delete(r.transports, p.transport.key)
		p.transport.closeIdle()
	}
}

// dropService forgets a service that nobody uses. r.mu is held.
func (r *Registry) dropService(s *serviceState) {
	if s.refs == 0 && len(s.pools) == 0 {
		delete(r.services, s.name)
	}
}
