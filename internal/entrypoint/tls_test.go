package entrypoint

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/internal/config"
)

// The post's own list.
var nineSuites = []string{
	"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
	"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", "TLS_RSA_WITH_AES_128_GCM_SHA256",
	"TLS_RSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_RSA_WITH_AES_256_CBC_SHA",
}

// handshake connects with a client configuration and gives what was agreed.
func handshake(s *Server, c *tls.Config) (tls.ConnectionState, error) {
	c.InsecureSkipVerify = true
	if c.ServerName == "" {
		c.ServerName = "localhost"
	}
	conn, err := tls.Dial("tcp", s.Addr().String(), c)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

func clientSuites() (ids []uint16, byName map[string]uint16) {
	byName = map[string]uint16{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		ids = append(ids, s.ID)
		byName[s.Name] = s.ID
	}
	return ids, byName
}

func TestDefaultTLS(t *testing.T) {
	for _, key := range []string{"ecdsa", "rsa"} {
		pair, _, _ := selfSigned(t, key)
		c, problems := TLSConfig(TLSOptions{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		s := start(t, Options{Handler: echo(), TLS: c})
		state, err := handshake(s, &tls.Config{NextProtos: []string{"h2", "http/1.1"}})
		if err != nil || state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "h2" || state.CurveID != tls.X25519MLKEM768 {
			t.Errorf("%s: got %x %s %v, %v, want TLS 1.3, h2, X25519MLKEM768", key, state.Version, state.NegotiatedProtocol, state.CurveID, err)
		}
		if _, err := handshake(s, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
			t.Error("TLS 1.1 is served")
		}
		ids, names := clientSuites()
		for name, id := range names {
			weak := !strings.Contains(name, "ECDHE") || strings.Contains(name, "CBC") || strings.Contains(name, "RC4")
			_, err := handshake(s, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{id}})
			if fits := strings.Contains(name, strings.ToUpper(key)); !weak && fits != (err == nil) && strings.Contains(name, "ECDHE") {
				t.Errorf("%s key, %s: %v", key, name, err)
			}
			if weak && err == nil {
				t.Errorf("%s is served by default", name)
			}
		}
		state, err = handshake(s, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: ids})
		if err != nil || !strings.Contains(tls.CipherSuiteName(state.CipherSuite), "GCM") && !strings.Contains(tls.CipherSuiteName(state.CipherSuite), "CHACHA") {
			t.Errorf("%s: chose %s, %v", key, tls.CipherSuiteName(state.CipherSuite), err)
		}
	}
}

// TestThePostsSuites: each of the nine works when named, without any GODEBUG,
// and the weak ones are warned of.
func TestThePostsSuites(t *testing.T) {
	pair, _, _ := selfSigned(t, "rsa")
	c, problems := TLSConfig(TLSOptions{
		MinVersion: "VersionTLS12", CipherSuites: nineSuites, Object: "entry point https",
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil },
	})
	if len(problems) != 1 || !problems[0].Warning || strings.Count(problems[0].Message, "TLS_") != 7 {
		t.Errorf("problems %v, want one warning that names seven suites", problems)
	}
	s := start(t, Options{Handler: echo(), TLS: c})
	_, names := clientSuites()
	for _, name := range nineSuites {
		state, err := handshake(s, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{names[name]}})
		if err != nil || tls.CipherSuiteName(state.CipherSuite) != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	res, err := h2Client(t).Get("https://" + s.Addr().String())
	if err != nil || res.ProtoMajor != 2 {
		t.Fatalf("HTTP/2 got %v, %v", res, err)
	}
	res.Body.Close()
}

func TestTLSProblems(t *testing.T) {
	for _, c := range []struct {
		opts    TLSOptions
		want    string
		warning bool
		protos  []string
	}{
		{TLSOptions{MinVersion: "TLS12"}, `minVersion "TLS12" is unknown (VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13)`, false, nil},
		{TLSOptions{CipherSuites: []string{"TLS_FOO"}}, `cipher suite "TLS_FOO" is unknown (TLS_ECDHE_ECDSA_`, false, nil},
		{TLSOptions{CipherSuites: []string{"TLS_AES_128_GCM_SHA256"}}, "always on", false, nil},
		{TLSOptions{MinVersion: "VersionTLS13", CipherSuites: []string{"TLS_AES_128_GCM_SHA256"}}, "always on", true, []string{"h2", "http/1.1"}},
		{TLSOptions{CipherSuites: []string{"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"}}, "only HTTP/1.1 is offered", true, []string{"http/1.1"}},
		{TLSOptions{MinVersion: "VersionTLS10"}, "obsolete", true, []string{"h2", "http/1.1"}},
	} {
		c.opts.Object, c.opts.Origin = "entry point https", config.Origin{Source: "g.toml", Line: 3, Column: 1}
		got, problems := TLSConfig(c.opts)
		if (got != nil) != c.warning || len(problems) == 0 || !strings.Contains(problems[0].String(), c.want) ||
			!strings.HasPrefix(problems[0].String(), "g.toml:3:1: entry point https: ") {
			t.Errorf("%v: got %v, want %q", c.opts, problems, c.want)
		}
		if got != nil && !slices.Equal(got.NextProtos, c.protos) {
			t.Errorf("%v: offers %v, want %v", c.opts, got.NextProtos, c.protos)
		}
	}
}

// TestChallenge: a client that offers only acme-tls/1 gets the challenge's
// certificate, agrees on the protocol, and the connection ends (RFC 8737).
func TestChallenge(t *testing.T) {
	site, _, _ := selfSigned(t, "ecdsa")
	proof, _, _ := selfSigned(t, "ecdsa")
	opts := TLSOptions{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &site, nil }}
	opts.ChallengeCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if h.ServerName != "proof.example.com" {
			return nil, errors.New("nothing is pending")
		}
		return &proof, nil
	}
	c, _ := TLSConfig(opts)
	reached := false
	s := start(t, Options{TLS: c, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })})
	client := &tls.Config{ServerName: "proof.example.com", NextProtos: []string{"acme-tls/1"}, InsecureSkipVerify: true}
	conn, err := tls.Dial("tcp", s.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	state := conn.ConnectionState()
	if state.NegotiatedProtocol != "acme-tls/1" || !bytes.Equal(state.PeerCertificates[0].Raw, proof.Certificate[0]) {
		t.Errorf("agreed on %q with another certificate than the proof's", state.NegotiatedProtocol)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if n, err := conn.Read(make([]byte, 1)); err == nil || n > 0 || reached {
		t.Error("a challenge connection was served")
	}
	if _, err := handshake(s, &tls.Config{ServerName: "other.example.com", NextProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("a challenge that is not pending was answered")
	}
	state, err = handshake(s, &tls.Config{ServerName: "proof.example.com", NextProtos: []string{"acme-tls/1", "http/1.1"}})
	if err != nil || !bytes.Equal(state.PeerCertificates[0].Raw, site.Certificate[0]) {
		t.Errorf("a browser was given the proof, or nothing: %v", err)
	}
	opts.ChallengeCertificate = nil
	c, _ = TLSConfig(opts)
	s = start(t, Options{TLS: c, Handler: echo()})
	if _, err := handshake(s, &tls.Config{NextProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("acme-tls/1 was agreed on where no challenge is answered")
	}
}

func TestLoadCertificate(t *testing.T) {
	_, certPEM, keyPEM := selfSigned(t, "ecdsa")
	_, _, otherKey := selfSigned(t, "ecdsa")
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	certFile, keyFile := write("c.pem", certPEM), write("k.pem", keyPEM)
	for _, c := range []struct{ cert, key, want string }{
		{certPEM, keyPEM, ""}, {certFile, keyFile, ""}, {certPEM, keyFile, ""}, {certFile, keyPEM, ""},
		{certFile, otherKey, "load certificate " + certFile + " with key (PEM text): tls: private key does not match"},
		{certFile, "", "no key is given"},
		{dir + "/none", keyFile, "read certificate: open " + dir + "/none: no such file"},
		{certFile, write("big", strings.Repeat("x", maxCertificateFile+1)), "over 1048576 bytes"},
		{keyFile, certFile, "failed to find"},
	} {
		pair, err := LoadCertificate(c.cert, c.key)
		switch {
		case c.want == "" && (err != nil || pair.Leaf == nil):
			t.Errorf("got %v", err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("got %v, want %q", err, c.want)
		case err != nil && strings.Contains(err.Error(), "PRIVATE"):
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

// TestHTTP2Host: what a client says twice must agree.
func TestHTTP2Host(t *testing.T) {
	s := start(t, Options{Handler: echo(), TLS: testTLS(t)})
	for host, want := range map[string]string{"a.com": "200", "A.com": "200", "b.com": "400", "": "200"} {
		conn, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, http2.ClientPreface)
		f := http2.NewFramer(conn, conn)
		f.WriteSettings()
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, kv := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.com"}, {":path", "/"}, {"host", host}} {
			if kv[1] != "" {
				enc.WriteField(hpack.HeaderField{Name: kv[0], Value: kv[1]})
			}
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
		f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		got := ""
		for got == "" {
			frame, err := f.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch frame := frame.(type) {
			case *http2.MetaHeadersFrame:
				got = frame.PseudoValue("status")
			case *http2.RSTStreamFrame:
				got = "400"
			}
		}
		if got != want {
			t.Errorf("host %q beside :authority a.com: %s, want %s", host, got, want)
		}
		conn.Close()
	}
}
