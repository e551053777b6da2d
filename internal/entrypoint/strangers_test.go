package entrypoint

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

// knownOnly serves known.test, and *.below.test, with turns for one.
func knownOnly(t testing.TB, change func(*StrangersOptions, *TLSOptions, *Options)) (*Server, *Strangers) {
	t.Helper()
	pair, _, _ := selfSigned(t, "ecdsa")
	o := StrangersOptions{Processors: 4, Knows: func(h *tls.ClientHelloInfo) bool {
		return h.ServerName == "known.test" || strings.HasSuffix(h.ServerName, ".below.test")
	}}
	how := TLSOptions{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }}
	opts := Options{Handler: echo()}
	if change != nil {
		change(&o, &how, &opts)
	}
	s := NewStrangers(o)
	how.Strangers = s
	config, problems := TLSConfig(how)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	opts.TLS, opts.HostTLS, opts.Strangers = config, how.Hosts, s
	return start(t, opts), s
}

func refusedAsUnknown(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unrecognized name")
}

// TestStrangersWait: while others have all turns, names that are known are
// served as ever, and unknown ones are told that they are.
func TestStrangersWait(t *testing.T) {
	log := new(logged)
	hosts := new(HostTLS)
	own, _, _ := selfSigned(t, "ecdsa")
	set, _ := TLSConfig(TLSOptions{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &own, nil }})
	hosts.Set(map[string]*TLSSet{"options.test": {Config: set}})
	var asked atomic.Int64
	s, strangers := knownOnly(t, func(_ *StrangersOptions, how *TLSOptions, opts *Options) {
		how.Hosts = hosts
		how.ChallengeCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if asked.Add(1); h.ServerName != "proof.test" {
				return nil, errors.New("nothing is pending")
			}
			return &own, nil
		}
		opts.Logger = slog.New(slog.NewTextHandler(log, nil))
	})
	strangers.turns <- struct{}{}
	hosts.SetRest(set.Clone()) // as after a change of the authorities' files
	for _, c := range []struct {
		name  string
		alpn  string
		known bool
	}{
		{"known.test", "h2", true}, {"a.below.test", "http/1.1", true}, {"options.test", "h2", true}, {"proof.test", "acme-tls/1", true},
		{"other.test", "h2", false}, {"127.0.0.1", "", false}, {"proof.test", "h2", false},
	} {
		client := &tls.Config{ServerName: c.name}
		if c.alpn != "" {
			client.NextProtos = []string{c.alpn}
		}
		_, err := handshake(s, client)
		if c.known && err != nil || !c.known && !refusedAsUnknown(err) {
			t.Errorf("%s by %q: %v", c.name, c.alpn, err)
		}
	}
	if asked.Load() != 1 {
		t.Errorf("the challenge's certificate was asked for %d times", asked.Load())
	}
	if n := s.Counts().Strangers; n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
	if n := strings.Count(log.String(), "TLS handshake refused"); n != 1 || !strings.Contains(log.String(), "serverName=other.test refused=1 atOnce=1 next=1m0s") {
		t.Errorf("told %d times: %s", n, log)
	}
	strangers.waiting.Add(strangerQueue)
	for name, known := range map[string]bool{"known.test": true, "options.test": true, "other.test": false, "127.0.0.1": false} {
		for _, most := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if _, err := handshake(s, &tls.Config{ServerName: name, MaxVersion: most}); known && err != nil || !known && !refusedAsUnknown(err) {
				t.Errorf("%s, the queue is full: %v", name, err)
			}
		}
	}
	if _, err := handshake(s, &tls.Config{ServerName: "proof.test", NextProtos: []string{"acme-tls/1"}}); err != nil {
		t.Errorf("a challenge, the queue is full: %v", err)
	}
	if n := s.Counts().Strangers; n != 7 {
		t.Errorf("%d counted, want 7", n)
	}
	strangers.waiting.Add(-strangerQueue)
	<-strangers.turns
	for range 20 {
		for _, most := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if _, err := handshake(s, &tls.Config{ServerName: "other.test", MaxVersion: most}); err != nil {
				t.Errorf("other.test, when there is a turn: %v", err)
			}
		}
	}
	until(t, func() bool { return len(strangers.turns) == 0 && strangers.waiting.Load() == 0 })
}

// TestStrangersQueue: a turn is waited for, not for ever, and not where too many
// wait already.
func TestStrangersQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStrangers(StrangersOptions{Processors: 9})
		for range 2 {
			if !s.enter(1, time.Second) {
				t.Fatal("no turn at first")
			}
		}
		took := make(chan time.Duration, 3)
		for range 3 { // one more than may wait
			go func() {
				began := time.Now()
				if !s.enter(1, time.Second) {
					took <- -time.Since(began)
					return
				}
				took <- time.Since(began)
			}()
		}
		time.Sleep(time.Millisecond)
		<-s.turns
		for _, want := range []time.Duration{0, time.Millisecond, -time.Second} {
			if got := <-took; got != want {
				t.Errorf("waited %s, want %s", got, want)
			}
		}
		if len(s.turns) != 2 || s.waiting.Load() != 0 {
			t.Errorf("%d at work, %d wait", len(s.turns), s.waiting.Load())
		}
	})
}

// until waits for a condition.
func until(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come about")
		}
	}
}

// TestStrangersStall: who lets the server wait holds no turn.
func TestStrangersStall(t *testing.T) {
	s, strangers := knownOnly(t, nil)
	for _, most := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for range 20 {
			c, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go tls.Client(&stalled{Conn: c}, &tls.Config{ServerName: "other.test", InsecureSkipVerify: true, MaxVersion: most}).Handshake() //nolint:errcheck // it stalls
		}
	}
	until(t, func() bool { return s.Counts().Open == 40 })
	if _, err := handshake(s, &tls.Config{ServerName: "other.test"}); err != nil {
		t.Error(err)
	}
	until(t, func() bool { return len(strangers.turns) == 0 })
}

// stalled sends its first message and nothing more.
type stalled struct {
	net.Conn
	writes int
	second func() // before the second; nil: it does not come
}

func (c *stalled) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		if c.second == nil {
			c.Conn.Read(make([]byte, 1)) //nolint:errcheck // until the end of the test
			return 0, io.ErrClosedPipe
		}
		c.second()
	}
	return c.Conn.Write(p)
}

// TestStrangersComeBack: a client that has the server ask for another key share
// does not get around the turns.
func TestStrangersComeBack(t *testing.T) {
	s, strangers := knownOnly(t, nil)
	again := func(second func()) error {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		client := tls.Client(&stalled{Conn: c, second: second}, &tls.Config{ServerName: "other.test", InsecureSkipVerify: true,
			CurvePreferences: []tls.CurveID{tls.SecP256r1MLKEM768, tls.CurveP384}})
		err = client.Handshake()
		if err == nil && !client.ConnectionState().HelloRetryRequest {
			t.Error("the server asked for no other key share")
		}
		return err
	}
	if err := again(func() {}); err != nil {
		t.Fatal(err)
	}
	if err := again(func() { strangers.turns <- struct{}{} }); err == nil {
		t.Error("its second key share was computed with, with no turn free")
	}
	<-strangers.turns
	if err := again(func() {}); err != nil {
		t.Error(err)
	}
	until(t, func() bool { return len(strangers.turns) == 0 && strangers.waiting.Load() == 0 })
}

// TestStrangersStrict: where only known names are served the others are refused
// at once, and nobody is told.
func TestStrangersStrict(t *testing.T) {
	log := new(logged)
	s, _ := knownOnly(t, func(o *StrangersOptions, _ *TLSOptions, opts *Options) {
		o.Strict, opts.Logger = true, slog.New(slog.NewTextHandler(log, nil))
	})
	for name, known := range map[string]bool{"known.test": true, "other.test": false, "127.0.0.1": false} {
		if _, err := handshake(s, &tls.Config{ServerName: name}); known && err != nil || !known && !refusedAsUnknown(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := s.Counts().Strangers; n != 2 || log.String() != "" {
		t.Errorf("%d counted; %s", n, log)
	}
}

// TestStrangersTrusted: a peer that carries many clients is not held back.
func TestStrangersTrusted(t *testing.T) {
	s, strangers := knownOnly(t, func(_ *StrangersOptions, _ *TLSOptions, opts *Options) {
		opts.ForwardedTrusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	strangers.turns <- struct{}{}
	if _, err := handshake(s, &tls.Config{ServerName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
}

// TestStrangersHTTP3: by QUIC it is the same, with the same alert.
func TestStrangersHTTP3(t *testing.T) {
	s, strangers := knownOnly(t, func(_ *StrangersOptions, _ *TLSOptions, opts *Options) { opts.HTTP3 = true })
	dial := func(name string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		c, err := quic.DialAddr(ctx, s.Addr().String(), &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h3"}}, nil)
		if err == nil {
			c.CloseWithError(0, "") //nolint:errcheck // it is over
		}
		return err
	}
	if err := dial("other.test"); err != nil {
		t.Error(err)
	}
	until(t, func() bool { return len(strangers.turns) == 0 })
	strangers.turns <- struct{}{}
	if err := dial("known.test"); err != nil {
		t.Error(err)
	}
	var refused *quic.TransportError
	if err := dial("other.test"); !errors.As(err, &refused) || refused.ErrorCode != 0x100+alertUnknown {
		t.Errorf("%v", err)
	}
	if n := s.Counts().Strangers; n != 1 {
		t.Errorf("%d counted", n)
	}
}

// BenchmarkStrangers is what a handshake for a known name pays.
func BenchmarkStrangers(b *testing.B) {
	strangers := NewStrangers(StrangersOptions{Knows: func(h *tls.ClientHelloInfo) bool { return h.ServerName == "known.test" }})
	choose := configForClient(TLSOptions{Strangers: strangers, Hosts: new(HostTLS)})
	hello := &tls.ClientHelloInfo{ServerName: "known.test", SupportedProtos: []string{"h2", "http/1.1"}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := choose(hello); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRefused is a handshake for an unknown name that is refused, client's
// part included.
func BenchmarkRefused(b *testing.B) {
	s, strangers := knownOnly(b, nil)
	strangers.turns <- struct{}{}
	strangers.waiting.Store(strangerQueue)
	hello := recorded(b, &tls.Config{ServerName: "other.test"})
	answer := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		c.Write(hello) //nolint:errcheck // then Read says so
		if n, err := c.Read(answer); err != nil || n != 7 || answer[6] != alertUnknown {
			b.Fatal(answer[:n], err)
		}
		c.(*net.TCPConn).SetLinger(0) //nolint:errcheck // it has an effect or not
		c.Close()
	}
}
