package acme

import (
	"errors"
	"slices"
	"strings"

	"gatehouse/internal/cert"
)

// concerning says which names a refusal is about, so that the others need not wait
// for them.
func concerning(err error, names []string) error {
	if err == nil || len(names) == 0 {
		return err
	}
	return &cert.NamesError{Err: err, Names: names}
}

// among are those of names that are named, without "*." or with it.
func among(names, named []string) []string {
	var out []string
	for _, n := range names {
		if slices.Contains(named, strings.TrimPrefix(n, "*.")) || slices.Contains(named, n) {
			out = append(out, n)
		}
	}
	return out
}

// namedIn are those of names that the CA's own words are about: it names them in
// subproblems (RFC 8555, section 6.7.1), or as Let's Encrypt does in the text.
func namedIn(err error, names []string) []string {
	var call *callError
	if !errors.As(err, &call) || call.Problem == nil {
		return nil
	}
	var named []string
	for _, sub := range call.Problem.Subproblems {
		named = append(named, strings.ToLower(sub.Identifier.Value))
	}
	switch {
	case call.unpause() != "":
		for _, b := range pausedBuckets(call.Problem.Detail, names) {
			named = append(named, strings.TrimPrefix(b, nameBucket))
		}
	case call.is("rejectedIdentifier", "unsupportedIdentifier", "caa", "dns"):
		for _, m := range quotedName.FindAllStringSubmatch(call.Problem.Detail, -1) {
			named = append(named, strings.ToLower(m[1]))
		}
	}
	return among(names, named)
}
