package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/api"
	"gatehouse/internal/store"
)

// replicas announces this replica to the others and keeps a picture of them
// all, for people to look at. Nothing is decided by it.
type replicas struct {
	store store.Store
	self  api.Replica
	log   *slog.Logger
	twin  string // what another replica of our name announced last

	members atomic.Pointer[[]api.Replica]
	leases  atomic.Pointer[map[string][]string] // holder: names
}

func newReplicas(s store.Store, name, version string, log *slog.Logger) *replicas {
	r := &replicas{store: s, log: log, self: api.Replica{Name: name, Version: version, Started: time.Now().UTC()}}
	r.members.Store(&[]api.Replica{})
	r.leases.Store(&map[string][]string{})
	return r
}

// Run announces and watches until ctx ends.
func (r *replicas) Run(ctx context.Context) error {
	text, err := json.Marshal(r.self)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if err := r.store.Announce(ctx, "members/"+r.self.Name, text); err != nil && ctx.Err() == nil {
			r.log.Error("this replica cannot be announced", "err", err)
		}
	})
	wg.Go(func() {
		for entries, err := range r.store.Watch(ctx, "leases") {
			if err == nil {
				r.setLeases(entries)
			}
		}
	})
	for entries, err := range r.store.Watch(ctx, "members") {
		if err == nil {
			r.setMembers(entries)
		}
	}
	return nil
}

func (r *replicas) setMembers(entries []store.Entry) {
	list := make([]api.Replica, 0, len(entries))
	for _, e := range entries {
		var m api.Replica
		if json.Unmarshal(e.Value, &m) == nil && m.Name != "" {
			list = append(list, m)
		}
		if e.Key == "members/"+r.self.Name {
			r.compare(m, string(e.Value))
		}
	}
	r.members.Store(&list)
}

// compare tells of another replica that has our name: one that was started
// after us announces itself over us. An older one is what we were before.
func (r *replicas) compare(m api.Replica, text string) {
	if !m.Started.After(r.self.Started) || text == r.twin {
		return
	}
	r.twin = text
	r.log.Warn("another replica has the name of this one; people cannot tell them apart", "name", r.self.Name,
		"started", m.Started, "next", "give each its own [cluster] node")
}

func (r *replicas) setLeases(entries []store.Entry) {
	held := map[string][]string{}
	for _, e := range entries {
		holder := string(e.Value)
		held[holder] = append(held[holder], strings.TrimPrefix(e.Key, "leases/"))
	}
	r.leases.Store(&held)
}

// list is what is known now, this replica included even if the store is down.
func (r *replicas) list() []api.Replica {
	held := *r.leases.Load()
	list := slices.Clone(*r.members.Load())
	if !slices.ContainsFunc(list, func(m api.Replica) bool { return m.Name == r.self.Name }) {
		list = append(list, r.self)
	}
	for i := range list {
		list[i].Self = list[i].Name == r.self.Name
		list[i].Holds = held[list[i].Name]
	}
	slices.SortFunc(list, func(a, b api.Replica) int { return strings.Compare(a.Name, b.Name) })
	return list
}
