// Command kube puts the post's story on a Kubernetes of its own: a real control
// plane, pods as processes, three replicas of Gatehouse from examples/kubernetes
// with nothing but the cluster as store. It prints a kubeconfig and serves until
// it is told to stop. Its tests are the story end to end.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"gatehouse/e2e/rig"
	"gatehouse/e2e/rig/kube"
)

// ports of 127.0.0.1 that lead in: to the API server, and to the load balancer.
var ports = []struct{ what, address string }{{"API server", "127.0.0.1:0"}, {"http", "127.0.0.1:8000"}, {"https", "127.0.0.1:8443"}}

func main() {
	files, err := listen()
	if err == nil {
		code, done := kube.Enter(files...)
		if done {
			os.Exit(code)
		}
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		err = run(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "kube:", err)
		os.Exit(1)
	}
}

// listen opens the ports in the machine's own network; the process in the other
// one gets them.
func listen() (files []*os.File, err error) {
	if !kube.Outside() {
		return nil, nil
	}
	for _, p := range ports {
		l, err := net.Listen("tcp", p.address)
		if err != nil {
			return nil, fmt.Errorf("listen for %s: %w", p.what, err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	signal.Ignore(syscall.SIGINT) // the inner process hears it too, and ends
	return files, nil
}

func run(ctx context.Context) error {
	dir := filepath.Join(rig.Root(), ".run", "kube")
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	binary, echo := filepath.Join(dir, "gatehouse"), filepath.Join(dir, "echo")
	if err := errors.Join(kube.Build("./cmd/gatehouse", binary), kube.Build("./e2e/rig/kube/echo", echo)); err != nil {
		return err
	}
	fmt.Println("kube: starting a control plane, a node, the ACME test CA and the DNS ...")
	s, err := newStage(ctx, options{dir: dir, images: map[string]kube.Image{
		"gatehouse:latest": kube.GatehouseAt(binary), "echo:latest": kube.EchoAt(echo),
	}})
	defer s.close()
	if err != nil {
		return err
	}
	config, err := s.lead()
	if err != nil {
		return err
	}
	if err := s.deploy(ctx); err != nil {
		return err
	}
	fmt.Printf(`kube: three replicas are ready; the certificate of %s is on its way

    export KUBECONFIG=%s
    kubectl -n gatehouse get pods,leases,secrets
    kubectl -n gatehouse logs deployment/gatehouse
    curl -k --resolve %s:8443:127.0.0.1 https://%s:8443/

Pods may use the image echo:latest (variable PORTS). Control-C ends it all; logs are below %s.
`, zone, config, zone, zone, dir)
	<-ctx.Done()
	return nil
}

// lead joins the ports of the machine's own network with what is in here, and
// writes a kubeconfig that works there.
func (s *stage) lead() (config string, err error) {
	for i := range ports {
		l, err := net.FileListener(os.NewFile(uintptr(3+i), ports[i].what))
		if err != nil {
			return "", fmt.Errorf("take over the port for %s: %w", ports[i].what, err)
		}
		go s.accept(l, i)
		if i > 0 {
			continue
		}
		text, err := os.ReadFile(s.Kubeconfig)
		if err != nil {
			return "", err
		}
		config = filepath.Join(s.o.dir, "kubeconfig")
		if err := os.WriteFile(config, []byte(strings.ReplaceAll(string(text), s.Server, "https://"+l.Addr().String())), 0o600); err != nil {
			return "", err
		}
	}
	return config, nil
}

func (s *stage) accept(l net.Listener, which int) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer func() { _ = c.Close() }()
			to := []string{kube.ServiceIP + ":443", s.node.Balancer("gatehouse/gatehouse") + ":80", s.node.Balancer("gatehouse/gatehouse") + ":443"}[which]
			server, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(server, c); _ = server.Close() }()
			_, _ = io.Copy(c, server)
		}()
	}
}
