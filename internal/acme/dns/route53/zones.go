package route53

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
)

// listAge is how long a list of zones is good for: a thousand names planned at
// once cost one request, a new zone is seen within the minute.
const listAge = time.Minute

// lists remembers pages of the zone list by the name they start at. Only what
// was found is ever taken from it; "none" is always asked anew.
type lists struct {
	gate  chan struct{} // holds one token while somebody asks or looks
	pages map[string]agedPage
}

func newLists() lists { return lists{make(chan struct{}, 1), map[string]agedPage{}} }

type agedPage struct {
	page
	at time.Time
}

// zonesFrom gives the page that starts at name. One caller asks, others wait.
func (p *Provider) zonesFrom(ctx context.Context, name string, fresh bool) (page, error) {
	select {
	case p.lists.gate <- struct{}{}:
		defer func() { <-p.lists.gate }()
	case <-ctx.Done():
		return page{}, fmt.Errorf("wait for route53's list of zones: %w", ctx.Err())
	}
	if have, ok := p.lists.pages[name]; ok && !fresh && time.Since(have.at) < listAge {
		return have.page, nil
	}
	got, err := p.api.zonesFrom(ctx, name)
	if err != nil {
		return page{}, err
	}
	if len(p.lists.pages) > 1000 {
		clear(p.lists.pages)
	}
	p.lists.pages[name] = agedPage{got, time.Now()}
	return got, nil
}

// FindZone names the hosted zone that holds name: the longest public one of
// the account, or the one AWS_HOSTED_ZONE_ID says, public or not.
func (p *Provider) FindZone(ctx context.Context, name string) (string, error) {
	z, err := p.find(ctx, name)
	return z.name, err
}

// zoneIDOf gives the ID to write to for a zone's name.
func (p *Provider) zoneIDOf(ctx context.Context, name string) (string, error) {
	if p.zoneID != "" {
		return p.zoneID, nil
	}
	z, err := p.find(ctx, name)
	if err != nil {
		return "", err
	}
	if z.name != name {
		return "", fmt.Errorf("route53 holds no public zone %s any more: %w", name, dns.ErrNoZone)
	}
	return z.id, nil
}

func (p *Provider) find(ctx context.Context, name string) (zone, error) {
	var err error
	for _, fresh := range []bool{false, true} {
		var known []zone
		if known, err = p.holders(ctx, name, fresh); err != nil {
			return zone{}, err
		}
		var z zone
		if z, err = choose(name, p.zoneID, known); err == nil {
			return z, nil
		}
	}
	return zone{}, err
}

// holders lists the zones at name and above. The list is sorted by reversed
// labels, so it is asked for from the shortest ancestor on: usually one page
// holds everything below that. If not, it is asked for from the next longer
// one; the zones of an ancestor's own name always stand first on its page.
func (p *Provider) holders(ctx context.Context, name string, fresh bool) ([]zone, error) {
	var known []zone
	starts := ancestors(name)
	for _, start := range starts {
		got, err := p.zonesFrom(ctx, start, fresh)
		if err != nil {
			return nil, err
		}
		all := !got.more
		for _, z := range got.zones {
			if !within(z.name, start) {
				all = true // the list has left this part of the tree
				break
			}
			if within(name, z.name) && !slices.Contains(known, z) {
				known = append(known, z)
			}
		}
		if all {
			break
		}
	}
	return known, nil
}

// choose picks the zone for name. Two public zones of one name are an error:
// only one of them is delegated, the API does not say which, and a record in
// the other one costs a failed validation.
func choose(name, id string, known []zone) (zone, error) {
	if id != "" {
		for _, z := range known {
			if z.id == id {
				return z, nil
			}
		}
		return zone{}, fmt.Errorf("route53 zone %s (AWS_HOSTED_ZONE_ID) does not hold %s: %w", id, name, dns.ErrNoZone)
	}
	var best []zone
	private := false
	for _, z := range known {
		switch {
		case z.private:
			private = true
		case len(best) == 0 || len(z.name) > len(best[0].name):
			best = []zone{z}
		case z.name == best[0].name:
			best = append(best, z)
		}
	}
	switch {
	case len(best) == 1:
		return best[0], nil
	case len(best) > 1:
		var ids []string
		for _, z := range best {
			ids = append(ids, z.id)
		}
		slices.Sort(ids)
		return zone{}, ambiguousError(fmt.Sprintf("route53 holds %d public zones named %s (%s) and does not say which is delegated: set AWS_HOSTED_ZONE_ID",
			len(best), best[0].name, strings.Join(ids, ", ")))
	case private:
		return zone{}, fmt.Errorf("route53 holds only private zones for %s (AWS_HOSTED_ZONE_ID can choose one): %w", name, dns.ErrNoZone)
	}
	return zone{}, fmt.Errorf("route53 holds no zone for %s: %w", name, dns.ErrNoZone)
}

// ambiguousError is a definite answer, and none to work with: to the finder it
// is a dns.ErrNoZone, so that the DNS is not asked to guess.
type ambiguousError string

func (e ambiguousError) Error() string        { return string(e) }
func (e ambiguousError) Is(target error) bool { return target == dns.ErrNoZone }

// ancestors lists name and its parents, shortest first, from two labels on.
func ancestors(name string) []string {
	var names []string
	for strings.Contains(name, ".") {
		names = append(names, name)
		_, name, _ = strings.Cut(name, ".")
	}
	slices.Reverse(names)
	return names
}

func within(name, zone string) bool {
	return name == zone || strings.HasSuffix(name, "."+zone)
}
