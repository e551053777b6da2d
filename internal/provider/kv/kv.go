// Package kv takes routing configuration from a key-value store that is
// shared: our own form under http/ and tls/, and Traefik 1.x's frontends and
// backends, side by side, with 1.x's alias switch. What is in the store was
// written by others: it is bounded, may name no file, and costs only the
// object it is wrong in.
package kv

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
)

// name of the provider, which qualifies what it publishes: web@etcd.
const name = "etcd"

// A tree that the alias points to and that cannot be read is tried again after
// this long, doubling up to the most.
const (
	retryLeast = time.Second
	retryMost  = 30 * time.Second
)

// Options of a Provider.
type Options struct {
	Store  store.Store // opened at Prefix
	Prefix string      // "/traefik"
	Watch  bool        // false: the store is read once
	// Read reads everything below another prefix of the same store, once, for
	// the alias. Keys come relative to that prefix.
	Read   func(ctx context.Context, prefix string) ([]store.Entry, error)
	Logger *slog.Logger
}

// Provider implements provider.Provider.
type Provider struct{ o Options }

// New makes a Provider.
func New(o Options) *Provider { return &Provider{o} }

// Name is "etcd".
func (p *Provider) Name() string { return name }

// Run publishes what the store says, and again when that has changed. While
// the store cannot be read, and when it says nothing any more, what was
// published last stays.
func (p *Provider) Run(ctx context.Context, publish func(config.Routing, []config.Problem)) error {
	if p.o.Store == nil || p.o.Read == nil {
		return errors.New("etcd provider: no store to read from")
	}
	watching, stop := context.WithCancel(ctx)
	states := make(chan []store.Entry, 1)
	var wg sync.WaitGroup
	wg.Go(func() { p.watch(watching, states) })
	defer wg.Wait()
	defer stop()

	r := reader{prefix: p.o.Prefix, read: p.o.Read}
	var entries []store.Entry
	var retry <-chan time.Time
	wait := retryLeast
	for {
		select {
		case <-ctx.Done():
			return nil
		case entries = <-states:
		case <-retry:
		}
		retry = nil
		changed, err := r.take(ctx, entries)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			p.o.Logger.Warn("aliased routing unreadable", "prefix", r.aliasOf(entries), "error", err, "next", wait)
			retry = time.After(wait)
			wait = min(2*wait, retryMost)
			continue
		}
		wait = retryLeast
		if changed {
			publish(r.routing, r.problems)
			p.o.Logger.Info("routing read from the store", "prefix", r.from, "routers", len(r.routing.Routers), "problems", len(r.problems))
		}
		if !p.o.Watch {
			stop()
			<-ctx.Done()
			return nil
		}
	}
}

// watch keeps the newest state of the store in states.
func (p *Provider) watch(ctx context.Context, states chan []store.Entry) {
	told := ""
	for entries, err := range p.o.Store.Watch(ctx, "") {
		if err != nil {
			if ctx.Err() == nil && err.Error() != told {
				told = err.Error() // the same trouble is not told again
				p.o.Logger.Warn("routing store unreadable", "prefix", p.o.Prefix, "error", err, "next", "tried again until it answers")
			}
			continue
		}
		if told != "" {
			told = ""
			p.o.Logger.Info("routing store readable again", "prefix", p.o.Prefix)
		}
		select {
		case <-states: // nobody has taken the one before
		default:
		}
		states <- entries
	}
}
