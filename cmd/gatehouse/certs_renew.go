package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"gatehouse/internal/acme"
	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

// renew asks for certificates to be ordered now, and tells what comes of it.
func (t *tool) renew(ctx context.Context, words []string, out io.Writer) error {
	if len(words) == 0 {
		return usageError(errors.New("renew what? name a certificate, as \"gatehouse certs\" lists them"))
	}
	wait, err := t.waiting()
	if err != nil {
		return err
	}
	list, err := t.chosen(ctx, words)
	if err != nil {
		return err
	}
	var failed []error
	for _, s := range list {
		asked, err := cert.RequestNow(ctx, t.shared, s.Issuer, s.ID)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s: asked %s to be ordered now\n", s.Issuer, shownNames(s, 3))
		if wait > 0 {
			failed = append(failed, t.follow(ctx, s, asked, wait, out))
		}
	}
	return errors.Join(failed...)
}

// waiting is how long a verb waits for an outcome.
func (t *tool) waiting() (time.Duration, error) {
	text, ok := t.flags.Own["wait"]
	if !ok {
		return time.Minute, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil {
		return 0, usageError(fmt.Errorf("--wait: %w", err))
	}
	return wait, nil
}

// follow tells how an order goes, until it has an outcome.
func (t *tool) follow(ctx context.Context, was cert.Status, asked time.Time, wait time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	told := ""
	for store.Sleep(ctx, 250*time.Millisecond) {
		all, err := t.inspect(ctx)
		if err != nil {
			continue // it is away for a moment, or our time is up
		}
		i := slices.IndexFunc(all, func(s cert.Status) bool { return s.ID == was.ID && s.Issuer == was.Issuer })
		if i < 0 {
			continue
		}
		s := all[i]
		switch {
		case s.Serial != "" && s.Serial != was.Serial:
			fmt.Fprintf(out, "  done: serial %s, until %s\n", s.Serial, s.NotAfter.UTC().Format(time.RFC3339))
			return nil
		case s.LastAttempt.After(was.LastAttempt) && s.Waits != "":
			fmt.Fprintf(out, "  %s\n", s.Waits)
			return nil
		case s.LastAttempt.After(was.LastAttempt) && !s.LastAttempt.Before(asked.Add(-time.Minute)) && s.Error != "":
			return fmt.Errorf("%s: %s (next attempt %s)", shownNames(s, 3), s.Error, s.NextAttempt.UTC().Format(time.RFC3339))
		}
		if line := progressLine(s); line != told {
			told = line
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
	if told == "" || told == nobody {
		return fmt.Errorf("%s: no replica has begun within %v: is one running, and does its configuration want this certificate?", shownNames(was, 3), wait)
	}
	fmt.Fprintf(out, "  still under way after %v: %s; see \"gatehouse certs %s\"\n", wait, told, was.ID)
	return nil
}

const nobody = "waiting for a replica"

func progressLine(s cert.Status) string {
	switch {
	case s.Holder == "":
		return nobody
	case s.Journal == "":
		return s.Holder + " works on it"
	}
	return s.Holder + ": " + s.Journal
}

// rollover gives every ACME account a new key.
func (t *tool) rollover(ctx context.Context, out io.Writer) error {
	if t.certs.acme == nil {
		return errors.New("there is no ACME account: add [acme]")
	}
	var failed []error
	for _, i := range append([]*acme.Issuer{t.certs.acme}, t.certs.orders.fallback...) {
		bounded, cancel := context.WithTimeout(ctx, 2*time.Minute)
		account, err := i.Rollover(bounded)
		cancel()
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", i.ID(), err))
			continue
		}
		fmt.Fprintf(out, "%s: account %s has a new key\n", i.ID(), account)
	}
	return errors.Join(failed...)
}
