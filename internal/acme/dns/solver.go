package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// DefaultTTL is the time to live of challenge records: short, for who caches
// an old one, and it is gone within minutes anyway.
const DefaultTTL = 10 * time.Second

// SolverOptions are the settings of [acme.dnsChallenge].
type SolverOptions struct {
	Provider                Provider
	Zone                    string        // empty: found
	Resolvers               []string      // "ip" or "ip:port"; none: /etc/resolv.conf
	DelayBeforeCheck        time.Duration // waited before the propagation check
	DisablePropagationCheck bool          // only DelayBeforeCheck is waited
	TTL                     time.Duration // of the records; zero: DefaultTTL
	IgnoreCNAME             bool          // write to _acme-challenge itself, even if it is an alias
	Logger                  *slog.Logger  // nil: silent
}

// Solver makes DNS-01 challenges come true. The caller keeps the order: Plan,
// then journal the record, then Present, then Wait, and CleanUp in the end,
// with the very record of the journal, whoever wrote it. Safe for concurrent
// use.
type Solver struct {
	opts   SolverOptions
	finder *Finder
	log    *slog.Logger
	pace   pace
}

// NewSolver makes a solver.
func NewSolver(opts SolverOptions) *Solver {
	lister, _ := opts.Provider.(ZoneLister)
	if opts.TTL == 0 {
		opts.TTL = DefaultTTL
	}
	s := &Solver{opts: opts, finder: NewFinder(opts.Zone, lister, opts.Resolvers), log: opts.Logger, pace: defaultPace}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	return s
}

// Finder gives the solver's zone finder, for reports to people.
func (s *Solver) Finder() *Finder { return s.finder }

const challengeLabel = "_acme-challenge."

// ChallengeName is the name RFC 8555 wants the record of a domain at; a
// wildcard shares it with the domain below the star.
func ChallengeName(domain string) string {
	return challengeLabel + strings.TrimPrefix(canonical(domain), "*.")
}

// Plan says which record proves the domain; nothing is written. value is what
// RFC 8555 section 8.4 computes from the key authorization. CNAMEs at the
// challenge name are followed, and where they led is in the record, so that it
// can be removed from there even if they change.
func (s *Solver) Plan(ctx context.Context, domain, value string) (Record, error) {
	i := s.Inspect(ctx, domain)
	if i.Unsure != nil {
		s.log.Warn("could not see whether the challenge name is an alias; going on as if not", "name", i.Challenge, "error", i.Unsure)
	}
	if i.Err != nil {
		return Record{}, i.Err
	}
	return Record{
		Zone: i.Zone.Zone, Name: i.Target, Value: value, TTL: s.opts.TTL, Domain: strings.TrimPrefix(i.Challenge, challengeLabel),
	}, nil
}

// Inspect finds out what Plan needs, and tells how.
func (s *Solver) Inspect(ctx context.Context, domain string) Inspection {
	i := Inspection{Challenge: ChallengeName(domain)}
	i.Target = i.Challenge
	if !s.opts.IgnoreCNAME {
		i.Target, i.Aliases, i.Err = s.finder.Follow(ctx, i.Challenge)
		if errors.Is(i.Err, errUnsure) {
			// The provider may well know the zone. If there is an alias
			// after all, the check by the CA will tell.
			i.Unsure = i.Err
		} else if i.Err != nil {
			i.Err = fmt.Errorf("follow %s: %w", i.Challenge, i.Err)
			return i
		}
	}
	_, i.Zone, i.Err = s.finder.Find(ctx, i.Target)
	return i
}

// Present writes the record; it is done when the provider's service says so.
func (s *Solver) Present(ctx context.Context, rec Record) error {
	if err := s.opts.Provider.Present(ctx, rec); err != nil {
		return fmt.Errorf("present TXT %s in zone %s: %w", rec.Name, rec.Zone, err)
	}
	return nil
}

// CleanUp removes the record; a record that is gone is a success.
func (s *Solver) CleanUp(ctx context.Context, rec Record) error {
	if err := s.opts.Provider.CleanUp(ctx, rec); err != nil {
		return fmt.Errorf("clean up TXT %s in zone %s: %w", rec.Name, rec.Zone, err)
	}
	return nil
}
