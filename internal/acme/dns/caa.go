package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// CAA is which CAs a domain's holder lets issue for it (RFC 8659). The zero
// CAA lets all.
type CAA struct {
	Name    string // where the records stand: the domain or the closest one above with any; empty: nowhere
	Records []CAARecord
}

// CAARecord is one property.
type CAARecord struct {
	Critical bool
	Tag      string // lower case
	Value    string
}

func (r CAARecord) String() string {
	flag := 0
	if r.Critical {
		flag = 128
	}
	return fmt.Sprintf("%d %s %q", flag, r.Tag, r.Value)
}

// CAA looks for the records that hold for name, as a CA does: at name and at
// every one above, the closest that has any. The queries are reported also when
// there is an error, which means that some server had no answer where others had
// no records: a CA that is told the same does not issue.
func (f *Finder) CAA(ctx context.Context, name string) (CAA, []Query, error) {
	name = strings.TrimPrefix(canonical(name), "*.")
	var queries []Query
	servers, err := f.resolver.servers()
	if err != nil {
		return CAA{}, nil, err
	}
	for level := name; level != ""; {
		q := question{level, mdns.TypeCAA}
		found, known := []CAARecord(nil), false
		answers := f.resolver.all(ctx, servers, q, nsGrace)
		for _, a := range answers {
			records := caaIn(a)
			known = known || definite(a)
			told := fmt.Sprintf("records: %d", len(records))
			if !definite(a) {
				told = "nothing"
			}
			queries = append(queries, queryOf(q, a, told))
			if len(records) > len(found) {
				found = records
			}
		}
		switch {
		case len(found) > 0:
			return CAA{Name: level, Records: found}, queries, nil
		case !known:
			return CAA{}, queries, fmt.Errorf("look for CAA at %s: %w: %s", level, errUnsure, summarize(answers, make([]telling, len(answers))))
		}
		_, level, _ = strings.Cut(level, ".")
	}
	return CAA{}, queries, nil
}

func caaIn(a answer) (records []CAARecord) {
	if !definite(a) {
		return nil
	}
	for _, rr := range a.msg.Answer { // of a name that is an alias, those of its target
		if c, ok := rr.(*mdns.CAA); ok {
			records = append(records, CAARecord{c.Flag&128 != 0, strings.ToLower(c.Tag), c.Value})
		}
	}
	return records
}

// Permits says whether a CA with these identities may issue for the domain the
// records hold for, wildcard if that is one, and which record decides.
func (c CAA) Permits(identities []string, wildcard bool) (bool, string) {
	tag := "issue"
	if wildcard && slices.ContainsFunc(c.Records, func(r CAARecord) bool { return r.Tag == "issuewild" }) {
		tag = "issuewild"
	}
	restricted := false
	for _, r := range c.Records {
		if r.Critical && !slices.Contains([]string{"issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"}, r.Tag) {
			return false, r.String() + " is critical, and no CA knows it"
		}
		if r.Tag != tag {
			continue
		}
		restricted = true
		issuer, _, _ := strings.Cut(r.Value, ";")
		if slices.Contains(identities, strings.ToLower(strings.TrimSpace(issuer))) {
			return true, r.String()
		}
	}
	if !restricted {
		return true, "no record restricts it"
	}
	return false, "none names " + strings.Join(identities, " or ")
}

// Texts gives the TXT records at name as resolvers see them, and who said what.
func (f *Finder) Texts(ctx context.Context, name string) ([]string, []Query, error) {
	name = canonical(name)
	servers, err := f.resolver.servers()
	if err != nil {
		return nil, nil, err
	}
	q := question{name, mdns.TypeTXT}
	answers := f.resolver.all(ctx, servers, q, nsGrace)
	var queries []Query
	for _, a := range answers {
		n := 0
		if definite(a) {
			values, _ := texts(a.msg, name)
			n = len(values)
		}
		queries = append(queries, queryOf(q, a, fmt.Sprintf("records: %d", n)))
	}
	values, _, ok := fullest(answers, name)
	if !ok {
		return nil, queries, fmt.Errorf("look for TXT at %s: %w: %s", name, errUnsure, summarize(answers, make([]telling, len(answers))))
	}
	return values, queries, nil
}
