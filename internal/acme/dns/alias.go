package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	mdns "github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAMEs; resolvers give up at about as many.
const maxAliases = 8

// errUnsure says that no server gave a definite answer.
var errUnsure = errors.New("no definite answer")

// Follow follows the CNAMEs at name to the name a record has to be written to:
// name itself if there are none. When the servers could not say (errUnsure
// inside), target is as far as it got, so that the caller may go on without.
func (f *Finder) Follow(ctx context.Context, name string) (target string, queries []Query, err error) {
	name = canonical(name)
	servers, err := f.resolver.servers()
	if err != nil {
		return name, nil, fmt.Errorf("%w: %w", errUnsure, err)
	}
	chain := []string{name}
	for len(chain) <= maxAliases {
		last := chain[len(chain)-1]
		q := question{last, mdns.TypeCNAME}
		answers := f.resolver.all(ctx, servers, q, nsGrace)
		next, known := pickAlias(last, answers)
		for _, a := range answers {
			told := "no alias"
			if t := aliasIn(last, a); t != "" {
				told = "alias of " + t
			} else if !definite(a) {
				told = "nothing"
			}
			queries = append(queries, queryOf(q, a, told))
		}
		if !known {
			return last, queries, fmt.Errorf("look for a CNAME at %s: %w: %s", last, errUnsure, summarize(answers, make([]telling, len(answers))))
		}
		if next == "" {
			return last, queries, nil
		}
		if slices.Contains(chain, next) {
			return "", queries, fmt.Errorf("CNAMEs form a loop: %s", strings.Join(append(chain, next), " -> "))
		}
		chain = append(chain, next)
	}
	return "", queries, fmt.Errorf("more than %d CNAMEs in a row: %s", maxAliases, strings.Join(chain, " -> "))
}

// aliasIn gives the target of the CNAME at name in the answer, one step far.
// A DNAME above the name (RFC 6672) is such a CNAME, also for who forgets to
// write it out.
func aliasIn(name string, a answer) string {
	if !definite(a) {
		return ""
	}
	moved := ""
	for _, rr := range a.msg.Answer {
		owner := canonical(rr.Header().Name)
		switch rr := rr.(type) {
		case *mdns.CNAME:
			if owner == name {
				return canonical(rr.Target)
			}
		case *mdns.DNAME:
			if owner != name && within(name, owner) {
				moved = strings.TrimSuffix(name, owner) + canonical(rr.Target)
			}
		}
	}
	return moved
}

// pickAlias chooses among what the servers said: an alias over none, since who
// sees it knows more; among several the one seen by most, then the first by
// name, so that every replica chooses alike.
func pickAlias(name string, answers []answer) (target string, known bool) {
	votes := map[string]int{}
	for _, a := range answers {
		known = known || definite(a)
		if t := aliasIn(name, a); t != "" {
			votes[t]++
		}
	}
	for t, n := range votes {
		if target == "" || n > votes[target] || n == votes[target] && t < target {
			target = t
		}
	}
	return target, known
}
