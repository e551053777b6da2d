package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"

	"gatehouse/internal/handover"
	"gatehouse/internal/store"
)

const runHelp = `gatehouse [run] [flags]

Serves until SIGINT or SIGTERM, then lets requests under way finish. Settings come from defaults, a file (-c, else the first
of gatehouse.toml, gatehouse.yaml and traefik.toml in /etc/gatehouse, /etc/traefik, $HOME/.gatehouse, $HOME/.traefik and .),
the environment (GATEHOUSE_ETCD_ENDPOINT ...), flags and, with --etcd, the key-value store; later ones win. SIGUSR1 opens log
files anew; SIGUSR2 has the program that now stands at the same path take over without losing a connection
(docs/operations.md).

With --configmap NAMESPACE/NAME the file is a key of that ConfigMap, read and followed through the Kubernetes API.

`

func run(ctx context.Context, args []string, out, errOut io.Writer) error {
	signal.Ignore(syscall.SIGUSR1, syscall.SIGUSR2) // they end a process that does not know them yet
	inherited, err := handover.Take()
	if err == nil {
		err = serve(ctx, args, inherited, errOut)
	}
	if err != nil && ctx.Err() == nil {
		return errors.Join(err, inherited.Fail(err))
	}
	return err
}

func serve(ctx context.Context, args []string, inherited *handover.Inherited, errOut io.Writer) error {
	where, args, err := takeConfigMap(args)
	if err != nil {
		return err
	}
	var followed *configMap
	if where != "" {
		if followed, err = openConfigMap(ctx, where, args, errOut); err != nil {
			return ignoreStop(ctx, err)
		}
		defer followed.close()
		file, err := followed.file(followed.dir)
		if err != nil {
			return err
		}
		args = append([]string{"-c", file}, args...)
	}
	loaded, problems, err := load(runHelp, args, errOut)
	if err != nil {
		return err
	}
	if followed != nil && !strings.HasPrefix(loaded.File, followed.dir) {
		return usageError(fmt.Errorf("--configmap and -c %s: give one of them", loaded.File))
	}
	if rest := loaded.Flags.Args; len(rest) > 0 {
		return usageError(unexpected(rest))
	}
	log, logTo, err := newLogger(loaded.Static, errOut)
	if err != nil {
		return err
	}
	logProblems(log, problems)
	log.Info("gatehouse starts", "version", version(), "file", loaded.File)

	static := loaded.Static
	name := replicaName(static)
	var routing store.Store
	if static.Etcd != nil {
		opened, err := openRouting(ctx, static, name, log)
		if err != nil {
			return err
		}
		defer func() { _ = opened.Close() }()
		routing = opened
		if static, err = overlay(ctx, loaded, opened, log); err != nil {
			return ignoreStop(ctx, err)
		}
	}
	if followed != nil {
		applyBind(loaded.Static)
		followed.static, followed.log, followed.replica = loaded.Static, log, name
		followed.save()
	}
	applyBind(static)
	program, err := programPath()
	if err != nil {
		return err
	}
	g, err := newGateway(ctx, static, gatewayOptions{
		name: name, routing: routing, configMap: followed, file: loaded.File, log: log, logTo: logTo, inherited: inherited, program: program,
	})
	if err != nil {
		return ignoreStop(ctx, err)
	}
	return g.run(ctx)
}

// ignoreStop: being told to stop while starting is no error.
func ignoreStop(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
