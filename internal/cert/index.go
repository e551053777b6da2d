package cert

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Index answers TLS handshakes with the certificate for the server name: the
// exact name first, then a wildcard for its first label; without a name the
// address the client came to, or, unless somebody chose a default, the only
// address there is a certificate for; then the default. Reading takes no lock and allocates
// nothing; setting replaces the whole table, from any goroutine.
//
// Where several certificates carry the same name, there is one per kind of
// key, ECDSA before RSA as the client can; among those of one kind the one
// that ends last wins, whether a file or an issuer gave it (a tie goes to the
// file). One of an issuer that is not configured any more is used only where
// no other fits, one that has ended or not begun only where nothing else does.
type Index struct {
	table   atomic.Pointer[table]
	strict  bool
	chosen  bool                            // somebody chose a default
	standIn atomic.Pointer[tls.Certificate] // nil in a strict index
	unknown func(name string)

	mu      sync.Mutex // over the sources, for setters
	static  []served
	managed []served
}

// served is a certificate with what the table is built by.
type served struct {
	tls       *tls.Certificate
	names     []string // lower case, addresses as text
	notBefore time.Time
	notAfter  time.Time
	serial    string
	kind      int
	former    bool // of an issuer that is not configured any more
}

// Ranks of a certificate, the best first.
const (
	rankBest = iota
	rankFormer
	rankNotYet
	rankEnded
)

// rank is how good it is at a time.
func (s *served) rank(now time.Time) int {
	switch {
	case !s.notAfter.After(now):
		return rankEnded
	case s.notBefore.After(now):
		return rankNotYet
	case s.former:
		return rankFormer
	}
	return rankBest
}

// IndexOptions make an Index.
type IndexOptions struct {
	// Strict refuses handshakes nothing fits (unrecognized_name) instead of
	// answering with the default certificate.
	Strict bool
	// Default answers what nothing fits; nil: a self-signed stand-in made now.
	Default *tls.Certificate
	// Unknown, if not nil, is told of server names that nothing fits, in lower
	// case, in their handshake: it must not block.
	Unknown func(name string)
}

// entry holds the certificates for one name: mostly one, at most one per kind
// of key.
type entry struct {
	first *tls.Certificate
	more  *[]choice // where there are several kinds: all of them, first too; small, as the maps are full of it
}

// choice is one of several certificates for a name.
type choice struct {
	tls    *tls.Certificate
	kind   int
	parsed *tls.Certificate // the same with its leaf, which choosing looks at
}

// table is one immutable state of the index.
type table struct {
	exact     map[string]entry // also IP addresses as text
	wildcard  map[string]entry // by the name without "*."
	addresses map[netip.Addr]entry
	only      [2]entry  // IPv4, IPv6: the certificate of the only address there is one for
	expires   time.Time // when it has to be built anew; zero: never
}

// NewIndex makes an empty index.
func NewIndex(o IndexOptions) (*Index, error) {
	x := &Index{unknown: o.Unknown, strict: o.Strict, chosen: o.Default != nil}
	if o.Default == nil && !o.Strict {
		c, err := newStandIn()
		if err != nil {
			return nil, err
		}
		o.Default = c
	}
	x.SetDefault(o.Default)
	x.table.Store(&table{})
	return x, nil
}

// GetCertificate is for tls.Config. In a strict index an unknown name gives
// neither certificate nor error: with no tls.Config.Certificates the handshake
// then ends with unrecognized_name.
func (x *Index) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	e := x.table.Load().find(hello)
	switch {
	case e.first == nil:
		if x.unknown != nil && hello.ServerName != "" {
			x.unknown(strings.ToLower(hello.ServerName))
		}
		return x.standIn.Load(), nil
	case e.more == nil:
		return e.first, nil
	}
	for _, c := range *e.more {
		if hello.SupportsCertificate(c.parsed) == nil {
			return c.tls, nil
		}
	}
	return e.first, nil // the handshake says what does not fit
}

// Knows tells whether a certificate fits, as GetCertificate would find it, and
// tells of a name that nothing fits as that does.
func (x *Index) Knows(hello *tls.ClientHelloInfo) bool {
	if x.table.Load().find(hello).first != nil {
		return true
	}
	if x.unknown != nil && hello.ServerName != "" {
		x.unknown(strings.ToLower(hello.ServerName))
	}
	return false
}

func (t *table) find(hello *tls.ClientHelloInfo) entry {
	name := hello.ServerName
	if name == "" {
		return t.byAddress(hello.Conn)
	}
	if e, ok := t.exact[name]; ok {
		return e
	}
	if i := strings.IndexByte(name, '.'); i > 0 {
		if e, ok := t.wildcard[name[i+1:]]; ok {
			return e
		}
	}
	for i := range len(name) {
		if c := name[i]; 'A' <= c && c <= 'Z' {
			return t.findFolded(name)
		}
	}
	return entry{}
}

// findFolded is for the rare client that sends capitals.
func (t *table) findFolded(name string) entry {
	var buf [256]byte
	if len(name) > len(buf) {
		return entry{}
	}
	b := buf[:len(name)]
	dot := -1
	for i := range len(name) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c == '.' && dot < 0 {
			dot = i
		}
		b[i] = c
	}
	if e, ok := t.exact[string(b)]; ok {
		return e
	}
	if dot > 0 {
		return t.wildcard[string(b[dot+1:])]
	}
	return entry{}
}

// byAddress serves clients that came to an IP address: they send no name.
func (t *table) byAddress(conn net.Conn) entry {
	if len(t.addresses) == 0 || conn == nil {
		return entry{}
	}
	var ap netip.AddrPort
	switch a := conn.LocalAddr().(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	}
	here := ap.Addr().Unmap().WithZone("")
	if e, ok := t.addresses[here]; ok {
		return e
	}
	return t.only[family(here)]
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// onlyAddresses finds the certificates for clients that came to an address we
// do not have, as all do behind NAT: of one address there is no doubt.
func (t *table) onlyAddresses() {
	var count [2]int
	for a, e := range t.addresses {
		f := family(a)
		if count[f]++; count[f] > 1 {
			e = entry{}
		}
		t.only[f] = e
	}
}

// SetDefault replaces the certificate that answers what nothing fits; a strict
// index has none.
func (x *Index) SetDefault(c *tls.Certificate) {
	if !x.strict {
		x.standIn.Store(c)
	}
}

// SetStatic replaces the certificates that come from files. Those without a
// leaf that parses or without names are left out: whoever read them tells.
func (x *Index) SetStatic(list []tls.Certificate) {
	certs := make([]served, 0, len(list))
	for _, c := range list {
		leaf := c.Leaf
		if leaf == nil && len(c.Certificate) > 0 {
			leaf, _ = x509.ParseCertificate(c.Certificate[0])
		}
		if leaf == nil {
			continue
		}
		one := served{tls: &c, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter, serial: serial(leaf), kind: kind(leaf)}
		for _, n := range leaf.DNSNames {
			one.names = append(one.names, strings.ToLower(n))
		}
		for _, ip := range leaf.IPAddresses {
			if a, ok := netip.AddrFromSlice(ip); ok {
				one.names = append(one.names, a.Unmap().String())
			}
		}
		certs = append(certs, one)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.static = certs
	x.build()
}

// SetManaged replaces the certificates the Keeper keeps.
func (x *Index) SetManaged(list []*Certificate) {
	certs := make([]served, 0, len(list))
	for _, c := range list {
		certs = append(certs, served{tls: c.TLS, names: c.carried, notBefore: c.NotBefore, notAfter: c.NotAfter,
			serial: c.serial, kind: c.kind, former: c.former})
	}
	slices.SortFunc(certs, func(a, b served) int { return cmp.Compare(a.serial, b.serial) })
	x.mu.Lock()
	defer x.mu.Unlock()
	x.managed = certs
	x.build()
}

// Refresh builds the table anew if a certificate in it has ended or begun
// since, so that another one may take its names. It is cheap if none has.
func (x *Index) Refresh() {
	if t := x.table.Load(); t.expires.IsZero() || time.Now().Before(t.expires) {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.build()
}

// build makes the table from the sources. x.mu is held.
func (x *Index) build() {
	now := time.Now()
	all := slices.Concat(x.static, x.managed)
	// Best first; stable, so that files win a tie.
	slices.SortStableFunc(all, func(a, b served) int {
		return cmp.Or(cmp.Compare(a.rank(now), b.rank(now)), b.notAfter.Compare(a.notAfter))
	})
	t := &table{exact: make(map[string]entry, len(all)), wildcard: map[string]entry{}, addresses: map[netip.Addr]entry{}}
	good := make(map[*tls.Certificate]class, len(all))
	for i := range all {
		c := &all[i]
		if rank := c.rank(now); rank < rankNotYet {
			good[c.tls] = class{c.kind, rank}
		}
		for _, then := range []time.Time{c.notBefore, c.notAfter} {
			if then.After(now) && (t.expires.IsZero() || then.Before(t.expires)) {
				t.expires = then
			}
		}
	}
	for i := range all {
		c := &all[i]
		mine, isGood := good[c.tls]
		for _, n := range c.names {
			if base, ok := strings.CutPrefix(n, "*."); ok {
				add(t.wildcard, base, c, good)
			} else if w, fits := t.wildcard[parent(n)]; !fits || isGood && good[w.first].rank == mine.rank {
				add(t.exact, n, c, good) // a worse one must not hide a wildcard
			}
			if a, err := netip.ParseAddr(n); err == nil {
				add(t.addresses, a.Unmap(), c, good)
			}
		}
	}
	if !x.chosen {
		t.onlyAddresses()
	}
	x.table.Store(t)
}

// class is what a certificate that is good now has to have in common with
// those it joins, its rank, and what not.
type class struct{ kind, rank int }

// add gives c its place: certificates come best first, so a kind of key that
// is there stays. Only equals in rank join, and none that is not good now.
func add[K comparable](m map[K]entry, name K, c *served, good map[*tls.Certificate]class) {
	e, ok := m[name]
	if !ok {
		m[name] = entry{first: c.tls}
		return
	}
	mine, isGood := good[c.tls]
	first := good[e.first]
	if !isGood || first.rank != mine.rank {
		return
	}
	var list []choice
	switch {
	case e.more != nil:
		list = slices.Clone(*e.more)
	case first.kind == c.kind:
		return
	default:
		list = []choice{newChoice(e.first, first.kind)}
	}
	if slices.ContainsFunc(list, func(o choice) bool { return o.kind == c.kind }) {
		return
	}
	list = append(list, newChoice(c.tls, c.kind))
	slices.SortStableFunc(list, func(a, b choice) int { return cmp.Compare(a.kind, b.kind) })
	m[name] = entry{first: list[0].tls, more: &list}
}

func newChoice(c *tls.Certificate, kind int) choice {
	parsed := c
	if c.Leaf == nil {
		with := *c
		with.Leaf, _ = x509.ParseCertificate(c.Certificate[0]) // it was parsed before; else choosing does it each time
		parsed = &with
	}
	return choice{tls: c, kind: kind, parsed: parsed}
}

// kind orders keys by how much clients and our CPU like them.
func kind(leaf *x509.Certificate) int {
	switch leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return 0
	case *rsa.PublicKey:
		return 2
	}
	return 1
}
