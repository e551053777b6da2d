package entrypoint

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// challengeProtocol is what a CA offers, alone, to validate by TLS-ALPN-01
// (RFC 8737).
const challengeProtocol = "acme-tls/1"

// maxCertificateFile bounds what is read for a certificate or key.
const maxCertificateFile = 1 << 20

// TLSOptions are an entry point's TLS settings. The functions are called from
// any goroutine, in handshakes: they must not wait for anything.
type TLSOptions struct {
	Origin config.Origin // where the settings stand, for problems
	Object string        // "entry point https", for problems

	Profile      string   // "modern": TLS 1.3 only; "", "intermediate": as the rest says
	MinVersion   string   // VersionTLS10 ... VersionTLS13; "": VersionTLS12
	CipherSuites []string // IANA names, for TLS 1.2 and older; empty: forward-secret AEADs only

	// ClientCAs are whom client certificates may come from; nil: none is asked
	// for. ClientOptional lets clients without one in; a wrong one never.
	ClientCAs      *x509.CertPool
	ClientOptional bool

	// GetCertificate chooses by server name. An error, or a nil certificate,
	// ends the handshake.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// ChallengeCertificate answers clients that offer nothing but acme-tls/1;
	// nil: no challenge is answered here.
	ChallengeCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Hosts have settings of their own; nil: none has.
	Hosts *HostTLS
	// Strangers bounds handshakes for names that have none and are not known;
	// nil: they are served as others are.
	Strangers *Strangers
}

// TLSConfig makes the configuration of an entry point: by default Mozilla's
// "intermediate" of guideline 6.0. With a problem that is not a warning it is
// nil.
func TLSConfig(opts TLSOptions) (*tls.Config, []config.Problem) {
	if opts.Profile == "modern" {
		opts.MinVersion, opts.CipherSuites = "VersionTLS13", nil
	}
	minVersion, problems := minVersion(opts)
	suites, more := cipherSuites(opts, minVersion)
	problems = append(problems, more...)
	if slices.ContainsFunc(problems, func(p config.Problem) bool { return !p.Warning }) {
		return nil, problems
	}
	c := &tls.Config{
		MinVersion:       minVersion,
		CipherSuites:     suites,
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
		NextProtos:       []string{"h2", "http/1.1"},
		GetCertificate:   opts.GetCertificate,
	}
	if opts.ClientCAs != nil {
		c.ClientCAs, c.ClientAuth = opts.ClientCAs, tls.RequireAndVerifyClientCert
		if opts.ClientOptional {
			c.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	if minVersion < tls.VersionTLS13 && !servesHTTP2(suites) {
		c.NextProtos = []string{"http/1.1"}
		problems = append(problems, opts.warning("no cipher suite that HTTP/2 demands is named: only HTTP/1.1 is offered",
			"add TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"))
	}
	c.GetConfigForClient = configForClient(opts)
	return c, problems
}

// configForClient gives what chooses another configuration by the client's
// first message; nil where there is no other.
func configForClient(opts TLSOptions) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	if opts.ChallengeCertificate == nil && opts.Hosts == nil && opts.Strangers == nil {
		return nil
	}
	var challenge *tls.Config
	if opts.ChallengeCertificate != nil {
		challenge = &tls.Config{
			MinVersion:             tls.VersionTLS12, // RFC 8737, section 3
			NextProtos:             []string{challengeProtocol},
			SessionTicketsDisabled: true,
		}
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if challenge != nil && len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == challengeProtocol {
			// Asked now: a key exchange is not for those who ask for nothing.
			proof, err := opts.ChallengeCertificate(hello)
			if err != nil {
				return nil, err
			}
			own := challenge.Clone()
			own.Certificates = []tls.Certificate{*proof}
			return own, nil
		}
		if opts.Strangers != nil && !opts.Hosts.has(hello.ServerName) {
			if err := opts.Strangers.admit(hello); err != nil {
				return nil, err
			}
		}
		if opts.Hosts != nil {
			return opts.Hosts.choose(hello)
		}
		return nil, nil
	}
}

func (o TLSOptions) problem(message, allowed string) config.Problem {
	return config.Problem{Origin: o.Origin, Object: o.Object, Message: message, Allowed: allowed}
}

func (o TLSOptions) warning(message, allowed string) config.Problem {
	p := o.problem(message, allowed)
	p.Warning = true
	return p
}

func minVersion(opts TLSOptions) (uint16, []config.Problem) {
	switch opts.MinVersion {
	case "", "VersionTLS12":
		return tls.VersionTLS12, nil
	case "VersionTLS13":
		return tls.VersionTLS13, nil
	case "VersionTLS11":
		return tls.VersionTLS11, []config.Problem{opts.warning("minVersion VersionTLS11 is obsolete (RFC 8996)", "VersionTLS12")}
	case "VersionTLS10":
		return tls.VersionTLS10, []config.Problem{opts.warning("minVersion VersionTLS10 is obsolete (RFC 8996)", "VersionTLS12")}
	}
	return 0, []config.Problem{opts.problem(fmt.Sprintf("minVersion %q is unknown", opts.MinVersion),
		"VersionTLS10, VersionTLS11, VersionTLS12, VersionTLS13")}
}

// cipherSuites turns names into identifiers. Suites that are weak by today's
// measure are switched on where they are named, with a warning: the operator
// may have a client that knows nothing else.
func cipherSuites(opts TLSOptions, minVersion uint16) ([]uint16, []config.Problem) {
	if len(opts.CipherSuites) == 0 {
		return []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		}, nil
	}
	var ids []uint16
	var weak, fixed []string
	var problems []config.Problem
	for _, name := range opts.CipherSuites {
		suite, insecure := suiteNamed(name)
		switch {
		case suite == nil:
			problems = append(problems, opts.problem(fmt.Sprintf("cipher suite %q is unknown", name), allowedSuites()))
			continue
		case len(suite.SupportedVersions) == 1 && suite.SupportedVersions[0] == tls.VersionTLS13:
			fixed = append(fixed, name)
			continue
		case insecure:
			weak = append(weak, name)
		}
		ids = append(ids, suite.ID)
	}
	if len(weak) > 0 {
		problems = append(problems, opts.warning("cipher suites weak by today's measure are switched on, since they are named: "+
			strings.Join(weak, ", "), "leave cipherSuites out for a safe choice"))
	}
	if len(fixed) > 0 {
		problems = append(problems, opts.warning("TLS 1.3 suites are always on and cannot be chosen: "+strings.Join(fixed, ", "), ""))
	}
	if len(fixed) == len(opts.CipherSuites) && minVersion < tls.VersionTLS13 {
		problems = append(problems, opts.problem("no cipher suite for TLS 1.2 is named", "name one, or set minVersion to VersionTLS13"))
	}
	return ids, problems
}

// suiteNamed finds a suite by its IANA name, or one of the two short names old
// Go versions had.
func suiteNamed(name string) (suite *tls.CipherSuite, insecure bool) {
	switch name {
	case "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305":
		name += "_SHA256"
	}
	for _, s := range tls.CipherSuites() {
		if s.Name == name {
			return s, strings.Contains(name, "_CBC_")
		}
	}
	for _, s := range tls.InsecureCipherSuites() {
		if s.Name == name {
			return s, true
		}
	}
	return nil, false
}

func allowedSuites() string {
	var names []string
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.SupportedVersions[0] != tls.VersionTLS13 {
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}

// servesHTTP2: one of the suites RFC 9113, section 9.2.2, demands is there.
func servesHTTP2(suites []uint16) bool {
	return slices.Contains(suites, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256) ||
		slices.Contains(suites, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
}

// LoadCertificate reads a certificate chain and its key, each given as a path
// or as PEM text. Errors name the path, never the text.
func LoadCertificate(certFile, keyFile string) (tls.Certificate, error) {
	chain, chainName, err := pemOrFile("certificate", certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, keyName, err := pemOrFile("key", keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("load certificate %s with key %s: %w", chainName, keyName, err)
	}
	return pair, nil
}

func pemOrFile(what, value string) (pem []byte, name string, err error) {
	if strings.Contains(value, "-----BEGIN ") {
		return []byte(value), "(PEM text)", nil
	}
	if value == "" {
		return nil, "", errors.New("load certificate: no " + what + " is given; it is a path or PEM text")
	}
	f, err := os.Open(value)
	if err != nil {
		return nil, "", fmt.Errorf("load certificate: read %s: %w", what, err)
	}
	defer f.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(&limited{f, maxCertificateFile}); err != nil {
		return nil, "", fmt.Errorf("load certificate: read %s %s: %w", what, value, err)
	}
	return buf.Bytes(), value, nil
}

// limited is a reader that says when there is too much, instead of cutting.
type limited struct {
	f    *os.File
	left int
}

// Read reads within the limit.
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.f.Read(p)
	if l.left -= n; l.left < 0 {
		return 0, fmt.Errorf("over %d bytes", maxCertificateFile)
	}
	return n, err
}
