package main

import (
	"crypto/tls"
	"log/slog"
	"testing"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
)

// Names that rules mention, and that are to have certificates, are known before
// they have one.
func TestKnownNames(t *testing.T) {
	k := newKnownNames([][]string{{"routed.test", "*.Wild.test"}, {"other.test"}}, []cert.Want{{Names: []string{"wanted.test", "*.wanted.test"}}})
	for name, want := range map[string]bool{
		"routed.test": true, "Routed.TEST": true, "other.test": true, "a.wild.test": true, "wanted.test": true, "b.wanted.test": true,
		"wild.test": false, "a.b.wild.test": false, "x.routed.test": false, "nobody.test": false, "": false, "test": false,
	} {
		if got := k.has(name); got != want {
			t.Errorf("%q known: %t, want %t", name, got, want)
		}
	}
	var none *knownNames
	if none.has("routed.test") {
		t.Error("something is known before the first routing")
	}
}

// Where the operator says what unknown names get, all are known.
func TestStrangersByConfiguration(t *testing.T) {
	for _, c := range []struct {
		tls   config.EntryPointTLS
		bound bool
	}{
		{config.EntryPointTLS{}, true}, {config.EntryPointTLS{DefaultCertificate: new(config.KeyPair)}, false},
		{config.EntryPointTLS{DefaultCertificate: new(config.KeyPair), SNIStrict: true}, true},
	} {
		certs := &certificates{static: &config.Static{EntryPoints: map[string]*config.EntryPoint{"https": {TLS: &c.tls}, "http": {}}}}
		if got := certs.strangers() != nil; got != c.bound {
			t.Errorf("%+v: bounded %t", c.tls, got)
		}
	}
}

// A name let in on demand, or wanted otherwise, is known while it is ordered;
// the rest is told to who lets names in. A known name costs no allocation.
func TestKnowsAsTheIndexDoes(t *testing.T) {
	var noted []string
	index, err := cert.NewIndex(cert.IndexOptions{Unknown: func(name string) { noted = append(noted, name) }})
	if err != nil {
		t.Fatal(err)
	}
	c := &certificates{static: &config.Static{}, index: index, log: slog.New(slog.DiscardHandler)}
	c.expected.Store(newKnownNames(nil, []cert.Want{{Names: []string{"soon.test"}, Source: "on demand"}}))
	hello := &tls.ClientHelloInfo{ServerName: "soon.test"}
	if !c.knows(hello, false) || c.knows(hello, true) {
		t.Error("a name that is being ordered must be known, unless there must be a certificate")
	}
	if c.knows(&tls.ClientHelloInfo{ServerName: "nobody.test"}, false) || noted[len(noted)-1] != "nobody.test" {
		t.Errorf("noted %q", noted)
	}
}
