package handover

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain lets this program play the successor.
func TestMain(m *testing.M) {
	play := os.Getenv("HANDOVER_PLAY")
	if play == "" {
		os.Exit(m.Run())
	}
	in, err := Take()
	if err != nil {
		in.Fail(err)
		os.Exit(1)
	}
	switch play {
	case "fail":
		in.Fail(os.ErrPermission)
	case "packets":
		_, none, err := in.UDP("plain", "127.0.0.1:0")
		if none != nil || err != nil {
			in.Fail(os.ErrExist)
			return
		}
		_, packets, err := in.UDP("web", "127.0.0.1:0")
		if packets == nil || err != nil {
			in.Fail(os.ErrInvalid)
			return
		}
		said := make([]byte, 100)
		n, _ := packets.Read(said)
		_, end := packets.Read(said[n:])
		in.Fail(fmt.Errorf("read %q, %v", said[:n], end))
	case "hang":
		time.Sleep(time.Minute)
	case "serve":
		l, err := in.TCP("web", ":0")
		if l != nil && err == nil {
			os.Exit(2) // it is bound to loopback, not to all addresses
		}
		if l, err = in.TCP("web", "127.0.0.1:0"); err != nil {
			in.Fail(err)
			return
		}
		if rest := in.Rest(); len(rest) != 1 || !strings.HasPrefix(rest[0], "other 127.0.0.1:") {
			in.Fail(os.ErrInvalid)
			return
		}
		if !in.Predecessor() || !in.Upgrade() || os.Getenv(envCount) != "" {
			in.Fail(os.ErrExist)
			return
		}
		in.Ready()
		<-in.Alone()
		c, err := l.Accept()
		if err == nil {
			c.Write([]byte("hello"))
			c.Close()
		}
	}
}

func sockets(t *testing.T) (list []Socket, address string) {
	t.Helper()
	for _, name := range []string{"web", "other"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		t.Cleanup(func() { f.Close() })
		if list = append(list, Socket{Name: name, File: f}); name == "web" {
			address = l.Addr().String()
		}
	}
	return list, address
}

func TestStart(t *testing.T) {
	list, address := sockets(t)
	t.Setenv("HANDOVER_PLAY", "serve")
	next, err := Start(t.Context(), Plan{Path: os.Args[0], Sockets: list})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	text := make([]byte, 5)
	if n, _ := c.Read(text); n > 0 {
		t.Error("the successor did not wait for the end of this process")
	}
	next.Drained()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(text); string(text[:n]) != "hello" {
		t.Errorf("%q, %v", text[:n], err)
	}
}

func TestStartTellsWhy(t *testing.T) {
	for play, want := range map[string]string{
		"fail": "permission denied",
		"end":  "it ended before it was ready: exit status 0",
		"hang": "it was not ready in time and was killed: context deadline exceeded",
	} {
		list, _ := sockets(t)
		t.Setenv("HANDOVER_PLAY", play)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if play == "hang" {
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		}
		_, err := Start(ctx, Plan{Path: os.Args[0], Sockets: list})
		cancel()
		for _, s := range list {
			if !nonblocking(t, s.File) { // accepting could no longer be interrupted
				t.Errorf("%s: the socket %s was made blocking for this process too", play, s.Name)
			}
		}
		if err == nil || !strings.HasPrefix(err.Error(), "start successor "+os.Args[0]+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", play, err, want)
		}
	}
	if _, err := Start(t.Context(), Plan{Path: "/nowhere"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}

func nonblocking(t *testing.T, f *os.File) (yes bool) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		yes = err == nil && flags&unix.O_NONBLOCK != 0
	})
	return yes
}

// TestPackets: a socket for datagrams comes with one over which they are passed
// on, where it has one.
func TestPackets(t *testing.T) {
	var plan Plan
	for _, name := range []string{"other", "plain", "web"} {
		c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		f, err := c.File()
		c.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		plan.Sockets = append(plan.Sockets, Socket{Name: name, File: f})
	}
	for i, word := range map[int]string{0: "for another", 2: "hello"} {
		ours, theirs, err := Packets()
		if err != nil {
			t.Fatal(err)
		}
		plan.Sockets[i].Packets = theirs
		defer theirs.Close()
		if _, err := ours.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		ours.Close()
	}
	t.Setenv("HANDOVER_PLAY", "packets")
	plan.Path = os.Args[0]
	if _, err := Start(t.Context(), plan); err == nil || !strings.HasSuffix(err.Error(), `read "hello", EOF`) {
		t.Error(err)
	}
}

// TestTakeNothing: variables meant for another process are nobody's.
func TestTakeNothing(t *testing.T) {
	t.Setenv(envCount, "3")
	t.Setenv(envPID, "1")
	in, err := Take()
	if err != nil || in.Upgrade() || in.Predecessor() || len(in.Rest()) > 0 || in.Ready() != nil {
		t.Errorf("%+v, %v", in, err)
	}
}

// TestTakeRefuses what is no listening socket.
func TestTakeRefuses(t *testing.T) {
	c := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web HANDOVER_PLAY=say exec "$0" 3</dev/null`, os.Args[0])
	if err := c.Run(); err == nil {
		t.Error("a file was taken for a socket")
	}
}
