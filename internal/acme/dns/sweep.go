package dns

import (
	"context"
	"errors"
	"sync"
)

// Swept is what became of a record Sweep was given.
type Swept struct {
	Record Record
	Err    error // nil: it is gone
}

// Sweep removes records a process left behind, all side by side so that a
// provider can take them as few requests, and says of each what became of it,
// in the order given; the same record is removed once. Who keeps the journals
// calls it with the records of every journal nobody works on any more: after a
// crash, when a name is not wanted any more, at start and then every few
// minutes. He forgets those without an error and keeps the others for the next
// time. ctx bounds the whole.
//
// A record whose zone the provider definitely does not hold any more is gone
// as far as anybody can tell; it is not an error, or it would be tried for
// ever, but it is logged.
func (s *Solver) Sweep(ctx context.Context, recs []Record) []Swept {
	type place struct{ zone, name, value string }
	var mu sync.Mutex
	errs := map[place]error{}
	var wg sync.WaitGroup
	for _, rec := range recs {
		at := place{rec.Zone, rec.Name, rec.Value}
		mu.Lock()
		_, begun := errs[at]
		errs[at] = nil
		mu.Unlock()
		if begun {
			continue
		}
		wg.Go(func() {
			err := s.CleanUp(ctx, rec)
			if errors.Is(err, ErrNoZone) {
				s.log.Warn("a record of ours cannot be removed, the provider holds its zone no more; it is forgotten",
					"name", rec.Name, "zone", rec.Zone, "error", err)
				err = nil
			}
			mu.Lock()
			errs[at] = err
			mu.Unlock()
		})
	}
	wg.Wait()
	swept := make([]Swept, len(recs))
	for i, rec := range recs {
		swept[i] = Swept{rec, errs[place{rec.Zone, rec.Name, rec.Value}]}
	}
	return swept
}
