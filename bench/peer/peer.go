// Package peer runs the proxies that are compared: it finds them, writes each
// a sensible configuration for the same task, and starts them on the cores
// given. What is switched off or on is in the configurations, one file each.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/bench/load"
	"gatehouse/bench/measure"
	"gatehouse/e2e/rig"
)

// Setup is the task: pass what comes for Host, at an entry point with TLS and
// at one without, to the origin.
type Setup struct {
	Dir    string // for the proxy's files
	Origin netip.AddrPort
	Host   string
	Hosts  int    // 0, or: further routes, one for each load.HostName
	Cert   string // file
	Key    string // file
	Cores  []int
	Conns  int  // how many connections come
	Chain  bool // headers, strip prefix and access log before the origin; Gatehouse only

	Changing bool // only / is passed, so that Change can add; Gatehouse and Traefik only

	HTTP, HTTPS netip.AddrPort // where it listens; Start chooses them

	tlsNeedsRouters bool // Traefik: a router serves TLS or plain, not both
}

// Workers is how many threads or processes a peer that must be told runs.
func (s Setup) Workers() int { return len(s.Cores) }

// connections is the limit for peers that must be told one: they reserve
// memory by it.
func (s Setup) connections() int { return max(4096, 2*s.Conns+1024) }

// Peer is one kind of proxy.
type Peer struct {
	Name string
	Note string // what its configuration says beyond the task, for the report
	Path string // its binary
	ask  []string
	// files writes its configuration: names in Setup.Dir and their text.
	files func(Setup) map[string]string
	args  func(Setup) []string
	env   []string
}

// Find gives the peers that are here, Gatehouse (the binary named) first, and
// what is to be said of those that are not.
func Find(gatehouse, traefikPath string) (peers []Peer, missing []error) {
	peers = append(peers, gatehousePeer(gatehouse))
	for _, p := range []Peer{nginx(), haproxy(), caddy()} {
		path, env, err := find(p.Name)
		if err != nil {
			missing = append(missing, err)
			continue
		}
		p.Path, p.env = path, append(p.env, env...)
		peers = append(peers, p)
	}
	if traefikPath != "" {
		peers = append(peers, traefik(traefikPath))
	} else {
		missing = append(missing, errors.New("traefik: the variable TRAEFIK names no binary"))
	}
	return peers, missing
}

// find looks where bench/tools/fetch puts a binary, then in PATH. Debian's,
// unpacked, must be told where their libraries are.
func find(name string) (path string, env []string, err error) {
	if path = filepath.Join(rig.Root(), ".cache/bin", name); exists(path) {
		return path, nil, nil
	}
	root := filepath.Join(rig.Root(), ".cache/debian/peers")
	if path = filepath.Join(root, "usr/sbin", name); exists(path) {
		var dirs []string
		for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
			found, _ := filepath.Glob(filepath.Join(root, pattern))
			dirs = append(dirs, found...)
		}
		return path, []string{"LD_LIBRARY_PATH=" + strings.Join(dirs, ":")}, nil
	}
	if path, err = exec.LookPath(name); err == nil {
		return path, nil, nil
	}
	return "", nil, fmt.Errorf("%s: neither in %s nor in PATH; bench/tools/fetch gets it", name, filepath.Join(rig.Root(), ".cache"))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Version asks the binary, and gives the first line that it says.
func (p Peer) Version(ctx context.Context) string {
	cmd := exec.CommandContext(ctx, p.Path, p.ask...)
	cmd.Env = append(os.Environ(), p.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "unknown version: " + err.Error()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	return strings.TrimSpace(line)
}

// Running is a proxy that answers. Stop it.
type Running struct {
	Peer
	Setup
	process *rig.Process
	// Loading is from its start to its first answer; of the last host, if
	// there are several.
	Loading time.Duration
}

const (
	startPatience = 60 * time.Second
	stopPatience  = 5 * time.Second
)

// Start runs p and waits until it answers at both entry points.
func Start(ctx context.Context, p Peer, s Setup) (*Running, error) {
	for _, addr := range []*netip.AddrPort{&s.HTTP, &s.HTTPS} {
		port, err := rig.FreePort()
		if err != nil {
			return nil, err
		}
		*addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	for name, text := range p.files(s) {
		file := filepath.Join(s.Dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o600)); err != nil {
			return nil, fmt.Errorf("configure %s: %w", p.Name, err)
		}
	}
	// taskset runs it in its own place: same process, and what a proxy
	// derives from the number of cores is right.
	args := append([]string{"-c", measure.List(s.Cores), p.Path}, p.args(s)...)
	begin := time.Now()
	process, err := rig.Start(p.Name, s.Dir, p.env, "taskset", args...)
	if err != nil {
		return nil, err
	}
	r := &Running{Peer: p, Setup: s, process: process}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := process.WaitFor(ctx, r.await); err != nil {
		process.Kill()
		return nil, err
	}
	r.Loading = time.Since(begin)
	return r, nil
}

// await asks until there is an answer, more often than WaitFor would: how long
// loading takes is one of the figures.
func (r *Running) await(ctx context.Context) error {
	for {
		err := r.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-r.process.Done():
			return err
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// answers asks both entry points once.
func (r *Running) answers(ctx context.Context) error {
	last := r.Host
	if r.Hosts > 0 {
		last = load.HostName(r.Hosts-1, last)
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: r.Host},
	}, Timeout: 5 * time.Second}
	for url, host := range map[string]string{"http://" + r.HTTP.String(): last, "https://" + r.HTTPS.String(): r.Host} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/", nil)
		if err != nil {
			return err
		}
		req.Host = host
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, res.Status)
		}
	}
	return nil
}

// Pids are its processes.
func (r *Running) Pids() ([]int, error) { return measure.Tree(r.process.Pid()) }

// Stop ends it. How it ends is not what is measured, so it is killed if it
// lingers.
func (r *Running) Stop() { _ = r.process.Stop(stopPatience) }
