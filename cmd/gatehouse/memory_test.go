package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"gatehouse/e2e/rig"
	"gatehouse/internal/cert"
	"gatehouse/internal/config"
)

// TestMemoryOfCertificates: ten thousand certificates take 20 MiB of a replica at
// most, with all that holds something of them: the keeper, the watches of etcd,
// sealing and the copy on disk.
func TestMemoryOfCertificates(t *testing.T) {
	const n, most = 2500, 20 << 20 / 10_000 // as full as the maps of 10,000 are
	etcd := rig.StartEtcd(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "gatehouse.toml")
	text := fmt.Sprintf(`
[etcd]
endpoint = "%s"
useAPIV3 = true
[store]
directory = "%s"
sealKey = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
`, etcd.Endpoint(), dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, problems := config.Load(config.LoadInput{Args: []string{"-c", file}})
	if config.Failed(problems) {
		t.Fatal(problems)
	}
	empty := holding(t, loaded.Static, 0)
	seedCertificates(t, loaded.Static, n)
	full := holding(t, loaded.Static, n)
	each := (full - empty) / n
	t.Logf("%d bytes a certificate, %d KiB without any", each, empty>>10)
	if each > most {
		t.Errorf("%d bytes a certificate, at most %d", each, most)
	}
}

// holding gives the live heap of the part of a replica that holds certificates,
// once it serves n and has copied them.
func holding(t *testing.T, s *config.Static, n int) int64 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := &logBuffer{}
	logger := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	opened, err := openPlain(ctx, s, "a", logger)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := around(s, opened, logger)
	if err != nil {
		t.Fatal(err)
	}
	index, err := cert.NewIndex(cert.IndexOptions{Strict: true})
	if err != nil {
		t.Fatal(err)
	}
	keeper := cert.New(cert.Options{Store: shared, Index: index, Replica: "a", Logger: logger})
	var running sync.WaitGroup
	running.Go(func() { _ = keeper.Run(ctx) })
	running.Go(func() { _ = shared.run(ctx) })
	within(t, time.Minute, "it serves all", log, func() error {
		if !keeper.Loaded() {
			return fmt.Errorf("nothing is loaded")
		}
		for i := range n {
			if c, err := index.GetCertificate(&tls.ClientHelloInfo{ServerName: hostOf(i)}); c == nil || err != nil {
				return fmt.Errorf("%s is not served: %v", hostOf(i), err)
			}
		}
		return nil
	})
	within(t, time.Minute, "it has copied all", log, func() error { return copied(s.Store.CopyDirectory(), n) })
	var live int64 // what a goroutine does just now may hold some more
	for i := range 10 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		if now := int64(m.HeapAlloc); i == 0 || now < live {
			live = now
		}
		time.Sleep(100 * time.Millisecond)
	}
	runtime.KeepAlive(index)
	cancel()
	running.Wait()
	if err := shared.Close(); err != nil {
		t.Error(err)
	}
	return live
}

// copied says whether the copies below dir are large enough for n certificates.
func copied(dir string, n int) error {
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "certificates.copy" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size = info.Size()
		}
		return err
	})
	if err == nil && (size == 0 || size < 1000*int64(n)) {
		err = fmt.Errorf("%d bytes", size)
	}
	return err
}

func hostOf(i int) string { return fmt.Sprintf("host-%d.some-customer.example.com", i) }

// seedCertificates puts certificates of n names into the store, each with one
// intermediate.
func seedCertificates(t *testing.T, s *config.Static, n int) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	opened, err := openPlain(t.Context(), s, "seed", log)
	if err != nil {
		t.Fatal(err)
	}
	shared, err := around(s, opened, log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = shared.Close() }()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an intermediate"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour)}
	between, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	one := func(i int) error {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: new(big.Int).Lsh(big.NewInt(int64(i+2)), 64),
			DNSNames: []string{hostOf(i)}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter}, ca, own.Public(), key)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			return err
		}
		chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: between})...)
		_, err = cert.Import(t.Context(), shared, "acme", cert.Bundle{Chain: chain, Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})})
		return err
	}
	next := make(chan int)
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			for i := range next {
				if err := one(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	running.Wait()
}
