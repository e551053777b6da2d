package upstream

import (
	"net/http"
	"sync/atomic"

	"gatehouse/internal/config"
)

// Set is all services of one snapshot: immutable settings over the registry's
// state. Whoever builds a Set must Release it once.
type Set struct {
	registry *Registry
	services map[string]*Service
	pools    []*pool
	probed   []*pool         // those of pools with a health check
	states   []*serviceState // of weighted services
	released atomic.Bool
}

// Service is one service of a set, and of others in which it is the same.
type Service struct {
	name     string
	declared config.Service
	pool     *pool     // either this
	weighted *weighted // or this
}

// Service gives a service by its qualified name; ok is false where it was not
// declared or left out.
func (s *Set) Service(name string) (service *Service, ok bool) {
	service, ok = s.services[name]
	return service, ok
}

// Activate makes this set the one whose servers are probed.
func (s *Set) Activate() {
	r := s.registry
	r.probing.Lock()
	defer r.probing.Unlock()
	if !r.closed {
		r.active = s
		r.replaceProbes(s.probed)
	}
}

// Release gives back what the set uses; state and connections that no other
// set uses are dropped. Requests still under way are not disturbed. A second
// call does nothing.
func (s *Set) Release() {
	if s.released.Swap(true) {
		return
	}
	r := s.registry
	r.probing.Lock()
	if r.active == s {
		r.active = nil
		r.replaceProbes(nil)
	}
	r.probing.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range s.pools {
		r.drop(p)
	}
	for _, state := range s.states {
		state.refs--
		r.dropService(state)
	}
}

// Handler asks the service. passHostHeader, when not nil, overrides whether
// servers see the host the client asked for.
func (s *Service) Handler(passHostHeader *bool) http.Handler {
	if s.weighted != nil {
		return s.weighted.handler(passHostHeader)
	}
	return s.pool.way(passHostHeader)
}

// Same reports whether o runs as s does: the handlers of one are those of the
// other. Both may be nil.
func (s *Service) Same(o *Service) bool {
	return s == o || s != nil && o != nil && s.pool != nil && s.pool == o.pool
}

func (s *Service) available() bool {
	if s.weighted != nil {
		return s.weighted.balancer.any()
	}
	return s.pool.balancer.any()
}

func (s *Service) version() uint64 {
	if s.weighted != nil {
		return s.weighted.version()
	}
	return s.pool.version()
}
