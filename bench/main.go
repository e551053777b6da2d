// Command bench runs the same work, on the same cores, through Gatehouse and
// its peers, and tells what each cost: `make bench`. CPU seconds per request
// is the figure to steer by; it is steady where throughput is not. See
// docs/performance.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatehouse/bench/load"
	"gatehouse/bench/origin"
	"gatehouse/e2e/rig"
)

// The words after the program's name that make it one of its own helpers.
const (
	verbLoad   = "load"
	verbOrigin = "origin"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdin, os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func dispatch(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case verbOrigin:
			return origin.Serve(in, out)
		case verbLoad:
			return generate(ctx, in, out)
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return run(ctx, o, out)
}

// generate is the generator's process: a Spec comes in, a Result goes out.
func generate(ctx context.Context, in io.Reader, out io.Writer) error {
	var spec load.Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("read the work: %w", err)
	}
	result, err := load.Run(ctx, spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// options of a run.
type options struct {
	works     []string // names; empty: all
	peers     []string // names; empty: all that are here
	rounds    int
	warm      time.Duration
	window    time.Duration
	quick     bool
	micro     bool   // the packages' own benchmarks too
	write     bool   // into docs/performance.md
	gatehouse string // binary
	traefik   string // binary; empty: none
	results   string // folder
}

// whole tells that nothing was left out: only that is a result to keep.
func (o options) whole() bool { return !o.quick && len(o.works)+len(o.peers) == 0 }

func parse(args []string) (options, error) {
	o := options{results: filepath.Join(rig.Root(), "bench/results"), traefik: os.Getenv("TRAEFIK")}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	list := func(to *[]string) func(string) error {
		return func(s string) error { *to = strings.Split(s, ","); return nil }
	}
	f.Func("work", "names of works, with commas between; default: all (-list shows them)", list(&o.works))
	f.Func("peer", "names of peers, with commas between; default: all that are here; gatehouse always runs", list(&o.peers))
	f.IntVar(&o.rounds, "rounds", 3, "rounds of which medians are taken; the order of the peers turns with each")
	f.DurationVar(&o.window, "window", 3*time.Second, "how long each run is measured, after a third of it to warm up")
	f.BoolVar(&o.quick, "quick", false, "one round, short windows: does it work at all? The figures are rough")
	f.BoolVar(&o.micro, "micro", true, "run the packages' own benchmarks too, unless -work, -peer or -quick is given")
	f.BoolVar(&o.write, "write", false, "write the result into docs/performance.md, if all was measured")
	f.StringVar(&o.gatehouse, "gatehouse", "", "the binary to measure; default: what the source is now, built as make build does")
	show := f.Bool("list", false, "list the works and end")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q: only flags are taken", f.Arg(0))
	}
	if *show {
		for _, w := range works() {
			fmt.Fprintf(f.Output(), "%-10s %s\n", w.Name, w.Title)
		}
		return o, flag.ErrHelp
	}
	if o.quick {
		o.rounds, o.window = 1, 500*time.Millisecond
	}
	if o.rounds < 1 || o.window < 50*time.Millisecond {
		return o, fmt.Errorf("%d rounds of %s: at least 1 round and 50ms are needed", o.rounds, o.window)
	}
	o.warm = o.window / 3
	if !o.whole() {
		o.micro, o.write = false, false
	}
	return o, nil
}
