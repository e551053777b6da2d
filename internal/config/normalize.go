package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Normalize brings a decoded Static into the one form the rest of the program
// reads: deprecated settings move to their new places ([web] becomes api,
// ping, metrics and an entry point), sections that are always there get their
// defaults, and the whole is validated. Problems carry the origin of the key
// they are about; renamed keys and keys not in force are warnings, once each.
// Load and Overlay have done it already.
func (s *Static) Normalize() []Problem {
	problems := s.warnings()
	problems = append(problems, s.moveWeb()...)
	s.moveTimes()
	s.moveLogs()
	s.moveEntryPoints()
	s.store()
	if s.ACME != nil {
		problems = append(problems, s.moveACME()...)
	}
	return append(problems, s.validate()...)
}

// Origin says where a key was written ("entryPoints.http.address", in any
// case); where it was not, the section around it that was. The zero Origin:
// nobody wrote anything.
func (s *Static) Origin(key string) Origin {
	key = strings.ToLower(key)
	for key != "" {
		if o, ok := s.origins[key]; ok {
			return o
		}
		key = key[:max(strings.LastIndexByte(key, '.'), 0)]
	}
	return Origin{}
}

// written says whether somebody wrote this key.
func (s *Static) written(key string) bool {
	_, ok := s.origins[strings.ToLower(key)]
	return ok
}

// moved makes messages about a new key point at where the old one stands.
func (s *Static) moved(from, to string) {
	if o, ok := s.origins[strings.ToLower(from)]; ok && !s.written(to) {
		s.origins[strings.ToLower(to)] = o
	}
}

// warnings lists the renamed keys and the keys not in force that are set, in
// the order they were written.
func (s *Static) warnings() []Problem {
	var out []Problem
	for _, r := range renamed {
		for _, key := range s.set(r.old) {
			out = append(out, Problem{
				Origin:  s.Origin(key),
				Object:  "key " + key,
				Message: "is an old name",
				Allowed: "write " + withNames(r.new, key),
				Warning: true,
			})
		}
	}
	defaults := reflect.ValueOf(Defaults())
	for _, n := range notInForce {
		for _, key := range s.set(n.key) {
			path := strings.Split(key, ".")
			now, _ := lookup(reflect.ValueOf(s), path)
			if was, ok := lookup(defaults, path); ok && reflect.DeepEqual(now.Interface(), was.Interface()) {
				continue
			}
			out = append(out, Problem{Origin: s.Origin(key), Object: "key " + key, Message: n.why, Warning: true})
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin.Source, b.Origin.Source), cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Origin.Column, b.Origin.Column), cmp.Compare(a.Origin.Key, b.Origin.Key))
	})
	return out
}

// set lists the keys that fit a pattern, were written, and are not zero.
func (s *Static) set(pattern string) []string {
	var keys []string
	for _, key := range expand(pattern, slices.Sorted(maps.Keys(s.EntryPoints))) {
		if !s.written(key) {
			continue
		}
		if v, ok := lookup(reflect.ValueOf(s), strings.Split(key, ".")); ok && !v.IsZero() {
			keys = append(keys, key)
		}
	}
	return keys
}

// expand puts each name in the place of the asterisk.
func expand(pattern string, names []string) []string {
	before, after, found := strings.Cut(pattern, "*")
	if !found {
		return []string{pattern}
	}
	keys := make([]string, len(names))
	for i, n := range names {
		keys[i] = before + n + after
	}
	return keys
}

// withNames fills the asterisk of a pattern with the name that stands at the
// same place of a key.
func withNames(pattern, key string) string {
	parts, have := strings.Split(pattern, "."), strings.Split(key, ".")
	for i := range parts {
		if parts[i] == "*" && i < len(have) {
			parts[i] = have[i]
		}
	}
	return strings.Join(parts, ".")
}

// moveWeb does what 1.5 did with [web]. Beside any of its successors it is
// ignored as a whole.
func (s *Static) moveWeb() []Problem {
	w := s.Web
	if w == nil {
		return nil
	}
	s.Web = nil
	warn := func(key, message string) []Problem {
		return []Problem{{Origin: s.Origin(key), Object: "key " + key, Message: message, Warning: true}}
	}
	if s.API != nil || s.Ping != nil || s.Rest != nil || s.Metrics != nil {
		return warn("web", "ignored: api, ping, rest or metrics is there as well")
	}
	s.API, s.Ping, s.Metrics = new(API), new(Ping), w.Metrics
	s.API.SetDefaults()
	s.Ping.SetDefaults()
	s.API.ReadOnly, s.API.Debug = w.ReadOnly, w.Debug
	if w.Statistics != nil {
		s.API.Statistics = w.Statistics
	}
	s.defaultEntryPoint()
	const name = "entryPoints." + TraefikEntryPoint
	if s.EntryPoints[TraefikEntryPoint] != nil {
		return warn("web", "address, auth and certificate are ignored: "+name+" is there as well")
	}
	ep := &EntryPoint{Address: w.Address, Auth: w.Auth}
	if w.CertFile != "" || w.KeyFile != "" {
		ep.TLS = &EntryPointTLS{Certificates: []KeyPair{{CertFile: w.CertFile, KeyFile: w.KeyFile}}}
		s.moved("web.certFile", name+".tls.certificates.0.certFile")
		s.moved("web.keyFile", name+".tls.certificates.0.keyFile")
	}
	s.EntryPoints[TraefikEntryPoint] = ep
	s.moved("web", name)
	s.moved("web.address", name+".address")
	s.moved("web.auth", name+".auth")
	return nil
}

// defaultEntryPoint is http on port 80, where none is given.
func (s *Static) defaultEntryPoint() {
	if len(s.EntryPoints) == 0 {
		s.EntryPoints = map[string]*EntryPoint{"http": {Address: ":80"}}
	}
}

// moveTimes fills the sections of time limits.
func (s *Static) moveTimes() {
	if s.LifeCycle == nil {
		s.LifeCycle = new(LifeCycle)
		s.LifeCycle.SetDefaults()
	}
	if s.GraceTimeOut != 0 {
		s.LifeCycle.GraceTimeOut, s.GraceTimeOut = s.GraceTimeOut, 0
		s.moved("graceTimeOut", "lifeCycle.graceTimeOut")
	}
	if s.RespondingTimeouts == nil {
		s.RespondingTimeouts = new(RespondingTimeouts)
		s.RespondingTimeouts.SetDefaults()
	}
	if s.IdleTimeout != 0 {
		s.RespondingTimeouts.IdleTimeout, s.IdleTimeout = s.IdleTimeout, 0
		s.moved("idleTimeout", "respondingTimeouts.idleTimeout")
	}
	if s.ForwardingTimeouts == nil {
		s.ForwardingTimeouts = new(ForwardingTimeouts)
		s.ForwardingTimeouts.SetDefaults()
	}
	if s.HealthCheck == nil {
		s.HealthCheck = &HealthCheckDefault{Interval: Duration(30 * time.Second)}
	}
}

// moveLogs fills [traefikLog], and [accessLog] if the old key asks for one.
func (s *Static) moveLogs() {
	if s.TraefikLog == nil {
		s.TraefikLog = new(TraefikLog)
		s.TraefikLog.SetDefaults()
	}
	if s.TraefikLogsFile != "" && s.TraefikLog.FilePath == "" {
		s.TraefikLog.FilePath = s.TraefikLogsFile
	}
	if s.AccessLogsFile != "" {
		if s.AccessLog == nil {
			s.AccessLog = new(AccessLog)
			s.AccessLog.SetDefaults()
		}
		if s.AccessLog.FilePath == "" {
			s.AccessLog.FilePath = s.AccessLogsFile
		}
	}
	s.TraefikLogsFile, s.AccessLogsFile = "", ""
}

// moveEntryPoints adds the entry points that are there unless given, and moves
// their old keys.
func (s *Static) moveEntryPoints() {
	s.defaultEntryPoint()
	if s.EntryPoints[TraefikEntryPoint] == nil && s.wantsTraefik() {
		s.EntryPoints[TraefikEntryPoint] = &EntryPoint{Address: ":8080"}
	}
	for name, ep := range s.EntryPoints {
		key := "entryPoints." + name
		if len(ep.WhitelistSourceRange) > 0 {
			if ep.WhiteList == nil {
				ep.WhiteList = new(WhiteList)
			}
			if len(ep.WhiteList.SourceRange) == 0 {
				ep.WhiteList.SourceRange = ep.WhitelistSourceRange
				s.moved(key+".whitelistSourceRange", key+".whiteList.sourceRange")
			}
			ep.WhitelistSourceRange = nil
		}
		if ep.TLS != nil && len(ep.TLS.ClientCAFiles) > 0 {
			if len(ep.TLS.ClientCA.Files) == 0 {
				ep.TLS.ClientCA.Files = ep.TLS.ClientCAFiles
			}
			ep.TLS.ClientCAFiles = nil
		}
	}
	if !s.written("defaultEntryPoints") && s.EntryPoints["http"] == nil {
		s.DefaultEntryPoints = nil
		for _, name := range slices.Sorted(maps.Keys(s.EntryPoints)) {
			if name != TraefikEntryPoint {
				s.DefaultEntryPoints = append(s.DefaultEntryPoints, name)
			}
		}
	}
}

// wantsTraefik says whether something is served at the entry point traefik.
func (s *Static) wantsTraefik() bool {
	return s.API != nil && s.API.EntryPoint == TraefikEntryPoint ||
		s.Ping != nil && s.Ping.EntryPoint == TraefikEntryPoint ||
		s.Rest != nil && s.Rest.EntryPoint == TraefikEntryPoint ||
		s.Metrics != nil && s.Metrics.Prometheus != nil && s.Metrics.Prometheus.EntryPoint == TraefikEntryPoint
}

// store settles where shared state is kept.
func (s *Static) store() {
	if s.Store == nil {
		s.Store = Defaults().Store
	}
	switch {
	case s.Store.Kind != "":
	case s.Etcd == nil:
		s.Store.Kind = StoreFile
	case s.Etcd.UseAPIV3:
		s.Store.Kind = StoreEtcd
	default:
		s.Store.Kind = StoreEtcd2
	}
}

// moveACME moves the old keys and fills what has a default.
func (s *Static) moveACME() []Problem {
	a := s.ACME
	var problems []Problem
	if a.DNSProvider != "" {
		if a.DNSChallenge == nil {
			a.DNSChallenge = new(DNSChallenge)
		}
		if a.DNSChallenge.Provider == "" {
			a.DNSChallenge.Provider = a.DNSProvider
			s.moved("acme.dnsProvider", "acme.dnsChallenge.provider")
		}
	}
	if a.DelayDontCheckDNS > 0 && a.DNSChallenge != nil && a.DNSChallenge.DelayBeforeCheck == 0 {
		a.DNSChallenge.DelayBeforeCheck = Duration(time.Duration(a.DelayDontCheckDNS) * time.Second)
	}
	a.DNSProvider, a.DelayDontCheckDNS, a.OnDemand = "", 0, false
	if a.CAServer == "" {
		a.CAServer = LetsEncrypt
	}
	if today, dead := deadDirectories[strings.TrimSuffix(a.CAServer, "/")]; dead {
		problems = append(problems, Problem{
			Origin:  s.Origin("acme.caServer"),
			Object:  "key acme.caServer",
			Message: "this address was ACME v1 and no longer answers; using " + today,
			Allowed: "write " + today,
			Warning: true,
		})
		a.CAServer = today
	}
	problems = append(problems, s.chooseKeyType()...)
	if a.DNSChallenge == nil && a.HTTPChallenge == nil && a.TLSChallenge == nil {
		problems = append(problems, Problem{
			Origin:  s.Origin("acme"),
			Object:  "key acme",
			Message: "no challenge is named; using tlsChallenge (TLS-ALPN-01) in place of 1.5's TLS-SNI-01, which CAs no longer offer",
			Allowed: "dnsChallenge, httpChallenge or tlsChallenge",
			Warning: true,
		})
		a.TLSChallenge = new(TLSChallenge)
	}
	return problems
}

// chooseKeyType fills keyType with what all clients of the entry points can
// use: the cipher suites of TLS 1.2 name the kind of key, and 1.5's examples
// name RSA only. With TLS 1.3 either kind is right.
func (s *Static) chooseKeyType() []Problem {
	a := s.ACME
	name, rsa := s.onlyRSA()
	switch {
	case a.KeyType == "" && !rsa:
		a.KeyType = keyTypes[0]
		return nil
	case a.KeyType == "":
		a.KeyType = "RSA2048"
		return []Problem{{
			Origin:  s.Origin("entryPoints." + name + ".tls.cipherSuites"),
			Object:  "key entryPoints." + name + ".tls.cipherSuites",
			Message: "names no ECDSA suite: certificates are ordered with RSA2048 keys, as clients of TLS 1.2 could use no other",
			Allowed: "leave cipherSuites out, or set acme.keyType",
			Warning: true,
		}}
	case rsa && strings.HasPrefix(a.KeyType, "EC"):
		p := s.badf("acme.keyType", "RSA2048", "clients of TLS 1.2 cannot use %s keys: the cipher suites of entry point %s name no ECDSA suite", a.KeyType, name)
		p.Warning = true
		return []Problem{p}
	}
	return nil
}

// onlyRSA names an entry point whose cipher suites leave clients of TLS 1.2 no
// ECDSA: that of [acme], or if it has no TLS any.
func (s *Static) onlyRSA() (name string, found bool) {
	names := slices.Sorted(maps.Keys(s.EntryPoints))
	if e := s.EntryPoints[s.ACME.EntryPoint]; e != nil && e.TLS != nil {
		names = []string{s.ACME.EntryPoint}
	}
	for _, name := range names {
		t := s.EntryPoints[name].TLS
		if t == nil || len(t.CipherSuites) == 0 || t.MinVersion == "VersionTLS13" {
			continue
		}
		if !slices.ContainsFunc(t.CipherSuites, func(suite string) bool { return strings.Contains(suite, "_ECDSA_") }) {
			return name, true
		}
	}
	return "", false
}

// bad reports a mistake at a key.
func (s *Static) bad(key, message, allowed string) Problem {
	return Problem{Origin: s.Origin(key), Object: "key " + key, Message: message, Allowed: allowed}
}

// badf is bad with a formatted message.
func (s *Static) badf(key, allowed, format string, args ...any) Problem {
	return s.bad(key, fmt.Sprintf(format, args...), allowed)
}
