package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/bench/load"
	"gatehouse/bench/measure"
	"gatehouse/bench/peer"
	"gatehouse/bench/report"
	"gatehouse/e2e/rig"
)

// bench is one run of the program.
type bench struct {
	ctx    context.Context
	o      options
	out    io.Writer
	dir    string
	cores  cores
	cert   string
	key    string
	origin origined
	peers  []peer.Peer
	turn   int // counts started proxies, for their folders
}

// cores says who runs where.
type cores struct{ load, origin, proxy []int }

// share gives the load generator and the origin a core each and the proxy
// two; with fewer than four, generator and origin share one.
func share(all []int) cores {
	switch {
	case len(all) >= 4:
		return cores{all[0:1], all[1:2], all[2:4]}
	case len(all) >= 2:
		return cores{all[0:1], all[0:1], all[1:]}
	}
	return cores{all, all, all}
}

func (c cores) String() string {
	s := fmt.Sprintf("load generator on core %s, origin on %s, proxy on %s", measure.List(c.load), measure.List(c.origin), measure.List(c.proxy))
	if slices.Equal(c.load, c.origin) {
		s += " (fewer than four cores: generator and origin share one, and the proxy has fewer than two or what is left)"
	}
	return s
}

// run measures all works that o asks for.
func run(ctx context.Context, o options, out io.Writer) error {
	raiseDescriptors() // works are made by them
	chosen, err := choose(works(), o.works)
	if err != nil {
		return err
	}
	b, err := newBench(ctx, o, out)
	if err != nil {
		return err
	}
	defer b.close()
	began := report.Run{Machine: measure.Describe(), Cores: b.cores.String(), At: time.Now().UTC(), Rounds: o.rounds, Window: o.window}
	for _, p := range b.peers {
		began.Peers = append(began.Peers, report.Peer{Name: p.Name, Version: p.Version(ctx), Note: p.Note})
	}
	for _, w := range chosen {
		samples, err := b.work(w)
		began.Samples = append(began.Samples, samples...)
		if err != nil {
			return err
		}
		fmt.Fprint(out, report.Markdown([]report.Work{w.Work}, samples))
	}
	began.LoadAfter = measure.Load()
	return b.finish(chosen, began)
}

func choose(all []work, names []string) ([]work, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []work
	for _, name := range names {
		i := slices.IndexFunc(all, func(w work) bool { return w.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no work %q; -list shows them", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func newBench(ctx context.Context, o options, out io.Writer) (*bench, error) {
	if o.gatehouse == "" { // one that lies about may be of yesterday
		o.gatehouse = filepath.Join(rig.Root(), "bin/gatehouse")
		build := exec.CommandContext(ctx, "make", "-s", "-C", rig.Root(), "build")
		if said, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build the binary to measure: %w\n%s", err, said)
		}
	}
	if _, err := os.Stat(o.gatehouse); err != nil {
		return nil, fmt.Errorf("the binary to measure: %w", err)
	}
	b := &bench{ctx: ctx, o: o, out: out, cores: share(measure.Cores())}
	peers, missing := peer.Find(o.gatehouse, o.traefik)
	for i, p := range peers {
		if i == 0 || len(o.peers) == 0 || slices.Contains(o.peers, p.Name) {
			b.peers = append(b.peers, p)
		}
	}
	for _, err := range missing {
		fmt.Fprintf(out, "left out: %v\n", err)
	}
	var err error
	if b.dir, err = os.MkdirTemp("", "gatehouse-bench"); err != nil {
		return nil, err
	}
	if b.cert, b.key, err = peer.WritePair(b.dir, host); err != nil {
		b.close()
		return nil, err
	}
	if b.origin, err = startOrigin(ctx, b.cores.origin); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// raiseDescriptors gets what the many connections need, as far as it may; set
// like this the processes started inherit it.
func raiseDescriptors() {
	const wanted = 250_000
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) != nil {
		return
	}
	if more := (unix.Rlimit{Cur: wanted, Max: max(wanted, l.Max)}); unix.Setrlimit(unix.RLIMIT_NOFILE, &more) != nil {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l)
	}
}

func (b *bench) close() {
	b.origin.stop()
	_ = os.RemoveAll(b.dir)
}

// work measures one work: every round all contenders, in an order that turns.
func (b *bench) work(w work) ([]report.Sample, error) {
	fmt.Fprintf(b.out, "%s %s: %s\n", time.Now().Format(time.TimeOnly), w.Name, w.Title)
	rows := eachPeer(b.peers)
	if w.contenders != nil {
		rows = w.contenders(b.peers)
	}
	rounds := b.o.rounds
	if w.once {
		rounds = 1
	}
	var samples []report.Sample
	for round := range rounds {
		for i := range rows {
			row := rows[(i+round)%len(rows)]
			s := report.Sample{Work: w.Name, Who: row.name, Round: round}
			values, err := b.one(w, row)
			if b.ctx.Err() != nil {
				return samples, b.ctx.Err()
			}
			if err != nil {
				s.Error = err.Error()
			}
			s.Values = values
			samples = append(samples, s)
		}
	}
	// The rows stand in one order, whatever order they ran in.
	order := func(s report.Sample) int {
		return slices.IndexFunc(rows, func(c contender) bool { return c.name == s.Who })
	}
	slices.SortStableFunc(samples, func(x, y report.Sample) int { return order(x) - order(y) })
	return samples, nil
}

func eachPeer(peers []peer.Peer) []contender {
	var rows []contender
	for _, p := range peers {
		rows = append(rows, contender{name: p.Name, peer: p})
	}
	return rows
}

// one starts a proxy, measures it and stops it.
func (b *bench) one(w work, c contender) (map[string]float64, error) {
	b.turn++
	setup := peer.Setup{
		Dir: filepath.Join(b.dir, fmt.Sprintf("%03d-%s", b.turn, c.peer.Name)), Origin: b.origin.addr,
		Host: host, Cert: b.cert, Key: b.key, Cores: b.cores.proxy, Conns: w.spec.Conns,
	}
	if c.setup != nil {
		c.setup(&setup)
	}
	running, err := peer.Start(b.ctx, c.peer, setup)
	if err != nil {
		return nil, err
	}
	defer running.Stop()
	spec := standard(w.spec, b.o)
	if c.spec != nil {
		c.spec(&spec)
	}
	if spec.Addr = running.HTTP; spec.TLS {
		spec.Addr = running.HTTPS
	}
	if spec.Pids, err = running.Pids(); err != nil {
		return nil, err
	}
	spec.Origin = b.origin.cmd.Process.Pid
	if spec.Kind == load.Idle && b.o.quick {
		spec.Conns /= 10
	}
	if w.measure != nil {
		return w.measure(b, running, spec)
	}
	return b.requests(running, spec)
}

// requests is the standard measurement.
func (b *bench) requests(_ *peer.Running, spec load.Spec) (map[string]float64, error) {
	r, err := b.load(spec)
	if err != nil {
		return nil, err
	}
	if r.First != "" {
		err = fmt.Errorf("%d failed %v: %s", r.Failed, r.Errors, r.First)
	}
	return perRequest(r), err
}

// load runs the generator.
func (b *bench) load(spec load.Spec) (load.Result, error) { return b.loadUntil(b.ctx, spec) }

// loadUntil runs the generator, whose window ends when ctx does.
func (b *bench) loadUntil(ctx context.Context, spec load.Spec) (load.Result, error) {
	var r load.Result
	in, err := json.Marshal(spec)
	if err != nil {
		return r, err
	}
	limit, cancel := context.WithTimeout(b.ctx, spec.Warm+spec.Window+2*time.Minute)
	defer cancel()
	cmd, err := helper(limit, b.cores.load, verbLoad)
	if err != nil {
		return r, err
	}
	var out, wrong bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &wrong
	if err := cmd.Start(); err != nil {
		return r, fmt.Errorf("start the load generator: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })()
	if err := cmd.Wait(); err != nil {
		return r, fmt.Errorf("load %s: %w: %s", spec.Addr, err, strings.TrimSpace(wrong.String()))
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return r, fmt.Errorf("load %s: %w", spec.Addr, err)
	}
	return r, nil
}

// helper is this program as one of its helpers, on the cores given.
func helper(ctx context.Context, on []int, verb string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, "taskset", "-c", measure.List(on), self, verb), nil
}

// origined is the running origin. It ends when its input does: with us.
type origined struct {
	cmd  *exec.Cmd
	in   io.Closer
	addr netip.AddrPort
}

func startOrigin(ctx context.Context, on []int) (origined, error) {
	cmd, err := helper(ctx, on, verbOrigin)
	if err != nil {
		return origined{}, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return origined{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return origined{}, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return origined{}, fmt.Errorf("start the origin: %w", err)
	}
	o := origined{cmd: cmd, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		o.addr, err = netip.ParseAddrPort(strings.TrimSpace(line))
	}
	if err != nil {
		o.stop()
		return o, fmt.Errorf("start the origin: it said %q: %w", line, err)
	}
	return o, nil
}

func (o origined) stop() {
	if o.cmd != nil {
		_ = o.in.Close()
		_ = o.cmd.Wait()
	}
}
