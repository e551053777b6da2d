package cert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/store"
)

// tlsCert signs itself with key.
func tlsCert(key any, label string, notAfter time.Time, names ...string) tls.Certificate {
	template := &x509.Certificate{SerialNumber: must(rand.Int(rand.Reader, big.NewInt(1<<62))),
		NotBefore: notAfter.Add(-90 * day), NotAfter: notAfter, DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature}
	template.Subject.CommonName = label
	var public any
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		public = k.Public()
	case *rsa.PrivateKey:
		public = k.Public()
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, public, key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

type fakeConn struct {
	net.Conn
	local net.Addr
}

func (c fakeConn) LocalAddr() net.Addr { return c.local }

func TestIndex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newSmallCA(t, 90*day)
		ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		now := time.Now()
		managed := func(end time.Duration, names ...string) *Certificate {
			return must(Check(ca.bundle(names, now.Add(-day), now.Add(end)), nil))
		}
		exact, wild, ip := managed(10*day, "a.example.com"), managed(90*day, "*.example.com"), managed(day, "10.0.0.1", "::1")
		ends := managed(time.Hour, "short.example.com")
		x := must(NewIndex(IndexOptions{}))
		x.SetManaged([]*Certificate{wild, exact, ip, ends, managed(5*day, "both.example.net"), managed(9*day, "mine.example.net")})
		x.SetStatic([]tls.Certificate{
			tlsCert(ec, "file longer", now.Add(6*day), "both.example.net"),
			tlsCert(ec, "file shorter", now.Add(6*day), "mine.example.net"),
			tlsCert(ec, "old", now.Add(-day), "gone.example.com", "old.example.net"),
			{Certificate: [][]byte{[]byte("no certificate")}},
		})
		by := func(name string, conn net.Conn) *x509.Certificate {
			c, err := x.GetCertificate(&tls.ClientHelloInfo{ServerName: name, Conn: conn})
			if err != nil || c == nil {
				t.Fatalf("%s: %v, %v", name, c, err)
			}
			return must(x509.ParseCertificate(c.Certificate[0]))
		}
		local := func(ip string) net.Conn { return fakeConn{local: &net.TCPAddr{IP: net.ParseIP(ip), Port: 443}} }
		for _, tt := range []struct {
			name string
			conn net.Conn
			want *x509.Certificate
		}{
			{"a.example.com", nil, exact.Leaf()},
			{"A.Example.COM", nil, exact.Leaf()},
			{"B.Example.COM", nil, wild.Leaf()},
			{"b.example.com", nil, wild.Leaf()},
			{"gone.example.com", nil, wild.Leaf()}, // the exact one has ended
			{"", local("10.0.0.1"), ip.Leaf()},
			{"", local("::1"), ip.Leaf()},
			{"", fakeConn{local: &net.UDPAddr{IP: net.ParseIP("10.0.0.1")}}, ip.Leaf()},
			{"10.0.0.1", nil, ip.Leaf()},
		} {
			if got := by(tt.name, tt.conn); !got.Equal(tt.want) {
				t.Errorf("%q: served %s of %v", tt.name, got.Subject, got.DNSNames)
			}
		}
		for name, want := range map[string]string{
			"both.example.net":                "file longer",
			"mine.example.net":                "",
			"old.example.net":                 "old", // ended, but nothing else fits
			"x.b.example.com":                 "gatehouse stand-in",
			"example.com":                     "gatehouse stand-in",
			"":                                "gatehouse stand-in",
			"X.unknown":                       "gatehouse stand-in",
			strings.Repeat("A", 300) + ".com": "gatehouse stand-in",
		} {
			if got := by(name, nil).Subject.CommonName; got != want {
				t.Errorf("%q: served %q, want %q", name, got, want)
			}
		}
		for _, other := range []string{"10.0.0.2", "::2"} { // behind NAT
			if got := by("", local(other)); !got.Equal(ip.Leaf()) {
				t.Errorf("came to %s: served %q", other, got.Subject)
			}
		}
		if got := by("short.example.com", nil); !got.Equal(ends.Leaf()) {
			t.Errorf("before its end: %v", got.DNSNames)
		}
		time.Sleep(2 * time.Hour)
		x.Refresh()
		if got := by("short.example.com", nil); !got.Equal(wild.Leaf()) {
			t.Errorf("after its end: %v", got.DNSNames)
		}
		x.SetManaged(nil)
		if got := by("a.example.com", nil).Subject.CommonName; got != "gatehouse stand-in" {
			t.Errorf("emptied: served %q", got)
		}
	})
}

// Which of two is meant cannot be seen behind NAT, and who chose a default
// means it.
func TestOtherAddresses(t *testing.T) {
	ca := newSmallCA(t, 90*day)
	ip := func(addresses ...string) *Certificate {
		return must(Check(ca.bundle(addresses, time.Now(), time.Now().Add(day)), nil))
	}
	chosen := tlsCert(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "chosen", time.Now().Add(day), "default.example.com")
	came := &tls.ClientHelloInfo{Conn: fakeConn{local: &net.TCPAddr{IP: net.ParseIP("10.0.0.2"), Port: 443}}}
	for _, tt := range []struct {
		what  string
		index *Index
		certs []*Certificate
		want  string
	}{
		{"two addresses", must(NewIndex(IndexOptions{})), []*Certificate{ip("192.0.2.1"), ip("192.0.2.2")}, "gatehouse stand-in"},
		{"another family", must(NewIndex(IndexOptions{})), []*Certificate{ip("2001:db8::1")}, "gatehouse stand-in"},
		{"a default", must(NewIndex(IndexOptions{Default: &chosen})), []*Certificate{ip("192.0.2.1")}, "chosen"},
		{"no address", must(NewIndex(IndexOptions{Default: &chosen})), nil, "chosen"},
	} {
		tt.index.SetManaged(tt.certs)
		if got := must(x509.ParseCertificate(must(tt.index.GetCertificate(came)).Certificate[0])).Subject.CommonName; got != tt.want {
			t.Errorf("%s: served %q, want %q", tt.what, got, tt.want)
		}
	}
}

func TestStrictIndexRefuses(t *testing.T) {
	x := must(NewIndex(IndexOptions{Strict: true}))
	_, err := handshake(t, x, &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true})
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("handshake: %v", err)
	}
}

func TestDefaultCertificate(t *testing.T) {
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	c := tlsCert(ec, "the default", time.Now().Add(day), "x")
	x := must(NewIndex(IndexOptions{Default: &c}))
	state, err := handshake(t, x, &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true})
	if err != nil || state.PeerCertificates[0].Subject.CommonName != "the default" {
		t.Errorf("%v %v", err, state.PeerCertificates)
	}
}

func TestIndexPicksTheKindOfKey(t *testing.T) {
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	x := must(NewIndex(IndexOptions{Strict: true}))
	end := time.Now().Add(10 * day)
	x.SetStatic([]tls.Certificate{tlsCert(rs, "rsa", end.Add(day), "a.example.com"), tlsCert(ec, "ecdsa", end, "a.example.com"),
		tlsCert(ec, "ecdsa older", end.Add(-day), "a.example.com")})
	for want, suites := range map[string][]uint16{
		"ecdsa": nil,
		"rsa":   {tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
	} {
		state, err := handshake(t, x, &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true,
			MaxVersion: tls.VersionTLS12, CipherSuites: suites})
		if err != nil || state.PeerCertificates[0].Subject.CommonName != want {
			t.Errorf("%s: %v %v", want, err, state.PeerCertificates)
		}
	}
}

// handshake is a real one over a pipe.
func handshake(t *testing.T, x *Index, config *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer b.Close()
		_ = tls.Server(b, &tls.Config{GetCertificate: x.GetCertificate}).Handshake()
	}()
	c := tls.Client(a, config)
	err := c.Handshake()
	a.Close()
	<-done
	return c.ConnectionState(), err
}

// bigIndex holds n certificates, which share one key: only their names differ.
func bigIndex(tb testing.TB, n int) *Index {
	tb.Helper()
	ca := newSmallCA(tb, 90*day)
	list := make([]*Certificate, n)
	b := ca.bundle([]string{"x.example.com"}, time.Now(), time.Now().Add(day))
	one := must(Check(b, nil))
	for i := range list {
		other := *one
		other.carried = []string{fmt.Sprintf("n%d.example.com", i), fmt.Sprintf("*.w%d.example.com", i)}
		list[i] = &other
	}
	x := must(NewIndex(IndexOptions{}))
	x.SetManaged(list)
	return x
}

func TestLookupAllocatesNothing(t *testing.T) {
	x := bigIndex(t, 100)
	for _, name := range []string{"n50.example.com", "a.w50.example.com", "N50.EXAMPLE.COM", "unknown.example.org", ""} {
		hello := &tls.ClientHelloInfo{ServerName: name}
		if n := testing.AllocsPerRun(100, func() { _, _ = x.GetCertificate(hello) }); n != 0 {
			t.Errorf("%q: %v allocations", name, n)
		}
	}
}

// What is held of a certificate: ten thousand take 20 MiB at most, their chain
// of three intermediates included.
func TestMemoryOfCertificates(t *testing.T) {
	const n, most = 2000, 20 << 20 / 10000
	ca := newSmallCA(t, 90*day)
	entries := make([]store.Entry, n)
	var between []byte
	for range 3 {
		between = append(between, ca.sign(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), []string{"intermediate.example.com"}, time.Now(), time.Now().Add(day))...)
	}
	for i := range entries {
		names := []string{fmt.Sprintf("host-%d.some-customer.example.com", i)}
		b := ca.bundle(names, time.Now(), time.Now().Add(90*day))
		b.Chain = append(b.Chain, between...)
		c := must(Check(b, names))
		c.Issuer = "ca"
		entries[i] = store.Entry{Key: key{"ca", c.ID}.under(certificatesPrefix), Revision: "1", Value: must(c.encode(b, 1))}
	}
	x := must(NewIndex(IndexOptions{Strict: true}))
	k := New(Options{Index: x, Logger: slog.New(slog.DiscardHandler)})
	before := liveHeap()
	k.seeCertificates(entries)
	each := (liveHeap() - before) / n
	t.Logf("%d bytes a certificate; %d its value in the store", each, len(entries[0].Value))
	if each > most {
		t.Errorf("%d bytes a certificate, at most %d", each, most)
	}
	c, err := x.GetCertificate(&tls.ClientHelloInfo{ServerName: "host-7.some-customer.example.com"})
	if err != nil || c == nil || len(c.Certificate) != 4 {
		t.Errorf("served %v, %v", c, err)
	}
	runtime.KeepAlive(k)
	runtime.KeepAlive(entries)
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestIndexKnows: what GetCertificate has something for, and nothing else, of
// which it tells.
func TestIndexKnows(t *testing.T) {
	var told []string
	x := must(NewIndex(IndexOptions{Unknown: func(name string) { told = append(told, name) }}))
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	x.SetStatic([]tls.Certificate{tlsCert(ec, "", time.Now().Add(day), "a.example.com", "*.example.net")})
	for name, want := range map[string]bool{"a.example.com": true, "A.Example.com": true, "b.example.net": true,
		"b.example.com": false, "example.net": false, "": false} {
		told = nil
		hello := &tls.ClientHelloInfo{ServerName: name}
		if got := x.Knows(hello); got != want || (len(told) == 1) == (want || name == "") {
			t.Errorf("%q known: %t, want %t; told %q", name, got, want, told)
		}
	}
	hello := &tls.ClientHelloInfo{ServerName: "a.example.com"}
	if n := testing.AllocsPerRun(100, func() { x.Knows(hello) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup(b *testing.B) {
	x := bigIndex(b, 10000)
	for what, name := range map[string]string{
		"exact": "n5000.example.com", "wildcard": "a.w5000.example.com", "unknown": "a.example.org", "capitals": "N5000.Example.com",
	} {
		b.Run(what, func(b *testing.B) {
			hello := &tls.ClientHelloInfo{ServerName: name}
			b.ReportAllocs()
			for b.Loop() {
				c, err := x.GetCertificate(hello)
				if c == nil || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecodeCertificate(b *testing.B) {
	ca := newSmallCA(b, 90*day)
	names := []string{"a.example.com"}
	bundle := ca.bundle(names, noon, noon.Add(day))
	c := must(Check(bundle, names))
	value, k := must(c.encode(bundle, 1)), key{"ca", ID(names)}
	b.ReportAllocs()
	for b.Loop() {
		runtime.KeepAlive(must(decodeCertificate(k, value)))
	}
}
