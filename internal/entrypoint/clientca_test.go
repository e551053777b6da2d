package entrypoint

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

// TestClientCertificates: who shows none, or one of somebody else, is let in
// nowhere, whatever the protocol; not by a session that was begun elsewhere
// either, though the keys of tickets are the same.
func TestClientCertificates(t *testing.T) {
	pool := func(c tls.Certificate) *x509.CertPool {
		p := x509.NewCertPool()
		p.AddCert(c.Leaf)
		return p
	}
	server, _, _ := selfSigned(t, "ecdsa")
	known, _, _ := selfSigned(t, "ecdsa")
	stranger, _, _ := selfSigned(t, "rsa")
	tickets := [][32]byte{{1}}
	begin := func(clients *x509.CertPool, optional bool) *Server {
		c, problems := TLSConfig(TLSOptions{
			ClientCAs: clients, ClientOptional: optional,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &server, nil },
		})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		c.SetSessionTicketKeys(tickets)
		return start(t, Options{Handler: echo(), TLS: c, HTTP3: true})
	}
	open, required, optional := begin(nil, false), begin(pool(known), false), begin(pool(known), true)
	strangers := begin(pool(stranger), false)

	client := func(certs ...tls.Certificate) *tls.Config {
		c := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(8)}
		if len(certs) > 0 { // shown also to who does not want it
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certs[0], nil }
		}
		return c
	}
	for _, c := range []struct {
		name string
		s    *Server
		cert []tls.Certificate
		in   bool
	}{
		{"required, none", required, nil, false}, {"required, known", required, []tls.Certificate{known}, true},
		{"required, stranger", required, []tls.Certificate{stranger}, false},
		{"optional, none", optional, nil, true}, {"optional, known", optional, []tls.Certificate{known}, true},
		{"optional, stranger", optional, []tls.Certificate{stranger}, false},
		{"open, stranger", open, []tls.Certificate{stranger}, true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := client(c.cert...)
			config.MaxVersion = version
			if in := letIn(c.s, config); in != c.in {
				t.Errorf("%s, %s: let in: %v", c.name, tls.VersionName(version), in)
			}
		}
		tr := &http3.Transport{TLSClientConfig: client(c.cert...)}
		res, err := (&http.Client{Transport: tr, Timeout: 5 * time.Second}).Get("https://" + c.s.Addr().String() + "/")
		if err == nil {
			res.Body.Close()
		}
		if (err == nil) != c.in {
			t.Errorf("%s, HTTP/3: %v", c.name, err)
		}
		tr.Close()
	}
	for _, first := range []struct {
		name string
		s    *Server
		cert []tls.Certificate
	}{{"open", open, nil}, {"strangers", strangers, []tls.Certificate{stranger}}, {"optional", optional, nil}} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			config := client(first.cert...)
			config.MaxVersion = version
			if !letIn(first.s, config) {
				t.Fatalf("%s: not let in", first.name)
			}
			if letIn(required, config) {
				t.Errorf("a session of the entry point %s was resumed (%s)", first.name, tls.VersionName(version))
			}
		}
	}
}

// letIn asks once.
func letIn(s *Server, config *tls.Config) bool {
	c, err := tls.Dial("tcp", s.Addr().String(), config)
	if err != nil {
		return false
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false
	}
	_, err = io.ReadAll(res.Body)
	return err == nil && res.StatusCode == 200
}

// TestModern: nothing below TLS 1.3.
func TestModern(t *testing.T) {
	pair, _, _ := selfSigned(t, "ecdsa")
	c, problems := TLSConfig(TLSOptions{Profile: "modern", GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	s := start(t, Options{Handler: echo(), TLS: c})
	if _, err := handshake(s, &tls.Config{MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	if state, err := handshake(s, &tls.Config{}); err != nil || state.Version != tls.VersionTLS13 {
		t.Error(state.Version, err)
	}
}
