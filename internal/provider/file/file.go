// Package file takes routing configuration from files: one, or all of a
// folder, TOML or YAML, in our own form and in Traefik 1.x's side by side. It
// takes a change when its writer is done, as the system tells it (package
// filewatch), and looks at everything every few seconds besides; where the
// system tells nothing, it looks several times a second.
package file

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/filewatch"
	"gatehouse/internal/traefik1"
)

// name of the provider, which qualifies what it publishes: web@file.
const name = "file"

// Looking at all files costs at most a hundredth of the time between two
// looks.
const (
	interval   = 50 * time.Millisecond // where nothing tells of changes, and to see whether one stays
	safety     = 2 * time.Second       // where something does
	costFactor = 100
)

// Options of a Provider. One of Filename and Directory is set.
type Options struct {
	Filename  string
	Directory string // all .toml, .yml and .yaml files in and below it, except hidden ones
	Watch     bool   // false: the files are read once
	// Static says that Filename is the file of the static configuration as
	// well, so that keys at its top which are no routing are not ours.
	Static bool
	// Watches is how the system is asked for changes.
	Watches filewatch.Options
	Logger  *slog.Logger
}

// Provider implements provider.Provider.
type Provider struct{ o Options }

// New makes a Provider.
func New(o Options) *Provider { return &Provider{o} }

// Name is "file".
func (p *Provider) Name() string { return name }

// Run publishes what the files say, and again when that has changed. A file
// that cannot be read or parsed keeps what it said last, with a problem. The
// first time it waits, for a second at most, for who is just writing.
func (p *Provider) Run(ctx context.Context, publish func(config.Routing, []config.Problem)) error {
	if (p.o.Filename == "") == (p.o.Directory == "") {
		return fmt.Errorf("file provider: filename %q and directory %q: one of them is needed", p.o.Filename, p.o.Directory)
	}
	if !p.o.Watch {
		p.o.Watches.Most = -1
	}
	watcher := filewatch.New(p.o.Watches)
	defer watcher.Close()
	l := newLoader(p.o, watcher)
	var events []filewatch.Event
	changed, published, start := false, false, time.Now()
	for {
		changed = l.turn(events) || changed
		if published && changed || !published && (l.settled() || time.Since(start) >= settle) {
			routing, problems := l.routing()
			publish(routing, problems)
			changed, published = false, true
			p.o.Logger.Info("routing files read", "files", len(l.files), "routers", len(routing.Routers), "problems", len(problems))
		}
		if published && !p.o.Watch {
			<-ctx.Done()
			return nil
		}
		if events = watcher.Wait(ctx, l.next()); ctx.Err() != nil {
			return nil
		}
	}
}

// parse reads one file. ok is false if its text is not well formed.
func (o Options) parse(path string, text []byte) (config.Routing, []config.Problem, bool) {
	read := config.ParseTOML
	if extension(path) != ".toml" && isRoutingFile(path) {
		read = config.ParseYAML
	}
	n, problems := read(path, text)
	if config.Failed(problems) {
		return config.Routing{}, problems, false
	}
	if n == nil {
		return config.Routing{}, problems, true
	}
	routing, more := traefik1.Parse(n, name)
	problems = append(problems, more...)
	if !o.Static {
		problems = append(problems, strangers(n)...)
	}
	return routing, problems, true
}

// strangers reports keys at the top of a file that are no routing.
func strangers(n *config.Node) []config.Problem {
	var problems []config.Problem
	for _, f := range traefik1.Rest(n) {
		problems = append(problems, config.Problem{
			Origin: f.Origin, Object: "key " + f.Name, Message: "is not known in a routing file",
			Allowed: traefik1.SuggestRoot(f.Name),
		})
	}
	return problems
}
