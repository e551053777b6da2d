package config

import (
	"crypto/tls"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// validate judges a Static in its normal form.
func (s *Static) validate() []Problem {
	var out []Problem
	if !slices.Contains(logLevels, strings.ToLower(s.LogLevel)) {
		out = append(out, s.badf("logLevel", strings.Join(logLevels, ", "), "no such level: %q", s.LogLevel))
	}
	formats := []string{"", "common", "json"}
	if f := s.TraefikLog.Format; !slices.Contains(formats, f) {
		out = append(out, s.badf("traefikLog.format", "common, json", "no such format: %q", f))
	}
	if s.AccessLog != nil && !slices.Contains(formats, s.AccessLog.Format) {
		out = append(out, s.badf("accessLog.format", "common, json", "no such format: %q", s.AccessLog.Format))
	}
	out = append(out, s.validateNames()...)
	out = append(out, s.validateNumbers()...)
	taken := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.EntryPoints)) {
		out = append(out, s.validateEntryPoint(name, taken)...)
	}
	out = append(out, s.validateStore()...)
	if s.ACME != nil {
		out = append(out, s.validateACME()...)
	}
	if s.LocalCA != nil {
		for i, name := range s.LocalCA.Domains {
			if !validName(name) {
				out = append(out, s.badf("localCA.domains."+strconv.Itoa(i), "name or *.name", "not a domain name: %q", name))
			}
		}
	}
	return out
}

// validateNames looks up the entry points that other keys name.
func (s *Static) validateNames() []Problem {
	var out []Problem
	need := func(key, name string) {
		if p, ok := s.entryPointNamed(key, name); !ok {
			out = append(out, p)
		}
	}
	for i, name := range s.DefaultEntryPoints {
		need("defaultEntryPoints."+strconv.Itoa(i), name)
	}
	if s.API != nil {
		need("api.entryPoint", s.API.EntryPoint)
	}
	if s.Ping != nil {
		need("ping.entryPoint", s.Ping.EntryPoint)
	}
	if s.Rest != nil {
		need("rest.entryPoint", s.Rest.EntryPoint)
	}
	if s.Metrics != nil && s.Metrics.Prometheus != nil {
		need("metrics.prometheus.entryPoint", s.Metrics.Prometheus.EntryPoint)
	}
	return out
}

func (s *Static) entryPointNamed(key, name string) (Problem, bool) {
	if s.EntryPoints[name] != nil {
		return Problem{}, true
	}
	known := slices.Sorted(maps.Keys(s.EntryPoints))
	if name == "" {
		return s.bad(key, "names no entry point", "one of: "+strings.Join(known, ", ")), false
	}
	return s.badf(key, suggest(name, known), "no such entry point: %q", name), false
}

// validateNumbers refuses numbers that make no sense.
func (s *Static) validateNumbers() []Problem {
	var out []Problem
	for key, d := range map[string]Duration{
		"providersThrottleDuration":                s.ProvidersThrottleDuration,
		"lifeCycle.requestAcceptGraceTimeout":      s.LifeCycle.RequestAcceptGraceTimeout,
		"lifeCycle.graceTimeOut":                   s.LifeCycle.GraceTimeOut,
		"respondingTimeouts.readTimeout":           s.RespondingTimeouts.ReadTimeout,
		"respondingTimeouts.writeTimeout":          s.RespondingTimeouts.WriteTimeout,
		"respondingTimeouts.idleTimeout":           s.RespondingTimeouts.IdleTimeout,
		"forwardingTimeouts.dialTimeout":           s.ForwardingTimeouts.DialTimeout,
		"forwardingTimeouts.responseHeaderTimeout": s.ForwardingTimeouts.ResponseHeaderTimeout,
		"healthCheck.interval":                     s.HealthCheck.Interval,
	} {
		if d < 0 {
			out = append(out, s.badf(key, "0 or more", "negative: %v", d))
		}
	}
	if s.MaxIdleConnsPerHost < 0 {
		out = append(out, s.badf("maxIdleConnsPerHost", "0 or more", "negative: %d", s.MaxIdleConnsPerHost))
	}
	if s.Retry != nil && s.Retry.Attempts < 0 {
		out = append(out, s.badf("retry.attempts", "0 or more", "negative: %d", s.Retry.Attempts))
	}
	slices.SortFunc(out, func(a, b Problem) int { return strings.Compare(a.Object, b.Object) })
	return out
}

// validateAddress judges an address of an entry point; taken are those so far.
func (s *Static) validateAddress(name, key, address string, taken map[string]string) []Problem {
	_, port, err := net.SplitHostPort(address)
	if _, badPort := strconv.ParseUint(port, 10, 16); err != nil || badPort != nil {
		return []Problem{s.badf(key, "host:port or :port", "not an address: %q", address)}
	}
	if first, twice := taken[address]; twice && port != "0" {
		return []Problem{s.badf(key, "another port", "%s is the address of entry point %s already", address, first)}
	}
	taken[address] = name
	return nil
}

// validateEntryPoint judges one entry point; taken are the addresses so far.
func (s *Static) validateEntryPoint(name string, taken map[string]string) []Problem {
	ep, key := s.EntryPoints[name], "entryPoints."+name
	var out []Problem
	out = append(out, s.validateAddress(name, key+".address", ep.Address, taken)...)
	for _, more := range ep.Addresses {
		out = append(out, s.validateAddress(name, key+".addresses", more, taken)...)
	}
	if r := ep.Redirect; r != nil {
		out = append(out, s.validateRedirect(name, key+".redirect", r)...)
	}
	if ep.WhiteList != nil {
		out = append(out, s.validateRanges(key+".whiteList.sourceRange", ep.WhiteList.SourceRange)...)
	}
	if ep.ProxyProtocol != nil {
		out = append(out, s.validateRanges(key+".proxyProtocol.trustedIPs", ep.ProxyProtocol.TrustedIPs)...)
	}
	if ep.MaxPerAddress < 0 {
		out = append(out, s.badf(key+".maxConnectionsPerAddress", "1 or more; 0 for any number", "not a number of connections: %d", ep.MaxPerAddress))
	}
	if ep.H2C && ep.TLS != nil {
		out = append(out, s.bad(key+".h2c", "with TLS HTTP/2 is served anyway", "one of h2c and tls"))
	}
	if ep.HTTP3 != nil && *ep.HTTP3 && ep.TLS == nil {
		out = append(out, s.bad(key+".http3", "there is no HTTP/3 without TLS", "tls beside it"))
	}
	if p := ep.HTTP3Port; p != nil && (*p < 1 || *p > 65535) {
		out = append(out, s.badf(key+".http3Port", "1 to 65535", "not a port: %d", *p))
	}
	if ep.ForwardedHeaders != nil {
		out = append(out, s.validateRanges(key+".forwardedHeaders.trustedIPs", ep.ForwardedHeaders.TrustedIPs)...)
	}
	if ep.Auth != nil && ep.Auth.Basic != nil {
		for i, u := range ep.Auth.Basic.Users {
			if user, hash, ok := strings.Cut(u.Reveal(), ":"); !ok || user == "" || hash == "" {
				out = append(out, s.bad(key+".auth.basic.users."+strconv.Itoa(i), "not a user and a hash", "user:hash, as htpasswd writes it"))
			}
		}
	}
	if ep.TLS != nil {
		out = append(out, s.validateTLS(key+".tls", ep.TLS)...)
	}
	return out
}

func (s *Static) validateRedirect(name, key string, r *Redirect) []Problem {
	switch {
	case r.EntryPoint != "":
		if p, ok := s.entryPointNamed(key+".entryPoint", r.EntryPoint); !ok {
			return []Problem{p}
		}
		if r.EntryPoint == name {
			return []Problem{s.bad(key+".entryPoint", "redirects to itself", "another entry point")}
		}
	case r.Regex == "":
		return []Problem{s.bad(key, "says not where to", "entryPoint, or regex and replacement")}
	default:
		if _, err := regexp.Compile(r.Regex); err != nil {
			return []Problem{s.badf(key+".regex", "Go (RE2) syntax", "%v", err)}
		}
		if r.Replacement == "" {
			return []Problem{s.bad(key, "a regex without a replacement", "regex and replacement")}
		}
	}
	return nil
}

func (s *Static) validateRanges(key string, ranges []string) []Problem {
	var out []Problem
	for i, text := range ranges {
		if _, err := netip.ParsePrefix(text); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			out = append(out, s.badf(key+"."+strconv.Itoa(i), "10.0.0.0/8, 2001:db8::/32 or one address", "not a network: %q", text))
		}
	}
	return out
}

func (s *Static) validateTLS(key string, t *EntryPointTLS) []Problem {
	var out []Problem
	if t.MinVersion != "" && !slices.Contains(tlsVersions, t.MinVersion) {
		out = append(out, s.badf(key+".minVersion", suggest(t.MinVersion, tlsVersions), "no such TLS version: %q", t.MinVersion))
	}
	suites := map[string]bool{}
	for _, c := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		suites[c.Name] = !slices.Equal(c.SupportedVersions, []uint16{tls.VersionTLS13})
	}
	for i, name := range t.CipherSuites {
		choosable, known := suites[name]
		at := key + ".cipherSuites." + strconv.Itoa(i)
		switch {
		case !known:
			all := slices.Sorted(maps.Keys(suites))
			out = append(out, s.badf(at, suggest(name, all), "no such cipher suite: %q", name))
		case !choosable:
			p := s.badf(at, "remove it", "%s is always on with TLS 1.3 and cannot be chosen", name)
			p.Warning = true
			out = append(out, p)
		}
	}
	if p := t.Profile; p != "" && !slices.Contains(tlsProfiles, p) {
		out = append(out, s.badf(key+".profile", suggest(p, tlsProfiles), "no such profile: %q", p))
	} else if p != "" && (t.MinVersion != "" || len(t.CipherSuites) > 0) {
		out = append(out, s.bad(key+".profile", "a profile says versions and suites itself", "either profile, or minVersion and cipherSuites"))
	}
	if ca := t.ClientCA; ca.Optional && len(ca.Files) == 0 {
		out = append(out, s.bad(key+".clientCA.optional", "no client certificate can be verified without a CA", "clientCA.files beside it"))
	}
	for i, pair := range t.Certificates {
		if pair.CertFile == "" || pair.KeyFile == "" {
			out = append(out, s.bad(key+".certificates."+strconv.Itoa(i), "half a certificate", "certFile and keyFile"))
		}
	}
	if d := t.DefaultCertificate; d != nil && (d.CertFile == "" || d.KeyFile == "") {
		out = append(out, s.bad(key+".defaultCertificate", "half a certificate", "certFile and keyFile"))
	}
	return out
}

func (s *Static) validateStore() []Problem {
	var out []Problem
	st := s.Store
	kinds := []string{StoreFile, StoreEtcd, StoreEtcd2, StoreKube, StoreMemory}
	if !slices.Contains(kinds, st.Kind) {
		out = append(out, s.badf("store.kind", suggest(st.Kind, kinds), "no such store: %q", st.Kind))
	}
	if st.Directory == "" && st.Kind != StoreMemory {
		out = append(out, s.bad("store.directory", "empty", "a folder"))
	}
	if !strings.HasPrefix(st.Prefix, "/") || strings.HasSuffix(st.Prefix, "/") {
		out = append(out, s.badf("store.prefix", "/gatehouse", "%q does not begin with a slash, or ends with one", st.Prefix))
	}
	if st.TTL < Duration(time.Second) || st.TTL > Duration(time.Hour) {
		out = append(out, s.badf("store.ttl", "1s to 1h", "%v is out of range", st.TTL))
	}
	if s.Etcd != nil && len(s.Etcd.Endpoints()) == 0 {
		out = append(out, s.bad("etcd.endpoint", "empty", "host:port, several separated by commas"))
	}
	if s.Etcd != nil {
		key := strings.Trim(s.Etcd.Prefix, "/")
		if own := strings.Trim(st.Prefix, "/"); (st.Kind == StoreEtcd || st.Kind == StoreEtcd2) &&
			(key == own || strings.HasPrefix(own+"/", key+"/") || strings.HasPrefix(key+"/", own+"/")) {
			out = append(out, s.badf("store.prefix", "a prefix of its own", "%q and etcd.prefix %q lie in one another", st.Prefix, s.Etcd.Prefix))
		}
	}
	return out
}

func (s *Static) validateACME() []Problem {
	a := s.ACME
	var out []Problem
	if p, ok := s.entryPointNamed("acme.entryPoint", a.EntryPoint); !ok {
		out = append(out, p)
	} else if s.EntryPoints[a.EntryPoint].TLS == nil {
		out = append(out, s.badf("acme.entryPoint", "give it a section tls", "entry point %q has no TLS", a.EntryPoint))
	}
	challenges := 0
	for _, on := range []bool{a.DNSChallenge != nil, a.HTTPChallenge != nil, a.TLSChallenge != nil} {
		if on {
			challenges++
		}
	}
	if challenges != 1 {
		out = append(out, s.bad("acme", "more than one challenge", "one of dnsChallenge, httpChallenge, tlsChallenge"))
	}
	if a.DNSChallenge != nil && a.DNSChallenge.Provider == "" && !a.DNSChallenge.Persist {
		out = append(out, s.bad("acme.dnsChallenge.provider", "missing", "route53, dnsupdate or another one of docs/dns"))
	}
	if a.HTTPChallenge != nil {
		if p, ok := s.entryPointNamed("acme.httpChallenge.entryPoint", a.HTTPChallenge.EntryPoint); !ok {
			out = append(out, p)
		}
	}
	if u, err := url.Parse(a.CAServer); err != nil || u.Host == "" || u.Scheme != "https" {
		out = append(out, s.badf("acme.caServer", "https://...", "not a URL: %q", a.CAServer))
	}
	if !slices.Contains(keyTypes, a.KeyType) {
		out = append(out, s.badf("acme.keyType", suggest(a.KeyType, keyTypes), "no such key type: %q", a.KeyType))
	}
	if a.EAB != nil && (a.EAB.KID == "" || a.EAB.HMACEncoded == "") {
		out = append(out, s.bad("acme.eab", "half a binding", "kid and hmacEncoded"))
	}
	if a.SecondKeyType != "" && (a.SecondKeyType == a.KeyType || !slices.Contains(keyTypes, a.SecondKeyType)) {
		out = append(out, s.badf("acme.secondKeyType", suggest(a.SecondKeyType, keyTypes), "no other key type than acme.keyType: %q", a.SecondKeyType))
	}
	if a.Pack < 0 || a.Pack > 100 {
		out = append(out, s.badf("acme.pack", "0 (each name has its own) to 100; Let's Encrypt takes 25 with its newer profiles", "%d names in one certificate", a.Pack))
	}
	if o := a.OnDemandPolicy; o != nil {
		if len(o.Allow) == 0 && o.Ask == "" {
			out = append(out, s.bad("acme.onDemandPolicy", "it permits everything", "allow, ask or both"))
		}
		if u, err := url.Parse(o.Ask); o.Ask != "" && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			out = append(out, s.badf("acme.onDemandPolicy.ask", "http://... or https://...", "not a URL: %q", o.Ask))
		}
		if o.PerMinute < 1 || o.Most < 1 {
			out = append(out, s.bad("acme.onDemandPolicy", "perMinute and most must be at least 1", "10 and 1000"))
		}
	}
	for i, f := range a.Fallbacks {
		key := "acme.fallbacks." + strconv.Itoa(i)
		if u, err := url.Parse(f.CAServer); err != nil || u.Host == "" || u.Scheme != "https" {
			out = append(out, s.badf(key+".caServer", "https://...", "not a URL: %q", f.CAServer))
		}
		if f.EAB != nil && (f.EAB.KID == "" || f.EAB.HMACEncoded == "") {
			out = append(out, s.bad(key+".eab", "half a binding", "kid and hmacEncoded"))
		}
	}
	for i, d := range a.Domains {
		out = append(out, s.validateDomain("acme.domains."+strconv.Itoa(i), d)...)
	}
	return out
}

func (s *Static) validateDomain(key string, d Domain) []Problem {
	if d.Main == "" {
		return []Problem{s.bad(key, "no main name", `main = "example.com"`)}
	}
	var out []Problem
	for _, name := range d.Names() {
		switch {
		case !validName(name):
			out = append(out, s.badf(key, "example.com or *.example.com", "not a domain name: %q", name))
		case strings.HasPrefix(name, "*.") && s.ACME.DNSChallenge == nil:
			out = append(out, s.badf(key, "dnsChallenge", "%s can be had by DNS-01 only", name))
		}
	}
	return out
}

// validName says whether something can be a certificate's DNS name: letters,
// digits, hyphens and dots, perhaps with a leading "*.".
func validName(name string) bool {
	name = strings.TrimPrefix(name, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
