package entrypoint

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// hostTLSRig is an entry point some hosts of which demand client certificates.
type hostTLSRig struct {
	server *Server
	hosts  *HostTLS
	sets   map[string]*TLSSet
	client tls.Certificate
}

func newHostTLSRig(t *testing.T) *hostTLSRig {
	t.Helper()
	pair, _, _ := selfSigned(t, "ecdsa")
	r := &hostTLSRig{hosts: new(HostTLS)}
	r.client, _, _ = selfSigned(t, "ecdsa")
	pool := x509.NewCertPool()
	pool.AddCert(r.client.Leaf)
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	config := func(o TLSOptions) *tls.Config {
		o.GetCertificate = get
		c, problems := TLSConfig(o)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		c.SetSessionTicketKeys([][32]byte{{1}}) // the same for all: no session may pass for all that
		return c
	}
	r.sets = map[string]*TLSSet{
		"mtls.example.com":   {Config: config(TLSOptions{ClientCAs: pool})},
		"*.wild.example.com": {Config: config(TLSOptions{ClientCAs: pool})},
		"modern.example.com": {Config: config(TLSOptions{Profile: "modern"})},
		"broken.example.com": {},
	}
	r.hosts.Set(r.sets)
	r.server = start(t, Options{Handler: echo(), HostTLS: r.hosts, TLS: config(TLSOptions{Hosts: r.hosts}), HTTP3: true})
	return r
}

func (r *hostTLSRig) config(sni string, certificate bool) *tls.Config {
	c := &tls.Config{InsecureSkipVerify: true, ServerName: cmp.Or(sni, "127.0.0.1")} // addresses are not sent
	if certificate {
		c.Certificates = []tls.Certificate{r.client}
	}
	return c
}

// ask gives the status a request gets by each protocol; 0: the connection was
// refused.
func (r *hostTLSRig) ask(t *testing.T, config *tls.Config, host string) map[string]int {
	t.Helper()
	address := r.server.Addr().String()
	one := func(tr http.RoundTripper) int {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, "GET", "https://"+address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := tr.RoundTrip(req)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	got := map[string]int{}
	for name, protocol := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) }, "HTTP/2": func(p *http.Protocols) { p.SetHTTP2(true) },
	} {
		p := new(http.Protocols)
		protocol(p)
		tr := &http.Transport{Protocols: p, TLSClientConfig: config.Clone()}
		got[name] = one(tr)
		tr.CloseIdleConnections()
	}
	tr := &http3.Transport{TLSClientConfig: config.Clone()}
	got["HTTP/3"] = one(tr)
	tr.Close()
	return got
}

// TestHostTLS: the options of a host are chosen by the server name, and hold
// for no other host; who asks for one on the wrong connection is told so.
func TestHostTLS(t *testing.T) {
	r := newHostTLSRig(t)
	for _, c := range []struct {
		sni, host   string
		certificate bool
		want        int
	}{
		{"open.example.com", "open.example.com", false, 200},
		{"open.example.com", "other.example.com", false, 200}, // neither has options
		{"open.example.com", "mtls.example.com", false, 421},
		{"open.example.com", "mtls.example.com", true, 421}, // nobody asked for the certificate
		{"open.example.com", "MTLS.Example.COM", false, 421},
		{"open.example.com", "mtls.example.com.", false, 421},
		{"open.example.com", "mtls.example.com:443", false, 421},
		{"open.example.com", "a.wild.example.com", false, 421},
		{"open.example.com", "a.b.wild.example.com", false, 200}, // a wildcard is one label
		{"open.example.com", "broken.example.com", false, 421},
		{"open.example.com", "modern.example.com", false, 421},
		{"", "mtls.example.com", false, 421},
		{"", "open.example.com", false, 200},
		{"", "127.0.0.1", false, 200},
		{"unknown.example.com", "mtls.example.com", true, 421},
		{"mtls.example.com", "mtls.example.com", false, 0},
		{"mtls.example.com", "open.example.com", false, 0},
		{"MTLS.example.com", "mtls.example.com", false, 0},
		{"mtls.example.com", "mtls.example.com", true, 200},
		{"mtls.example.com", "mtls.example.com:8443", true, 200},
		{"mtls.example.com", "Mtls.example.com.", true, 200},
		{"mtls.example.com", "open.example.com", true, 421},
		{"mtls.example.com", "127.0.0.1", true, 421},
		{"mtls.example.com", "a.wild.example.com", true, 421}, // other options, though they say the same
		{"a.wild.example.com", "a.wild.example.com", false, 0},
		{"a.wild.example.com", "a.wild.example.com", true, 200},
		{"a.wild.example.com", "b.wild.example.com", true, 200},
		{"a.b.wild.example.com", "a.wild.example.com", true, 421},
		{"broken.example.com", "broken.example.com", true, 0},
		{"modern.example.com", "modern.example.com", false, 200},
		{"modern.example.com", "open.example.com", false, 421},
	} {
		for protocol, got := range r.ask(t, r.config(c.sni, c.certificate), c.host) {
			if got != c.want {
				t.Errorf("%s, handshake for %q (certificate: %v), asked for %s: %d, want %d", protocol, c.sni, c.certificate, c.host, got, c.want)
			}
		}
	}
	old := r.config("modern.example.com", false)
	old.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", r.server.Addr().String(), old); err == nil {
		c.Close()
		t.Error("TLS 1.2 where the options are modern")
	}
}

// TestHostTLSSessions: no session of other options passes for a certificate.
func TestHostTLSSessions(t *testing.T) {
	r := newHostTLSRig(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		// A cache that takes all servers for one.
		cache := oneSession{tls.NewLRUClientSessionCache(1)}
		dial := func(sni string, certificate bool) error {
			config := r.config(sni, certificate)
			config.MaxVersion, config.ClientSessionCache = version, cache
			_, err := askTLS(r.server, config, sni)
			return err
		}
		if err := dial("open.example.com", false); err != nil {
			t.Fatal(err)
		}
		if err := dial("mtls.example.com", false); err == nil {
			t.Errorf("%s: a session without a certificate was resumed where one is demanded", tls.VersionName(version))
		}
	}
}

type oneSession struct{ tls.ClientSessionCache }

func (o oneSession) Get(string) (*tls.ClientSessionState, bool) { return o.ClientSessionCache.Get("") }
func (o oneSession) Put(_ string, s *tls.ClientSessionState)    { o.ClientSessionCache.Put("", s) }

// askTLS asks once by HTTP/1.1 on a connection of its own.
func askTLS(s *Server, config *tls.Config, host string) (int, error) {
	c, err := tls.Dial("tcp", s.Addr().String(), config)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return askOn(c, bufio.NewReader(c), host)
}

func askOn(c net.Conn, in *bufio.Reader, host string) (int, error) {
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, err
}

// TestHostTLSChanges: what a host demands from now on holds for connections
// that were there before.
func TestHostTLSChanges(t *testing.T) {
	r := newHostTLSRig(t)
	r.hosts.Set(nil)
	open := func() (net.Conn, *bufio.Reader) {
		c, err := tls.Dial("tcp", r.server.Addr().String(), r.config("mtls.example.com", false))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, bufio.NewReader(c)
	}
	want := func(c net.Conn, in *bufio.Reader, status int) {
		t.Helper()
		if got, err := askOn(c, in, "mtls.example.com"); got != status {
			t.Errorf("%d (%v), want %d", got, err, status)
		}
	}
	before, in := open()
	want(before, in, 200)
	r.hosts.Set(r.sets)
	want(before, in, 421)
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("the connection goes on: %v", err)
	}
	if status, err := askTLS(r.server, r.config("mtls.example.com", false), "mtls.example.com"); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	r.hosts.Set(nil)
	after, in := open()
	want(after, in, 200)
}

// TestHostTLSOtherWays: neither WebSockets nor the forms a target can have lead
// past the options of a host.
func TestHostTLSOtherWays(t *testing.T) {
	r := newHostTLSRig(t)
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for _, c := range []struct {
		request string
		want    int
	}{
		{"GET / HTTP/1.1\r\nHost: mtls.example.com\r\n" + upgrade, 421},
		{"GET https://mtls.example.com/ HTTP/1.1\r\nHost: mtls.example.com\r\n\r\n", 421},
		{"GET https://mtls.example.com/ HTTP/1.1\r\nHost: open.example.com\r\n\r\n", 400},
		{"GET https://open.example.com/ HTTP/1.1\r\nHost: mtls.example.com\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: open.example.com\r\n\r\nGET / HTTP/1.1\r\nHost: mtls.example.com\r\n\r\n", 421}, // the last answer
		{"OPTIONS * HTTP/1.0\r\nHost: MTLS.example.com.:443\r\n\r\n", 421},
		{"GET / HTTP/1.1\r\nHost: mtls.example.com..\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: [::1]\r\nX-Forwarded-Host: mtls.example.com\r\n\r\n", 200},
	} {
		nc, err := tls.Dial("tcp", r.server.Addr().String(), r.config("open.example.com", true))
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(nc, c.request)
		in, got := bufio.NewReader(nc), 0
		for range strings.Count(c.request, " HTTP/1.") {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%q: %v", c.request, err)
			}
			io.Copy(io.Discard, res.Body)
			got = res.StatusCode
		}
		if nc.Close(); got != c.want {
			t.Errorf("%q: %d, want %d", c.request, got, c.want)
		}
	}
	f := dialFrames(t, r.server)
	for id, protocol := range []string{":protocol: websocket", "x: y"} {
		lines := []string{":method: CONNECT", ":scheme: https", ":authority: MTLS.example.com:443", ":path: /", protocol, "sec-websocket-version: 13"}
		if id == 1 {
			lines[0] = ":method: GET"
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*id + 1), BlockFragment: f.block(lines...), EndHeaders: true, EndStream: id == 1})
		if status, body, reset := f.answer(uint32(2*id+1), false); status != "421" {
			t.Errorf("HTTP/2, %s: %s %q %v", protocol, status, body, reset)
		}
	}
}
