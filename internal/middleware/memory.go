package middleware

import (
	"encoding/json"
	"sync"
)

// Memory holds what middlewares count (rates, requests under way) from one
// snapshot to the next, so that a change elsewhere gives nobody a fresh
// allowance. The zero value is empty. Begin and End enclose the building of a
// snapshot; one is built at a time, from any goroutine.
type Memory struct {
	mu   sync.Mutex
	kept map[string]map[string]any // by route
	used map[string]map[string]any // by the snapshot that is being built
}

// Begin starts a snapshot: what it does not ask for is forgotten at its End.
func (m *Memory) Begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used = make(map[string]map[string]any, len(m.kept))
}

// Keep keeps what a route's middlewares count, where they are not built anew.
func (m *Memory) Keep(route string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if counts, ok := m.kept[route]; ok && m.used != nil {
		m.used[route] = counts
	}
}

// End ends it. Snapshots that still serve keep what they hold.
func (m *Memory) End() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept, m.used = m.used, nil
}

// remembered gives what the same middleware of the same route, with the same
// parameters, counted with before, or what make makes.
func remembered[T any](env Env, params Params, make func() T) T {
	text, err := json.Marshal(params)
	if env.Memory == nil || err != nil {
		return make()
	}
	key := env.Name + "\x00" + string(text)
	m := env.Memory
	m.mu.Lock()
	defer m.mu.Unlock()
	state, ok := m.used[env.Route][key].(T)
	if !ok {
		if state, ok = m.kept[env.Route][key].(T); !ok {
			state = make()
		}
	}
	if m.used != nil {
		if m.used[env.Route] == nil {
			m.used[env.Route] = map[string]any{}
		}
		m.used[env.Route][key] = state
	}
	return state
}
