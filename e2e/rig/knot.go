package rig

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Knot is a running authoritative DNS server that takes RFC 2136 updates of
// TXT, A and AAAA records signed with its TSIG key (hmac-sha256).
type Knot struct {
	*Process
	KeyName, Secret string // Secret is base64

	dir   string
	port  int
	zones []string
}

// NewKnot starts Knot with the zones given, each with an SOA, an NS and a
// wildcard A record that points at 127.0.0.1 (so that HTTP-01 works for any
// name), its files under dir.
func NewKnot(ctx context.Context, dir string, zones ...string) (*Knot, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	k := &Knot{dir: dir, port: port, zones: zones, KeyName: "gatehouse", Secret: base64.StdEncoding.EncodeToString(secret)}
	if err := k.writeFiles(); err != nil {
		return nil, fmt.Errorf("write knot's files: %w", err)
	}
	return k, k.Start(ctx)
}

// Addr is its address, host:port, for UDP and TCP.
func (k *Knot) Addr() string { return fmt.Sprintf("127.0.0.1:%d", k.port) }

// Start starts it again on the same port; updates made before are kept.
func (k *Knot) Start(ctx context.Context) error {
	path, err := Find("knotd")
	if err != nil {
		return err
	}
	var env []string
	if lib := filepath.Join(Root(), ".cache/debian/root/usr/lib"); strings.HasPrefix(path, Root()) {
		dirs, _ := filepath.Glob(lib + "/*-linux-gnu")
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(dirs, ":"))
	}
	if k.Process, err = Start("knot", k.dir, env, path, "-c", filepath.Join(k.dir, "knot.conf")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return k.WaitFor(ctx, k.serves)
}

// serves asks for every zone's SOA: the server listens before its zones are
// loaded.
func (k *Knot) serves(ctx context.Context) error {
	for _, zone := range k.zones {
		q := new(dns.Msg)
		q.SetQuestion(dns.Fqdn(zone), dns.TypeSOA)
		in, _, err := (&dns.Client{Timeout: time.Second}).ExchangeContext(ctx, q, k.Addr())
		if err != nil {
			return err
		}
		if in.Rcode != dns.RcodeSuccess {
			return fmt.Errorf("knot answers %s for %s", dns.RcodeToString[in.Rcode], zone)
		}
	}
	return nil
}

func (k *Knot) writeFiles() error {
	var conf strings.Builder
	fmt.Fprintf(&conf, `server:
    rundir: "%[1]s"
    listen: 127.0.0.1@%[2]d
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: info
database:
    storage: "%[1]s/db"
key:
  - id: %[3]s
    algorithm: hmac-sha256
    secret: %[4]s
acl:
  - id: update
    key: %[3]s
    action: update
template:
  - id: default
    storage: "%[1]s"
    acl: update
    zonefile-sync: -1
    journal-content: all
    zonefile-load: difference
zone:
`, k.dir, k.port, k.KeyName, k.Secret)
	if err := os.MkdirAll(filepath.Join(k.dir, "db"), 0o700); err != nil {
		return err
	}
	for _, zone := range k.zones {
		fmt.Fprintf(&conf, "  - domain: %s\n    file: %s.zone\n", zone, zone)
		text := fmt.Sprintf("$ORIGIN %[1]s.\n$TTL 5\n@ SOA ns.%[1]s. admin.%[1]s. 1 60 60 600 5\n@ NS ns\n@ A 127.0.0.1\n* A 127.0.0.1\nns A 127.0.0.1\n", zone)
		if err := os.WriteFile(filepath.Join(k.dir, zone+".zone"), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(k.dir, "knot.conf"), []byte(conf.String()), 0o600)
}
