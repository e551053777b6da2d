package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/store/copystore"
	"gatehouse/internal/store/sealstore"
)

// What holds private keys: it is sealed if there is a key. Journals are written
// anew with each step anyway, and go with their order.
var (
	sealedPrefixes  = []string{"accounts", "certificates", "localca", "tickets"}
	passingPrefixes = []string{"orders"}
)

// keptPrefixes are what a replica has to know to serve: without them, or with
// old ones, it must not order anything, and without the attempts it does not.
var keptPrefixes = []string{"certificates", "revocations", "tickets"}

// copyPatience is how long the store may take before a start goes on with the
// replica's own copy.
const copyPatience = time.Second

// sharedStore is the replicas' store with what is put around it.
type sharedStore struct {
	store.Store
	inner closingStore
	seal  *sealstore.Store // nil: this kind of store is not sealed
	copy  *copystore.Store // nil: none is kept
}

// Close closes the store within.
func (s *sharedStore) Close() error { return s.inner.Close() }

// run is the duty that keeps values sealed.
func (s *sharedStore) run(ctx context.Context) error {
	if s.seal == nil {
		<-ctx.Done()
		return nil
	}
	return s.seal.Run(ctx)
}

// around puts a copy and sealing around the replicas' store: what is copied is
// what is stored, so that keys are sealed in both.
func around(s *config.Static, opened closingStore, log *slog.Logger) (*sharedStore, error) {
	shared := &sharedStore{Store: opened, inner: opened}
	keys, err := sealRing(s.Store)
	if err != nil {
		return nil, err
	}
	remote := s.Store.Kind == config.StoreEtcd || s.Store.Kind == config.StoreEtcd2
	cluster := s.Store.Kind == config.StoreKube // its Secrets are sealed by the cluster, or not
	if dir := s.Store.CopyDirectory(); (remote || cluster) && dir != "" {
		source := sourceName(s.Store.Connection(s.Etcd))
		if cluster {
			source = "kubernetes " + s.Store.Namespace + " " + s.Store.Prefix
		}
		shared.copy = copystore.New(copystore.Options{
			Inner: opened, Dir: filepath.Join(dir, "state"), Source: source, Prefixes: keptPrefixes, Ring: keys,
			Patience: copyPatience, Logger: log,
		})
		shared.Store = shared.copy
	}
	if !remote && s.Store.Kind != config.StoreFile {
		return shared, nil
	}
	if remote && keys.Empty() {
		log.Warn("private keys are not sealed in the store: whoever may read it has them", "key", "store.sealKey")
	}
	shared.seal = sealstore.New(sealstore.Options{
		Inner: shared.Store, Origin: opened, Ring: keys, Prefixes: sealedPrefixes, Passing: passingPrefixes, Logger: log,
	})
	shared.Store = shared.seal
	return shared, nil
}

// keptStore is a store with its copy.
type keptStore struct {
	store.Store
	inner closingStore
	copy  *copystore.Store
}

// Close closes the store within.
func (s keptStore) Close() error { return s.inner.Close() }

// keptRouting puts a copy around the place routing comes from: a replica starts
// with the routes it had.
func keptRouting(s *config.Static, opened closingStore, log *slog.Logger) (closingStore, error) {
	dir := s.Store.CopyDirectory()
	if dir == "" {
		return opened, nil
	}
	keys, err := sealRing(s.Store)
	if err != nil {
		return nil, err
	}
	kept := copystore.New(copystore.Options{
		Inner: opened, Dir: filepath.Join(dir, "routing"), Source: sourceName(s.Etcd.KVProvider), Prefixes: []string{""}, Ring: keys,
		Patience: copyPatience, Logger: log,
	})
	return keptStore{kept, opened, kept}, nil
}

type namedCopy struct {
	what string
	of   *copystore.Store
}

func (g *gateway) copies() []namedCopy {
	var list []namedCopy
	if k, ok := g.routing.(keptStore); ok {
		list = append(list, namedCopy{"routing is", k.copy})
	}
	if g.shared.copy != nil {
		list = append(list, namedCopy{"certificates are", g.shared.copy})
	}
	return list
}

// stale is when the oldest copy in use was written.
func (g *gateway) stale() (oldest time.Time, stale bool) {
	for _, c := range g.copies() {
		if since, is := c.of.Stale(); is && (!stale || since.Before(oldest)) {
			oldest, stale = since, true
		}
	}
	return oldest, stale
}

// staleness tells of what is served from the copy because a store does not
// answer; "" if nothing is.
func (g *gateway) staleness() string {
	var parts []string
	for _, c := range g.copies() {
		if since, stale := c.of.Stale(); stale {
			parts = append(parts, c.what+" this replica's copy of "+since.UTC().Format(time.RFC3339))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "the store does not answer: " + strings.Join(parts, ", ")
}

func sourceName(c config.KVProvider) string {
	return "etcd " + strings.Join(c.Endpoints(), ",") + " " + c.Prefix
}

// sealRing reads store.sealKey, a path or the keys themselves.
func sealRing(s *config.Store) (store.Ring, error) {
	text := s.SealKey.Reveal()
	if text == "" {
		return store.Ring{}, nil
	}
	if ring, err := store.ParseRing(text); err == nil {
		return ring, nil
	} else if !strings.ContainsAny(text, "/\\.") {
		return store.Ring{}, fmt.Errorf("store.sealKey: it is no path, and as keys: %w", err)
	}
	read, err := os.ReadFile(text)
	if err != nil {
		return store.Ring{}, fmt.Errorf("store.sealKey: %w", err)
	}
	ring, err := store.ParseRing(string(read))
	if err != nil {
		return store.Ring{}, fmt.Errorf("store.sealKey: %s: %w", text, err)
	}
	return ring, nil
}
