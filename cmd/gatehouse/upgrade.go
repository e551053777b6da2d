package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatehouse/internal/entrypoint"
	"gatehouse/internal/handover"
)

// upgradePatience is how long a successor may take until it serves: its store
// may be slow to answer. It is killed then, and this process serves on.
const upgradePatience = time.Minute

// programPath is where the program was started from, looked up at the start:
// what stands there later is its successor.
func programPath() (string, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		return os.Executable()
	}
	return filepath.Abs(path)
}

// upgradeOnSignal starts a successor on SIGUSR2 and ends this process once the
// successor serves. Where that fails this process serves on.
func (g *gateway) upgradeOnSignal(ctx context.Context) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR2)
	defer signal.Ignore(syscall.SIGUSR2) // while draining, as before the start was over
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-signals:
		}
		next, err := g.upgrade(ctx)
		if err != nil {
			g.log.Error("the successor does not serve; this process serves on", "err", err, "next", "SIGUSR2 tries again")
			continue
		}
		g.successor = next
		g.log.Info("the successor serves; this process drains", "pid", next.PID)
		g.stop()
		return nil
	}
}

func (g *gateway) upgrade(ctx context.Context) (*handover.Successor, error) {
	if g.inherited.Predecessor() {
		return nil, fmt.Errorf("the predecessor of this process is still draining")
	}
	g.log.Info("starting a successor", "path", g.program, "patience", upgradePatience)
	ctx, cancel := context.WithTimeoutCause(ctx, upgradePatience, fmt.Errorf("%v are over", upgradePatience))
	defer cancel()
	plan := handover.Plan{Path: g.program, Args: os.Args[1:]}
	passed := map[*entrypoint.Server]*net.UnixConn{}
	defer func() {
		for _, s := range plan.Sockets {
			s.File.Close()
			if s.Packets != nil {
				s.Packets.Close()
			}
		}
	}()
	for _, s := range g.servers {
		sockets, to, err := handOver(s)
		if plan.Sockets = append(plan.Sockets, sockets...); to != nil {
			passed[s] = to
		}
		if err != nil {
			closeAll(passed)
			return nil, fmt.Errorf("hand over the sockets of entry point %s: %w", s.Name(), err)
		}
	}
	next, err := handover.Start(ctx, plan)
	if err != nil {
		closeAll(passed)
		return nil, err
	}
	for s, to := range passed {
		s.PassUDP(to)
	}
	return next, nil
}

// handOver gives the sockets of an entry point, and where datagrams go that are
// not ours once there is a successor; nil: there are none.
func handOver(s *entrypoint.Server) (list []handover.Socket, to *net.UnixConn, err error) {
	f, err := s.File()
	if err != nil {
		return nil, nil, err
	}
	list = append(list, handover.Socket{Name: s.Name(), File: f})
	udp, err := s.UDPFile()
	if err != nil || udp == nil {
		return list, nil, err
	}
	to, theirs, err := handover.Packets()
	return append(list, handover.Socket{Name: s.Name(), File: udp, Packets: theirs}), to, err
}

func closeAll(conns map[*entrypoint.Server]*net.UnixConn) {
	for _, c := range conns {
		c.Close()
	}
}

// announceReady tells who waits for it that this process serves.
func (g *gateway) announceReady(ctx context.Context) error {
	g.firstRouting(ctx)
	g.begun.Store(true)
	if ctx.Err() == nil {
		if err := g.inherited.Ready(); err != nil {
			g.log.Warn("nobody was told that this process serves", "err", err)
		}
	}
	<-ctx.Done()
	return nil
}

// tellStopping tells systemd that this process goes without a successor.
func (g *gateway) tellStopping() {
	if err := g.inherited.Notify("STOPPING=1"); err != nil {
		g.log.Warn("systemd was not told of the end", "err", err)
	}
}

// firstPatience is how long clients of a replica that starts wait for its
// first routing, where they would be told that there is none.
const firstPatience = 5 * time.Second

// firstRouting waits until every provider was heard once, the result is served
// and the certificates in the store are known; or for so long that clients
// should be told. Meanwhile the kernel takes connections. While a predecessor
// serves it waits for as long as ctx lasts: that one decides.
func (g *gateway) firstRouting(ctx context.Context) {
	if !g.inherited.Upgrade() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, firstPatience)
		defer cancel()
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for !g.controller.State().Ready() || !g.certs.keeper.Loaded() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// held has requests wait for the first routing where connections do not.
func (g *gateway) held(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.begun.Load() {
			g.firstRouting(r.Context())
		}
		next.ServeHTTP(w, r)
	})
}

// own tells whether an entry point serves something of our own: health and
// API answer from the first moment, unless a predecessor answers for us.
func (g *gateway) own(name string) bool {
	s := g.static
	return !g.inherited.Upgrade() && (s.API != nil && s.API.EntryPoint == name || s.Ping != nil && s.Ping.EntryPoint == name)
}

// inherit gives an entry point the sockets that were bound for it. Those of UDP
// come with the connections of the predecessor, who answers them to their end.
func (g *gateway) inherit(o *entrypoint.Options) (err error) {
	o.UDPSocket, o.UDPFrom, o.HTTP3After = nil, nil, nil // of another address of the entry point
	if o.Socket, err = g.inherited.TCP(o.Name, o.Address); err != nil {
		return err
	}
	if !o.HTTP3 {
		return nil
	}
	if o.UDPSocket, o.UDPFrom, err = g.inherited.UDP(o.Name, o.Address); err != nil {
		return err
	}
	if o.UDPSocket != nil && o.UDPFrom == nil && g.inherited.Upgrade() { // it passes nothing on
		o.HTTP3After = g.inherited.Alone()
	}
	return nil
}

// unclaimed tells of sockets that belong to no entry point.
func (g *gateway) unclaimed() {
	if rest := g.inherited.Rest(); len(rest) > 0 {
		g.log.Warn("sockets this process was started with belong to no entry point; they are closed",
			"sockets", strings.Join(rest, ", "), "entrypoints", strings.Join(sortedKeys(g.static.EntryPoints), ", "),
			"next", "name them by FileDescriptorName= after the entry points")
	}
}
