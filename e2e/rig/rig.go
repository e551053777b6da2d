// Package rig starts the real servers that tests and `make cluster` need, each
// as a process of its own on loopback: etcd with both APIs, the ACME test CA
// Pebble, the Knot DNS server. It fakes nothing; the Route 53 double, which
// cannot be had for real, is in rig/route53. Production code never imports it.
package rig

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Find gives the path of a server's binary: in PATH, or where e2e/tools/fetch
// puts it. The error says how to get it.
func Find(name string) (string, error) {
	for _, dir := range []string{".cache/bin", ".cache/debian/root/usr/sbin"} {
		path := filepath.Join(Root(), dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return "", fmt.Errorf("find %s: neither in %s/.cache nor in PATH; `make tools` gets it", name, Root())
}

// Root is the top folder of the checkout this package was built from.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// FreePort gives a TCP and UDP port of 127.0.0.1 that nobody listens on now. It
// is chosen at random below the ports that outgoing connections use, so that
// nothing takes it before its server does.
func FreePort() (int, error) {
	for range 50 {
		address := fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(22000))
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", address)
		_ = l.Close()
		if err == nil {
			_ = u.Close()
			return l.Addr().(*net.TCPAddr).Port, nil
		}
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// Process is a started server. Its methods may be called from any goroutine.
type Process struct {
	Name string
	Log  string // file that holds its output

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// Start runs path with args; output is appended to <dir>/<name>.log. The
// process gets SIGKILL when this one dies (Linux).
func Start(name, dir string, env []string, path string, args ...string) (*Process, error) {
	p := &Process{Name: name, Log: filepath.Join(dir, name+".log")}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = deathSignal()
	done := make(chan struct{})
	started := make(chan error, 1)
	// The death signal follows the starting thread, not the process: the
	// thread must live as long as the server.
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = cmd.Wait()
		close(done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.cmd, p.done = cmd, done
	return p, nil
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal; one to a process that has ended is no error.
func (p *Process) Signal(s syscall.Signal) error {
	err := p.cmd.Process.Signal(s)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Kill ends it with SIGKILL and waits.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.Signal(syscall.SIGKILL)
	<-p.done
}

// Stop asks with SIGTERM and waits for the end, whatever the exit status; after
// grace it kills and gives an error.
func (p *Process) Stop(grace time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.Signal(syscall.SIGCONT)
	_ = p.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		return nil
	case <-time.After(grace):
		_ = p.Signal(syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("stop %s: still running %s after SIGTERM", p.Name, grace)
	}
}

// WaitFor calls check until it gives nil, the process ends or ctx does.
func (p *Process) WaitFor(ctx context.Context, check func(context.Context) error) error {
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once: %w; its output:\n%s", p.Name, p.err, tail(p.Log))
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; its output:\n%s", p.Name, err, tail(p.Log))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Answers asks url once: anything but 200 is an error. It is a check for WaitFor.
func Answers(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

func tail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	const most = 4000
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return string(text)
}

func dialCheck(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return c.Close()
	}
}
