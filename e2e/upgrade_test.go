package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"gatehouse/e2e/rig"
)

const upgradeConfig = `
[lifeCycle]
graceTimeOut = "6s"
[entryPoints.http]
address = "127.0.0.1:%d"
[entryPoints.https]
address = "127.0.0.1:%d"
[entryPoints.https.tls]
[ping]
entryPoint = "http"
[store]
directory = %q
[file]
filename = %q
`

const upgradeRoutes = `
http:
  routers:
    plain: {entryPoints: [http], rule: PathPrefix(` + "`/`" + `), service: app}
    secure: {entryPoints: [https], rule: PathPrefix(` + "`/`" + `), service: app, tls: {}}
  services:
    app: {loadBalancer: {servers: [{url: "%s"}]}}
`

// alone is gatehouse on one machine, without other servers.
type alone struct {
	dir, program, config string
	http, https          string
	process              *rig.Process
}

func newAlone(t *testing.T) *alone {
	t.Helper()
	built, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/slow") {
			time.Sleep(2 * time.Second)
		}
		if _, err := io.Copy(w, r.Body); err != nil {
			return
		}
		_, _ = io.WriteString(w, "answer")
	}))
	t.Cleanup(origin.Close)
	a := &alone{dir: t.TempDir()}
	a.program, a.config = filepath.Join(a.dir, "gatehouse"), filepath.Join(a.dir, "gatehouse.toml")
	install(t, built, a.program)
	plain, secure := rig.Port(t), rig.Port(t)
	a.http, a.https = fmt.Sprintf("127.0.0.1:%d", plain), fmt.Sprintf("127.0.0.1:%d", secure)
	write(t, a.config, fmt.Sprintf(upgradeConfig, plain, secure, filepath.Join(a.dir, "store"), filepath.Join(a.dir, "routes.yaml")))
	write(t, filepath.Join(a.dir, "routes.yaml"), fmt.Sprintf(upgradeRoutes, origin.URL))
	return a
}

// install puts a program in the place of another, as package managers do. It
// is copied by another process: a file this one has open for writing could be
// inherited by what other tests start meanwhile, and not be run ("text file busy").
func install(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("install", "-m", "0755", from, to+".new").CombinedOutput(); err != nil {
		t.Fatalf("install: %v\n%s", err, out)
	}
	if err := os.Rename(to+".new", to); err != nil {
		t.Fatal(err)
	}
}

func (a *alone) start(t *testing.T) {
	t.Helper()
	var err error
	if a.process, err = rig.Start("gatehouse", a.dir, nil, a.program, "-c", a.config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.process.Kill()
		if t.Failed() {
			t.Log(a.log())
		}
	})
	eventually(t, 10*time.Second, func() error { return expect(http.DefaultClient, "http://"+a.http+"/", "answer") })
}

func (a *alone) log() string {
	text, _ := os.ReadFile(filepath.Join(a.dir, "gatehouse.log"))
	return string(text)
}

// upgrade sends SIGUSR2 to a process, and waits until it has ended and a
// successor serves, whose number it gives.
func (a *alone) upgrade(t *testing.T, pid int, ended func() bool) int {
	t.Helper()
	before := len(a.log())
	if err := syscall.Kill(pid, syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	next := 0
	eventually(t, 20*time.Second, func() error {
		found := regexp.MustCompile(`the successor serves.* pid=(\d+)`).FindStringSubmatch(a.log()[before:])
		if found == nil {
			return errors.New("no successor serves")
		}
		next, _ = strconv.Atoi(found[1])
		return nil
	})
	t.Cleanup(func() { _ = syscall.Kill(next, syscall.SIGKILL) })
	eventually(t, 10*time.Second, func() error {
		if !ended() {
			return errors.New("the old process does not end")
		}
		return nil
	})
	return next
}

func (a *alone) ended() bool {
	select {
	case <-a.process.Done():
		return true
	default:
		return false
	}
}

// TestUpgradeLosesNothing: the program is replaced and told to take over under
// load, twice. Connections and requests of all kinds live through it.
func TestUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.start(t)
	load := newHardLoad(a)
	eventually(t, 20*time.Second, func() error {
		if load.answered.Load() < 300 {
			return fmt.Errorf("%d answers", load.answered.Load())
		}
		return nil
	})
	idle := a.keptConnection(t)
	install(t, a.program, a.program)
	pid := a.upgrade(t, a.process.Pid(), a.ended)
	if got := idle(); got != "closed" {
		t.Errorf("a connection that stayed idle for the whole upgrade was %s", got)
	}
	at := load.answered.Load()
	second := a.upgrade(t, pid, func() bool { return syscall.Kill(pid, 0) != nil })
	if load.answered.Load() < at+100 {
		t.Errorf("%d answers during the second upgrade", load.answered.Load()-at)
	}
	lost := load.stop()
	http3Served(t, a.https)
	t.Logf("%d requests answered over two upgrades (%d connections told to close), %d lost", load.answered.Load(), load.closed.Load(), len(lost))
	if len(lost) > 0 {
		t.Errorf("lost: %q", lost[:min(len(lost), 5)])
	}
	if load.closed.Load() == 0 {
		t.Error("no kept connection was told to close")
	}
	if err := syscall.Kill(second, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// http3Served: the UDP socket has come to the last process too.
func http3Served(t *testing.T, address string) {
	t.Helper()
	eventually(t, 10*time.Second, func() error {
		tr := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
		defer func() { _ = tr.Close() }()
		return expect(&http.Client{Transport: tr, Timeout: 2 * time.Second}, "https://"+address+"/", "answer")
	})
}

// keptConnection opens a connection and leaves it idle; the function tells what
// became of it.
func (a *alone) keptConnection(t *testing.T) func() string {
	t.Helper()
	c, err := net.Dial("tcp", a.http)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	in := bufio.NewReader(c)
	if closes, err := ask(c, in, "/"); err != nil || closes {
		t.Fatal(closes, err)
	}
	return func() string {
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := in.ReadByte(); errors.Is(err, io.EOF) {
			return "closed"
		} else if err != nil {
			return err.Error()
		}
		return "answered without a question"
	}
}

// ask sends a request that nobody may repeat and reads the answer.
func ask(c net.Conn, in *bufio.Reader, path string) (closes bool, err error) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody", path); err != nil {
		return false, err
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return false, err
	}
	text, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || string(text) != "bodyanswer") {
		err = fmt.Errorf("%s %q", res.Status, text)
	}
	return res.Close, err
}

// hardLoad asks by clients that repeat nothing.
type hardLoad struct {
	answered, closed atomic.Int64
	over             atomic.Bool
	clients          sync.WaitGroup
	mu               sync.Mutex
	lost             []string
}

func newHardLoad(a *alone) *hardLoad {
	l := &hardLoad{}
	secure := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	for i := range 6 {
		dial := func() (net.Conn, error) { return net.DialTimeout("tcp", a.http, 5*time.Second) }
		if i%2 == 1 {
			dial = func() (net.Conn, error) { return tls.Dial("tcp", a.https, secure) }
		}
		path := "/"
		if i < 2 {
			path = "/slow"
		}
		l.clients.Go(func() { l.kept(dial, path) })
		l.clients.Go(func() { l.fresh(dial) })
	}
	for range 2 {
		l.clients.Go(func() { l.http2(a.https) })
		l.clients.Go(func() { l.http3(a.https) })
	}
	return l
}

func (l *hardLoad) note(kind string, err error) {
	if err == nil {
		l.answered.Add(1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = append(l.lost, time.Now().Format(time.TimeOnly)+" "+kind+": "+err.Error())
}

// kept uses a connection for as long as it may.
func (l *hardLoad) kept(dial func() (net.Conn, error), path string) {
	for !l.over.Load() {
		c, err := dial()
		if err != nil {
			l.note("connect", err)
			continue
		}
		in := bufio.NewReader(c)
		for closes := false; !closes && !l.over.Load(); time.Sleep(3 * time.Millisecond) {
			closes, err = ask(c, in, path)
			if l.note("kept "+path, err); closes {
				l.closed.Add(1)
			}
			if err != nil {
				break
			}
		}
		_ = c.Close()
	}
}

// fresh connects for each request.
func (l *hardLoad) fresh(dial func() (net.Conn, error)) {
	for ; !l.over.Load(); time.Sleep(5 * time.Millisecond) {
		c, err := dial()
		if err == nil {
			_, err = ask(c, bufio.NewReader(c), "/")
			_ = c.Close()
		}
		l.note("fresh", err)
	}
}

func (l *hardLoad) http2(address string) {
	p := new(http.Protocols)
	p.SetHTTP2(true)
	tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer tr.CloseIdleConnections()
	client := &http.Client{Transport: tr, Timeout: 10 * time.Second}
	for ; !l.over.Load(); time.Sleep(3 * time.Millisecond) {
		res, err := client.Post("https://"+address+"/", "text/plain", io.NopCloser(strings.NewReader("body")))
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if err == nil && res.StatusCode != 200 {
				err = errors.New(res.Status)
			}
		}
		l.note("HTTP/2", err)
	}
}

// http3 connects for each request. One that was refused unread, which is said so,
// may be sent again (RFC 9114, section 4.1.1).
func (l *hardLoad) http3(address string) {
	for ; !l.over.Load(); time.Sleep(5 * time.Millisecond) {
		err := freshHTTP3(address)
		var refused *http3.Error
		if errors.As(err, &refused) && refused.ErrorCode == http3.ErrCodeRequestRejected {
			err = freshHTTP3(address)
		}
		l.note("HTTP/3", err)
	}
}

func freshHTTP3(address string) error {
	tr := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer func() { _ = tr.Close() }()
	return expect(&http.Client{Transport: tr, Timeout: 10 * time.Second}, "https://"+address+"/", "answer")
}

func (l *hardLoad) stop() []string {
	l.over.Store(true)
	l.clients.Wait()
	return l.lost
}

// TestFailedUpgradeChangesNothing: a successor that cannot serve leaves the
// process serving, which says why.
func TestFailedUpgradeChangesNothing(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.start(t)
	good, err := os.ReadFile(a.config)
	if err != nil {
		t.Fatal(err)
	}
	built, _ := binary()
	for what, c := range map[string]struct {
		program, config string
		want            string
	}{
		"a program that ends":   {"#!/bin/sh\nexit 3\n", string(good), "it ended before it was ready: exit status 3"},
		"no program":            {"nonsense", string(good), "exec format error"},
		"a mistake in the file": {"", string(good) + "\n[entryPointz]\n", "the configuration has mistakes"},
	} {
		write(t, a.config, c.config)
		if install(t, built, a.program); c.program != "" {
			write(t, a.program+".bad", c.program)
			install(t, a.program+".bad", a.program)
		}
		before := len(a.log())
		if err := a.process.Signal(syscall.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() error {
			for line := range strings.Lines(a.log()[before:]) {
				if strings.Contains(line, "this process serves on") && strings.Contains(line, c.want) {
					return nil
				}
			}
			return fmt.Errorf("%s: the log does not say %q: %s", what, c.want, a.log()[before:])
		})
		if err := expect(http.DefaultClient, "http://"+a.http+"/", "answer"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestSocketActivation: the sockets are systemd's, and so is the news.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	var files []*os.File
	for _, address := range []string{a.https, a.http} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		files = append(files, f)
	}
	news, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(a.dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer news.Close()
	// A client may come before there is a process.
	early, err := net.Dial("tcp", a.http)
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -c "$1"`, a.program, a.config)
	cmd.ExtraFiles = files
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=https:http", "NOTIFY_SOCKET="+filepath.Join(a.dir, "notify"))
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		_ = f.Close()
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	}()
	if _, err := ask(early, bufio.NewReader(early), "/"); err != nil {
		t.Error(err)
	}
	_ = early.Close()
	said := make([]byte, 100)
	_ = news.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := news.Read(said)
	if want := fmt.Sprintf("READY=1\nMAINPID=%d", cmd.Process.Pid); err != nil || string(said[:n]) != want {
		t.Errorf("systemd was told %q, %v", said[:n], err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	if err := expect(client, "https://"+a.https+"/", "answer"); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if n, err = news.Read(said); err != nil || string(said[:n]) != "STOPPING=1" {
		t.Errorf("systemd was told %q, %v", said[:n], err)
	}
}
