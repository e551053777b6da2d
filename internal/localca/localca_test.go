package localca

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCA(s store.Store, lifetime time.Duration) *CA {
	return New(Options{Store: s, Lifetime: lifetime, Logger: slog.New(slog.DiscardHandler)})
}

func request(names ...string) cert.Request {
	return cert.Request{ID: cert.ID(names), Names: names, Step: func(string) {}}
}

func TestReplicasShareOneAuthority(t *testing.T) {
	mem := store.NewMem(0)
	const n = 8
	got := make(chan []byte, n)
	for range n {
		go func() {
			pem, err := newCA(mem.Replica("r"), 0).CA(context.Background())
			if err != nil {
				t.Error(err)
			}
			got <- pem
		}()
	}
	first := <-got
	for range n - 1 {
		if !bytes.Equal(first, <-got) {
			t.Fatal("two authorities")
		}
	}
}

// A client that trusts the authority's certificate accepts what it issues.
func TestIssuedCertificatesAreAccepted(t *testing.T) {
	c := newCA(store.NewMem(0).Replica("r"), 0)
	names := []string{"*.localhost", "localhost", "whoami.example.test", "127.0.0.1", "::1"}
	b, err := c.Obtain(t.Context(), request(names...))
	if err != nil {
		t.Fatal(err)
	}
	checked, err := cert.Check(b, names)
	if err != nil {
		t.Fatal(err)
	}
	leaf := checked.Leaf()
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life < 7*24*time.Hour || life > 7*24*time.Hour+time.Hour {
		t.Errorf("it lives %s", life)
	}
	ca, err := c.CA(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the CA is no PEM certificate")
	}
	for _, name := range []string{"whoami.localhost", "localhost", "whoami.example.test", "127.0.0.1", "::1"} {
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = tls.Server(far, &tls.Config{Certificates: []tls.Certificate{*checked.TLS}}).Handshake()
		}()
		err := tls.Client(near, &tls.Config{RootCAs: roots, ServerName: name}).Handshake()
		near.Close()
		far.Close()
		<-done
		if err != nil {
			t.Errorf("handshake with %s: %v", name, err)
		}
	}
	root, _ := pem.Decode(ca)
	parsed, err := x509.ParseCertificate(root.Bytes)
	if err != nil || !parsed.IsCA || !parsed.MaxPathLenZero {
		t.Errorf("the CA: %v %+v", err, parsed)
	}
}

func TestAuthorityIsReplacedBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCA(store.NewMem(0).Replica("r"), 30*24*time.Hour)
		first, err := c.CA(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(9*365*24*time.Hour + 300*24*time.Hour)
		if same, err := c.CA(t.Context()); err != nil || !bytes.Equal(first, same) {
			t.Errorf("replaced too early (%v)", err)
		}
		time.Sleep(40 * 24 * time.Hour)
		second, err := c.CA(t.Context())
		if err != nil || bytes.Equal(first, second) {
			t.Errorf("not replaced (%v)", err)
		}
	})
}

func TestTroubleIsTold(t *testing.T) {
	r := store.NewMem(0).Replica("r")
	c := New(Options{Store: r, ID: "dev", Logger: slog.New(slog.DiscardHandler)})
	for what, value := range map[string]string{
		"decode value":          `{"version":`,
		"version 9":             `{"version":9}`,
		"parse certificate and": `{"version":1,"chain":"","key":""}`,
	} {
		e, err := r.Get(t.Context(), "localca/dev")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if _, err := r.Put(t.Context(), "localca/dev", []byte(value), e.Revision); err != nil {
			t.Fatal(err)
		}
		_, err = c.Obtain(t.Context(), request("a.localhost"))
		if err == nil || !strings.Contains(err.Error(), what) || !strings.Contains(err.Error(), "localca/dev") {
			t.Errorf("%s: %v", value, err)
		}
	}
	r.Partition(true)
	if _, err := c.CA(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("store down: %v", err)
	}
}

// With the keeper: two replicas, no settings, a certificate at once, renewed
// for as long as they run.
func TestWithTheKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(0)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{}, 2)
		var indexes []*cert.Index
		for _, name := range []string{"a", "b"} {
			s := mem.Replica(name)
			x, err := cert.NewIndex(cert.IndexOptions{Strict: true})
			if err != nil {
				t.Fatal(err)
			}
			log := slog.New(slog.DiscardHandler)
			k := cert.New(cert.Options{Store: s, Index: x, Replica: name, Logger: log,
				Issuers: []cert.Issuer{New(Options{Store: s, Logger: log})}})
			k.Want([]cert.Want{{Names: []string{"*.localhost"}, Issuer: "local", Source: "quickstart"}})
			go func() { _ = k.Run(ctx); done <- struct{}{} }()
			indexes = append(indexes, x)
		}
		time.Sleep(time.Second)
		for range 60 {
			for i, x := range indexes {
				c, err := x.GetCertificate(&tls.ClientHelloInfo{ServerName: "whoami.localhost"})
				if err != nil || c == nil {
					t.Fatalf("replica %d serves %v (%v)", i, c, err)
				}
				if leaf, err := x509.ParseCertificate(c.Certificate[0]); err != nil || time.Now().After(leaf.NotAfter) {
					t.Fatalf("replica %d serves %v (%v)", i, leaf, err)
				}
			}
			time.Sleep(12 * time.Hour)
		}
		cancel()
		<-done
		<-done
	})
}
