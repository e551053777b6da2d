package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"gatehouse/internal/acme"
	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/storeconfig"
	"gatehouse/internal/traefik1"
)

const storeConfigHelp = `gatehouse storeconfig -c FILE [--dry-run] [--import-acme[=acme.json]] [flags]

Writes a static configuration, and with [file] its routing, into the key-value store of [etcd], as Traefik 1.x did. May be run again
at any time: only differences are written, and only keys that it wrote itself are removed. Nothing is written if there is a mistake.

  --dry-run             show the differences, write nothing
  --import-acme[=FILE]  take certificates over, without an order, from acme.json of any Traefik (FILE, else acme.storageFile) and
                        from the account object that Traefik 1.x kept in the store

`

func storeConfig(ctx context.Context, args []string, out, errOut io.Writer) error {
	loaded, problems, err := load(storeConfigHelp, args, errOut,
		config.OwnFlag{Name: "dry-run"}, config.OwnFlag{Name: "import-acme", TakesValue: true})
	if err != nil {
		return err
	}
	s := loaded.Static
	if s.Etcd == nil {
		return errors.New("no store to write to: add [etcd] to the file, or --etcd --etcd.endpoint=HOST:PORT")
	}
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
	for _, p := range problems {
		fmt.Fprintln(errOut, "warning:", p)
	}
	o := storeconfig.Options{Written: loaded.Written, Routing: routingOf(loaded), Out: out, Logger: log}
	_, o.DryRun = loaded.Flags.Own["dry-run"]
	o.ACMEFile, o.ImportACME = loaded.Flags.Own["import-acme"]
	if o.ACMEFile == "true" {
		o.ACMEFile = ""
	}
	closeAll, err := openForStoreConfig(ctx, s, &o, log)
	if err != nil {
		return err
	}
	defer closeAll()
	report, err := storeconfig.Run(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, report)
	if report.Refused > 0 {
		return fmt.Errorf("certificates that could not be taken over: %d", report.Refused)
	}
	return nil
}

// routingOf is the routing that belongs into the store: that of [file].
func routingOf(loaded config.Loaded) *config.Node {
	if loaded.Static.File == nil {
		return nil
	}
	return loaded.Routing
}

// openForStoreConfig opens the places it reads and writes: the tree, the ACME
// data of 1.x, and our own state.
func openForStoreConfig(ctx context.Context, s *config.Static, o *storeconfig.Options, log *slog.Logger) (func(), error) {
	var opened []closingStore
	closeAll := func() {
		for _, s := range opened {
			_ = s.Close()
		}
	}
	open := func(c config.KVProvider, v3 bool) (closingStore, error) {
		st, err := openEtcd(ctx, c, v3, s.Store.TTL.Std(), "storeconfig", log)
		if err != nil {
			closeAll()
			return nil, err
		}
		opened = append(opened, st)
		return st, nil
	}
	tree, err := open(s.Etcd.KVProvider, s.Etcd.UseAPIV3)
	if err != nil {
		return nil, err
	}
	own, err := open(s.Store.Connection(s.Etcd), s.Etcd.UseAPIV3)
	if err != nil {
		return nil, err
	}
	o.Tree, o.Own = tree, own
	if folders, ok := tree.(storeconfig.Folders); ok && !s.Etcd.UseAPIV3 {
		o.Folders = folders
	}
	if s.ACME != nil && s.ACME.Storage != "" {
		c := s.Etcd.KVProvider
		c.Prefix = s.ACME.Storage
		storage, err := open(c, s.Etcd.UseAPIV3)
		if err != nil {
			return nil, err
		}
		o.Storage = storage
		issuer, err := acme.IssuerID(s.ACME.CAServer)
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("acme.caServer: %w", err)
		}
		sealedOwn, err := around(s, own, log)
		if err != nil {
			closeAll()
			return nil, err
		}
		o.Import = func(ctx context.Context, c traefik1.ACMECertificate) (bool, error) {
			return cert.Import(ctx, sealedOwn, issuer, cert.Bundle{Chain: c.CertPEM, Key: c.KeyPEM})
		}
	}
	return closeAll, nil
}
