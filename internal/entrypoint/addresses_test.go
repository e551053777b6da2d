package entrypoint

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
)

// logged is a log that may be read while it is written.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAddresses(t *testing.T) {
	a := NewAddresses(2, netip.MustParsePrefix("192.0.2.0/28"))
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	udp := func(ip string) net.Addr { return &net.UDPAddr{IP: net.ParseIP(ip), Port: 2, Zone: ""} }
	var held []netip.Addr
	for i, step := range []struct {
		client net.Addr
		ok     bool
	}{
		{tcp("198.51.100.1"), true}, {udp("198.51.100.1"), true}, {tcp("::ffff:198.51.100.1"), false},
		{tcp("198.51.100.2"), true},
		{tcp("2001:db8::1"), true}, {tcp("2001:db8::ffff:1"), true}, {tcp("2001:db8::2"), false}, {tcp("2001:db8:0:1::2"), true},
		{tcp("192.0.2.1"), true}, {tcp("192.0.2.1"), true}, {tcp("192.0.2.1"), true}, {tcp("192.0.2.16"), true},
	} {
		counted, ok := a.take(step.client)
		if ok != step.ok {
			t.Errorf("step %d, %v: %t", i, step.client, ok)
		}
		if held = append(held, counted); ok != counted.IsValid() && !strings.HasPrefix(step.client.String(), "192.0.2.1:") {
			t.Errorf("step %d, %v: counted under %v", i, step.client, counted)
		}
	}
	if !a.crowded(tcp("198.51.100.2")) || a.crowded(tcp("198.51.100.3")) {
		t.Error("who has half of what it may is crowded, nobody else")
	}
	for _, counted := range held {
		a.giveBack(counted)
	}
	for i := range a.shards {
		if n := len(a.shards[i].open); n > 0 {
			t.Errorf("%d addresses still count", n)
		}
	}
	var none *Addresses = NewAddresses(0)
	if counted, ok := none.take(tcp("198.51.100.1")); !ok || counted.IsValid() || none.crowded(tcp("198.51.100.1")) {
		t.Error("without a bound somebody is counted")
	}
	none.giveBack(netip.Addr{})
}

// TestPerAddress: the bound holds for all protocols together, is told of once,
// and is no other client's.
func TestPerAddress(t *testing.T) {
	log := new(logged)
	bound := NewAddresses(2)
	options := Options{Handler: echo(), PerAddress: bound, Logger: slog.New(slog.NewTextHandler(log, nil))}
	plain := start(t, options)
	options.TLS, options.HTTP3 = testTLS(t), true
	secure := start(t, options)
	one, _ := kept(t, plain)
	h3 := h3Client(t)
	ask := func() error {
		res, err := h3.Get("https://" + secure.Addr().String() + "/")
		if err == nil {
			res.Body.Close()
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got := exchange(t, plain, ""); status(got) != "429" {
			t.Errorf("a third connection: %q", got)
		}
	}
	if got := exchange(t, secure, ""); got != "" {
		t.Errorf("a third connection, for TLS: %q", got)
	}
	if n := strings.Count(log.String(), "has as many as it may"); n != 1 || !strings.Contains(log.String(), "client=127.0.0.1 most=2 refused=1") {
		t.Errorf("told %d times: %s", n, log)
	}
	if p, s := plain.Counts(), secure.Counts(); p != (Counts{1, 0, 2, 0}) || s != (Counts{1, 0, 1, 0}) {
		t.Errorf("%+v %+v", p, s)
	}
	other, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).Dial("tcp", plain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if res := once(t, other, bufio.NewReader(other)); res.StatusCode != 200 {
		t.Errorf("another client: %s", res.Status)
	}
	one.Close()
	await(t, "room", func() bool {
		return status(exchange(t, plain, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")) == "200"
	})
	// HTTP/3 is bounded like the others.
	one, _ = kept(t, plain)
	if res, err := h3Client(t).Get("https://" + secure.Addr().String() + "/"); err == nil {
		res.Body.Close()
		t.Error("a third connection by HTTP/3 was taken")
	}
	one.Close()
}

// TestPerAddressBehindBalancer: who passes connections on by the PROXY protocol
// is not the client, and its own are not counted.
func TestPerAddressBehindBalancer(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	s := start(t, Options{Handler: echo(), PerAddress: NewAddresses(1, trusted...), ProxyTrusted: trusted})
	open := func(client string) string {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		header := "PROXY TCP4 " + client + " 192.0.2.200 1000 80\r\n"
		if client == "" {
			header = "PROXY UNKNOWN\r\n"
		}
		io.WriteString(c, header+"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(client, err)
		}
		return res.Status[:3]
	}
	for i, step := range [][2]string{{"192.0.2.1", "200"}, {"192.0.2.1", "429"}, {"192.0.2.2", "200"}, {"", "200"}, {"", "200"}} {
		if got := open(step[0]); got != step[1] {
			t.Errorf("step %d, client %q: %s, want %s", i, step[0], got, step[1])
		}
	}
}
