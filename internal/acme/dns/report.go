package dns

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	mdns "github.com/miekg/dns"
)

// Query is one question put to one server and what came of it.
type Query struct {
	Name   string
	Type   string
	Server string        // "host:port"
	Proto  string        // "udp" or "tcp": what was answered, or tried last
	Rcode  string        // "NOERROR", "NXDOMAIN", ...; empty without an answer
	Err    string        // why there is no answer
	Took   time.Duration //
	Told   string        // what it told: "zone example.com", "nothing", ...
}

func (q Query) String() string {
	got := q.Rcode
	if q.Err != "" {
		got = q.Err
	}
	return fmt.Sprintf("%s %s @%s %s: %s, %s (%s)", q.Name, q.Type, q.Server, q.Proto, got, q.Told, q.Took.Round(time.Millisecond))
}

// Report is how a zone was looked for: every query, in a stable order.
type Report struct {
	Name    string
	Zone    string   // empty: none found
	How     string   // "setting", "provider" or "SOA"
	Lister  error    // why the provider's own list did not help, if it did not
	NoNS    []string // zones that were named and do not count: they have no name servers
	Queries []Query
}

// String is the report as a person reads it, a line per query.
func (r Report) String() string {
	var b strings.Builder
	if r.Zone != "" {
		fmt.Fprintf(&b, "%s is in zone %s (by %s)\n", r.Name, r.Zone, r.How)
	} else {
		fmt.Fprintf(&b, "%s: no zone found\n", r.Name)
	}
	if r.Lister != nil {
		fmt.Fprintf(&b, "  provider: %v\n", r.Lister)
	}
	for _, zone := range r.NoNS {
		fmt.Fprintf(&b, "  zone %s does not count: it has no name servers\n", zone)
	}
	for _, q := range r.Queries {
		fmt.Fprintf(&b, "  %s\n", q)
	}
	return b.String()
}

// Table is the report with its queries in columns, for terminals.
func (r Report) Table() string {
	queries := r.Queries
	r.Queries = nil
	return r.String() + table(queries)
}

// table sets queries in columns.
func table(queries []Query) string {
	if len(queries) == 0 {
		return ""
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  NAME\tTYPE\tSERVER\tBY\tANSWER\tTOLD\tTOOK")
	for _, q := range queries {
		got := q.Rcode
		if q.Err != "" {
			got = q.Err
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", q.Name, q.Type, q.Server, q.Proto, got, q.Told, q.Took.Round(time.Millisecond))
	}
	w.Flush()
	return b.String()
}

// Inspection is everything Plan would find out about a domain; doctor shows it.
type Inspection struct {
	Challenge string  // _acme-challenge.office.example.com
	Target    string  // where its CNAMEs lead; the same if it is no alias
	Aliases   []Query // the questions for CNAMEs
	Unsure    error   // why it is not known whether Target is an alias
	Zone      Report
	Err       error // why no record could be planned
}

// Table is all that was asked, as a person reads it; Err is not in it.
func (i Inspection) Table() string {
	var b strings.Builder
	switch {
	case i.Unsure != nil:
		fmt.Fprintf(&b, "%v; taken for no alias\n", i.Unsure)
	case i.Target == "" || i.Target == i.Challenge:
		fmt.Fprintf(&b, "%s is no alias\n", i.Challenge)
	default:
		fmt.Fprintf(&b, "%s leads to %s\n", i.Challenge, i.Target)
	}
	b.WriteString(table(i.Aliases))
	if i.Zone.Name != "" {
		b.WriteString(i.Zone.Table())
	}
	return b.String()
}

// ZoneError says that no zone was found for a name, and what each server
// asked had to say. It is ErrNoZone only if the answers were definite; else
// the zone is unknown, and asking later may help.
type ZoneError struct {
	Name    string
	Report  Report
	Unknown bool   // not "there is none" but "nobody could say"
	summary string // "10.3.0.10:53 said REFUSED, 8.8.8.8:53 timed out"
}

func (e *ZoneError) Error() string {
	return "no zone for " + e.Name + ": " + e.summary
}

// Is makes a definite answer an ErrNoZone.
func (e *ZoneError) Is(target error) bool { return target == ErrNoZone && !e.Unknown }

// Unwrap gives the error of the provider's own list, if that was the reason.
func (e *ZoneError) Unwrap() error { return e.Report.Lister }

// queryOf turns an answer into a line of the report.
func queryOf(q question, a answer, told string) Query {
	line := Query{Name: q.name, Type: mdns.TypeToString[q.qtype], Server: a.server, Proto: a.proto, Took: a.took, Told: told}
	if a.err != nil {
		line.Err = reason(a.err)
	} else {
		line.Rcode = mdns.RcodeToString[a.msg.Rcode]
	}
	return line
}
