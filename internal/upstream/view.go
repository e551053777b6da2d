package upstream

import (
	"maps"
	"slices"
	"time"

	"gatehouse/internal/config"
)

// ServiceView is a service as the API shows it: settings and live state. It
// holds no secret and shares no memory with the running service.
type ServiceView struct {
	Name           string        `json:"name"`
	Origin         config.Origin `json:"origin"`
	Servers        []ServerView  `json:"servers,omitempty"`
	Services       []ShareView   `json:"services,omitempty"` // of a weighted service
	StickyCookie   string        `json:"stickyCookie,omitempty"`
	HealthCheck    string        `json:"healthCheck,omitempty"` // path
	MaxConn        int           `json:"maxConn,omitempty"`
	PassHostHeader bool          `json:"passHostHeader"`
	InFlight       int64         `json:"inFlight"`
	Available      bool          `json:"available"` // some server would be asked
}

// ServerView is a server with its live state.
type ServerView struct {
	Name     string     `json:"name,omitempty"`
	URL      string     `json:"url"`
	Weight   int        `json:"weight"`
	Up       bool       `json:"up"`                // it may be given requests
	Circuit  string     `json:"circuit,omitempty"` // "open": it failed too often; "trial": the next request tries it
	InFlight int64      `json:"inFlight"`
	Checked  *time.Time `json:"checked,omitempty"` // last health check
	Error    string     `json:"error,omitempty"`   // what it found
}

// ShareView is a part of a weighted service.
type ShareView struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
}

// View shows all services of the set, by name.
func (s *Set) View() []ServiceView {
	views := make([]ServiceView, 0, len(s.services))
	for _, name := range slices.Sorted(maps.Keys(s.services)) {
		views = append(views, s.services[name].view())
	}
	return views
}

func (s *Service) view() ServiceView {
	v := ServiceView{Name: s.name, Origin: s.declared.Origin, Available: s.available()}
	if w := s.weighted; w != nil {
		for i, part := range w.parts {
			v.Services = append(v.Services, ShareView{part.name, w.balancer.weights[i]})
		}
		v.StickyCookie = w.sticky.name()
		return v
	}
	p := s.pool
	v.StickyCookie, v.MaxConn, v.PassHostHeader = p.sticky.name(), int(p.maxConn), p.passHost
	v.InFlight = p.state.inFlight.Load()
	if p.health != nil {
		v.HealthCheck = p.health.Path
		if v.HealthCheck == "" {
			v.HealthCheck = "/"
		}
	}
	for _, srv := range p.servers {
		sv := ServerView{Name: srv.name, URL: srv.text, Weight: srv.weight, Up: srv.state.up(),
			Circuit: circuitNames[srv.state.circuit.phase.Load()], InFlight: srv.state.inFlight.Load()}
		if c := srv.state.checked.Load(); c != nil {
			sv.Checked = &c.at
			if c.err != nil {
				sv.Error = c.err.Error()
			}
		}
		v.Servers = append(v.Servers, sv)
	}
	return v
}

// name is the cookie's, "" for no stickiness.
func (k *sticky) name() string {
	if k == nil {
		return ""
	}
	return k.cookie.Name
}
