// Package file takes routing configuration from files: one, or all of a
// folder, TOML or YAML, in our own form and in Traefik 1.x's side by side. It
// notices changes by looking, several times a second, which works the same for
// editors that rename, for ConfigMaps that swap a link and on network disks.
package file

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/traefik1"
)

// name of the provider, which qualifies what it publishes: web@file.
const name = "file"

// A look at the files costs at most a hundredth of the time between two.
const (
	interval    = 50 * time.Millisecond
	maxInterval = 2 * time.Second
	costFactor  = 100
)

// Options of a Provider. One of Filename and Directory is set.
type Options struct {
	Filename  string
	Directory string // all .toml, .yml and .yaml files in and below it, except hidden ones
	Watch     bool   // false: the files are read once
	// Static says that Filename is the file of the static configuration as
	// well, so that keys at its top which are no routing are not ours.
	Static bool
	Logger *slog.Logger
}

// Provider implements provider.Provider.
type Provider struct{ o Options }

// New makes a Provider.
func New(o Options) *Provider { return &Provider{o} }

// Name is "file".
func (p *Provider) Name() string { return name }

// Run publishes what the files say, and again when that has changed. A file
// that cannot be read or parsed keeps what it said last, with a problem.
func (p *Provider) Run(ctx context.Context, publish func(config.Routing, []config.Problem)) error {
	if (p.o.Filename == "") == (p.o.Directory == "") {
		return fmt.Errorf("file provider: filename %q and directory %q: one of them is needed", p.o.Filename, p.o.Directory)
	}
	l := loader{options: p.o, files: map[string]*loaded{}}
	first := true
	for {
		start := time.Now()
		if l.look(start) || first {
			first = false
			routing, problems := l.routing()
			publish(routing, problems)
			p.o.Logger.Info("routing files read", "files", len(l.files), "routers", len(routing.Routers), "problems", len(problems))
		}
		if !p.o.Watch {
			<-ctx.Done()
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(max(interval, costFactor*time.Since(start)), maxInterval)):
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
