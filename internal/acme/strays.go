package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gatehouse/internal/acme/dns"
	"gatehouse/internal/store"
)

const (
	// strayLast is the longest pause before a look at strays; each is four times
	// the one before.
	strayLast = time.Hour
	strayCall = 2 * time.Minute // one look, with what it removes
)

// lookAfter takes care of DNS records that a call may have written after the
// lease of its order was over. Nothing fences the DNS: a process that was stopped
// in the middle of a call sends its change when it goes on, and by then another
// may have ended the order and cleaned up. As long as the journal names them they
// are the business of whoever goes on with the order; after that nobody else
// would ever remove them. It returns at once; Close ends what it began.
func (i *Issuer) lookAfter(order string, all []challenge) {
	recs, _ := records(all)
	if len(recs) == 0 {
		return
	}
	i.strays.Go(func() {
		var err error
		for pause := i.timing.strayFirst; pause <= strayLast; pause *= 4 {
			if sleep(i.inUse, pause) != nil {
				return
			}
			if recs, err = i.removeStrays(order, recs); len(recs) == 0 {
				return
			}
		}
		if err != nil {
			i.log.Warn("records may be left in the DNS", "order", order, "err", err, "next", "a person removes them")
		}
	})
}

// removeStrays removes those of recs that the journal of their order does not
// name, and gives the others and those it could not remove.
func (i *Issuer) removeStrays(order string, recs []dns.Record) (left []dns.Record, err error) {
	ctx, cancel := context.WithTimeout(i.inUse, strayCall)
	defer cancel()
	j, err := i.journal(ctx, order)
	if err != nil {
		return recs, err
	}
	named := func(rec dns.Record) bool {
		return slices.ContainsFunc(slices.Concat(j.Challenges, j.Leftovers), func(c challenge) bool {
			return c.Record != nil && c.Record.Name == rec.Name && c.Record.Value == rec.Value
		})
	}
	for _, rec := range recs {
		if named(rec) {
			left = append(left, rec)
			continue
		}
		if e := i.opts.DNS.CleanUp(ctx, rec); e != nil && !errors.Is(e, dns.ErrNoZone) {
			left, err = append(left, rec), e
			continue
		}
		i.log.Info("record removed that was written after the lease of its order", "order", order, "record", rec.Name)
	}
	return left, err
}

// journal reads a journal without the lease of its order; none is an empty one.
func (i *Issuer) journal(ctx context.Context, key string) (journal, error) {
	e, err := i.opts.Store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return journal{}, nil
	}
	if err != nil {
		return journal{}, fmt.Errorf("read journal %s: %w", key, err)
	}
	j, err := decodeJournal(e.Value)
	if err != nil {
		return journal{}, fmt.Errorf("read journal %s: %w", key, err)
	}
	return j, nil
}
