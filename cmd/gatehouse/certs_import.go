package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"gatehouse/internal/cert"
	"gatehouse/internal/certimport"
)

// importFrom takes over certificates that other programs obtained.
func (t *tool) importFrom(ctx context.Context, paths []string, out io.Writer) error {
	if len(paths) == 0 {
		return usageError(errors.New("import from where? name acme.json, a folder of certmagic, lego or certbot, or PEM files"))
	}
	if t.certs.acme == nil {
		return errors.New("import for which issuer? add [acme] with the caServer these certificates are from: it renews them")
	}
	issuer := t.certs.acme.ID()
	found, problems := certimport.Read(paths)
	if len(found) == 0 && len(problems) == 0 {
		return fmt.Errorf("nothing to take over in %s: no certificate of a site, but for authorities', and keys alone are none", strings.Join(paths, ", "))
	}
	_, dry := t.flags.Own["dry-run"]
	imported, kept := 0, 0
	for _, f := range found {
		changed := true
		if !dry {
			var err error
			if changed, err = cert.Import(ctx, t.shared, issuer, cert.Bundle{Chain: f.Chain, Key: f.Key}); err != nil {
				problems = append(problems, fmt.Errorf("%s: %v: %w", f.Source, f.Names, err))
				continue
			}
		}
		if changed {
			imported++
			fmt.Fprintf(out, "+ %v until %s from %s\n", f.Names, f.NotAfter.UTC().Format("2006-01-02"), f.Source)
			if f.Lacks != "" {
				fmt.Fprintf(out, "  without the certificate of %q, which clients need: import it together with that\n", f.Lacks)
			}
		} else {
			kept++
			fmt.Fprintf(out, "= %v: the store's lasts as long or longer\n", f.Names)
		}
	}
	for _, p := range problems {
		fmt.Fprintf(out, "! %v\n", p)
	}
	what := "imported"
	if dry {
		what = "would be imported"
	}
	fmt.Fprintf(out, "%d %s for issuer %s, %d kept, %d not usable\n", imported, what, issuer, kept, len(problems))
	if len(problems) > 0 {
		return fmt.Errorf("certificates that could not be taken over: %d", len(problems))
	}
	return nil
}
