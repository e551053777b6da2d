package rest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"gatehouse/internal/acme/dns"
)

// Zone is a zone of a service.
type Zone struct {
	ID   string // what requests name it by
	Name string // lower case, without the trailing dot
}

// Zones is a service's list of zones, read when it is needed and kept for a
// minute: a thousand names planned at once cost one reading. That a zone is
// not there is only ever said after reading anew. Safe for concurrent use.
type Zones struct {
	service string
	read    func(context.Context) ([]Zone, error)
	gate    chan struct{} // held by who reads
	list    []Zone
	until   time.Time
}

// NewZones makes a list; read reads the whole of it from the service.
func NewZones(service string, read func(context.Context) ([]Zone, error)) *Zones {
	return &Zones{service: service, read: read, gate: make(chan struct{}, 1)}
}

// Find gives the longest zone that holds name. An error is a dns.ErrNoZone if
// the service holds none. Two zones of one name are an error as well: only one
// of them is delegated, and a record in the other one is never seen.
func (z *Zones) Find(ctx context.Context, name string) (Zone, error) {
	return z.pick(ctx, "zone for "+name, func(have string) bool { return name == have || strings.HasSuffix(name, "."+have) })
}

// Named gives the zone of exactly that name, under the same rules.
func (z *Zones) Named(ctx context.Context, name string) (Zone, error) {
	return z.pick(ctx, "zone "+name, func(have string) bool { return name == have })
}

func (z *Zones) pick(ctx context.Context, wanted string, fits func(string) bool) (Zone, error) {
	select {
	case z.gate <- struct{}{}:
		defer func() { <-z.gate }()
	case <-ctx.Done():
		return Zone{}, fmt.Errorf("%s: wait for the list of zones: %w", z.service, context.Cause(ctx))
	}
	if time.Now().Before(z.until) {
		if best, twice := longest(z.list, fits); best.Name != "" && !twice {
			return best, nil
		}
	}
	start := time.Now()
	list, err := z.read(ctx)
	if err != nil {
		return Zone{}, fmt.Errorf("list zones: %w", err)
	}
	// A list that is long to read is read less often.
	z.list, z.until = list, time.Now().Add(max(time.Minute, 20*time.Since(start)))
	best, twice := longest(list, fits)
	switch {
	case twice:
		return Zone{}, fmt.Errorf("%s holds two zones named %s: say which one by its ID", z.service, best.Name)
	case best.Name == "":
		return Zone{}, fmt.Errorf("%s shows these credentials %d zones, and no %s: %w", z.service, len(list), wanted, dns.ErrNoZone)
	}
	return best, nil
}

func longest(list []Zone, fits func(string) bool) (best Zone, twice bool) {
	for _, zone := range list {
		switch {
		case !fits(zone.Name) || len(zone.Name) < len(best.Name):
		case zone.Name == best.Name && zone.ID != best.ID:
			twice = true
		default:
			best, twice = zone, false
		}
	}
	return best, twice
}
