package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/killpoint"
	"gatehouse/internal/store"
	"gatehouse/internal/store/etcd2store"
	"gatehouse/internal/store/etcd3store"
	"gatehouse/internal/store/filestore"
)

// A closingStore is a store with the connection behind it.
type closingStore interface {
	store.Store
	io.Closer
}

// memory gives store.Mem a Close.
type memory struct{ store.Store }

func (memory) Close() error { return nil }

// openShared opens the store that the replicas share, as [store] says, with
// what is put around it (see around.go).
func openShared(ctx context.Context, s *config.Static, replica string, log *slog.Logger) (*sharedStore, error) {
	opened, err := openPlain(ctx, s, replica, log)
	if err != nil {
		return nil, err
	}
	if killpoint.On {
		opened = struct {
			store.Store
			io.Closer
		}{killpoint.Store(opened, killpoint.Do), opened}
	}
	shared, err := around(s, opened, log)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return shared, nil
}

func openPlain(ctx context.Context, s *config.Static, replica string, log *slog.Logger) (closingStore, error) {
	switch s.Store.Kind {
	case config.StoreMemory:
		log.Warn("the store is in memory: certificates are lost at the end", "key", "store.kind")
		return memory{store.NewMem(s.Store.TTL.Std()).Replica(replica)}, nil
	case config.StoreEtcd, config.StoreEtcd2:
		return openEtcd(ctx, s.Store.Connection(s.Etcd), s.Store.Kind == config.StoreEtcd, s.Store.TTL.Std(), replica, log)
	case config.StoreKube:
		return openKubernetes(s, replica, log)
	default:
		return filestore.Open(filestore.Options{
			Dir: s.Store.Directory, TTL: s.Store.TTL.Std(), Replica: replica, Logger: log,
		})
	}
}

// openRouting opens the place [etcd] reads routing and static settings from.
func openRouting(ctx context.Context, s *config.Static, replica string, log *slog.Logger) (closingStore, error) {
	opened, err := openEtcd(ctx, s.Etcd.KVProvider, s.Etcd.UseAPIV3, s.Store.TTL.Std(), replica, log)
	if err != nil {
		return nil, err
	}
	kept, err := keptRouting(s, opened, log)
	if err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return kept, nil
}

func openEtcd(ctx context.Context, c config.KVProvider, v3 bool, ttl time.Duration, replica string, log *slog.Logger) (closingStore, error) {
	tlsConfig, err := clientTLS(c.TLS)
	if err != nil {
		return nil, fmt.Errorf("read the store's TLS settings: %w", err)
	}
	if v3 {
		return etcd3store.Open(ctx, etcd3store.Options{
			Endpoints: c.Endpoints(), Prefix: c.Prefix, Username: c.Username, Password: c.Password.Reveal(),
			TLS: tlsConfig, TTL: ttl, Replica: replica, Logger: log,
		})
	}
	return etcd2store.Open(ctx, etcd2store.Options{
		Endpoints: c.Endpoints(), Prefix: c.Prefix, Username: c.Username, Password: c.Password.Reveal(),
		TLS: tlsConfig, TTL: ttl, Replica: replica, Logger: log,
	})
}

// clientTLS makes what a TLS client section says; nil stays nil.
func clientTLS(c *config.ClientTLS) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	out := &tls.Config{InsecureSkipVerify: c.InsecureSkipVerify, MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pool, err := certPool([]string{c.CA})
		if err != nil {
			return nil, err
		}
		out.RootCAs = pool
	}
	if c.Cert != "" || c.Key != "" {
		pair, err := entrypoint.LoadCertificate(c.Cert, c.Key.Reveal())
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		var last atomic.Pointer[tls.Certificate]
		last.Store(&pair)
		// Other tools renew it: a connection begins with what is there then.
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if now, err := entrypoint.LoadCertificate(c.Cert, c.Key.Reveal()); err == nil {
				last.Store(&now)
			}
			return last.Load(), nil
		}
	}
	return out, nil
}

// certPool reads CA certificates, each a path or PEM.
func certPool(list []string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	for _, item := range list {
		if _, err := addCA(pool, item); err != nil {
			return nil, err
		}
	}
	return pool, nil
}

// addCA adds the certificates of a path or PEM to a pool, and gives the text
// they are read from.
func addCA(pool *x509.CertPool, item string) (text []byte, err error) {
	if text, err = pathOrPEM(item); err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("read CA certificate: no PEM certificate in %.60q", item)
	}
	return text, nil
}

func pathOrPEM(item string) ([]byte, error) {
	if strings.Contains(item, "-----BEGIN ") {
		return []byte(item), nil
	}
	return os.ReadFile(item)
}
