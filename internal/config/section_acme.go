package config

// Let's Encrypt's directories (RFC 8555, section 7.1.1).
const (
	LetsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	LetsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
)

// ACME is how certificates are obtained. After Normalize CAServer, KeyType and
// exactly one challenge are set, and the deprecated fields are empty except
// StorageFile, which storeconfig imports.
type ACME struct {
	Email                string         `key:"email" help:"address the CA may write to"`
	Storage              string         `key:"storage" help:"1.x: key of the account in the store, or file"`
	StorageFile          string         `key:"storageFile" note:"deprecated" help:"acme.json to import; now storeconfig --import-acme FILE"`
	EntryPoint           string         `key:"entryPoint" help:"entry point with TLS whose routers get certificates"`
	OnDemand             bool           `key:"onDemand" note:"deprecated" help:"certificates during the handshake; now onHostRule"`
	OnDemandPolicy       *OnDemand      `key:"onDemandPolicy" help:"let names in that clients ask for, where this permits it"`
	OnHostRule           bool           `key:"onHostRule" help:"a certificate for every Host rule"`
	CAServer             string         `key:"caServer" help:"ACME directory; default: Let's Encrypt"`
	CACertificates       []string       `key:"caCertificates" help:"CAs of the ACME server itself: paths or PEM"`
	Domains              []Domain       `key:"domains" help:"main name and others: main.com,san1.com; may be repeated"`
	DNSProvider          string         `key:"dnsProvider" note:"deprecated" help:"now acme.dnsChallenge.provider"`
	DelayDontCheckDNS    int            `key:"delayDontCheckDNS" note:"deprecated" help:"seconds; now acme.dnsChallenge.delayBeforeCheck"`
	ACMELogging          bool           `key:"acmeLogging" help:"accepted: every step of an order is always logged"`
	DNSChallenge         *DNSChallenge  `key:"dnsChallenge" help:"prove names by DNS records (DNS-01)"`
	HTTPChallenge        *HTTPChallenge `key:"httpChallenge" help:"prove names over HTTP (HTTP-01)"`
	TLSChallenge         *TLSChallenge  `key:"tlsChallenge" help:"prove names over TLS (TLS-ALPN-01)"`
	OverrideCertificates bool           `key:"overrideCertificates" help:"storeconfig: import over what the store holds"`
	KeyType              string         `key:"keyType" help:"EC256 (default), EC384, RSA2048 (default if cipherSuites name no ECDSA suite), RSA4096 or RSA8192"`
	SecondKeyType        string         `key:"secondKeyType" help:"a second certificate for every name, with this type of key; clients get the one they can use"`
	Fallbacks            []ACMEFallback `key:"fallbacks" help:"ACME servers to ask, in this order, if those before keep failing"`
	Pack                 int            `key:"pack" help:"so many names of host rules and on demand in one certificate; default: one each"`
	PreferredChain       string         `key:"preferredChain" help:"common name of the root to prefer"`
	Profile              string         `key:"profile" help:"certificate profile of the CA"`
	EAB                  *EAB           `key:"eab" help:"binding to an account at the CA"`
}

// OnDemand permits names that nobody configured. One of Allow and Ask is set; a
// name needs the consent of all that are.
type OnDemand struct {
	Allow     []string `key:"allow" help:"names, or *.name"`
	Ask       string   `key:"ask" help:"URL that is asked with ?domain=NAME; 200 is yes"`
	PerMinute int      `key:"perMinute" help:"new names a minute, of all replicas together"`
	Most      int      `key:"most" help:"names in all"`
}

// SetDefaults bounds what strangers can bring about.
func (o *OnDemand) SetDefaults() { o.PerMinute, o.Most = 10, 1000 }

// ACMEFallback is an ACME server that is asked if those before it keep failing.
// It proves names as [acme] does.
type ACMEFallback struct {
	CAServer       string   `key:"caServer" help:"ACME directory"`
	CACertificates []string `key:"caCertificates" help:"CAs of the ACME server itself: paths or PEM"`
	Email          string   `key:"email" help:"address the CA may write to; default: acme.email"`
	PreferredChain string   `key:"preferredChain" help:"common name of the root to prefer"`
	Profile        string   `key:"profile" help:"certificate profile of the CA"`
	EAB            *EAB     `key:"eab" help:"binding to an account at the CA"`
}

// DNSChallenge proves names by TXT records. Resolvers empty: the system's.
type DNSChallenge struct {
	Persist                 bool              `key:"persist" help:"prove names by TXT records that stay, made by a person (dns-persist-01); no provider is needed"`
	Provider                string            `key:"provider" help:"acme-dns, azuredns, cloudflare, digitalocean, dnsupdate, exec, gcloud, httpreq or route53"`
	Settings                map[string]Secret `key:"settings" help:"of the provider, by the names its environment variables have"`
	DelayBeforeCheck        Duration          `key:"delayBeforeCheck" help:"wait this long before the first look"`
	Resolvers               []string          `key:"resolvers" help:"host:port of resolvers; default: the system's"`
	DisablePropagationCheck bool              `key:"disablePropagationCheck" help:"do not look whether the record is seen"`
}

// HTTPChallenge proves names by an answer on an entry point reached at port 80.
type HTTPChallenge struct {
	EntryPoint string `key:"entryPoint" help:"entry point that is reached at port 80"`
}

// TLSChallenge proves names in the TLS handshake. It has no settings.
type TLSChallenge struct{}

// EAB is external account binding (RFC 8555, section 7.3.4).
type EAB struct {
	KID         string `key:"kid" help:"key identifier given by the CA"`
	HMACEncoded Secret `key:"hmacEncoded" help:"HMAC key, base64url"`
}

// LocalCA issues certificates for these names, and for the names below those
// that begin with "*.", from a CA of our own that is kept in the store.
type LocalCA struct {
	Domains []string `key:"domains" help:"names, or *.name"`
}

// SetDefaults covers the names that mean this machine.
func (l *LocalCA) SetDefaults() { l.Domains = []string{"localhost", "*.localhost"} }
