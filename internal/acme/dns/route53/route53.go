// Package route53 writes challenge records to Amazon Route 53 with nothing but
// the rights to list zones by name, to change record sets in one zone, and to
// see how a change fares. It owns the batching of changes, the pace of
// requests and the care for other values at the same name; finding out that
// the DNS shows a record is the business of package dns.
//
// Route 53 knows record sets, not records: every write replaces all values at
// a name, and reading them first is a right the usual policy does not give
// (and would not be atomic). So a write here is a compare-and-swap: one change
// batch, which Route 53 applies wholly or not at all, deletes the set exactly
// as this process believes it to be and creates it as it shall be. If the
// belief is wrong nothing is changed, and the process looks what is there: its
// own unseen success first, then the DNS, then, where it is allowed,
// ListResourceRecordSets.
package route53

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"gatehouse/internal/acme/dns"
)

// Reader reads the TXT values the DNS shows at a name; dns.Reader is one.
type Reader interface {
	ReadTXT(ctx context.Context, zone, name string) (values []string, ttl time.Duration, err error)
}

// Options are what New needs besides the environment.
type Options struct {
	Getenv func(string) string // the AWS_* variables
	Reader Reader              // to see values of others at a name
	Logger *slog.Logger        // nil: silent
	Timing Timing              // zero fields: the defaults
}

// Timing is the pace of the provider. Tests shorten it.
type Timing struct {
	Gather   time.Duration // writes within this time share one change batch; default 100 ms
	Poll     time.Duration // first wait between two GetChange; it doubles up to four times that; default 1 s
	Patience time.Duration // how long values of others are looked for before they are overwritten; default 60 s
	Spacing  time.Duration // between two requests; default 250 ms (Route 53 allows an account five a second)
	Backoff  time.Duration // longest wait before a failed request is tried again; default 10 s
}

func (t Timing) withDefaults() Timing {
	for _, f := range []struct {
		d   *time.Duration
		def time.Duration
	}{{&t.Gather, 100 * time.Millisecond}, {&t.Poll, time.Second}, {&t.Patience, time.Minute}, {&t.Spacing, 250 * time.Millisecond}, {&t.Backoff, 10 * time.Second}} {
		if *f.d == 0 {
			*f.d = f.def
		}
	}
	return t
}

// Provider is a dns.Provider, dns.ZoneLister and dns.Confirmer. Safe for
// concurrent use; calls for one zone made at about the same time share API
// requests.
type Provider struct {
	api    api
	reader Reader
	log    *slog.Logger
	timing Timing
	zoneID string // AWS_HOSTED_ZONE_ID
	lists  lists

	mu         sync.Mutex
	writers    map[string]*writer // by zone ID
	listDenied bool               // ListResourceRecordSets was refused
}

// Settings lists what Getenv is asked for.
func Settings() []string {
	return append(notInForce(), "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_HOSTED_ZONE_ID", "AWS_ENDPOINT_URL_ROUTE_53", "AWS_ENDPOINT_URL", "AWS_EC2_METADATA_DISABLED", "AWS_MAX_ATTEMPTS")
}

func notInForce() []string {
	return []string{"AWS_ASSUME_ROLE_ARN", "AWS_EXTERNAL_ID", "AWS_PRIVATE_ZONE", "AWS_TTL", "AWS_POLLING_INTERVAL", "AWS_PROPAGATION_TIMEOUT",
		"AWS_WAIT_FOR_RECORD_SETS_CHANGED", "AWS_MAX_RETRIES"}
}

// New makes a provider from the environment; nothing is asked yet.
func New(opts Options) (*Provider, error) {
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	timing := opts.Timing.withDefaults()
	client, err := newClient(opts.Getenv, timing)
	if err != nil {
		return nil, err
	}
	for _, name := range notInForce() {
		if opts.Getenv(name) != "" {
			log.Warn("environment variable is not in force here; docs/dns/route53.md says what to use", "variable", name)
		}
	}
	return &Provider{
		api: api{client}, reader: opts.Reader, log: log, timing: timing,
		zoneID: bareZoneID(opts.Getenv("AWS_HOSTED_ZONE_ID")), writers: map[string]*writer{}, lists: newLists(),
	}, nil
}

// Confirms is true: Present waits for INSYNC.
func (*Provider) Confirms() bool { return true }

// Present adds the value and returns once Route 53 says INSYNC.
func (p *Provider) Present(ctx context.Context, rec dns.Record) error {
	return p.change(ctx, rec, true)
}

// CleanUp removes the value. It does not wait for INSYNC.
func (p *Provider) CleanUp(ctx context.Context, rec dns.Record) error {
	return p.change(ctx, rec, false)
}

// change submits the wish until the set was as believed.
func (p *Provider) change(ctx context.Context, rec dns.Record, add bool) error {
	id, err := p.zoneIDOf(ctx, rec.Zone)
	if err != nil {
		return err
	}
	w := p.writer(id)
	in := wish{name: rec.Name, value: rec.Value, add: add, ttl: int64(rec.TTL / time.Second)}
	start := time.Now()
	for n := 0; ; n++ {
		err := w.submit(ctx, in)
		var c *conflict
		if !errors.As(err, &c) {
			return err
		}
		late := time.Since(start) >= p.timing.Patience
		if c.gone && !late {
			continue // the belief is corrected already
		}
		if late {
			if !add || in.force {
				return fmt.Errorf("%w (other values there could not be read, so it was left alone)", err)
			}
			p.log.Warn("the record set holds values that could not be read; overwriting it", "name", rec.Name, "zone", id, "error", err)
			in.force = true
			continue
		}
		if err := p.look(ctx, w, rec, c, n); err != nil {
			return err
		}
	}
}

// look corrects the belief about the set at rec's name after a conflict.
func (p *Provider) look(ctx context.Context, w *writer, rec dns.Record, c *conflict, n int) error {
	if n == 0 && len(c.wanted.values) > 0 {
		// Our own write may have been done and its answer lost, or a process
		// before this one wrote the same.
		w.believe(rec.Name, c, c.wanted)
		return nil
	}
	if n > 1 {
		// Not in step with other replicas that look at the same moment.
		wait := p.timing.Patience / 32 << min(n-2, 3)
		if err := sleep(ctx, wait/2+rand.N(wait)); err != nil {
			return fmt.Errorf("look what is at %s: %w", rec.Name, err)
		}
	}
	set, err := p.readSet(ctx, w.id, rec, n)
	if err != nil {
		p.log.Warn("could not read the record set; trying again", "name", rec.Name, "zone", w.id, "error", err)
		return nil
	}
	if len(set.values) > 0 { // else the DNS is behind: Route 53 said that there is a set
		w.believe(rec.Name, c, set)
	}
	return nil
}

// readSet reads by the DNS and, every second time, by the API if that is
// allowed: the DNS needs no right, the API is never behind.
func (p *Provider) readSet(ctx context.Context, zoneID string, rec dns.Record, n int) (rrset, error) {
	if n > 0 && n%2 == 0 && p.mayList() {
		set, err := p.api.readSet(ctx, zoneID, rec.Name)
		if !isDenied(err) {
			return set, err
		}
		p.mu.Lock()
		p.listDenied = true
		p.mu.Unlock()
	}
	if p.reader == nil {
		return rrset{}, errors.New("no reader of the DNS")
	}
	values, ttl, err := p.reader.ReadTXT(ctx, rec.Zone, rec.Name)
	if ttl == 0 {
		ttl = rec.TTL
	}
	return newSet(int64(ttl/time.Second), values...), err
}

func (p *Provider) mayList() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.listDenied
}

func (p *Provider) writer(id string) *writer {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.writers[id]
	if w == nil {
		w = &writer{id: id, api: p.api, log: p.log, timing: p.timing, sets: map[string]*belief{}}
		p.writers[id] = w
	}
	return w
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
