package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/provider"
	filep "gatehouse/internal/provider/file"
	"gatehouse/internal/proxy"
	"gatehouse/internal/traefik1"
	"gatehouse/internal/upstream"
)

const checkHelp = `gatehouse check [-c FILE] [FILE ...] [flags]

Reads static configuration as run would (-c or the usual places), and routing from the FILEs given or else from what [file]
names. Prints every mistake with its place, then what would be served. Nothing is started, no store or CA is asked.
Exit status 1 if there is a mistake; warnings do not count.

`

func check(ctx context.Context, args []string, out, errOut io.Writer) error {
	loaded, problems := loadForCheck(args)
	if loaded.Flags.Help {
		fmt.Fprint(errOut, checkHelp)
		return errors.Join(errHelp, config.FlagHelp(errOut, loaded.Flags.HelpAll))
	}
	sources := map[string]config.Routing{}
	if !config.Failed(problems) {
		routing, more, err := readRouting(ctx, loaded)
		if err != nil {
			return err
		}
		problems = append(problems, more...)
		sources["file"] = routing
	}
	for _, p := range problems {
		fmt.Fprintln(errOut, kindOf(p), p)
	}
	if loaded.Static != nil && len(sources) > 0 {
		merged, more := config.Merge(sources)
		problems = append(problems, more...)
		quiet := slog.New(slog.DiscardHandler)
		registry := upstream.NewRegistry(upstreamOptions(loaded.Static, quiet))
		options := compileOptions(loaded.Static, quiet)
		options.Known = problems
		snapshot, compiled := proxy.Compile(withDefaults(merged, loaded.Static), registry, options)
		compiled = append(compiled, checkTLSOptions(merged.TLSOptions)...)
		for _, p := range append(more, compiled...) {
			fmt.Fprintln(errOut, kindOf(p), p)
		}
		problems = append(problems, compiled...)
		fmt.Fprint(out, snapshot)
		snapshot.Discard()
		registry.Close()
	}
	if n := count(problems); n > 0 {
		return fmt.Errorf("mistakes: %d", n)
	}
	return nil
}

func kindOf(p config.Problem) string {
	if p.Warning {
		return "warning:"
	}
	return "error:"
}

// loadForCheck reads the static part. A file given without -c is static if
// that is all there is, or else routing; so `check traefik.toml` and `check
// routes.yaml` both mean what they say.
func loadForCheck(args []string) (config.Loaded, []config.Problem) {
	loaded, problems := config.Load(config.LoadInput{Args: args, Environ: nil})
	if rest := loaded.Flags.Args; len(rest) == 1 && loaded.Flags.ConfigFile == "" && isStatic(rest[0]) {
		return config.Load(config.LoadInput{Args: append([]string{"-c"}, args...), Environ: nil})
	}
	return loaded, problems
}

// isStatic tells a static configuration from routing: it has keys at its top
// that are no routing sections.
func isStatic(path string) bool {
	node, problems := config.ParseFile(path)
	if node == nil || config.Failed(problems) {
		return false
	}
	return slices.ContainsFunc(node.Fields, func(f config.Field) bool {
		return !slices.Contains([]string{"http", "tls", "backends", "frontends"}, strings.ToLower(f.Name))
	})
}

// readRouting reads the files named, else what [file] names, once.
func readRouting(ctx context.Context, loaded config.Loaded) (config.Routing, []config.Problem, error) {
	var list []filep.Options
	quiet := slog.New(slog.DiscardHandler)
	for _, path := range loaded.Flags.Args {
		list = append(list, filep.Options{Filename: path, Logger: quiet})
	}
	if f := loaded.Static.File; f != nil && len(list) == 0 {
		o := fileOptions(f, loaded.File, quiet)
		o.Watch = false
		list = append(list, o)
	}
	var all config.Routing
	var problems []config.Problem
	for _, o := range list {
		routing, more, err := firstState(ctx, filep.New(o))
		if err != nil {
			return all, problems, err
		}
		problems = append(append(problems, more...), traefik1.Join(&all, routing)...)
	}
	return all, problems, nil
}

// firstState runs a provider until it has published once.
func firstState(ctx context.Context, p provider.Provider) (config.Routing, []config.Problem, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var routing config.Routing
	var problems []config.Problem
	err := p.Run(ctx, func(r config.Routing, list []config.Problem) {
		if ctx.Err() == nil {
			routing, problems = r, list
			cancel()
		}
	})
	return routing, problems, err
}
