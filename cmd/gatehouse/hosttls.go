package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/entrypoint"
	"gatehouse/internal/pemfile"
	"gatehouse/internal/proxy"
)

// hostTLS keeps the TLS options of hosts in force, as routing says. It belongs
// to the goroutine that applies snapshots, but for what entry points read.
type hostTLS struct {
	tickets *cert.Tickets
	files   *pemfile.Files
	points  []*pointTLS // those with TLS
	refused *entrypoint.TLSSet
}

func newHostTLS(tickets *cert.Tickets, files *pemfile.Files) *hostTLS {
	return &hostTLS{tickets: tickets, files: files, refused: new(entrypoint.TLSSet)}
}

// pointTLS is one entry point's part.
type pointTLS struct {
	name  string
	hosts *entrypoint.HostTLS
	how   entrypoint.TLSOptions         // what options leave out
	files []string                      // the authorities of client certificates
	text  string                        // what those say
	sets  map[string]*keptSet           // by what they and the entry point say
	rest  func()                        // forgets the tickets of hosts without options
	table map[string]*entrypoint.TLSSet // what is in force
	next  map[string]*entrypoint.TLSSet
}

// keptSet outlives snapshots that say the same, and with it the sessions and
// connections begun under it.
type keptSet struct {
	set      *entrypoint.TLSSet
	problems []config.Problem
	forget   func() // its session tickets
}

// add makes an entry point's part; how is what its own TLS is made of, but for
// the authorities of client certificates, which are in files.
func (h *hostTLS) add(name string, how entrypoint.TLSOptions, files []string) (*tls.Config, *entrypoint.HostTLS, []config.Problem, error) {
	p := &pointTLS{name: name, hosts: new(entrypoint.HostTLS), how: how, files: files, sets: map[string]*keptSet{}, rest: func() {}}
	text, err := clientCAs(h.files, name, files)
	if err != nil {
		return nil, nil, nil, err
	}
	h.points = append(h.points, p)
	c, problems := h.demand(p, text)
	return c, p.hosts, problems, nil
}

// demand has an entry point take client certificates of other authorities, and
// gives what holds for hosts without options.
func (h *hostTLS) demand(p *pointTLS, text string) (*tls.Config, []config.Problem) {
	purpose := "entry point " + p.name
	if p.text = text; text != "" {
		p.how.ClientCAs = x509.NewCertPool()
		p.how.ClientCAs.AppendCertsFromPEM([]byte(text))
		purpose += ", client CAs " + digest([]byte(text)) // who was let in before is asked again
	}
	how := p.how
	how.Hosts = p.hosts
	c, problems := entrypoint.TLSConfig(how)
	if c != nil {
		p.rest()
		p.rest = h.tickets.Add(purpose, c.SetSessionTicketKeys)
	}
	p.how.ChallengeCertificate, p.how.Strangers = nil, nil
	return c, problems
}

// readAgain takes over what the authorities' files of an entry point say now.
func (h *hostTLS) readAgain(p *pointTLS) []config.Problem {
	text, err := clientCAs(h.files, p.name, p.files)
	if text != "" && text != p.text {
		if c, _ := h.demand(p, text); c != nil {
			p.hosts.SetRest(c)
		}
	}
	if err == nil {
		return nil
	}
	return []config.Problem{{
		Origin: config.Origin{Provider: "static", Source: "static configuration", Key: "entryPoints." + p.name + ".tls.clientCA.files"},
		Object: "entry point " + p.name, Message: err.Error(), Warning: true,
	}}
}

// prepare brings what a snapshot demands in force before the snapshot is: a
// host is served at no moment with less than one of the two demands. Options
// that cannot be had are problems; their hosts are refused.
func (h *hostTLS) prepare(r config.Routing, snap *proxy.Snapshot) []config.Problem {
	b := newSetBuilder(r.TLSOptions)
	for _, p := range h.points {
		b.problems = append(b.problems, h.readAgain(p)...)
		p.next = h.build(p, b, snap.TLSHosts(p.name))
		both := map[string]*entrypoint.TLSSet{}
		maps.Copy(both, p.table)
		maps.Copy(both, p.next)
		p.hosts.Set(both)
	}
	return b.problems
}

// settle forgets what only the snapshot before demanded.
func (h *hostTLS) settle() {
	for _, p := range h.points {
		p.hosts.Set(p.next)
		p.table, p.next = p.next, nil
		used := slices.Collect(maps.Values(p.table))
		for key, kept := range p.sets {
			if !slices.Contains(used, kept.set) {
				kept.forget()
				delete(p.sets, key)
			}
		}
	}
}

// build gives each host of an entry point its set.
func (h *hostTLS) build(p *pointTLS, b *setBuilder, hosts map[string]string) map[string]*entrypoint.TLSSet {
	table := map[string]*entrypoint.TLSSet{}
	for _, host := range sortedKeys(hosts) {
		o, ok := b.of(hosts[host])
		if !ok {
			table[host] = h.refused
			continue
		}
		identity := o.identity
		if p.text != "" {
			identity += ", client CAs " + digest([]byte(p.text))
		}
		kept := p.sets[identity]
		if kept == nil {
			c, problems := entrypoint.TLSConfig(o.over(p.how))
			kept = &keptSet{&entrypoint.TLSSet{Config: c}, problems, func() {}}
			if c != nil {
				kept.forget = h.tickets.Add("entry point "+p.name+", TLS options "+identity, c.SetSessionTicketKeys)
			}
			p.sets[identity] = kept
		}
		b.note(kept.problems)
		table[host] = kept.set
	}
	return table
}

// setBuilder reads each options object once for all entry points.
type setBuilder struct {
	options  map[string]config.TLSOptions
	read     map[string]readOptions
	problems []config.Problem
}

func newSetBuilder(options map[string]config.TLSOptions) *setBuilder {
	return &setBuilder{options: options, read: map[string]readOptions{}}
}

// checkTLSOptions finds what is wrong with options, used or not.
func checkTLSOptions(options map[string]config.TLSOptions) []config.Problem {
	b := newSetBuilder(options)
	for _, name := range sortedKeys(options) {
		if o, ok := b.of(name); ok {
			_, problems := entrypoint.TLSConfig(o.over(entrypoint.TLSOptions{}))
			b.note(problems)
		}
	}
	return b.problems
}

type readOptions struct {
	config.TLSOptions
	object   string         // for problems
	clients  *x509.CertPool // nil: nothing is said of client certificates
	identity string         // of what they say, the authorities' certificates included
	bad      bool
}

// over gives an entry point's TLS with these options.
func (o readOptions) over(how entrypoint.TLSOptions) entrypoint.TLSOptions {
	how.Origin, how.Object = o.Origin, o.object
	if o.Profile != "" || o.MinVersion != "" || len(o.CipherSuites) > 0 { // they belong together
		how.Profile, how.MinVersion, how.CipherSuites = o.Profile, o.MinVersion, o.CipherSuites
	}
	if o.clients != nil || o.NoClientCert {
		how.ClientCAs, how.ClientOptional = o.clients, o.ClientOptional
	}
	return how
}

// of gives options by name; false: they are not to be had.
func (b *setBuilder) of(name string) (readOptions, bool) {
	declared, ok := b.options[name]
	if !ok {
		return readOptions{}, false // package proxy tells of it
	}
	o, known := b.read[name]
	if !known {
		o = b.load(name, declared)
		b.read[name] = o
	}
	return o, !o.bad
}

func (b *setBuilder) load(name string, declared config.TLSOptions) readOptions {
	o := readOptions{TLSOptions: declared, object: "TLS options " + name}
	var authorities []string
	for _, item := range declared.ClientCAs {
		if o.clients == nil {
			o.clients = x509.NewCertPool()
		}
		text, err := addCA(o.clients, item)
		if err != nil {
			o.bad = true
			b.problems = append(b.problems, config.Problem{Origin: declared.Origin, Object: o.object,
				Message: "clientAuth.caFiles: " + err.Error() + "; the hosts that demand them are refused", Allowed: "paths of PEM files, or PEM text"})
			return o
		}
		authorities = append(authorities, string(text))
	}
	said, err := json.Marshal([]any{declared.Profile, declared.MinVersion, declared.CipherSuites, authorities, declared.ClientOptional, declared.NoClientCert})
	if err != nil {
		panic(err) // strings
	}
	o.identity = digest(said)
	return o
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// note keeps each problem of options once, whatever the entry points.
func (b *setBuilder) note(problems []config.Problem) {
	for _, p := range problems {
		if !slices.ContainsFunc(b.problems, func(q config.Problem) bool { return q.String() == p.String() }) {
			b.problems = append(b.problems, p)
		}
	}
}
