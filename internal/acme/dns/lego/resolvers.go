//go:build lego

package lego

import "github.com/go-acme/lego/v5/challenge/dns01"

// useResolvers has lego's providers, which find zones themselves, ask the
// same servers as we do. It is lego's one global; the last call wins.
func useResolvers(servers []string) {
	if len(servers) > 0 {
		dns01.SetDefaultClient(dns01.NewClient(&dns01.Options{RecursiveNameservers: servers}))
	}
}

// of makes a constructor of lego's ours.
func of[P challenger](make func() (P, error)) func() (challenger, error) {
	return func() (challenger, error) { return make() }
}
