package acme

import (
	"strings"
	"testing"
	"time"

	acmez "github.com/mholt/acmez/v3/acme"

	"github.com/google/go-cmp/cmp"
)

func TestNext(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	const us = "https://ca/acct/1"
	intent := journal{Version: 1, Key: []byte("k"), Account: us}
	ordered := intent
	ordered.Order = "https://ca/order/1"
	with := func(cs ...challenge) journal {
		j := ordered
		j.Challenges = cs
		return j
	}
	ch := func(authz string, s state) challenge {
		return challenge{Authorization: authz, URL: authz + "/chal", State: s}
	}
	order := func(status string, authz ...string) *acmez.Order {
		return &acmez.Order{Status: status, Authorizations: authz, Expires: now.Add(time.Hour)}
	}
	z := func(url, status, chal string) acmez.Authorization {
		return acmez.Authorization{Status: status, Location: url, Identifier: acmez.Identifier{Value: url + ".example.com"},
			Challenges: []acmez.Challenge{{Type: http01, URL: url + "/chal", Status: chal}}}
	}
	known := func(o *acmez.Order, zs ...acmez.Authorization) truth {
		tr := truth{account: us, order: o, authorizations: map[string]acmez.Authorization{}, tellAgain: map[string]time.Time{}}
		for _, one := range zs {
			tr.authorizations[one.Location] = one
		}
		return tr
	}
	later := known(order("pending", "a"), z("a", "pending", "pending"))
	later.tellAgain["a"] = now.Add(time.Second)
	invalid := z("b", "invalid", "invalid")
	invalid.Challenges[0].Error = &acmez.Problem{Type: acmez.ProblemTypeDNS, Detail: "no TXT"}
	expired := order("invalid")
	expired.Expires = now.Add(-time.Hour)
	ready := order("valid")
	ready.Certificate = "c"
	broken := order("invalid")
	broken.Error = &acmez.Problem{Type: acmez.ProblemTypeCAA, Detail: "forbids"}
	chained := ordered
	chained.Chain = []byte("pem")

	for name, c := range map[string]struct {
		j    journal
		t    truth
		want verb
		urls string
		why  string
	}{
		"nothing yet":                   {journal{}, truth{account: us}, doIntend, "", ""},
		"leftovers only":                {journal{Leftovers: []challenge{ch("x", told)}}, truth{account: us}, doIntend, "", ""},
		"intent":                        {intent, truth{account: us}, doOrder, "", ""},
		"ordered, CA not asked":         {ordered, known(nil), doRead, "", ""},
		"another account's":             {ordered, truth{account: "https://ca/acct/2"}, doRestart, "", "belongs to the account"},
		"gone":                          {ordered, truth{account: us, gone: "404"}, doRestart, "", "404"},
		"authorizations unread":         {ordered, known(order("pending", "a", "b"), z("a", "valid", "valid")), doReadAll, "b", ""},
		"to choose":                     {ordered, known(order("pending", "a", "b"), z("a", "pending", "pending"), z("b", "valid", "valid")), doChoose, "a", ""},
		"to choose before to present":   {with(ch("a", chosen)), known(order("pending", "a", "b"), z("a", "pending", ""), z("b", "pending", "")), doChoose, "b", ""},
		"to present, all together":      {with(ch("a", chosen), ch("b", chosen)), known(order("pending", "a", "b"), z("a", "pending", ""), z("b", "pending", "")), doPresent, "a b", ""},
		"to tell":                       {with(ch("a", presented)), known(order("pending", "a"), z("a", "pending", "pending")), doTell, "a", ""},
		"told, untouched for long":      {with(ch("a", told)), known(order("pending", "a"), z("a", "pending", "pending")), doTell, "a", ""},
		"told, untouched, not long":     {with(ch("a", told)), later, doPollAll, "a", ""},
		"told, at work":                 {with(ch("a", told)), known(order("pending", "a"), z("a", "pending", "processing")), doPollAll, "a", ""},
		"told, challenge unknown":       {with(challenge{Authorization: "a", URL: "other", State: told}), known(order("pending", "a"), z("a", "pending", "pending")), doPollAll, "a", ""},
		"a status nobody knows":         {with(ch("a", told)), known(order("on hold", "a"), z("a", "asleep", "processing")), doPollAll, "a", ""},
		"all valid, order pending":      {ordered, known(order("pending", "a"), z("a", "valid", "valid")), doPoll, "", ""},
		"one refused while others wait": {with(ch("a", told)), known(order("pending", "a", "b"), z("a", "pending", "processing"), invalid), doFail, "", "http-01 b.example.com: the CA could not validate it: dns: no TXT"},
		"one revoked":                   {ordered, known(order("pending", "a"), z("a", "revoked", "valid")), doFail, "", "a.example.com: the CA's authorization is revoked"},
		"invalid, reason unread":        {ordered, known(order("invalid", "b")), doReadAll, "b", ""},
		"invalid by an authorization":   {ordered, known(order("invalid", "b"), invalid), doFail, "", "dns: no TXT"},
		"invalid by itself":             {ordered, known(broken), doFail, "", "caa: forbids"},
		"invalid by age":                {ordered, known(expired), doRestart, "", "expired"},
		"invalid, no reason":            {ordered, known(order("invalid")), doFail, "", "does not say why"},
		"ready":                         {with(ch("a", told)), known(order("ready", "a")), doFinalize, "", ""},
		"processing":                    {ordered, known(order("processing")), doPoll, "", ""},
		"valid":                         {ordered, known(ready), doDownload, "", ""},
		"valid, no certificate yet":     {ordered, known(order("valid")), doPoll, "", ""},
		"chain journaled":               {chained, truth{}, doGive, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := next(c.j, c.t, now)
			if got.verb != c.want || strings.Join(got.urls, " ") != c.urls {
				t.Errorf("got %s %v, want %s %s", got.verb, got.urls, c.want, c.urls)
			}
			if (got.why == nil) != (c.why == "") || got.why != nil && !strings.Contains(got.why.Error(), c.why) {
				t.Errorf("why: %v, want %q", got.why, c.why)
			}
		})
	}
}

func TestDescribeProblem(t *testing.T) {
	got := describe(acmez.Problem{
		Type: acmez.ProblemTypeCompound, Detail: "several\nthings", Instance: "https://ca/why",
		Subproblems: []acmez.Subproblem{{Identifier: acmez.Identifier{Value: "a.example.com"},
			Problem: acmez.Problem{Type: acmez.ProblemTypeCAA, Detail: "forbidden"}}},
	}, 403)
	want := "403 compound: several things; a.example.com: caa: forbidden (see https://ca/why)"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
