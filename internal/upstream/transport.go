package upstream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/config"
)

// transport is how servers with the same settings are reached. Services with
// equal settings share it, in one snapshot and from one to the next, so that a
// reload closes no connection.
type transport struct {
	key  string
	refs int             // pools using it; under Registry.mu
	std  *http.Transport // HTTP/2 where TLS agrees on it
	h2c  *http.Transport // HTTP/2 by prior knowledge

	options Options
	dialer  *net.Dialer // of origins
	client  *tls.Config
	mu      sync.Mutex
	origins map[string]*origin // by URL
}

// join gives servers their ways: connections by HTTP/1.1 where that may be
// spoken, which all servers at one address share, and the standard library's.
func (t *transport) join(servers []*server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range servers {
		s.via = t.forScheme(s.url.Scheme)
		if s.url.Scheme == "h2c" {
			continue
		}
		o := t.origins[s.text]
		if o == nil {
			o = newOrigin(t.options, t.dialer, s.url.Host)
			if s.url.Scheme == "https" {
				o.secure(t.client)
			}
			t.origins[s.text] = o
		}
		o.refs++
		s.origin, s.http1 = o, http1RoundTripper{origin: o, fallback: s.via}
		s.via = &s.http1
	}
}

// leave takes them back. Connections to an address that no pool has are closed
// as they become idle.
func (t *transport) leave(servers []*server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range servers {
		if s.origin == nil {
			continue
		}
		if s.origin.refs--; s.origin.refs == 0 {
			delete(t.origins, s.text)
			s.origin.close()
		}
	}
}

func (t *transport) forScheme(scheme string) http.RoundTripper {
	if scheme == "h2c" {
		return t.h2c
	}
	return t.std
}

func (t *transport) closeIdle() {
	t.std.CloseIdleConnections()
	t.h2c.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.origins {
		o.close()
	}
}

// transport gives the shared transport for settings. r.mu is held.
func (r *Registry) transport(s config.ServersTransport) (*transport, error) {
	roots, err := readRoots(s.RootCAs)
	if err != nil {
		return nil, err
	}
	pairs, own, err := readPairs(s.Certificates)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%q %t %t %x %x", s.ServerName, s.InsecureSkipVerify, s.DisableHTTP2, sha256.Sum256(roots), own)
	t := r.transports[key]
	if t == nil {
		client := &tls.Config{ServerName: s.ServerName, InsecureSkipVerify: s.InsecureSkipVerify, Certificates: pairs,
			MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
		if s.DisableHTTP2 {
			client.NextProtos = []string{"http/1.1"}
		}
		if len(roots) > 0 {
			client.RootCAs = x509.NewCertPool()
			client.RootCAs.AppendCertsFromPEM(roots)
		}
		t = &transport{
			key: key, std: newTransport(r.options, client, false), h2c: newTransport(r.options, client, true),
			options: r.options, dialer: newDialer(r.options), client: client, origins: map[string]*origin{},
		}
		r.transports[key] = t
	}
	return t, nil
}

// readRoots gives the certificates of paths and PEM texts as one PEM text.
func readRoots(from []string) ([]byte, error) {
	var all []byte
	for _, text := range from {
		pem := []byte(text)
		if !strings.Contains(text, "-----BEGIN") {
			var err error
			if pem, err = os.ReadFile(text); err != nil {
				return nil, fmt.Errorf("read root certificates: %w", err)
			}
		}
		if !x509.NewCertPool().AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read root certificates: no PEM certificate in %.40q", text)
		}
		all = append(append(all, bytes.TrimSpace(pem)...), '\n')
	}
	return all, nil
}

// readPairs gives the client certificates of paths or PEM texts, and a hash that
// tells one list from another.
func readPairs(from []config.KeyPair) (pairs []tls.Certificate, hash []byte, err error) {
	all := sha256.New()
	for i, k := range from {
		var texts [2][]byte
		for j, text := range []string{k.CertFile, k.KeyFile.Reveal()} {
			texts[j] = []byte(text)
			if strings.Contains(text, "-----BEGIN") {
				continue
			}
			if texts[j], err = os.ReadFile(text); err != nil {
				return nil, nil, fmt.Errorf("read client certificate %d: %w", i, err)
			}
		}
		pair, err := tls.X509KeyPair(texts[0], texts[1])
		if err != nil {
			return nil, nil, fmt.Errorf("read client certificate %d: %w", i, err)
		}
		pairs = append(pairs, pair)
		fmt.Fprintf(all, "%d %s %d %s", len(texts[0]), texts[0], len(texts[1]), texts[1])
	}
	return pairs, all.Sum(nil), nil
}

// dialError marks that no connection came about: nothing was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// Timeout makes a slow dial a time-out to those who ask.
func (e dialError) Timeout() bool {
	t, ok := e.error.(net.Error)
	return ok && t.Timeout()
}

func newDialer(o Options) *net.Dialer {
	return &net.Dialer{Timeout: cmp.Or(o.DialTimeout, 5*time.Second), KeepAlive: 30 * time.Second}
}

func newTransport(o Options, client *tls.Config, h2c bool) *http.Transport {
	dialer := newDialer(o)
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, dialError{err}
			}
			return conn, nil
		},
		TLSClientConfig:        client,
		TLSHandshakeTimeout:    10 * time.Second,
		ResponseHeaderTimeout:  cmp.Or(o.AnswerTimeout, 60*time.Second),
		IdleConnTimeout:        cmp.Or(o.IdleTimeout, 90*time.Second),
		MaxIdleConnsPerHost:    cmp.Or(o.MaxIdle, 256),
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true, // what the client asked for is what the server is asked for
		Protocols:              new(http.Protocols),
	}
	t.Protocols.SetUnencryptedHTTP2(h2c)
	t.Protocols.SetHTTP1(!h2c)
	t.Protocols.SetHTTP2(!h2c && slices.Contains(client.NextProtos, "h2"))
	return t
}
