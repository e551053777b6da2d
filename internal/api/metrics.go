package api

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/cert"
)

// Metrics answers with figures in Prometheus' text form, version 0.0.4: the
// certificates this replica knows of, what it has done for them, and whether it
// can be relied on. To be put behind authentication: names are in it.
func Metrics(o Options) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m := &metricText{}
		m.replica(o)
		m.certificates(o.Certificates())
		if o.Counts != nil {
			m.counts(o.Counts())
		}
		if o.Limits != nil {
			m.limits(o.Limits())
		}
		if o.Connections != nil {
			m.connections(o.Connections())
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(m.b.Bytes())
	})
}

// metricText is a page of figures under construction.
type metricText struct{ b bytes.Buffer }

// sample is one figure: labels in pairs, then its value.
type figure struct {
	labels []string
	value  float64
}

// family writes figures of one name; without any it writes nothing.
func (m *metricText) family(name, kind, help string, figures []figure) {
	if len(figures) == 0 {
		return
	}
	fmt.Fprintf(&m.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	for _, f := range figures {
		m.b.WriteString(name)
		for i := 0; i+1 < len(f.labels); i += 2 {
			m.b.WriteByte("{,"[min(i, 1)])
			fmt.Fprintf(&m.b, `%s="%s"`, f.labels[i], labelText.Replace(f.labels[i+1]))
		}
		if len(f.labels) > 0 {
			m.b.WriteByte('}')
		}
		m.b.WriteByte(' ')
		m.b.WriteString(strconv.FormatFloat(f.value, 'g', -1, 64))
		m.b.WriteByte('\n')
	}
}

var labelText = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metricText) replica(o Options) {
	ready, _ := o.Ready()
	m.family("gatehouse_info", "gauge", "Version and name of this replica.", []figure{{[]string{"version", o.Version, "replica", o.Replica}, 1}})
	m.family("gatehouse_ready", "gauge", "1 if this replica should get traffic.", []figure{{nil, truth(ready)}})
	m.family("gatehouse_replicas", "gauge", "Replicas this one knows of, itself included.", []figure{{nil, float64(len(o.Replicas()))}})
	m.family("gatehouse_problems", "gauge", "Mistakes and warnings in the configuration.", []figure{{nil, float64(len(o.Problems()))}})
	if o.Stale != nil {
		age := 0.0
		if since, stale := o.Stale(); stale {
			age = time.Since(since).Seconds()
		}
		m.family("gatehouse_store_copy_age_seconds", "gauge", "Age of the copy that is used because the store does not answer; 0 if it does.",
			[]figure{{nil, age}})
	}
}

func (m *metricText) certificates(list []cert.Status) {
	states := map[cert.State]int{}
	var after, renewal, failures, attempt []figure
	for _, s := range list {
		states[s.State]++
		labels := []string{"issuer", s.Issuer, "id", s.ID, "name", strings.Join(s.Names[:min(len(s.Names), 1)], "")}
		for _, f := range []struct {
			into *[]figure
			at   time.Time
		}{{&after, s.NotAfter}, {&renewal, s.RenewAt}, {&attempt, s.NextAttempt}} {
			if !f.at.IsZero() {
				*f.into = append(*f.into, figure{labels, float64(f.at.Unix())})
			}
		}
		failures = append(failures, figure{labels, float64(s.Failures)})
	}
	var byState []figure
	for _, s := range []cert.State{cert.StateWanted, cert.StateOrdering, cert.StateValid, cert.StateRenewing, cert.StateFailed, cert.StateWaiting, cert.StateCovered, cert.StateStandby, cert.StateRevoked, cert.StateExpired} {
		byState = append(byState, figure{[]string{"state", string(s)}, float64(states[s])})
	}
	m.family("gatehouse_certificates", "gauge", "Certificates by state.", byState)
	m.family("gatehouse_certificate_not_after_timestamp_seconds", "gauge", "When a certificate in service ends.", after)
	m.family("gatehouse_certificate_renewal_timestamp_seconds", "gauge", "When a certificate is to be renewed.", renewal)
	m.family("gatehouse_certificate_next_attempt_timestamp_seconds", "gauge", "When a failed order is tried again.", attempt)
	m.family("gatehouse_certificate_failures", "gauge", "Failures in a row.", failures)
}

func (m *metricText) connections(list []Connections) {
	var open, refused []figure
	for _, c := range list {
		open = append(open, figure{[]string{"entrypoint", c.EntryPoint}, float64(c.Open)})
		refused = append(refused, figure{[]string{"entrypoint", c.EntryPoint, "reason", "room"}, float64(c.NoRoom)},
			figure{[]string{"entrypoint", c.EntryPoint, "reason", "address"}, float64(c.Crowded)},
			figure{[]string{"entrypoint", c.EntryPoint, "reason", "name"}, float64(c.Strangers)})
	}
	m.family("gatehouse_entrypoint_connections", "gauge", "Connections clients have open.", open)
	m.family("gatehouse_entrypoint_connections_refused_total", "counter",
		"Connections not taken: at the budget or without memory (room), since the client's address had as many as it may (address), or since too many at once asked for server names that are not served (name).", refused)
}

func (m *metricText) counts(list []cert.Count) {
	var attempts, leases []figure
	for _, c := range list {
		if c.Outcome != "" {
			attempts = append(attempts, figure{[]string{"issuer", c.Issuer, "outcome", string(c.Outcome)}, float64(c.N)})
		} else {
			leases = append(leases, figure{[]string{"issuer", c.Issuer, "transition", string(c.Transition)}, float64(c.N)})
		}
	}
	slices.SortStableFunc(attempts, func(a, b figure) int { return slices.Compare(a.labels, b.labels) })
	m.family("gatehouse_certificate_attempts_total", "counter", "Attempts at orders by this replica, by outcome.", attempts)
	m.family("gatehouse_certificate_lease_transitions_total", "counter", "Leases of orders this replica acquired, released and lost.", leases)
}

func (m *metricText) limits(list []cert.Limit) {
	var used, size, free, held, down []figure
	for _, l := range list {
		labels, at := []string{"issuer", l.Issuer, "kind", l.Kind, "name", l.Name}, float64(l.Free.Unix())
		switch l.Kind {
		case "hold":
			held = append(held, figure{[]string{"issuer", l.Issuer, "name", l.Name}, at})
		case "down":
			down = append(down, figure{[]string{"issuer", l.Issuer}, at})
		default:
			used = append(used, figure{labels, float64(l.Used)})
			size = append(size, figure{labels, float64(l.Size)})
			free = append(free, figure{labels, at})
		}
	}
	m.family("gatehouse_issuer_limit_used", "gauge", "What all replicas have used up of an issuer's limit.", used)
	m.family("gatehouse_issuer_limit_size", "gauge", "What an issuer allows at once.", size)
	m.family("gatehouse_issuer_limit_next_timestamp_seconds", "gauge", "When the next one may pass; in the past: now.", free)
	m.family("gatehouse_issuer_hold_until_timestamp_seconds", "gauge", "Until when an issuer said to wait (Retry-After).", held)
	m.family("gatehouse_issuer_down_next_probe_timestamp_seconds", "gauge", "When an issuer that does not answer is asked again.", down)
}
