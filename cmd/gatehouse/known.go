package main

import (
	"crypto/tls"
	"strings"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
)

// strangers bounds handshakes for names nobody knows. Where a default
// certificate is configured all names are known: it says what they get.
func (c *certificates) strangers() *entrypoint.Strangers {
	strict, chosen := false, false
	for _, e := range c.static.EntryPoints {
		if e.TLS != nil {
			strict = strict || e.TLS.SNIStrict
			chosen = chosen || e.TLS.DefaultCertificate != nil
		}
	}
	if chosen && !strict {
		return nil
	}
	return entrypoint.NewStrangers(entrypoint.StrangersOptions{Strict: strict, Knows: func(hello *tls.ClientHelloInfo) bool {
		return c.knows(hello, strict)
	}})
}

// knows tells whether a handshake is for a name that has a certificate or,
// unless strict, is to have one or is routed.
func (c *certificates) knows(hello *tls.ClientHelloInfo, strict bool) bool {
	return c.index.Knows(hello) || !strict && c.expected.Load().has(hello.ServerName)
}

// knownNames are names that are served though they may have no certificate
// yet. They do not change.
type knownNames struct {
	exact map[string]struct{} // lower case
	below map[string]struct{} // "*." and this
}

// newKnownNames is of the hosts that rules name, and of what shall have
// certificates.
func newKnownNames(hosts [][]string, wants []cert.Want) *knownNames {
	k := &knownNames{exact: map[string]struct{}{}, below: map[string]struct{}{}}
	add := func(names []string) {
		for _, name := range names {
			name = strings.ToLower(name)
			if parent, ok := strings.CutPrefix(name, "*."); ok {
				k.below[parent] = struct{}{}
			} else {
				k.exact[name] = struct{}{}
			}
		}
	}
	for _, of := range hosts {
		add(of)
	}
	for _, w := range wants {
		add(w.Names)
	}
	return k
}

// has tells whether a server name is one of them; none are before the first
// routing.
func (k *knownNames) has(name string) bool {
	if k == nil || name == "" {
		return false
	}
	name = strings.ToLower(name)
	if _, ok := k.exact[name]; ok {
		return true
	}
	_, parent, _ := strings.Cut(name, ".")
	_, ok := k.below[parent]
	return ok
}

// hostsOf are those of each entry point with TLS.
func hostsOf(s *config.Static, hosts func(entryPoint string) []string) (list [][]string) {
	for _, entry := range sortedKeys(s.EntryPoints) {
		if s.EntryPoints[entry].TLS != nil {
			list = append(list, hosts(entry))
		}
	}
	return list
}
