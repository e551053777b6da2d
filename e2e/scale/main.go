// Command scale measures Gatehouse as Ingress controller on a real API server,
// beside a peer if one is named: time from its start to first serving, memory
// and CPU at rest, time from a change of endpoints to traffic under load. Its
// test is the same in small.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

// plan is what is measured.
type plan struct {
	ingresses, changes, rate int
	peerChanges              int
	rest                     time.Duration
	binary, traefik          string // files; traefik "": no peer
	throttles                string // of traefik
	dir                      string
}

func main() {
	var p plan
	flag.IntVar(&p.ingresses, "ingresses", 5000, "`number` of Ingresses; there are twice as many EndpointSlices")
	flag.IntVar(&p.changes, "changes", 300, "`number` of changes of endpoints")
	flag.IntVar(&p.peerChanges, "peer-changes", 60, "`number` of them for the peer, which takes seconds for each")
	flag.IntVar(&p.rate, "rate", 500, "`requests` a second meanwhile")
	flag.DurationVar(&p.rest, "rest", time.Minute, "how long CPU at rest is measured")
	flag.StringVar(&p.binary, "gatehouse", "", "`file`; empty: it is built")
	flag.StringVar(&p.traefik, "traefik", os.Getenv("TRAEFIK"), "`file` of Traefik 3 (bench/tools/traefik); empty: no peer")
	flag.StringVar(&p.throttles, "throttles", "2s", "of Traefik's providersThrottleDuration: `list`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	p.dir = filepath.Join(rig.Root(), ".run", "scale")
	err := errors.Join(os.RemoveAll(p.dir), os.MkdirAll(p.dir, 0o755))
	if err == nil {
		_, err = run(ctx, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// run fills a world and measures each subject in it.
func run(ctx context.Context, p plan) (results []result, err error) {
	if p.binary == "" {
		p.binary = filepath.Join(p.dir, "gatehouse")
		if err := kube.Build("./cmd/gatehouse", p.binary); err != nil {
			return nil, err
		}
	}
	subjects := []*subject{gatehouse(p.binary)}
	if p.traefik != "" {
		for throttle := range strings.SplitSeq(p.throttles, ",") {
			subjects = append(subjects, traefik(p.traefik, throttle))
		}
	}
	w := &world{size: p.ingresses}
	if w.address, err = outside(); err != nil {
		return nil, err
	}
	for i := range w.ports {
		if w.ports[i], err = origin(ctx, w.address, fmt.Sprint(i)); err != nil {
			return nil, err
		}
	}
	w.Kube, err = kube.New(ctx, p.dir)
	if w.Kube != nil {
		defer w.Kill()
	}
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	if err := w.fill(ctx); err != nil {
		return nil, fmt.Errorf("fill the API server: %w", err)
	}
	fmt.Printf("scale: %d Ingresses and Services and %d EndpointSlices written in %v\n", p.ingresses, 2*p.ingresses, time.Since(begin).Round(time.Second))
	for i, s := range subjects {
		if i > 0 {
			p.changes = p.peerChanges
		}
		r, err := p.measure(ctx, w, s)
		if err := errors.Join(err, s.stop()); err != nil {
			return results, err
		}
		r.print(os.Stdout)
		results = append(results, r)
	}
	return results, nil
}

// origin is a server that says word, until ctx ends.
func origin(ctx context.Context, address, word string) (port int, err error) {
	l, err := net.Listen("tcp", address+":0")
	if err != nil {
		return 0, fmt.Errorf("listen for an origin: %w", err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, word) })}
	go func() { _ = s.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return l.Addr().(*net.TCPAddr).Port, nil
}

// outside is an address of this machine that endpoints may have.
func outside() (string, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String(), nil
		}
	}
	return "", errors.New("this machine has no address but loopback, which EndpointSlices may not have")
}
