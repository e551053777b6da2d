package storeconfig

import (
	"context"
	"errors"
	"fmt"
	"os"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

// acme does what concerns ACME's data: it creates the empty account 1.x wants
// to find, where storage lies elsewhere, and takes certificates over if asked.
func (o Options) acme(ctx context.Context, want wanted, report *Report) error {
	if o.Storage != nil && !o.DryRun {
		for _, p := range want.account {
			_, err := o.Storage.Put(ctx, p.Key, []byte(p.Value), "")
			if err != nil && !errors.Is(err, store.ErrConflict) {
				return fmt.Errorf("write /%s/%s: %w", want.storage, p.Key, err)
			}
		}
	}
	file := o.ACMEFile
	if file == "" && o.Written.ACME != nil {
		file = o.Written.ACME.StorageFile
	}
	if !o.ImportACME {
		if info, err := os.Stat(file); file != "" && err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			fmt.Fprintf(o.Out, "%s is left alone: --import-acme takes its certificates over\n", file)
		}
		return nil
	}
	if file != "" {
		if err := o.importFile(ctx, file, report); err != nil {
			return err
		}
	}
	if o.Storage == nil {
		return nil
	}
	object, err := o.Storage.Get(ctx, "object")
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("read /%s/object: %w", want.storage, err)
	}
	o.take(ctx, object.Value, want.storage+"/object", report)
	return nil
}

const maxACMEFile = 64 << 20

func (o Options) importFile(ctx context.Context, file string, report *Report) error {
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist) && o.ACMEFile == "":
		fmt.Fprintf(o.Out, "%s does not exist: there is nothing to take over\n", file)
		return nil
	case err != nil:
		return fmt.Errorf("import ACME data: %w", err)
	case info.IsDir():
		return fmt.Errorf("import ACME data: %s is a folder (a hostPath that does not exist becomes one)", file)
	case info.Size() > maxACMEFile:
		return fmt.Errorf("import ACME data: %s has %d bytes, %d are allowed", file, info.Size(), maxACMEFile)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("import ACME data: %w", err)
	}
	o.take(ctx, data, file, report)
	return nil
}

// take imports what can be used of data and reports the rest, one by one.
func (o Options) take(ctx context.Context, data []byte, source string, report *Report) {
	found, problems := traefik1.ReadACME(data, source)
	for _, c := range found.Certificates {
		if o.DryRun {
			fmt.Fprintf(o.Out, "+ certificate %v from %s\n", c.Names, source)
			report.Imported++
			continue
		}
		imported, err := o.Import(ctx, c)
		switch {
		case err != nil:
			problems = append(problems, config.Problem{Origin: config.Origin{Source: source}, Object: fmt.Sprintf("certificate %v", c.Names), Message: err.Error()})
		case imported:
			fmt.Fprintf(o.Out, "+ certificate %v from %s\n", c.Names, source)
			report.Imported++
		}
	}
	for _, p := range problems {
		fmt.Fprintf(o.Out, "! %s\n", p)
		report.Refused++
	}
}
