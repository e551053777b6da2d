// Package upstream owns running services: pools of servers, their balancing,
// health, stickiness, retries and the connections to them. What users feel
// (requests in flight, balancer position, health) is kept in a Registry under
// the identity of a service and its server, and outlives the snapshots that
// use it. Package upstream knows neither rules nor routes; a service is an
// http.Handler to those above, a server is an http.RoundTripper below.
package upstream

import (
	"log/slog"
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
	refs     int                     // sets using it; under Registry.mu
	servers  map[string]*serverState // by identity; under Registry.mu
	inFlight atomic.Int64
	position atomic.Uint64 // of the balancer
	health   atomic.Uint64 // counts changes of any server's health
}

// serverState is what outlives a snapshot about one server.
type serverState struct {
	service  *serviceState
	refs     int // under Registry.mu
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

// service gives the state of a service, with one more reference. r.mu is held.
func (r *Registry) service(name string) *serviceState {
	s := r.services[name]
	if s == nil {
		s = &serviceState{name: name, servers: map[string]*serverState{}}
		r.services[name] = s
	}
	s.refs++
	return s
}

// server gives the state of a server, with one more reference. Registry.mu is held.
func (s *serviceState) server(identity string) *serverState {
	st := s.servers[identity]
	if st == nil {
		st = &serverState{service: s}
		s.servers[identity] = st
	}
	st.refs++
	return st
}

// drop takes the references of a pool back. r.mu is held.
func (r *Registry) drop(p *pool) {
	for _, s := range p.servers {
		if s.state.refs--; s.state.refs == 0 {
			delete(p.state.servers, s.identity())
		}
	}
	r.dropService(p.state)
	if p.transport.refs--; p.transport.refs == 0 {
		delete(r.transports, p.transport.key)
		p.transport.closeIdle()
	}
}

func (r *Registry) dropService(s *serviceState) {
	if s.refs--; s.refs == 0 {
		delete(r.services, s.name)
	}
}
