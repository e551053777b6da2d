// Package lego lets the DNS providers of github.com/go-acme/lego stand behind
// dns.Provider. They are in programs built with the tag "lego" only (`make
// lego`, decision 10); this package owns the adapter and the table, and
// nothing of what the providers do.
package lego

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/acme/dns"
)

// challenger is lego's provider: it works name and value out for itself.
type challenger interface {
	Present(ctx context.Context, domain, token, keyAuth string) error
	CleanUp(ctx context.Context, domain, token, keyAuth string) error
}

// sequential is implemented by lego's providers that bear one challenge at a
// time only.
type sequential interface{ Sequential() time.Duration }

// Options are what Build needs besides the environment, which lego's providers
// read themselves.
type Options struct {
	Resolvers []string     // for lego's own questions to the DNS; none: the system's
	Logger    *slog.Logger // nil: silent
}

// Build makes the provider of that name. known says whether this program has
// it at all.
func Build(name string, opts Options) (p dns.Provider, known bool, err error) {
	build := table[name]
	if build == nil {
		return nil, false, nil
	}
	useResolvers(opts.Resolvers)
	theirs, err := build()
	if err != nil {
		return nil, true, err
	}
	return adapt(name, theirs, opts.Logger), true, nil
}

// Names lists what Build takes, sorted; none without the tag.
func Names() []string { return slices.Sorted(maps.Keys(table)) }

// provider is a dns.Provider. Calls for one name come one at a time: some of
// lego's providers read a record set and write it back.
type provider struct {
	name   string
	theirs challenger
	log    *slog.Logger
	one    bool // one call at a time, whatever the name

	mu    sync.Mutex
	busy  map[string]chan struct{} // closed when the name is free again
	wrote map[dns.Record]bool      // by this process
}

func adapt(name string, theirs challenger, log *slog.Logger) *provider {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	_, one := theirs.(sequential)
	return &provider{name: name, theirs: theirs, log: log, one: one, busy: map[string]chan struct{}{}, wrote: map[dns.Record]bool{}}
}

// Present has lego's provider write the record.
func (p *provider) Present(ctx context.Context, rec dns.Record) error {
	domain, token, err := p.terms(rec)
	if err != nil {
		return err
	}
	free, err := p.enter(ctx, rec.Name)
	if err != nil {
		return err
	}
	defer free()
	if err := p.theirs.Present(ctx, domain, token, rec.KeyAuth); err != nil {
		return fmt.Errorf("lego's %s: %w", p.name, err)
	}
	p.note(rec, true)
	return nil
}

// CleanUp has lego's provider remove the record. Many of them remember in
// memory what they wrote and cannot remove what another process did; that is
// said to the log, for a person, and not tried for ever.
func (p *provider) CleanUp(ctx context.Context, rec dns.Record) error {
	domain, token, err := p.terms(rec)
	if err != nil {
		return err
	}
	free, err := p.enter(ctx, rec.Name)
	if err != nil {
		return err
	}
	defer free()
	err = p.theirs.CleanUp(ctx, domain, token, rec.KeyAuth)
	if err != nil && !p.ours(rec) && strings.Contains(err.Error(), "unknown record") {
		p.log.Error("a challenge record of another process may be left; lego's provider can remove its own only",
			"provider", p.name, "name", rec.Name, "value", rec.Value, "zone", rec.Zone, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("lego's %s: %w", p.name, err)
	}
	p.note(rec, false)
	return nil
}

// terms puts a record in lego's terms. A name of the usual form is given as
// the domain it belongs to, so that what was found when the record was planned
// counts; lego follows CNAMEs to any other.
func (p *provider) terms(rec dns.Record) (domain, token string, err error) {
	if rec.KeyAuth == "" {
		return "", "", errors.New("lego's providers need the key authorization, which the record of an older version does not have")
	}
	token, _, _ = strings.Cut(rec.KeyAuth, ".")
	if domain, usual := strings.CutPrefix(rec.Name, "_acme-challenge."); usual {
		return domain, token, nil
	}
	return rec.Domain, token, nil
}

// enter waits until nobody works at the name.
func (p *provider) enter(ctx context.Context, name string) (free func(), err error) {
	if p.one {
		name = ""
	}
	for {
		p.mu.Lock()
		before := p.busy[name]
		if before == nil {
			mine := make(chan struct{})
			p.busy[name] = mine
			p.mu.Unlock()
			return func() {
				p.mu.Lock()
				delete(p.busy, name)
				p.mu.Unlock()
				close(mine)
			}, nil
		}
		p.mu.Unlock()
		select {
		case <-before:
		case <-ctx.Done():
			return nil, fmt.Errorf("lego's %s: wait for another record: %w", p.name, context.Cause(ctx))
		}
	}
}

func (p *provider) note(rec dns.Record, there bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if there {
		p.wrote[rec] = true
	} else {
		delete(p.wrote, rec)
	}
}

func (p *provider) ours(rec dns.Record) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wrote[rec]
}
