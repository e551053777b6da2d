package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/e2e/rig"
)

// startAs is start with something around the program, in a shell's words.
func (a *alone) startAs(t *testing.T, around string) {
	t.Helper()
	var err error
	a.process, err = rig.Start("gatehouse", a.dir, nil, "/bin/sh", "-c", around+` exec "$0" -c "$1"`, a.program, a.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.process.Kill()
		if t.Failed() {
			t.Log(a.log())
		}
	})
	eventually(t, 10*time.Second, func() error { return a.asked() })
}

// asked asks once, on a connection of its own.
func (a *alone) asked() error {
	c, err := net.DialTimeout("tcp", a.http, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = ask(c, bufio.NewReader(c), "/")
	return err
}

// TestDescriptorsRunOut: more clients than descriptors cost neither the process
// nor the CPU, and those who come later are served. The budget that is told at
// the start is never used up by clients alone.
func TestDescriptorsRunOut(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.startAs(t, "ulimit -n 100;")
	if log := a.log(); !strings.Contains(log, "connections=80 descriptors=100") {
		t.Errorf("the limits are not told at the start")
	}
	before, err := cpuOf(a.process.Pid())
	if err != nil {
		t.Fatal(err)
	}
	const clients = 400
	var held []net.Conn
	for range clients {
		c, err := net.DialTimeout("tcp", a.http, time.Second)
		if err != nil {
			break
		}
		held = append(held, c)
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n") // half of a head
	}
	time.Sleep(4 * time.Second)
	after, err := cpuOf(a.process.Pid())
	if err != nil {
		t.Fatal(err)
	}
	used := after - before
	if used > time.Second {
		t.Errorf("%v of CPU while %d clients were there", used, len(held))
	}
	for _, c := range held {
		_ = c.Close()
	}
	gone := time.Now()
	eventually(t, 3*time.Second, a.asked)
	back := time.Since(gone).Round(time.Millisecond)
	if before, err = cpuOf(a.process.Pid()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * time.Second)
	if rest, err := cpuOf(a.process.Pid()); err != nil || rest-before > 100*time.Millisecond {
		t.Errorf("%v of CPU in 2 s after the storm, %v", rest-before, err)
	}
	t.Logf("%d connections to a process with 100 descriptors: %v of CPU, served again %v after they left", len(held), used, back)
}

// TestMemoryShed: with too little memory connections are not kept, then
// refused; the process lives, and serves once there is room.
func TestMemoryShed(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.startAs(t, "GOMEMLIMIT=36MiB;export GOMEMLIMIT;")
	var held []net.Conn
	defer func() {
		for _, c := range held {
			_ = c.Close()
		}
	}()
	refused := 0
	head := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 30_000) // without an end
	for i := 0; i < 6000 && refused < 5; i++ {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%s", a.http[strings.LastIndexByte(a.http, ':')+1:]), time.Second)
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(3 * time.Second))
		if _, err := io.WriteString(c, head); err != nil {
			refused++
			_ = c.Close()
			continue
		}
		if held = append(held, c); i%50 == 0 {
			if err := a.asked(); err != nil {
				refused++
			}
		}
	}
	if refused == 0 {
		t.Fatalf("%d long heads were held at once with 40 MiB", len(held))
	}
	text := a.log()
	for _, want := range []string{"level=full"} {
		if !strings.Contains(text, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	t.Logf("%d long heads held, then refused", len(held))
	for _, c := range held {
		_ = c.Close()
	}
	held = nil
	eventually(t, 10*time.Second, a.asked)
}

// TestReadyFailsFirst: a replica that is told to stop says so to load balancers,
// and serves on until they had time to hear it.
func TestReadyFailsFirst(t *testing.T) {
	t.Parallel()
	a := newAlone(t)
	a.process = nil
	appendTo(t, a.config, "requestAcceptGraceTimeout = \"1500ms\"\n", "[lifeCycle]\n")
	a.start(t)
	c, err := net.Dial("tcp", a.http)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if err := a.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told := time.Now()
	for _, s := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR2} { // of use no more, but no end either
		if err := a.process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, time.Second, func() error { return expect(http.DefaultClient, "http://"+a.http+"/ready", "503") })
	if closes, err := ask(c, in, "/"); closes || err != nil {
		t.Errorf("not served as before: closes %v, %v", closes, err)
	}
	if err := a.asked(); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	var once sync.Once
	for {
		closes, err := ask(c, in, "/")
		if err != nil {
			t.Fatalf("the connection ended without a word after %v: %v", time.Since(told), err)
		}
		if closes {
			break
		}
		once.Do(func() { t.Log("kept connections are kept while load balancers listen") })
		time.Sleep(20 * time.Millisecond)
	}
	if took := time.Since(told); took < time.Second {
		t.Errorf("connections were closed %v after the signal", took)
	}
	eventually(t, 5*time.Second, func() error {
		if !a.ended() {
			return errors.New("the process does not end")
		}
		return nil
	})
}

// appendTo puts text behind a line of a file.
func appendTo(t *testing.T, file, text, behind string) {
	t.Helper()
	old := read(t, file)
	if !strings.Contains(old, behind) {
		t.Fatalf("%s has no %q", filepath.Base(file), behind)
	}
	write(t, file, strings.Replace(old, behind, behind+text, 1))
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
