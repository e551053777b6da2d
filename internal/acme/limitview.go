package acme

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/store"
)

var _ cert.Limiter = (*Issuer)(nil)

const (
	// pruneEvery is how often buckets that are full again are taken out of the
	// store: each set of names and each domain has one.
	pruneEvery = time.Hour
	// mostLimits bounds what is shown of a kind of bucket: the emptiest.
	mostLimits = 100
)

// seenLimits is what the store said last under limits/<issuer>/.
type seenLimits struct {
	buckets map[string]seenBucket
	holds   holds
}

type seenBucket struct {
	bucketRecord
	revision store.Revision
}

// FollowLimits keeps Limits up to date, and takes buckets that are full again
// out of the store, until ctx ends. An issuer that uses another's account has
// nothing to follow.
func (i *Issuer) FollowLimits(ctx context.Context) error {
	p := i.pace
	if p.issuer != i.ID() {
		<-ctx.Done()
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for sleep(ctx, pruneEvery/2+rand.N(pruneEvery)) == nil {
			p.prune(ctx, time.Now())
		}
	}()
	trouble := false
	for entries, err := range p.store.Watch(ctx, "limits/"+p.issuer) {
		if err != nil {
			if !trouble && ctx.Err() == nil {
				p.log.Warn("the CA's limits cannot be watched", "issuer", p.issuer, "err", err, "next", "those known are shown until they can be")
			}
			trouble = true
			continue
		}
		trouble = false
		p.see(entries)
	}
	<-done
	return nil
}

func (p *pace) see(entries []store.Entry) {
	seen := &seenLimits{buckets: make(map[string]seenBucket, len(entries))}
	for _, e := range entries {
		bucket, ok := strings.CutPrefix(e.Key, p.key(""))
		switch {
		case !ok || len(e.Value) > maxAnswer: // none of ours
		case bucket == "holds":
			_ = json.Unmarshal(e.Value, &seen.holds) // damaged: it holds nothing, as in change
		default:
			b := seenBucket{revision: e.Revision}
			if json.Unmarshal(e.Value, &b.bucketRecord) == nil {
				seen.buckets[bucket] = b
			}
		}
	}
	p.seen.Store(seen)
}

// prune deletes the buckets that have been full for a while: an absent one is
// full.
func (p *pace) prune(ctx context.Context, now time.Time) {
	seen := p.seen.Load()
	if seen == nil {
		return
	}
	for bucket, b := range seen.buckets {
		if bucket == "pace" || b.Full.After(now.Add(-pruneEvery)) {
			continue
		}
		err := p.store.Delete(ctx, p.key(bucket), b.revision)
		if err != nil && !errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrConflict) {
			return // the store is away; next time
		}
	}
}

// Limits tells of the CA's limits as all replicas together have used them up,
// and of what the CA said to wait for.
func (i *Issuer) Limits() []cert.Limit {
	seen := i.pace.seen.Load()
	if seen == nil || i.pace.issuer != i.ID() {
		return nil
	}
	return seen.limits(time.Now(), i.ID(), i.pace.model)
}

func (s *seenLimits) limits(now time.Time, issuer string, model limitModel) []cert.Limit {
	byKind := map[string][]cert.Limit{}
	add := func(l cert.Limit) { byKind[l.Kind] = append(byKind[l.Kind], l) }
	if r, ok := model.ruleOf("account"); ok {
		add(r.limit(issuer, s.buckets["account"].Full, now)) // the one everybody asks for, used or not
	}
	for bucket, b := range s.buckets {
		if r, ok := model.ruleOf(bucket); ok && bucket != "account" && b.Full.After(now) {
			add(r.limit(issuer, b.Full, now))
		}
	}
	for bucket, h := range s.holds.Buckets {
		if h.Until.After(now) {
			kind, name := kindOf(bucket)
			add(cert.Limit{Issuer: issuer, Kind: "hold", Name: strings.Trim(kind+" "+name, " "), Free: h.Until, Text: h.Why, Link: h.Link})
		}
	}
	if d := s.holds.Down; d != nil {
		add(cert.Limit{Issuer: issuer, Kind: "down", Free: d.Probe, Text: d.Why})
	}
	var out []cert.Limit
	for _, list := range byKind {
		slices.SortFunc(list, func(a, b cert.Limit) int {
			return cmp.Or(cmp.Compare(a.Size-a.Used, b.Size-b.Used), b.Free.Compare(a.Free), strings.Compare(a.Name, b.Name))
		})
		out = append(out, list[:min(len(list), mostLimits)]...)
	}
	slices.SortStableFunc(out, func(a, b cert.Limit) int { return strings.Compare(a.Kind, b.Kind) })
	return out
}

// limit is the rule's bucket as it is shown: its size is what we use of it.
func (r rule) limit(issuer string, full, now time.Time) cert.Limit {
	l := cert.Limit{Issuer: issuer, Size: r.burst, Text: r.text}
	l.Kind, l.Name = kindOf(r.bucket)
	l.Free, _ = r.slot(full, now)
	if left := full.Sub(now); left > 0 {
		l.Used = int(math.Ceil(float64(left) / float64(r.interval)))
	}
	return l
}

// kindOf takes a bucket apart for people.
func kindOf(bucket string) (kind, name string) {
	for prefix, kind := range map[string]string{domainBucket: "domain", setPrefix: "names", failedBucket: "failures", nameBucket: "name"} {
		if name, ok := strings.CutPrefix(bucket, prefix); ok {
			return kind, name
		}
	}
	return bucket, ""
}
