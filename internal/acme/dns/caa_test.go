package dns

import (
	"errors"
	"strings"
	"testing"

	mdns "github.com/miekg/dns"
)

func TestCAA(t *testing.T) {
	zone := map[string][]string{
		"example.com.":        {`example.com. CAA 0 issue "letsencrypt.org"`, `example.com. CAA 0 issuewild ";"`},
		"open.example.com.":   {`open.example.com. CAA 0 iodef "mailto:a@example.com"`},
		"strict.example.com.": {`strict.example.com. CAA 128 tbs "unknown"`},
		"bound.example.com.":  {`bound.example.com. CAA 0 issue "letsencrypt.org; validationmethods=dns-01"`},
	}
	f := startFake(t, func(_ string, r *mdns.Msg) *mdns.Msg {
		m := new(mdns.Msg).SetReply(r)
		if strings.HasPrefix(r.Question[0].Name, "servfail.") {
			m.Rcode = mdns.RcodeServerFailure
		}
		for _, text := range zone[r.Question[0].Name] {
			rr, err := mdns.NewRR(text)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		return m
	})
	finder := NewFinder("", nil, []string{f.addr})
	for name, want := range map[string]struct {
		at    string
		plain bool
		wild  bool
	}{
		"example.org":        {"", true, true},
		"a.b.example.com":    {"example.com", true, false},
		"x.open.example.com": {"open.example.com", true, true},
		"strict.example.com": {"strict.example.com", false, false},
		"bound.example.com":  {"bound.example.com", true, true},
	} {
		c, queries, err := finder.CAA(t.Context(), name)
		if err != nil || c.Name != want.at || len(queries) == 0 {
			t.Errorf("%s: %+v, %d queries, %v", name, c, len(queries), err)
		}
		for wildcard, permitted := range map[bool]bool{false: want.plain, true: want.wild} {
			if got, why := c.Permits([]string{"letsencrypt.org"}, wildcard); got != permitted {
				t.Errorf("%s, wildcard %v: %v (%s)", name, wildcard, got, why)
			}
		}
		if got, _ := c.Permits([]string{"other.example"}, false); got != (name == "example.org" || name == "x.open.example.com") {
			t.Errorf("%s: another CA: %v", name, got)
		}
	}
	if _, _, err := finder.CAA(t.Context(), "servfail.example.com"); !errors.Is(err, errUnsure) {
		t.Errorf("SERVFAIL: %v", err)
	}
}
