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
	"strings"
	"time"

	"gatehouse/internal/config"
)

// transport is how servers with the same settings are reached. Services with
// equal settings share it, in one snapshot and from one to the next, so that a
// reload closes no connection.
type transport struct {
	key  string
	refs int             // pools using it; under Registry.mu
	std  *http.Transport // HTTP/1.1, and HTTP/2 where TLS agrees on it
	h2c  *http.Transport // HTTP/2 by prior knowledge
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
}

// transport gives the shared transport for settings, with one more reference.
// r.mu is held.
func (r *Registry) transport(s config.ServersTransport) (*transport, error) {
	roots, err := readRoots(s.RootCAs)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%q %t %x", s.ServerName, s.InsecureSkipVerify, sha256.Sum256(roots))
	t := r.transports[key]
	if t == nil {
		client := &tls.Config{ServerName: s.ServerName, InsecureSkipVerify: s.InsecureSkipVerify, MinVersion: tls.VersionTLS12}
		if len(roots) > 0 {
			client.RootCAs = x509.NewCertPool()
			client.RootCAs.AppendCertsFromPEM(roots)
		}
		t = &transport{key: key, std: newTransport(r.options, client, false), h2c: newTransport(r.options, client, true)}
		r.transports[key] = t
	}
	t.refs++
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

// dialError marks that no connection came about: nothing was sent.
type dialError struct{ error }

func (e dialError) Unwrap() error { return e.error }

// Timeout makes a slow dial a time-out to those who ask.
func (e dialError) Timeout() bool {
	t, ok := e.error.(net.Error)
	return ok && t.Timeout()
}

func newTransport(o Options, client *tls.Config, h2c bool) *http.Transport {
	dialer := net.Dialer{Timeout: cmp.Or(o.DialTimeout, 5*time.Second), KeepAlive: 30 * time.Second}
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
	t.Protocols.SetHTTP2(!h2c)
	return t
}
