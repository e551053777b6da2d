package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// revoke has certificates taken back, and tells what the CA said.
func (t *tool) revoke(ctx context.Context, words []string, out io.Writer) error {
	if len(words) == 0 {
		return usageError(errors.New("revoke what? name a certificate, as \"gatehouse certs\" lists them"))
	}
	reason, err := cert.ParseReason(t.flags.Own["reason"])
	if err != nil {
		return usageError(fmt.Errorf("--reason: %w", err))
	}
	_, stop := t.flags.Own["stop"]
	if _, reissue := t.flags.Own["reissue"]; stop && reissue {
		return usageError(errors.New("--reissue and --stop: one of them"))
	}
	wait, err := t.waiting()
	if err != nil {
		return err
	}
	list, err := t.chosen(ctx, words)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(s cert.Status) bool { return s.Serial == "" })
	if len(list) == 0 {
		return fmt.Errorf("the store holds no certificate of %s yet, only attempts or orders", strings.Join(words, ", "))
	}
	var failed []error
	for _, s := range list {
		asked, err := cert.Revoke(ctx, t.shared, s.Issuer, s.ID, reason, stop)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: asked for serial %s of %s to be revoked, reason %s\n", s.Issuer, s.Serial, shownNames(s, 3), reason)
		if wait <= 0 {
			continue
		}
		if err := t.followRevocation(ctx, s, asked, wait, out); err != nil {
			failed = append(failed, err)
		} else if !stop {
			fmt.Fprintf(out, "  a new one is ordered\n")
			failed = append(failed, t.follow(ctx, s, asked, wait, out))
		}
	}
	return errors.Join(failed...)
}

// followRevocation waits for the CA's word.
func (t *tool) followRevocation(ctx context.Context, s cert.Status, asked time.Time, wait time.Duration, out io.Writer) error {
	bounded, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	last := cert.RevocationState{}
	for store.Sleep(bounded, 250*time.Millisecond) {
		now, err := cert.RevocationOf(bounded, t.shared, s.Issuer, s.ID)
		if err != nil || now.Asked.Before(asked) {
			continue // it is away for a moment, or our time is up
		}
		last = now
		switch {
		case now.Refused:
			return fmt.Errorf("%s: not revoked: %s", shownNames(s, 3), now.Said)
		case now.Done:
			fmt.Fprintf(out, "  revoked: %s\n", now.Said)
			return nil
		}
	}
	if last.Said != "" {
		return fmt.Errorf("%s: not revoked yet: %s; it is tried again, see \"gatehouse certs %s\"", shownNames(s, 3), last.Said, s.ID)
	}
	return fmt.Errorf("%s: no replica has begun within %v: is one running, with the issuer %s? It is revoked once one is", shownNames(s, 3), wait, s.Issuer)
}
