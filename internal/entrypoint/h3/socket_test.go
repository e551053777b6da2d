package h3

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// pair gives two ends that packets go through.
func pair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { c.Close() })
	}
	return ends[0], ends[1]
}

// named answers with a name; /slow waits to be released.
func named(name string, entered chan<- struct{}, release <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-release
		}
		io.WriteString(w, name)
	})
}

func text(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// TestSuccessor: while a process drains, its connections go on and new ones are
// its successor's, on the same socket; afterwards that one reads it.
func TestSuccessor(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	old := start(t, Options{Handler: named("old", entered, release)})
	f, err := old.File()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := net.FilePacketConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	to, from := pair(t)
	next := start(t, Options{Handler: named("new", nil, nil), Socket: shared.(*net.UDPConn), From: from})
	busy, kept := client(t), client(t)
	slow := make(chan string, 1)
	go func() {
		got, err := text(busy, url(old, "/slow"))
		if err != nil {
			got = err.Error()
		}
		slow <- got
	}()
	<-entered
	if got, err := text(kept, url(old, "/")); got != "old" {
		t.Errorf("before: %q, %v", got, err)
	}
	old.PassOn(to)
	gone := make(chan error, 1)
	go func() { gone <- old.Shutdown(context.Background()) }()
	for i := range 20 {
		if got, err := text(client(t), url(old, "/")); got != "new" {
			t.Fatalf("new connection %d: %q, %v", i, got, err)
		}
	}
	select {
	case err := <-gone:
		t.Fatalf("it did not wait for the request under way: %v", err)
	default:
	}
	fresh := client(t)
	if got, err := text(fresh, url(old, "/")); got != "new" {
		t.Errorf("a connection to be kept: %q, %v", got, err)
	}
	close(release)
	if got := <-slow; got != "old" {
		t.Errorf("the request under way: %q", got)
	}
	if err := <-gone; err != nil {
		t.Error(err)
	}
	await(t, "the successor to read the socket", func() bool { return next.socket.from.Load() == nil })
	for _, c := range []*http.Client{fresh, client(t)} {
		if got, err := text(c, url(old, "/")); got != "new" {
			t.Errorf("afterwards: %q, %v", got, err)
		}
	}
	if n := len(next.conns.list()); n < 20 {
		t.Errorf("the successor knows %d connections", n)
	}
}

// TestKeep: what is not ours is passed on with all that is known of it, the rest
// moves to the front and stays in its buffers.
func TestKeep(t *testing.T) {
	to, from := pair(t)
	s := &socket{room: make([]byte, passedSize)}
	copy(s.ids[:], "ours")
	s.to.Store(to)
	sender := &net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 4711}
	short := func(id string) []byte { return append([]byte{0x40}, id+"padding and more"...) }
	long := func(id string) []byte {
		return append(append([]byte{0xc0, 0, 0, 0, 1, byte(len(id))}, id...), "padding and more"...)
	}
	packets := [][]byte{short("theirs...."), short("ours123456"), long("ours654321"), long("chosen by whoever"), {0x40}, short("ours777777")}
	buffers, ms := make([][]byte, len(packets)), make([]ipv4.Message, len(packets))
	for i, p := range packets {
		buffers[i] = make([]byte, 100)
		ms[i] = ipv4.Message{Buffers: [][]byte{buffers[i]}, OOB: make([]byte, 128), Addr: sender}
		ms[i].N, ms[i].NN = copy(buffers[i], p), copy(ms[i].OOB, []byte{byte(i), 7})
	}
	if n := s.keep(ms); n != 3 {
		t.Fatalf("%d kept, want 3", n)
	}
	for i, was := range []int{1, 2, 5} {
		if m := ms[i]; !bytes.Equal(m.Buffers[0][:m.N], packets[was]) || &m.Buffers[0][0] != &buffers[i][0] || m.OOB[0] != byte(was) || m.NN != 2 {
			t.Errorf("kept %d: %q %v", i, m.Buffers[0][:m.N], m.OOB[:m.NN])
		}
	}
	next := &socket{room: make([]byte, passedSize)}
	next.from.Store(from)
	from.SetReadDeadline(time.Now().Add(20 * time.Second))
	for _, was := range []int{0, 3, 4} {
		got := []ipv4.Message{{Buffers: [][]byte{make([]byte, 100)}, OOB: make([]byte, 128)}}
		if n, err := next.ReadBatch(got, 0); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		m := got[0]
		if diff := cmp.Diff(packets[was], m.Buffers[0][:m.N]); diff != "" || m.OOB[0] != byte(was) || m.Addr.String() != sender.String() {
			t.Errorf("passed on: %v from %v: %s", m.OOB[:m.NN], m.Addr, diff)
		}
	}
}

// FuzzUnpack: whatever comes, nothing is taken that does not fit, and what was
// packed comes out.
func FuzzUnpack(f *testing.F) {
	m := ipv4.Message{Buffers: [][]byte{[]byte("packet")}, OOB: []byte{1, 2}, N: 6, NN: 2, Addr: net.UDPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:443"))}
	b, _ := pack(nil, &m)
	f.Add(b)
	f.Add([]byte{0, 200, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		m := ipv4.Message{Buffers: [][]byte{make([]byte, 1500)}, OOB: make([]byte, 128)}
		if !unpack(b, &m) {
			return
		}
		again, ok := pack(nil, &m)
		var back ipv4.Message
		back.Buffers, back.OOB = [][]byte{make([]byte, 1500)}, make([]byte, 128)
		if !ok || !unpack(again, &back) || back.N != m.N || back.NN != m.NN || back.Addr.String() != m.Addr.String() {
			t.Errorf("%q", b)
		}
	})
}
