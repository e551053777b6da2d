// Command gatehouse is the edge router. This package is the only one that
// knows all others: it turns settings into running parts and verbs into exit
// statuses.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

const usage = `gatehouse: an edge router that keeps its own certificates alive, on any number of replicas

Usage: gatehouse [VERB] [flags]

  run           serve (the default verb)
  check         read configuration files as run would, and print what would be served
  storeconfig   write a configuration file into the key-value store
  certs         list certificates with their last error and next attempt, renew one now, import those of other programs
  doctor        say what would happen if a certificate for a domain were ordered, without an order
  quickstart    try it on this machine: routes, certificates and dashboard on loopback
  whoami        a small HTTP service that answers with what it received
  healthcheck   ask a running gatehouse for /ping; exit status 0 or 1
  version       print the version

gatehouse VERB --help tells more. The settings of a Traefik 1.5 or 1.7 file are accepted as they are.
`

// A verb is one thing the program does. It gets the arguments after its name.
type verb func(ctx context.Context, args []string, out, errOut io.Writer) error

// verbs is the list that usage describes.
func verbs() map[string]verb {
	return map[string]verb{
		"run":         run,
		"check":       check,
		"storeconfig": storeConfig,
		"certs":       certs,
		"doctor":      doctor,
		"quickstart":  quickstart,
		"whoami":      whoami,
		"healthcheck": healthCheck,
		"version":     printVersion,
	}
}

// errUsage marks errors of the command line: exit status 2.
var errUsage = errors.New("usage")

func usageError(err error) error { return fmt.Errorf("%w: %w", errUsage, err) }

func main() {
	// quic-go would write about it past our log; docs/configuration.md says it.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") //nolint:errcheck // the name is well formed
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // who asks twice is not made to wait for what is under way
	status := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// dispatch finds the verb, runs it and gives the exit status: 0 done, 1 it
// could not be done, 2 the command line is wrong.
func dispatch(ctx context.Context, args []string, out, errOut io.Writer) int {
	name := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	} else if len(args) == 1 && slices.Contains([]string{"--help", "-h", "-help"}, args[0]) {
		name = "help"
	}
	if name == "help" {
		fmt.Fprint(out, usage)
		return 0
	}
	do, ok := verbs()[name]
	if !ok {
		fmt.Fprintf(errOut, "gatehouse: no verb %q\n\n%s", name, usage)
		return 2
	}
	switch err := do(ctx, args, out, errOut); {
	case err == nil, errors.Is(err, errHelp):
		return 0
	case errors.Is(err, errUsage):
		fmt.Fprintf(errOut, "gatehouse %s: %s\n", name, strings.TrimPrefix(err.Error(), errUsage.Error()+": "))
		return 2
	default:
		fmt.Fprintf(errOut, "gatehouse %s: %v\n", name, err)
		return 1
	}
}
