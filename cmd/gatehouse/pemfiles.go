package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/pemfile"
)

// followFiles is the duty that has PEM files in use as they change.
func (g *gateway) followFiles(ctx context.Context) error {
	return g.certs.files.Run(ctx, func() {
		g.certs.readOwnAgain()
		g.controller.Again() // what the routing names, and whom entry points ask for
	})
}

// readOwn reads the certificates of the entry points: one that cannot be read
// is left out and told of, the handshake falls back to another. The options are
// what holds for handshakes nothing fits: the entry points share one index, so
// the first default certificate by name of entry point holds.
func (c *certificates) readOwn() (o cert.IndexOptions, err error) {
	reading := c.files.Read("entry points")
	defer reading.Done()
	var own []tls.Certificate
	var wrong []config.Problem
	read := func(key string, pair config.KeyPair, otherwise string) (*tls.Certificate, error) {
		loaded, err := pairOf(reading, pair)
		if err != nil {
			p := config.Problem{Origin: config.Origin{Provider: "static", Source: "static configuration", Key: key}, Object: "certificate", Message: err.Error(), Warning: loaded != nil}
			if loaded == nil {
				p.Message += otherwise
			}
			wrong = append(wrong, p)
		}
		return loaded, err
	}
	for _, name := range sortedKeys(c.static.EntryPoints) {
		t := c.static.EntryPoints[name].TLS
		if t == nil {
			continue
		}
		at := "entryPoints." + name + ".tls."
		for i, pair := range t.Certificates {
			if loaded, _ := read(fmt.Sprintf("%scertificates.%d", at, i), pair, "; it is left out until the files change, others are served"); loaded != nil {
				own = append(own, *loaded)
			}
		}
		o.Strict = o.Strict || t.SNIStrict
		if t.DefaultCertificate != nil && o.Default == nil {
			if o.Default, err = read(at+"defaultCertificate", *t.DefaultCertificate, ""); o.Default == nil {
				return o, fmt.Errorf("read default certificate of entry point %s: %w", name, err)
			}
		}
	}
	c.mu.Lock()
	before := c.wrong
	c.own, c.wrong = own, wrong
	c.mu.Unlock()
	for _, p := range wrong {
		if !slices.Contains(before, p) {
			level := slog.LevelError
			if p.Warning {
				level = slog.LevelWarn
			}
			c.log.Log(context.Background(), level, "problem with the certificate of an entry point", "problem", p.String())
		}
	}
	return o, nil
}

// readOwnAgain serves the certificates of the entry points as they are now.
func (c *certificates) readOwnAgain() {
	o, err := c.readOwn()
	if err != nil {
		c.log.Error("certificates of entry points are not read again; those before stay", "err", err)
		return
	}
	if o.Default != nil {
		c.index.SetDefault(o.Default)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index.SetStatic(slices.Concat(c.own, c.routed))
}

// misread are the files of the entry points that are not in use as they are.
func (c *certificates) misread() []config.Problem {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrong
}

// pairOf reads a certificate; with an error it is the last that was good, or nil.
func pairOf(r *pemfile.Reading, pair config.KeyPair) (*tls.Certificate, error) {
	chain, key, err := r.Pair(pair.CertFile, pair.KeyFile.Reveal())
	if chain == "" {
		return nil, err
	}
	loaded, wrong := entrypoint.LoadCertificate(chain, key)
	if wrong != nil {
		return nil, wrong
	}
	return &loaded, err
}

// named gives a routing with what the files say that it names. Files that are
// not to be had stay named: who needs them tells. Problems are of those that say
// what they said before, since what they say now cannot be used.
func (c *certificates) named(r config.Routing) (config.Routing, []config.Problem) {
	t := texts{reading: c.files.Read("routing")}
	defer t.reading.Done()
	declared := r.Certificates
	for i, d := range declared {
		if pemfile.IsText(d.CertFile) && pemfile.IsText(d.KeyFile) {
			continue
		}
		if &r.Certificates[0] == &declared[0] {
			r.Certificates = slices.Clone(declared)
		}
		t.at(d.Origin, "tls certificate")
		t.pair(&r.Certificates[i].CertFile, &r.Certificates[i].KeyFile)
	}
	options := maps.Clone(r.TLSOptions)
	for _, name := range sortedKeys(options) {
		o := options[name]
		t.at(o.Origin, "TLS options "+name)
		o.ClientCAs = t.roots(o.ClientCAs)
		options[name] = o
	}
	r.TLSOptions = options
	r.Services = t.services(r.Services)
	return r, t.problems
}

// texts is one turn of certificates.named.
type texts struct {
	reading  *pemfile.Reading
	origin   config.Origin // of what is being read
	object   string
	problems []config.Problem
}

func (t *texts) at(o config.Origin, object string) { t.origin, t.object = o, object }

func (t *texts) problem(err error) {
	t.problems = append(t.problems, config.Problem{Origin: t.origin, Object: t.object, Message: err.Error(), Warning: true})
}

func (t *texts) pair(chain, key *string) {
	chainText, keyText, err := t.reading.Pair(*chain, *key)
	if chainText == "" {
		return
	}
	if *chain, *key = chainText, keyText; err != nil {
		t.problem(err)
	}
}

func (t *texts) roots(from []string) []string {
	list := slices.Clone(from)
	for i, item := range list {
		text, err := t.reading.Roots(item)
		if text == "" {
			continue
		}
		if list[i] = text; err != nil {
			t.problem(err)
		}
	}
	return list
}

// services gives services with what they know origins by, and show them.
func (t *texts) services(declared map[string]config.Service) map[string]config.Service {
	isPath := func(item string) bool { return !pemfile.IsText(item) }
	var named []string
	for name, s := range declared {
		if lb := s.LoadBalancer; lb != nil && (len(lb.ServersTransport.Certificates) > 0 || slices.ContainsFunc(lb.ServersTransport.RootCAs, isPath)) {
			named = append(named, name)
		}
	}
	if len(named) == 0 {
		return declared
	}
	services := maps.Clone(declared)
	slices.Sort(named)
	for _, name := range named {
		s := declared[name]
		lb := *s.LoadBalancer
		t.at(s.Origin, "service "+name)
		lb.ServersTransport.RootCAs = t.roots(lb.ServersTransport.RootCAs)
		lb.ServersTransport.Certificates = slices.Clone(lb.ServersTransport.Certificates)
		for i := range lb.ServersTransport.Certificates {
			k := &lb.ServersTransport.Certificates[i]
			key := k.KeyFile.Reveal()
			t.pair(&k.CertFile, &key)
			k.KeyFile = config.Secret(key)
		}
		s.LoadBalancer = &lb
		services[name] = s
	}
	return services
}

// clientCAs gives the text of whom an entry point takes client certificates from.
func clientCAs(files *pemfile.Files, name string, from []string) (text string, err error) {
	reading := files.Read("client CAs of " + name)
	defer reading.Done()
	var all []string
	for _, item := range from {
		text, wrong := reading.Roots(item)
		if text == "" {
			return "", wrong
		}
		if wrong != nil {
			err = wrong
		}
		all = append(all, text)
	}
	return strings.Join(all, "\n"), err
}
