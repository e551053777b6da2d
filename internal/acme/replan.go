package acme

import (
	"context"
	"slices"

	"gatehouse/internal/acme/dns"
)

// replan lets go of challenges of an earlier attempt that do not fit what is
// configured now: another kind of challenge, another zone, an alias that came
// since. They become leftovers, to be cleaned up where they were written, and
// are chosen anew (other). What the CA was told of is its turn, and what can be
// seen already is left as it is.
func (m *machine) replan(ctx context.Context, urls []string) (other bool, err error) {
	var old []string
	for _, url := range urls {
		i, _ := m.book.now.challenge(url)
		c := m.book.now.Challenges[i]
		if m.planned[url] || c.State == told {
			continue
		}
		m.planned[url] = true
		if c.Type != m.issuer.opts.Challenge || c.Type == dns01 && !m.solver.seen(ctx, []challenge{c}) && m.moved(ctx, c) {
			old = append(old, url)
		}
	}
	if len(old) == 0 {
		return false, nil
	}
	j := m.book.now.clone()
	j.Challenges = slices.DeleteFunc(j.Challenges, func(c challenge) bool {
		if !slices.Contains(old, c.Authorization) {
			return false
		}
		m.issuer.log.Info("challenge chosen anew", "order", m.book.key, "challenge", c.place(), "reason", "it is not what is configured now")
		j.Leftovers = append(j.Leftovers, c)
		return true
	})
	return true, m.book.write(ctx, j)
}

// moved reports whether a record would be written elsewhere now. Who cannot tell
// leaves it where it is.
func (m *machine) moved(ctx context.Context, c challenge) bool {
	rec, err := m.solver.dns.Plan(ctx, c.Name, c.Value)
	return err == nil && (dns.Record{Zone: rec.Zone, Name: rec.Name}) != dns.Record{Zone: c.Record.Zone, Name: c.Record.Name}
}
