package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	mdns "github.com/miekg/dns"
)

// pace is how the propagation check spends its time.
type pace struct {
	first, most time.Duration // between two rounds of questions
	unsure      time.Duration // how long a check that cannot decide is kept up
	giveUp      int           // silent rounds after which a server counts as out of reach
}

var defaultPace = pace{first: 200 * time.Millisecond, most: 2 * time.Second, unsure: 30 * time.Second, giveUp: 2}

// Wait returns once every authoritative server within reach shows all the
// records, so that the CA will see them whichever it asks. ctx bounds it, and
// its end is an error that tells what each server said last.
//
// Two cases end after 30 s with a warning instead, and the CA decides: when
// the provider has already confirmed the change itself (Confirmer), and when
// no authoritative server is within reach at all, so that only the configured
// resolvers, which may remember that the name did not exist, can be asked.
func (s *Solver) Wait(ctx context.Context, recs []Record) error {
	if err := sleep(ctx, s.opts.DelayBeforeCheck); err != nil {
		return fmt.Errorf("wait before the propagation check: %w", err)
	}
	if s.opts.DisablePropagationCheck {
		return nil
	}
	zones := map[string][]Record{}
	for _, r := range recs {
		zones[r.Zone] = append(zones[r.Zone], r)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for zone, recs := range zones {
		wg.Go(func() {
			if err := s.waitZone(ctx, zone, recs); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Seen reports whether the records can be seen now, by the same servers that
// Wait would ask. Each is asked once; nothing is waited for or written.
func (s *Solver) Seen(ctx context.Context, recs []Record) bool {
	zones := map[string][]Record{}
	for _, r := range recs {
		zones[r.Zone] = append(zones[r.Zone], r)
	}
	for zone, recs := range zones {
		servers, _ := s.finder.resolver.nameServers(ctx, zone)
		seats := seatsFor(servers, recs)
		s.askRound(ctx, seats)
		if allSilent(seats) {
			seats = seatsFor(s.resolvers(), recs)
			s.askRound(ctx, seats)
		}
		if !settled(seats, 1) {
			return false
		}
	}
	return len(recs) > 0
}

func (s *Solver) resolvers() []nameServer {
	var servers []nameServer
	list, _ := s.finder.resolver.servers()
	for _, addr := range list {
		servers = append(servers, nameServer{"", addr})
	}
	return servers
}

func (s *Solver) waitZone(ctx context.Context, zone string, recs []Record) error {
	check := ctx
	if c, ok := s.opts.Provider.(Confirmer); ok && c.Confirms() {
		bounded, cancel := context.WithTimeout(ctx, s.pace.unsure)
		defer cancel()
		check = bounded
	}
	servers, err := s.finder.resolver.nameServers(check, zone)
	seats := seatsFor(servers, recs)
	if s.poll(check, seats) {
		return nil
	}
	if allSilent(seats) && check.Err() == nil {
		why := lastWords(seats)
		if err != nil {
			why = err.Error()
		}
		s.log.Warn("no name server of the zone is within reach; asking the resolvers instead", "zone", zone, "error", why)
		bounded, cancel := context.WithTimeout(check, s.pace.unsure)
		defer cancel()
		check = bounded
		seats = seatsFor(s.resolvers(), recs)
		if s.poll(check, seats) {
			return nil
		}
		_ = sleep(check, s.pace.unsure) // only if nobody answers: the DNS may still be on its way
	}
	if ctx.Err() != nil {
		return fmt.Errorf("wait for zone %s to show the records: %w; last %s", zone, context.Cause(ctx), lastWords(seats))
	}
	s.log.Warn("could not see the records everywhere; going on, the CA decides", "zone", zone, "last", lastWords(seats))
	return nil
}

// seat is one server and one record it shall show.
type seat struct {
	server nameServer
	rec    Record
	shown  bool
	heard  bool   // it answered at least once
	silent int    // rounds without a definite answer
	last   string // what it said last
}

func seatsFor(servers []nameServer, recs []Record) []*seat {
	var seats []*seat
	for _, s := range servers {
		for _, r := range recs {
			seats = append(seats, &seat{server: s, rec: r, last: "was not asked"})
		}
	}
	return seats
}

// poll asks until all who are within reach show what they shall (true), until
// nobody is within reach, or until ctx ends.
func (s *Solver) poll(ctx context.Context, seats []*seat) bool {
	wait := s.pace.first
	for {
		s.askRound(ctx, seats)
		switch {
		case settled(seats, s.pace.giveUp):
			return true
		case outOfReach(seats, s.pace.giveUp):
			return false
		}
		if sleep(ctx, wait) != nil {
			return false
		}
		wait = min(wait*2, s.pace.most)
	}
}

// askRound asks every server that does not show its record yet, all at once.
func (s *Solver) askRound(ctx context.Context, seats []*seat) {
	var wg sync.WaitGroup
	for _, st := range seats {
		if st.shown {
			continue
		}
		wg.Go(func() {
			a := s.finder.resolver.asker.ask(ctx, st.server.addr, question{st.rec.Name, mdns.TypeTXT})
			if a.err != nil && ctx.Err() != nil {
				return // our own end says nothing about the server
			}
			st.hear(a)
		})
	}
	wg.Wait()
}

func (st *seat) hear(a answer) {
	st.last = says(a)
	if !definite(a) {
		st.silent++
		return
	}
	st.heard, st.silent = true, 0
	values, _ := texts(a.msg, st.rec.Name)
	st.shown = slices.Contains(values, st.rec.Value)
	switch {
	case len(values) > 0:
		st.last = fmt.Sprintf("showed %d other values", len(values))
	case a.msg.Rcode == mdns.RcodeSuccess:
		st.last = "showed no TXT record"
	}
}

// settled: each record is shown by somebody, and who does not show it has
// fallen silent.
func settled(seats []*seat, giveUp int) bool {
	shown := map[Record]bool{}
	for _, st := range seats {
		if !st.shown && st.silent < giveUp {
			return false
		}
		shown[st.rec] = shown[st.rec] || st.shown
	}
	for _, ok := range shown {
		if !ok {
			return false
		}
	}
	return len(shown) > 0
}

// outOfReach: nobody ever gave a definite answer.
func outOfReach(seats []*seat, giveUp int) bool {
	for _, st := range seats {
		if st.heard || st.silent < giveUp {
			return false
		}
	}
	return true
}

func allSilent(seats []*seat) bool { return outOfReach(seats, 1) }

// lastWords lists what each server that does not show its record said last.
func lastWords(seats []*seat) string {
	var parts []string
	for _, st := range seats {
		if st.shown {
			continue
		}
		who := st.server.addr
		if st.server.host != "" {
			who = st.server.host + " (" + who + ")"
		}
		parts = append(parts, fmt.Sprintf("%s %s for %s", who, st.last, st.rec.Name))
	}
	const most = 8
	if n := len(parts) - most; n > 0 {
		parts = append(parts[:most], fmt.Sprintf("and %d more", n))
	}
	if len(parts) == 0 {
		return "no server could be asked"
	}
	return strings.Join(parts, ", ")
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
