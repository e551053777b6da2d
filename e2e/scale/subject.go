package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"gatehouse/bench/measure"
	"gatehouse/e2e/rig"
)

// subject is a router that is measured.
type subject struct {
	name, path string
	args       func(s *subject, dir string) ([]string, error)
	port       int

	process *rig.Process
	client  *http.Client
}

func gatehouse(path string) *subject {
	return &subject{name: "gatehouse", path: path, args: func(s *subject, dir string) ([]string, error) {
		file := filepath.Join(dir, "gatehouse.toml")
		text := fmt.Sprintf("[entryPoints.http]\naddress = \"127.0.0.1:%d\"\n[store]\nkind = \"kubernetes\"\nnamespace = %q\ndirectory = %q\n[kubernetes]\n",
			s.port, own, filepath.Join(dir, "store"))
		return []string{"-c", file}, os.WriteFile(file, []byte(text), 0o600)
	}}
}

// traefik with a throttle: how long it gathers changes, 2 s by its default.
func traefik(path, throttle string) *subject {
	return &subject{name: "traefik, throttle " + throttle, path: path, args: func(s *subject, _ string) ([]string, error) {
		return []string{
			fmt.Sprintf("--entryPoints.web.address=127.0.0.1:%d", s.port), "--providers.kubernetesIngress=true", "--log.level=ERROR",
			"--providers.providersThrottleDuration=" + throttle, "--global.checkNewVersion=false", "--global.sendAnonymousUsage=false",
		}, nil
	}}
}

// start runs it until stop.
func (s *subject) start(dir, kubeconfig string) (err error) {
	if s.port, err = rig.FreePort(); err != nil {
		return err
	}
	args, err := s.args(s, dir)
	if err != nil {
		return err
	}
	s.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	s.process, err = rig.Start(s.name, dir, []string{"KUBECONFIG=" + kubeconfig, "KUBERNETES_SERVICE_HOST=", "GOMEMLIMIT="}, s.path, args...)
	return err
}

func (s *subject) stop() error {
	if s.process == nil {
		return nil
	}
	s.client.CloseIdleConnections()
	return s.process.Stop(20 * time.Second)
}

// ask gives what app i answers.
func (s *subject) ask(ctx context.Context, i int) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", s.port), nil)
	if err != nil {
		return "", err
	}
	req.Host = host(i)
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s %q, %w", req.Host, resp.Status, body, err)
	}
	return string(body), err
}

// until waits for app i to answer want.
func (s *subject) until(ctx context.Context, i int, want string) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		got, err := s.ask(ctx, i)
		if err == nil && got == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s answers %q, %w, not %q", s.name, host(i), got, err, want)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// cost is what the process uses now.
func (s *subject) cost() (cpu float64, memory int64, err error) {
	pid := []int{s.process.Pid()}
	if cpu, err = measure.CPU(pid); err == nil {
		memory, err = measure.PSS(pid)
	}
	return cpu, memory, err
}
