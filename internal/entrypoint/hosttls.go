package entrypoint

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"gatehouse/internal/http1"
)

// HostTLS gives some hosts of an entry point TLS settings of their own. The
// settings are chosen once, by the server name of the handshake, and a
// connection serves no host with other settings than its own: 421 (RFC 9110,
// section 15.5.20). So nobody gets past the client certificate of one host by a
// handshake for another. The zero HostTLS is ready: no host has any. It is
// shared by TLSOptions and Options; its methods may be called from any
// goroutine.
type HostTLS struct {
	table atomic.Pointer[map[string]*TLSSet]
	rest  atomic.Pointer[tls.Config] // of all other hosts; nil: the entry point's
}

// TLSSet is what holds for some hosts. It is known by its address: who changes
// what is in it makes a new one.
type TLSSet struct {
	// Config of handshakes. Nil: the hosts are refused, since what they demand
	// is not to be had.
	Config *tls.Config
}

// Set says which hosts have which settings: names in lower case without a
// final dot, or *.domain for all names one label below. The map does not change
// from then on.
func (h *HostTLS) Set(hosts map[string]*TLSSet) {
	if len(hosts) == 0 {
		h.table.Store(nil)
		return
	}
	h.table.Store(&hosts)
}

// SetRest replaces the configuration of handshakes for all other hosts, which is
// the entry point's at first. Connections there are stay.
func (h *HostTLS) SetRest(c *tls.Config) { h.rest.Store(c) }

// of finds the settings of a server name or host; nil: those of the entry
// point.
func (h *HostTLS) of(host string) *TLSSet {
	table := h.table.Load()
	if table == nil {
		return nil
	}
	host = strings.TrimSuffix(http1.HostName(host), ".")
	if set := (*table)[host]; set != nil {
		return set
	}
	if dot := strings.IndexByte(host, '.'); dot > 0 {
		return (*table)["*"+host[dot:]]
	}
	return nil
}

// has tells whether a server name has settings of its own.
func (h *HostTLS) has(name string) bool { return h != nil && h.of(name) != nil }

// tlsChoice remembers what a handshake was done with.
type tlsChoice struct{ set *TLSSet }

type tlsChoiceKey struct{}

// withTLSChoice has a handshake in this context remember its settings.
func withTLSChoice(ctx context.Context) (context.Context, *tlsChoice) {
	choice := new(tlsChoice)
	return context.WithValue(ctx, tlsChoiceKey{}, choice), choice
}

// choose gives the configuration of a handshake; nil: the entry point's.
func (h *HostTLS) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	set := h.of(hello.ServerName)
	if set == nil {
		return h.rest.Load(), nil
	}
	choice, _ := hello.Context().Value(tlsChoiceKey{}).(*tlsChoice)
	if choice == nil || set.Config == nil {
		return nil, fmt.Errorf("the TLS options of %s are not to be had; it is refused until they are", hello.ServerName)
	}
	choice.set = set
	return set.Config, nil
}

// misdirected tells whether a request for host must not be served on a
// connection whose handshake was done with other settings.
func (h *HostTLS) misdirected(host string, choice *tlsChoice) bool {
	return h != nil && choice != nil && h.of(host) != choice.set
}

// misdirected is for requests that package http1 has read.
func (c *conn) misdirected(r *http1.Request) bool {
	return c.server.opts.HostTLS.misdirected(text(r.Host()), c.choice)
}

// misdirected is for requests that package http1 has not read.
func (g *gate) misdirected(r *http.Request) bool {
	choice, _ := r.Context().Value(tlsChoiceKey{}).(*tlsChoice)
	return g.opts.HostTLS.misdirected(r.Host, choice)
}
