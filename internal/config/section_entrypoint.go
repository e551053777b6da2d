package config

import (
	"errors"
	"strings"
)

// EntryPoint is a set of sockets with what holds for all requests that come
// in there.
type EntryPoint struct {
	Address              string      `key:"address" help:"host:port; an empty host is all addresses"`
	Addresses            []string    `key:"addresses" help:"further addresses of the same entry point"`
	Network              string      `key:"network" help:"accepted, without effect"`
	Compress             bool        `key:"compress" help:"compress answers for clients that accept it"`
	Redirect             *Redirect   `key:"redirect" help:"answer every matching request with a redirect"`
	WhitelistSourceRange []string    `key:"whitelistSourceRange" note:"deprecated" help:"now whiteList.sourceRange"`
	WhiteList            *WhiteList  `key:"whiteList" help:"who may come in"`
	Auth                 *Auth       `key:"auth" help:"who must say who they are"`
	ProxyProtocol        *TrustedIPs `key:"proxyProtocol" help:"who may speak the PROXY protocol"`
	// ForwardedHeaders nil: nobody's X-Forwarded-* are believed (Traefik 1
	// believed everybody's).
	ForwardedHeaders *TrustedIPs    `key:"forwardedHeaders" help:"whose X-Forwarded headers are believed; default: nobody's"`
	TLS              *EntryPointTLS `key:"tls" help:"speak TLS here"`
	MaxPerAddress    int            `key:"maxConnectionsPerAddress" help:"connections one client address (IPv6: a /64) may have open; default: any number"`
	H2C              bool           `key:"h2c" help:"HTTP/2 without TLS as well, for clients that know it beforehand"`
	// HTTP3 nil: on where TLS is, unless the PROXY protocol is, whose balancers
	// seldom pass UDP on.
	HTTP3     *bool `key:"http3" help:"HTTP/3 on the UDP port beside; default: where TLS is and the PROXY protocol is not"`
	HTTP3Port *int  `key:"http3Port" help:"UDP port that clients reach HTTP/3 by; default: the bound one"`
}

// Redirect sends requests elsewhere: to another entry point, or by regular
// expression over the whole URL. Permanent is 301 instead of 302.
type Redirect struct {
	EntryPoint  string `key:"entryPoint" help:"same URL at this entry point"`
	Regex       string `key:"regex" help:"expression over the whole URL"`
	Replacement string `key:"replacement" help:"new URL, with ${1}"`
	Permanent   bool   `key:"permanent" help:"301 instead of 302"`
}

// WhiteList lets in only clients from these networks.
type WhiteList struct {
	SourceRange      []string `key:"sourceRange" help:"addresses or networks (CIDR)"`
	UseXForwardedFor bool     `key:"useXForwardedFor" help:"judge by X-Forwarded-For"`
}

// TrustedIPs says from whom something is believed. Insecure: from everybody.
type TrustedIPs struct {
	TrustedIPs []string `key:"trustedIPs" help:"addresses or networks (CIDR)"`
	Insecure   bool     `key:"insecure" help:"believe everybody"`
}

// Auth asks clients who they are. Basic wins over digest, digest over forward.
type Auth struct {
	HeaderField string       `key:"headerField" help:"header that carries the user's name to the server"`
	Basic       *BasicAuth   `key:"basic" help:"user and password"`
	Digest      *DigestAuth  `key:"digest" help:"user and digest"`
	Forward     *ForwardAuth `key:"forward" help:"ask another server"`
}

// BasicAuth is a list of "user:hash" lines ($apr1$, bcrypt, {SHA}), given here
// or in a file.
type BasicAuth struct {
	Users        []Secret `key:"users" help:"user:hash, as htpasswd writes it"`
	UsersFile    string   `key:"usersFile" help:"file of such lines"`
	RemoveHeader bool     `key:"removeHeader" help:"do not pass Authorization on"`
	Realm        string   `key:"realm" help:"shown by browsers; empty: traefik"`
}

// DigestAuth is a list of "user:realm:hash" lines, given here or in a file.
type DigestAuth struct {
	Users        []Secret `key:"users" help:"user:realm:hash, as htdigest writes it"`
	UsersFile    string   `key:"usersFile" help:"file of such lines"`
	RemoveHeader bool     `key:"removeHeader" help:"do not pass Authorization on"`
}

// ForwardAuth asks another server whether a request may pass.
type ForwardAuth struct {
	Address             string     `key:"address" help:"URL to ask"`
	TrustForwardHeader  bool       `key:"trustForwardHeader" help:"pass the client's X-Forwarded headers on"`
	AuthResponseHeaders []string   `key:"authResponseHeaders" help:"headers copied from the answer"`
	TLS                 *ClientTLS `key:"tls" help:"TLS towards that server"`
}

// ClientTLS is TLS as a client. CA, Cert and Key are paths or PEM.
type ClientTLS struct {
	CA                 string `key:"ca" help:"CA of the server: path or PEM"`
	CAOptional         bool   `key:"caOptional" help:"accepted, as in 1.x"`
	Cert               string `key:"cert" help:"our certificate: path or PEM"`
	Key                Secret `key:"key" help:"its key: path or PEM"`
	InsecureSkipVerify bool   `key:"insecureSkipVerify" help:"do not verify the server"`
}

// EntryPointTLS is TLS as a server. MinVersion "": TLS 1.2. An empty
// CipherSuites is Go's choice.
type EntryPointTLS struct {
	Profile            string    `key:"profile" help:"intermediate (TLS 1.2 and 1.3) or modern (TLS 1.3 only), as in Mozilla's guideline"`
	MinVersion         string    `key:"minVersion" help:"VersionTLS10, VersionTLS11, VersionTLS12 or VersionTLS13"`
	CipherSuites       []string  `key:"cipherSuites" help:"IANA names; TLS 1.3 suites cannot be chosen"`
	Certificates       []KeyPair `key:"certificates" help:"chosen by server name: cert,key;cert2,key2"`
	DefaultCertificate *KeyPair  `key:"defaultCertificate" help:"for clients whose server name nothing fits"`
	SNIStrict          bool      `key:"sniStrict" help:"refuse clients whose server name nothing fits"`
	ClientCAFiles      []string  `key:"clientCAFiles" note:"deprecated" help:"now clientCA.files"`
	ClientCA           ClientCA  `key:"clientCA" help:"client certificates"`
}

// ClientCA says which CAs client certificates may come from.
type ClientCA struct {
	Files    []string `key:"files" help:"CAs: paths or PEM"`
	Optional bool     `key:"optional" help:"clients without a certificate may pass"`
}

// KeyPair is a certificate and its key, each a path or PEM.
type KeyPair struct {
	CertFile string `key:"certFile" help:"path or PEM"`
	KeyFile  Secret `key:"keyFile" help:"path or PEM"`
}

// takeText reads "cert,key", the form of flags.
func (k *KeyPair) takeText(s string) error {
	cert, key, ok := strings.Cut(s, ",")
	if !ok || cert == "" || key == "" || strings.Contains(key, ",") {
		return errors.New("not a certificate and its key: cert,key")
	}
	k.CertFile, k.KeyFile = unquote(cert), Secret(unquote(key))
	return nil
}
