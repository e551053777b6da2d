package upstream

import (
	"net/http"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
)

// weighted spreads requests over other services. Shares whose service has no
// server that is up go to the others.
type weighted struct {
	name     string
	parts    []*Service
	balancer balancer
	sticky   *sticky
}

func (b *builder) weighted(name string, d config.Service) *weighted {
	if wrong, allowed := checkSticky(d.Weighted.Sticky); wrong != "" {
		b.problem(d.Origin, name, allowed, "%s; the service is left out", wrong)
		return nil
	}
	w := &weighted{name: name}
	var names []string
	for _, share := range d.Weighted.Services {
		if why := b.shareProblem(share); why != "" {
			b.problem(d.Origin, name, "", "%s; its share goes to the others", why)
			continue
		}
		w.parts = append(w.parts, b.set.services[share.Name])
		w.balancer.weights = append(w.balancer.weights, share.Weight)
		names = append(names, share.Name)
	}
	if len(w.parts) == 0 {
		b.problem(d.Origin, name, "at least one service that works", "the weighted service has no part; it is left out")
		return nil
	}
	state := b.registry.service(name)
	state.refs++
	b.set.states = append(b.set.states, state)
	w.sticky = newSticky(d.Weighted.Sticky, name, names)
	w.balancer.position = &state.position
	w.balancer.of = w
	return w
}

func (w *weighted) up(i int) bool { return w.parts[i].available() }

func (w *weighted) version() uint64 {
	var sum uint64 // each part's only grows
	for _, p := range w.parts {
		sum += p.version()
	}
	return sum
}

// shareProblem builds the service of a share and says why that failed.
func (b *builder) shareProblem(share config.WeightedService) string {
	switch _, declared := b.declared[share.Name]; {
	case share.Weight < 0:
		return "the weight of " + share.Name + " is negative"
	case !declared:
		return "there is no service " + share.Name
	case b.building[share.Name]:
		return "service " + share.Name + " leads back to this one"
	case b.service(share.Name) == nil:
		return "service " + share.Name + " was left out"
	}
	return ""
}

// handler asks the parts with the same wish about the host header.
func (w *weighted) handler(passHostHeader *bool) http.Handler {
	parts := make([]http.Handler, len(w.parts))
	for i, p := range w.parts {
		parts[i] = p.Handler(passHostHeader)
	}
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		i := w.pick(rw, r)
		if i < 0 {
			middleware.RecordFrom(r.Context()).Service = w.name
			Refuse(rw, http.StatusServiceUnavailable, NoServer)
			return
		}
		parts[i].ServeHTTP(rw, r)
	})
}

func (w *weighted) pick(rw http.ResponseWriter, r *http.Request) int {
	if w.sticky == nil {
		return w.balancer.next(nil)
	}
	if i, ok := w.sticky.pinned(r); ok && w.balancer.weights[i] > 0 && w.parts[i].available() {
		return i
	}
	i := w.balancer.next(nil)
	if i >= 0 {
		w.sticky.pin(rw.Header(), i)
	}
	return i
}
