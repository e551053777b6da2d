// Package storeconfig writes the static configuration, and with [file] the
// routing, into the key-value store that replicas read them from: the tree
// Traefik 1.x wrote, key by key. It can be run again at any time: it writes
// differences only, removes only keys it has written itself, and leaves ACME
// data alone.
package storeconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"gatehouse/internal/config"
	"gatehouse/internal/store"
	"gatehouse/internal/traefik1"
)

// Options of Run.
type Options struct {
	// Written is the static configuration before Normalize.
	Written *config.Static
	// Routing holds the routing sections to write as well: those of the file
	// named by [file]. nil: none.
	Routing *config.Node

	Tree    store.Store // opened at the prefix of [etcd]
	Storage store.Store // opened at acme.storage; nil: no [acme], or it has no storage
	Own     store.Store // opened at our own prefix, outside Tree
	// Folders are Tree's, where the store has them (etcd's v2 API); else nil.
	Folders Folders

	DryRun bool // write nothing, show what would be written
	// ImportACME takes certificates over, from ACMEFile and from the object
	// that 1.x kept under acme.storage; Import puts one where ours are kept.
	ImportACME bool
	ACMEFile   string // "": acme.storageFile
	Import     func(context.Context, traefik1.ACMECertificate) (changed bool, err error)

	Out    io.Writer // what is done, line by line, for people
	Logger *slog.Logger
}

// Folders are what a store with folders leaves behind when keys go.
type Folders interface {
	// DeleteDir removes an empty folder; one that has something in it, or is
	// not there, is left as it is, without an error.
	DeleteDir(ctx context.Context, key string) error
}

// Report is what has been done, or with DryRun what would be.
type Report struct {
	Entries                 int // keys, and folders where the store has them
	Added, Changed, Removed int
	Imported                int // certificates
	Refused                 int // certificates that could not be taken over
	DryRun                  bool
}

// String is the summary: "94 entries: 94 added, 0 changed, 0 removed".
func (r Report) String() string {
	text := fmt.Sprintf("%d entries: %d added, %d changed, %d removed", r.Entries, r.Added, r.Changed, r.Removed)
	if r.Imported+r.Refused > 0 {
		text += fmt.Sprintf("; certificates: %d imported, %d refused", r.Imported, r.Refused)
	}
	if r.DryRun {
		text += " (dry run: nothing was written)"
	}
	return text
}

// InvalidError is configuration that cannot be stored. Nothing was written.
type InvalidError struct{ Problems []config.Problem }

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return "nothing was written:\n" + strings.Join(lines, "\n")
}

// Run brings the store to what the configuration says and returns what it did.
// After an error it may be run again; what was written already is then found
// in place.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.Written == nil || o.Tree == nil || o.Own == nil {
		return Report{}, errors.New("storeconfig: no configuration or no store")
	}
	if o.ImportACME && o.Import == nil {
		return Report{}, errors.New("storeconfig: nowhere to import certificates to")
	}
	want, err := o.wanted()
	if err != nil {
		return Report{}, err
	}
	present, err := o.read(ctx, o.Tree)
	if err != nil {
		return Report{}, fmt.Errorf("read the store below /%s: %w", want.root, err)
	}
	owned, err := readManifest(ctx, o.Own, want.root)
	if err != nil {
		return Report{}, err
	}
	plan := compare(want, present, owned, o.Folders != nil)
	for _, c := range plan.changes {
		fmt.Fprintln(o.Out, c)
	}
	report := plan.report
	if report.DryRun = o.DryRun; !o.DryRun {
		if err := o.apply(ctx, want, plan, owned); err != nil {
			return Report{}, err
		}
	}
	err = o.acme(ctx, want, &report)
	fmt.Fprintln(o.Out, report)
	return report, err
}

// read gives all entries of s, asking until it answers or ctx ends.
func (o Options) read(ctx context.Context, s store.Store) ([]store.Entry, error) {
	var last error
	for entries, err := range s.Watch(ctx, "") {
		if err == nil {
			return entries, nil
		}
		if last == nil || last.Error() != err.Error() {
			o.Logger.Warn("store unreadable", "error", err, "next", "tried again until it answers")
		}
		last = err
	}
	if last == nil {
		last = context.Cause(ctx)
	}
	return nil, last
}

// apply writes. What will be ours is noted first, so that a run that is cut
// off leaves no key behind that nobody owns.
func (o Options) apply(ctx context.Context, want wanted, p plan, owned manifest) error {
	ours := want.manifest()
	if union := owned.with(ours); len(p.changes) > 0 && !union.equal(owned) {
		if err := union.write(ctx, o.Own, want.root, &owned); err != nil {
			return err
		}
	}
	for _, c := range p.changes {
		if err := o.change(ctx, c); err != nil {
			return err
		}
	}
	if owned.equal(ours) {
		return nil
	}
	return ours.write(ctx, o.Own, want.root, &owned)
}

func (o Options) change(ctx context.Context, c change) error {
	var err error
	switch {
	case c.dir && c.kind == removed:
		err = o.Folders.DeleteDir(ctx, c.key)
	case c.dir: // a folder is there as soon as something is in it
	case c.kind == removed:
		err = o.Tree.Delete(ctx, c.key, c.have)
	default:
		_, err = o.Tree.Put(ctx, c.key, []byte(c.value), c.have)
	}
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("write /%s: somebody else is writing it: run storeconfig again", c.name)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("write /%s: %w", c.name, err)
	}
	return nil
}
