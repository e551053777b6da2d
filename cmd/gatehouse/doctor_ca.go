package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"gatehouse/internal/acme"
)

// directory is what doctor reads of an ACME directory (RFC 8555, 7.1.1).
type directory struct {
	NewOrder    string `json:"newOrder"`
	RenewalInfo string `json:"renewalInfo"`
	Meta        struct {
		CAAIdentities           []string          `json:"caaIdentities"`
		Profiles                map[string]string `json:"profiles"`
		ExternalAccountRequired bool              `json:"externalAccountRequired"`
	} `json:"meta"`
}

// maxClockSkew is what is told of: beyond it windows of renewal shift.
const maxClockSkew = 30 * time.Second

// authority asks the CA for its directory.
func (d *checkUp) authority(ctx context.Context) {
	a := d.static.ACME
	if a == nil {
		d.note("no [acme]: nothing is ordered")
		return
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(a.CACertificates) > 0 {
		pool, err := certPool(a.CACertificates)
		if err != nil {
			d.fail("acme.caCertificates: %v", err)
			return
		}
		config.RootCAs = pool
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, DisableKeepAlives: true}, Timeout: toolPatience}
	began := time.Now()
	resp, body, err := get(ctx, client, a.CAServer)
	if err != nil {
		d.fail("%s does not answer: %v", a.CAServer, err)
		return
	}
	var dir directory
	if err := json.Unmarshal(body, &dir); err != nil || dir.NewOrder == "" {
		d.fail("%s answers %s, and no ACME directory", a.CAServer, resp.Status)
		return
	}
	d.identities = dir.Meta.CAAIdentities
	d.ok("%s answers within %v", a.CAServer, time.Since(began).Round(time.Millisecond))
	if there, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		if skew := time.Since(there); skew.Abs() > maxClockSkew {
			d.fail("the clock here is %v off the CA's", skew.Round(time.Second))
		} else {
			d.ok("the clocks agree")
		}
	}
	if _, offered := dir.Meta.Profiles[a.Profile]; a.Profile != "" && !offered {
		d.fail("the CA does not offer the profile %q; it offers: %s", a.Profile, strings.Join(sortedKeys(dir.Meta.Profiles), ", "))
	}
	if dir.Meta.ExternalAccountRequired && a.EAB == nil {
		d.fail("the CA asks for an external account binding: set acme.eab")
	}
	if dir.RenewalInfo == "" {
		d.note("the CA does not say when to renew (ARI): at two thirds of the lifetime")
	}
}

const maxAnswer = 64 << 10

func get(ctx context.Context, client *http.Client, url string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("User-Agent", "gatehouse/"+version())
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp, body, err
}

// dns tells where the record would be written.
func (d *checkUp) dns(ctx context.Context) {
	solver, err := newSolver(d.static.ACME.DNSChallenge, d.certs.log)
	if err != nil {
		d.fail("the DNS provider cannot be used: %v", err)
		return
	}
	i := solver.Inspect(ctx, d.base())
	switch {
	case i.Unsure != nil:
		d.note("%v; without an alias it is %s", i.Unsure, i.Target)
	case i.Target != i.Challenge && i.Target != "":
		d.ok("%s is an alias: the record goes to %s", i.Challenge, i.Target)
	}
	if i.Err != nil {
		d.fail("%v", i.Err)
	} else {
		d.ok("TXT %s is written by %s into zone %s", i.Target, d.static.ACME.DNSChallenge.Provider, i.Zone.Zone)
	}
	d.more(i.Table())
}

// persist tells which record has to stand, and whether it does.
func (d *checkUp) persist(ctx context.Context) {
	if len(d.identities) == 0 {
		d.note("the CA does not say which name of its own belongs into the record")
		return
	}
	name, value, err := d.certs.acme.PersistRecord(ctx, d.name, d.identities[0])
	if err != nil {
		d.fail("the record cannot be told: %v", err)
		return
	}
	values, queries, err := d.finder.Texts(ctx, name)
	switch {
	case err != nil:
		d.fail("%v", err)
	case acme.Persisted(values, value, time.Now()):
		d.ok("%s TXT %q is there", name, value)
	default:
		d.fail("create this record, which then stays:")
		d.more(fmt.Sprintf("%s. TXT %q", name, value))
		for _, v := range values {
			d.more("there is: " + v)
		}
	}
	for _, q := range queries {
		d.more(q.String())
	}
}

// http has the replicas answer a probe and asks for it as a CA would.
func (d *checkUp) http(ctx context.Context) {
	probe, err := acme.PutProbe(ctx, d.shared)
	if err != nil {
		d.fail("the probe cannot be put into the store: %v", err)
		return
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = probe.Remove(ending) // it ends by itself
	}()
	host := d.base()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // as CAs do
	if address := d.flags.Own["http-address"]; address != "" {
		transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}
	}
	url := "http://" + host + probe.Path
	resp, body, err := get(ctx, &http.Client{Transport: transport, Timeout: toolPatience}, url)
	switch {
	case err != nil:
		d.fail("nobody answers: %v", err)
	case resp.StatusCode != http.StatusOK || string(bytes.TrimSpace(body)) != probe.Value:
		d.fail("%s answers %s, %.80q, and not with the probe: does port 80 of the domain lead to entry point %s of a replica with this store?",
			resp.Request.URL, resp.Status, body, d.static.ACME.HTTPChallenge.EntryPoint)
	default:
		d.ok("a replica answers a probe at %s", url)
		if final := resp.Request.URL.String(); final != url {
			d.more("after redirects, at " + final)
		}
	}
}

// alpn sees whether TLS connections come to us at all: a challenge can only be
// answered while one is pending.
func (d *checkUp) alpn(ctx context.Context) {
	address := d.flags.Own["tls-address"]
	if address == "" {
		address = net.JoinHostPort(d.base(), "443")
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: toolPatience}, Config: &tls.Config{ServerName: d.base(), InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		d.fail("no TLS connection to %s: %v", address, err)
		return
	}
	defer func() { _ = conn.Close() }()
	state := conn.(*tls.Conn).ConnectionState()
	leaf := state.PeerCertificates[0]
	d.ok("TLS at %s, certificate of %s until %s", address, firstOf(leaf.DNSNames, leaf.Subject.CommonName), leaf.NotAfter.UTC().Format(time.RFC3339))
	d.more(fmt.Sprintf("whether %s is a replica of this store cannot be seen from here; compare with \"gatehouse certs %s\"", address, d.name))
}

func firstOf(list []string, other string) string {
	if len(list) > 0 {
		return list[0]
	}
	return other
}
