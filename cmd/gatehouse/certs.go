package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
)

const certsHelp = `gatehouse certs [list] [NAME...] [--json] [flags]
gatehouse certs renew NAME... [--wait=1m] [flags]
gatehouse certs revoke NAME... [--reason=unspecified] [--reissue | --stop] [--wait=1m] [flags]
gatehouse certs import PATH... [--dry-run] [flags]
gatehouse certs rollover [flags]

Reads the store the replicas share, with the same settings as run; no replica need be up.

  list      what is kept: state, issuer, expiry, when it is renewed, the last error in full, the next attempt, which replica works on it
            and how far its order is. With NAMEs (or IDs) only these, in full
  renew     have the replicas order NAME now: before it is due, and whatever the next attempt's time is. Waits for the outcome
  revoke    have the CA take back the certificate of NAME that is in the store, and order a new one first of all (--reissue, the default);
            with --stop none is ordered and none served until "certs renew". Reasons: unspecified, keyCompromise, affiliationChanged,
            superseded, cessationOfOperation
  import    take certificates over, so that no order is needed until they are due: acme.json of any Traefik, folders of certmagic
            (Caddy), lego and certbot, PEM files. What the store holds is kept if it lasts as long
  rollover  give the ACME accounts new keys (RFC 8555, 7.3.5), in two steps that can be cut off anywhere

  --json    list as JSON, as /api/certificates shows it

What is wanted but was not begun yet is known to running replicas only: see /api/certificates or the dashboard.

`

func certs(ctx context.Context, args []string, out, errOut io.Writer) error {
	loaded, problems, err := load(certsHelp, args, errOut, config.OwnFlag{Name: "json"},
		config.OwnFlag{Name: "dry-run"}, config.OwnFlag{Name: "wait", TakesValue: true},
		config.OwnFlag{Name: "reason", TakesValue: true}, config.OwnFlag{Name: "reissue"}, config.OwnFlag{Name: "stop"})
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(errOut, "warning:", p)
	}
	words := loaded.Flags.Args
	do := "list"
	if len(words) > 0 && slices.Contains([]string{"list", "renew", "revoke", "import", "rollover"}, words[0]) {
		do, words = words[0], words[1:]
	}
	if err := fits(do, words, loaded.Flags.Own); err != nil {
		return usageError(err)
	}
	t, err := openTool(ctx, loaded, errOut)
	if err != nil {
		return err
	}
	defer t.Close()
	switch do {
	case "renew":
		return t.renew(ctx, words, out)
	case "revoke":
		return t.revoke(ctx, words, out)
	case "import":
		return t.importFrom(ctx, words, out)
	case "rollover":
		return t.rollover(ctx, out)
	}
	return t.list(ctx, words, out)
}

// fits refuses what a part of the verb does not take: who adds --dry-run to a
// revocation must not have it done.
func fits(do string, words []string, flags map[string]string) error {
	taken := map[string][]string{"list": {"json"}, "renew": {"wait"}, "revoke": {"reason", "reissue", "stop", "wait"}, "import": {"dry-run"}}
	for _, name := range sortedKeys(flags) {
		if !slices.Contains(taken[do], name) {
			return fmt.Errorf("%s takes no --%s; nothing was done", do, name)
		}
	}
	if do == "rollover" && len(words) > 0 {
		return fmt.Errorf("rollover takes no names (%s): it gives every ACME account a new key; nothing was done", strings.Join(words, ", "))
	}
	return nil
}

// tool is what verbs work with that look at the shared store from outside.
type tool struct {
	static  *config.Static
	flags   config.FlagInfo
	shared  *sharedStore
	certs   *certificates
	issuers []cert.Issuer
}

// toolPatience is how long a verb waits for what a store says.
const toolPatience = 15 * time.Second

// openTool opens the shared store as a replica would; nothing is announced, and
// no copy is kept or used: what a person is told is what the store says.
func openTool(ctx context.Context, loaded config.Loaded, errOut io.Writer) (*tool, error) {
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelError}))
	static := loaded.Static
	bounded, cancel := context.WithTimeoutCause(ctx, toolPatience, fmt.Errorf("no answer within %s", toolPatience))
	defer cancel()
	if static.Etcd != nil {
		opened, err := openEtcd(ctx, static.Etcd.KVProvider, static.Etcd.UseAPIV3, static.Store.TTL.Std(), "tool", log)
		if err != nil {
			return nil, err
		}
		defer func() { _ = opened.Close() }()
		if static, err = overlay(bounded, loaded, opened, log); err != nil {
			return nil, fmt.Errorf("read the settings in etcd %s: %w", loaded.Static.Etcd.Endpoint, err)
		}
	}
	if static.Store.Kind == config.StoreMemory {
		return nil, errors.New("the store is in the memory of a replica (store.kind memory): ask its /api/certificates")
	}
	own := *static
	kept := *static.Store
	kept.Copy = "none"
	own.Store = &kept
	shared, err := openShared(ctx, &own, "tool", log)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	c, err := newCertificates(&own, shared, "tool", nil, log)
	if err != nil {
		return nil, errors.Join(err, shared.Close())
	}
	return &tool{static: &own, flags: loaded.Flags, shared: shared, certs: c, issuers: c.issuers()}, nil
}

// Close closes the store.
func (t *tool) Close() { _ = t.shared.Close() }

func (t *tool) inspect(ctx context.Context) ([]cert.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, toolPatience)
	defer cancel()
	return cert.Inspect(ctx, t.shared, t.issuers)
}

// pick gives those of list that words name, by name or ID; all if there are no
// words.
func pick(list []cert.Status, words []string) ([]cert.Status, error) {
	if len(words) == 0 {
		return list, nil
	}
	var picked []cert.Status
	for _, w := range words {
		w = strings.ToLower(strings.TrimSuffix(w, "."))
		n := len(picked)
		for _, s := range list {
			if s.ID == w || slices.Contains(s.Names, w) {
				picked = append(picked, s)
			}
		}
		if len(picked) == n {
			return nil, fmt.Errorf("the store holds nothing of %q: no certificate, no attempt, no order; \"gatehouse certs\" lists what there is", w)
		}
	}
	return picked, nil
}

// chosen are the certificates words name; all without words.
func (t *tool) chosen(ctx context.Context, words []string) ([]cert.Status, error) {
	all, err := t.inspect(ctx)
	if err != nil {
		return nil, err
	}
	return pick(all, words)
}

func (t *tool) list(ctx context.Context, words []string, out io.Writer) error {
	list, err := t.chosen(ctx, words)
	if err != nil {
		return err
	}
	if _, asJSON := t.flags.Own["json"]; asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(list)
	}
	if len(words) > 0 {
		for i, s := range list {
			if i > 0 {
				fmt.Fprintln(out)
			}
			writeStatus(out, s, time.Now())
		}
		return nil
	}
	if len(list) == 0 {
		fmt.Fprintf(out, "nothing is kept yet in the store (%s)\n", storeName(t.static))
		return nil
	}
	writeTable(out, list, time.Now())
	return nil
}

// storeName tells people which store was read.
func storeName(s *config.Static) string {
	switch s.Store.Kind {
	case config.StoreEtcd, config.StoreEtcd2:
		return sourceName(s.Store.Connection(s.Etcd))
	case config.StoreKube:
		return "kubernetes " + s.Store.Namespace + " " + s.Store.Prefix
	}
	return s.Store.Kind + " " + s.Store.Directory
}

// writeTable is a line a certificate, and one more for what is wrong.
func writeTable(out io.Writer, list []cert.Status, now time.Time) {
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STATE\tNAMES\tEXPIRES\tRENEWAL\tNEXT ATTEMPT\tOWNER\tISSUER")
	for _, s := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.State, shownNames(s, 3), spell(s.NotAfter, now), spell(s.RenewAt, now),
			spell(s.NextAttempt, now), cmp.Or(s.Holder, "-"), s.Issuer)
	}
	_ = w.Flush()
	for _, s := range list {
		if s.Error == "" && s.Problem == "" && s.Waits == "" {
			continue
		}
		fmt.Fprintf(out, "\n%s:\n", shownNames(s, 3))
		writeTroubles(out, s)
	}
}

func writeTroubles(out io.Writer, s cert.Status) {
	if s.Problem != "" {
		fmt.Fprintf(out, "  stored value: %s\n", s.Problem)
	}
	if s.Waits != "" {
		fmt.Fprintf(out, "  waits: %s\n", s.Waits)
	}
	if s.Error != "" {
		fmt.Fprintf(out, "  last error (%d in a row): %s\n", s.Failures, strings.ReplaceAll(s.Error, "\n", "\n    "))
	}
}

// shownNames is some of the names; the ID where they are not known.
func shownNames(s cert.Status, most int) string {
	if len(s.Names) == 0 {
		return s.ID
	}
	if len(s.Names) > most {
		return fmt.Sprintf("%s +%d", strings.Join(s.Names[:most], ","), len(s.Names)-most)
	}
	return strings.Join(s.Names, ",")
}

// writeStatus is all that is known of one certificate.
func writeStatus(out io.Writer, s cert.Status, now time.Time) {
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	line := func(what, text string) {
		if text != "" {
			fmt.Fprintf(w, "%s\t%s\n", what, text)
		}
	}
	at := func(what string, t time.Time) {
		if !t.IsZero() {
			line(what, t.UTC().Format(time.RFC3339)+" ("+spell(t, now)+")")
		}
	}
	line("names", strings.Join(s.Names, ", "))
	line("state", string(s.State))
	line("issuer", s.Issuer)
	line("id", s.ID)
	line("serial", s.Serial)
	at("not before", s.NotBefore)
	at("not after", s.NotAfter)
	at("renewal", s.RenewAt)
	at("asked for", s.Asked)
	line("revocation", s.Revocation)
	line("owner", s.Holder)
	line("order", s.Journal)
	at("last attempt", s.LastAttempt)
	at("next attempt", s.NextAttempt)
	_ = w.Flush()
	writeTroubles(out, s)
}

// spell writes a time as a distance from now, "-" for none.
func spell(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := t.Sub(now)
	text := ""
	switch a := d.Abs(); {
	case a < 90*time.Second:
		text = fmt.Sprintf("%ds", int(a.Seconds()+0.5))
	case a < 90*time.Minute:
		text = fmt.Sprintf("%dm", int(a.Minutes()+0.5))
	case a < 48*time.Hour:
		text = fmt.Sprintf("%dh", int(a.Hours()+0.5))
	default:
		text = fmt.Sprintf("%dd", int(a.Hours()/24+0.5))
	}
	if d < 0 {
		return text + " ago"
	}
	return "in " + text
}
