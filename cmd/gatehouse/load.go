package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

// errHelp: help was asked for and given.
var errHelp = errors.New("help was asked for")

// load reads file, environment and flags. With a mistake in them nothing is
// started: every one is shown, with its place.
func load(help string, args []string, errOut io.Writer, own ...config.OwnFlag) (config.Loaded, []config.Problem, error) {
	loaded, problems := config.Load(config.LoadInput{Args: args, Own: own, Environ: os.Environ()})
	if loaded.Flags.Help {
		fmt.Fprint(errOut, help)
		return loaded, nil, errors.Join(errHelp, config.FlagHelp(errOut, loaded.Flags.HelpAll))
	}
	if config.Failed(problems) {
		for _, p := range problems {
			fmt.Fprintln(errOut, p)
		}
		return loaded, nil, fmt.Errorf("the configuration has mistakes (%d); nothing was started", count(problems))
	}
	return loaded, problems, nil
}

func count(problems []config.Problem) (n int) {
	for _, p := range problems {
		if !p.Warning {
			n++
		}
	}
	return n
}

func logProblems(log *slog.Logger, problems []config.Problem) {
	for _, p := range problems {
		l := slog.LevelWarn
		if !p.Warning {
			l = slog.LevelError
		}
		log.Log(context.Background(), l, "problem in the configuration", "problem", p.String())
	}
}

// overlay reads the static settings the store holds and puts them on top. It
// keeps trying for as long as the store does not answer, and says so: what to
// listen on may only be written there. With mistakes in them it waits for a
// change.
func overlay(ctx context.Context, loaded config.Loaded, s store.Store, log *slog.Logger) (*config.Static, error) {
	from := traefik1.TreeSource{Provider: "etcd", Prefix: loaded.Static.Etcd.Prefix}
	var last error
	for entries, err := range s.Watch(ctx, "") {
		if last = err; err != nil {
			log.Warn("the store does not give the static configuration; it is asked until it does",
				"store", loaded.Static.Etcd.Endpoint, "err", err)
			continue
		}
		node, problems := traefik1.StaticNode(entries, from)
		static, more, differences := loaded.Overlay(node)
		logProblems(log, slices.Concat(problems, more))
		if config.Failed(more) {
			log.Error("the static configuration in the store has mistakes; nothing is started",
				"store", loaded.Static.Etcd.Endpoint, "next", "it is read again as soon as it changes")
			continue
		}
		for _, d := range differences {
			log.Warn("the store says otherwise about how to reach it; what reached it stays", "difference", d)
		}
		return static, nil
	}
	if last != nil {
		return nil, fmt.Errorf("%w; last: %w", context.Cause(ctx), last)
	}
	return nil, context.Cause(ctx)
}

// applyBind gives addresses without a host the one of [cluster] bind: several
// replicas on one machine share a configuration, not an address.
func applyBind(s *config.Static) {
	if s.Cluster == nil || s.Cluster.Bind == "" {
		return
	}
	for _, e := range s.EntryPoints {
		if strings.HasPrefix(e.Address, ":") {
			e.Address = s.Cluster.Bind + e.Address
		}
		for i, more := range e.Addresses {
			if strings.HasPrefix(more, ":") {
				e.Addresses[i] = s.Cluster.Bind + more
			}
		}
	}
}
