package route53

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Route 53's limits of one change batch.
const (
	maxValues = 1000
	maxChars  = 32000
)

func (d *Double) changeSets(r *http.Request, call *Call) (any, *apiError) {
	var in changeResourceRecordSetsRequest
	if err := xml.NewDecoder(io.LimitReader(r.Body, 4<<20)).Decode(&in); err != nil || in.XMLName.Space != namespace {
		return nil, &apiError{status: 400, code: "InvalidInput", message: fmt.Sprintf("body: %v (namespace %q)", err, in.XMLName.Space)}
	}
	for _, c := range in.Changes {
		change := Change{Action: c.Action, Name: strings.ToLower(strings.TrimSuffix(c.Set.Name, ".")), Type: c.Set.Type, TTL: c.Set.TTL}
		for _, v := range c.Set.Records {
			change.Values = append(change.Values, v.Value)
		}
		call.Changes = append(call.Changes, change)
	}
	zone, ok := d.zone(call.Zone)
	if !ok {
		return nil, noSuchZone(call.Zone)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	after, messages := apply(d.sets[zone.ID], zone, call.Changes)
	if len(messages) > 0 {
		return nil, &apiError{status: 400, code: "InvalidChangeBatch", messages: messages}
	}
	before := d.sets[zone.ID]
	d.sets[zone.ID] = after
	id := fmt.Sprintf("C%013d", len(d.calls)+1)
	d.changes[id] = "PENDING"
	touched := map[setKey]bool{}
	for _, c := range call.Changes {
		if k := (setKey{c.Name, c.Type}); !equal(before[k], after[k]) {
			touched[k] = true
		}
	}
	d.work.Go(func() { d.sync(id, zone, touched) })
	return changeResourceRecordSetsResponse{Xmlns: namespace, ChangeInfo: changeInfo{ID: "/change/" + id, Status: "PENDING", SubmittedAt: time.Now().UTC()}}, nil
}

// apply gives the record sets after a batch, or why the batch is refused as a
// whole.
func apply(sets map[setKey]recordSet, zone Zone, changes []Change) (map[setKey]recordSet, []string) {
	sets = maps.Clone(sets)
	var messages []string
	values, chars := 0, 0
	for _, c := range changes {
		weight := 1
		if c.Action == "UPSERT" {
			weight = 2
		}
		values += weight * len(c.Values)
		for _, v := range c.Values {
			chars += weight * len(v)
		}
		if m := applyOne(sets, zone, c); m != "" {
			messages = append(messages, m)
		}
	}
	if values > maxValues {
		messages = append(messages, fmt.Sprintf("Number of records limit of %d exceeded.", maxValues))
	}
	if chars > maxChars {
		messages = append(messages, fmt.Sprintf("Number of characters limit of %d exceeded.", maxChars))
	}
	return sets, messages
}

func applyOne(sets map[setKey]recordSet, zone Zone, c Change) string {
	key := setKey{c.Name, c.Type}
	set := recordSet{ttl: c.TTL, values: slices.Sorted(slices.Values(c.Values))}
	have, exists := sets[key]
	what := fmt.Sprintf("[name='%s.', type='%s']", c.Name, c.Type)
	switch {
	case c.Name != zone.Name && !strings.HasSuffix(c.Name, "."+zone.Name):
		return fmt.Sprintf("RRSet with DNS name %s. is not permitted in zone %s.", c.Name, zone.Name)
	case len(c.Values) == 0:
		return "Invalid Resource Record: FATAL problem: MissingValue"
	case len(slices.Compact(slices.Clone(set.values))) != len(set.values):
		return "Invalid Resource Record: FATAL problem: DuplicateValues"
	case c.Type == "TXT" && slices.ContainsFunc(c.Values, func(v string) bool {
		return len(v) < 2 || len(v) > 257 || v[0] != '"' || v[len(v)-1] != '"'
	}):
		return "Invalid Resource Record: FATAL problem: InvalidCharacterString (Value should be enclosed in quotation marks)"
	}
	switch c.Action {
	case "CREATE":
		if exists {
			return "Tried to create resource record set " + what + " but it already exists"
		}
		sets[key] = set
	case "UPSERT":
		sets[key] = set
	case "DELETE":
		if !exists {
			return "Tried to delete resource record set " + what + " but it was not found"
		}
		if !equal(have, set) {
			return "Tried to delete resource record set " + what + " but the values provided do not match the current values"
		}
		delete(sets, key)
	default:
		return "Invalid action " + c.Action
	}
	return ""
}

func equal(a, b recordSet) bool { return a.ttl == b.ttl && slices.Equal(a.values, b.values) }

// sync brings a change into the DNS after the delay and calls it INSYNC.
func (d *Double) sync(id string, zone Zone, touched map[setKey]bool) {
	select {
	case <-time.After(d.opts.SyncDelay):
	case <-d.ctx.Done():
		return
	}
	if d.opts.DNS != nil && !zone.Private {
		// One at a time, each with the newest content of its names: whatever
		// the order, the DNS ends at what the API has.
		d.pushing.Lock()
		var err error
		for keys := range slices.Chunk(slices.Collect(maps.Keys(touched)), 100) {
			if err == nil {
				err = d.push(zone, keys)
			}
		}
		d.pushing.Unlock()
		if err != nil {
			d.mu.Lock()
			if d.syncErr == nil && d.ctx.Err() == nil {
				d.syncErr = fmt.Errorf("write zone %s to %s: %w", zone.Name, d.opts.DNS.Addr, err)
			}
			d.mu.Unlock()
			return // PENDING for ever, as it would be
		}
	}
	d.mu.Lock()
	d.changes[id] = "INSYNC"
	d.mu.Unlock()
}

// push makes the DNS show the sets touched as the API has them now.
func (d *Double) push(zone Zone, touched []setKey) error {
	m := new(dns.Msg)
	m.SetUpdate(dns.Fqdn(zone.Name))
	d.mu.Lock()
	for _, key := range touched {
		typ := dns.StringToType[key.typ]
		m.RemoveRRset([]dns.RR{&dns.RR_Header{Name: dns.Fqdn(key.name), Rrtype: typ, Class: dns.ClassINET}})
		set := d.sets[zone.ID][key]
		for _, v := range set.values {
			rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s %s", dns.Fqdn(key.name), set.ttl, key.typ, v))
			if err != nil {
				d.mu.Unlock()
				return err
			}
			m.Insert([]dns.RR{rr})
		}
	}
	d.mu.Unlock()
	c := &dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	if d.opts.DNS.KeyName != "" {
		algorithm := d.opts.DNS.Algorithm
		if algorithm == "" {
			algorithm = "hmac-sha256"
		}
		key := dns.CanonicalName(d.opts.DNS.KeyName)
		m.SetTsig(key, dns.Fqdn(algorithm), 300, time.Now().Unix())
		c.TsigSecret = map[string]string{key: d.opts.DNS.Secret}
	}
	ctx, cancel := context.WithTimeout(d.ctx, 5*time.Second)
	defer cancel()
	in, _, err := c.ExchangeContext(ctx, m, d.opts.DNS.Addr)
	if err != nil {
		return err
	}
	if in.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("said %s", dns.RcodeToString[in.Rcode])
	}
	return nil
}
