package rig

import (
	"fmt"
	"testing"
	"time"
)

// Binary is Find for a test: what cannot be had fails it, with the reason.
func Binary(t testing.TB, name string) string {
	t.Helper()
	path, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Port is FreePort for a test.
func Port(t testing.TB) int {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// StartEtcd runs etcd until the test ends.
func StartEtcd(t testing.TB) *Etcd {
	t.Helper()
	e, err := NewEtcd(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Kill() })
	return e
}

// StartPebble runs Pebble until the test ends.
func StartPebble(t testing.TB, o PebbleOptions) *Pebble {
	t.Helper()
	p, err := NewPebble(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill() })
	return p
}

// StartKnot runs Knot with the zones given until the test ends.
func StartKnot(t testing.TB, zones ...string) *Knot {
	t.Helper()
	k, err := NewKnot(t.Context(), t.TempDir(), zones...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Kill() })
	return k
}

// Challtest is a running pebble-challtestsrv: a DNS server set by HTTP, for
// tests that need no real zone.
type Challtest struct {
	*Process
	DNS        string // host:port to give to Pebble
	Management string // URL of its API
}

// StartChalltest runs it, DNS and management only, until the test ends.
func StartChalltest(t testing.TB) *Challtest {
	t.Helper()
	dns, management := Port(t), Port(t)
	c := &Challtest{DNS: fmt.Sprintf("127.0.0.1:%d", dns), Management: fmt.Sprintf("http://127.0.0.1:%d", management)}
	var err error
	// Without -defaultIPv6 "" Pebble would dial ::1 only.
	c.Process, err = Start("challtestsrv", t.TempDir(), nil, Binary(t, "pebble-challtestsrv"),
		"-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dnsserver", c.DNS, "-http01", "", "-https01", "",
		"-tlsalpn01", "", "-doh", "", "-management", fmt.Sprintf("127.0.0.1:%d", management))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Kill() })
	deadline := time.Now().Add(10 * time.Second)
	check := dialCheck(fmt.Sprintf("127.0.0.1:%d", management))
	for err := check(t.Context()); err != nil; err = check(t.Context()) {
		if time.Now().After(deadline) {
			t.Fatalf("challtestsrv is not ready: %v; its output:\n%s", err, tail(c.Log))
		}
		time.Sleep(20 * time.Millisecond)
	}
	return c
}
