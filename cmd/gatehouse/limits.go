package main

import (
	"context"
	"os"

	"gatehouse/internal/api"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/pressure"
)

// limit finds out what this process may use, and tells it.
func (g *gateway) limit() {
	g.budget = entrypoint.NewBudget(0)
	memory, bounded := pressure.FindMemory(os.DirFS("/"), os.Getenv)
	if bounded {
		g.pressure = pressure.New(pressure.Options{Limit: memory.Limit, Used: memory.Used, Changed: g.relieve, Logger: g.log})
	}
	g.log.Info("limits", "connections", g.budget.Most(), "descriptors", entrypoint.Descriptors(),
		"memory", memory.Limit, "memoryBy", memory.Source)
}

// connectionCounts are the figures of each entry point, all its addresses
// together.
func (g *gateway) connectionCounts() (list []api.Connections) {
	for _, s := range g.servers {
		c := s.Counts()
		if n := len(list); n == 0 || list[n-1].EntryPoint != s.Name() { // they are bound one after the other
			list = append(list, api.Connections{EntryPoint: s.Name()})
		}
		of := &list[len(list)-1]
		of.Open, of.NoRoom, of.Crowded, of.Strangers = of.Open+c.Open, of.NoRoom+c.NoRoom, of.Crowded+c.Crowded, of.Strangers+c.Strangers
	}
	return list
}

// relieve gives back what can be given back.
func (g *gateway) relieve(now pressure.Level) {
	if now == pressure.Calm {
		return
	}
	for _, s := range g.servers {
		s.CloseIdle(0)
	}
}

// watchMemory keeps the level of pressure.
func (g *gateway) watchMemory(ctx context.Context) error {
	if g.pressure == nil {
		<-ctx.Done()
		return nil
	}
	return g.pressure.Run(ctx)
}
