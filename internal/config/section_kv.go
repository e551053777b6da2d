package config

import (
	"path/filepath"
	"strings"
)

// KVProvider is what all key-value providers share.
type KVProvider struct {
	Watch                     bool       `key:"watch" help:"follow changes"`
	Filename                  string     `key:"filename" help:"accepted, without effect: there are no templates"`
	Constraints               []string   `key:"constraints" help:"tag==glob or tag!=glob"`
	Trace                     bool       `key:"trace" help:"accepted, without effect"`
	DebugLogGeneratedTemplate bool       `key:"debugLogGeneratedTemplate" help:"accepted, without effect"`
	Endpoint                  string     `key:"endpoint" help:"host:port, several separated by commas"`
	Prefix                    string     `key:"prefix" help:"keys below this"`
	Username                  string     `key:"username" help:"user name"`
	Password                  Secret     `key:"password" help:"password"`
	TLS                       *ClientTLS `key:"tls" help:"TLS towards the store"`
}

// Endpoints splits Endpoint at its commas, without blanks, quotes and empty
// parts.
func (p *KVProvider) Endpoints() []string {
	var list []string
	for part := range strings.SplitSeq(p.Endpoint, ",") {
		if part = unquote(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// Etcd is etcd as a source of configuration and as the replicas' store.
// UseAPIV3 false speaks the v2 API, as in Traefik 1.5.
type Etcd struct {
	KVProvider
	UseAPIV3 bool `key:"useAPIV3" help:"speak the v3 API instead of v2"`
}

// SetDefaults gives the usual address and Traefik's prefix.
func (e *Etcd) SetDefaults() {
	e.Watch, e.Endpoint, e.Prefix = true, "127.0.0.1:2379", "/traefik"
}

// Consul is Consul's key-value store.
type Consul struct{ KVProvider }

// SetDefaults gives the usual address and Traefik's prefix.
func (c *Consul) SetDefaults() {
	c.Watch, c.Endpoint, c.Prefix = true, "127.0.0.1:8500", "traefik"
}

// Zookeeper is ZooKeeper.
type Zookeeper struct{ KVProvider }

// SetDefaults gives the usual address and Traefik's prefix.
func (z *Zookeeper) SetDefaults() {
	z.Watch, z.Endpoint, z.Prefix = true, "127.0.0.1:2181", "traefik"
}

// BoltDB is a BoltDB file; Endpoint is its path.
type BoltDB struct{ KVProvider }

// SetDefaults gives Traefik's odd default.
func (b *BoltDB) SetDefaults() {
	b.Watch, b.Endpoint, b.Prefix = true, "127.0.0.1:4001", "/traefik"
}

// Store kinds.
const (
	StoreFile   = "file"
	StoreEtcd   = "etcd"  // v3 API
	StoreEtcd2  = "etcd2" // v2 API
	StoreMemory = "memory"
	StoreKube   = "kubernetes" // Secrets and Leases of the API server that [kubernetes] names
)

// Store is where certificates, orders and leases are kept. Kind "" follows
// [etcd]: etcd or etcd2 when that section is there, else file; after
// Normalize it is never empty. The connection settings are those of [etcd]
// where they are empty here.
type Store struct {
	Kind      string     `key:"kind" help:"file, etcd (v3 API), etcd2 (v2 API), kubernetes or memory; default: as [etcd] says, else file"`
	Directory string     `key:"directory" help:"folder of the file store, and of every replica's own copy"`
	Prefix    string     `key:"prefix" help:"keys of etcd below this; names of Secrets and Leases begin with it"`
	TTL       Duration   `key:"ttl" help:"how long a dead replica's leases stand"`
	SealKey   Secret     `key:"sealKey" help:"keys that seal private keys in the store, the newest first: a path, or the keys"`
	Copy      string     `key:"copy" help:"folder of this replica's own copy of the store; none: no copy; default: copy in store.directory"`
	Namespace string     `key:"namespace" help:"of the kubernetes store; default: our own"`
	Endpoint  string     `key:"endpoint" help:"default: etcd.endpoint"`
	Username  string     `key:"username" help:"default: etcd.username"`
	Password  Secret     `key:"password" help:"default: etcd.password"`
	TLS       *ClientTLS `key:"tls" help:"default: etcd.tls"`
}

// CopyDirectory is where this replica keeps its own copy of what it shares with
// others; "" if it shall have none.
func (s *Store) CopyDirectory() string {
	switch {
	case strings.EqualFold(s.Copy, "none"):
		return ""
	case s.Copy != "":
		return s.Copy
	}
	return filepath.Join(s.Directory, "copy")
}

// Connection gives the store's connection settings with the gaps filled from
// [etcd], which may be nil.
func (s *Store) Connection(etcd *Etcd) KVProvider {
	c := KVProvider{Endpoint: s.Endpoint, Prefix: s.Prefix, Username: s.Username, Password: s.Password, TLS: s.TLS}
	if etcd == nil {
		etcd = &Etcd{}
		etcd.SetDefaults()
	}
	if c.Endpoint == "" {
		c.Endpoint = etcd.Endpoint
	}
	if c.Username == "" && c.Password == "" {
		c.Username, c.Password = etcd.Username, etcd.Password
	}
	if c.TLS == nil {
		c.TLS = etcd.TLS
	}
	return c
}
