package kubernetes

import (
	"slices"
	"strings"

	"gatehouse/internal/config"
)

// Annotations are read under three names: 1.7's, the one it shares with 1.5,
// and 1.5's other ones, which are listed with what they are now.
const (
	newPrefix    = "traefik.ingress.kubernetes.io/"
	sharedPrefix = "ingress.kubernetes.io/"
)

// form is how an annotation's text is to be understood.
type form uint8

const (
	text    form = iota
	pairs        // Name:value||Name2:value2
	yaml         // a section
	special      // read by code of its own
)

// annotation is one that Traefik 1.x knows.
type annotation struct {
	at   string // where its value stands in a 1.x frontend or backend
	form form
	old  string // its name in 1.5, if it had another
}

// onIngress are those of Ingresses.
var onIngress = map[string]annotation{
	"app-root":                   {form: special},
	"auth-type":                  {form: special},
	"auth-secret":                {form: special},
	"auth-realm":                 {form: special},
	"auth-header-field":          {form: special},
	"auth-remove-header":         {form: special},
	"auth-url":                   {form: special},
	"auth-trust-headers":         {form: special},
	"auth-response-headers":      {form: special},
	"auth-tls-secret":            {form: special},
	"auth-tls-insecure":          {form: special},
	"protocol":                   {form: special},
	"request-modifier":           {form: special},
	"rewrite-target":             {form: special},
	"rule-type":                  {form: special, old: "traefik.frontend.rule.type"},
	"service-weights":            {form: special},
	"whitelist-source-range":     {at: "whiteList.sourceRange"},
	"whitelist-x-forwarded-for":  {at: "whiteList.useXForwardedFor"},
	"custom-request-headers":     {at: "headers.customRequestHeaders", form: pairs},
	"custom-response-headers":    {at: "headers.customResponseHeaders", form: pairs},
	"ssl-proxy-headers":          {at: "headers.sslProxyHeaders", form: pairs},
	"allowed-hosts":              {at: "headers.allowedHosts"},
	"proxy-headers":              {at: "headers.hostsProxyHeaders"},
	"ssl-redirect":               {at: "headers.sslRedirect"},
	"ssl-temporary-redirect":     {at: "headers.sslTemporaryRedirect"},
	"ssl-host":                   {at: "headers.sslHost"},
	"ssl-force-host":             {at: "headers.sslForceHost"},
	"hsts-max-age":               {at: "headers.stsSeconds"},
	"hsts-include-subdomains":    {at: "headers.stsIncludeSubdomains"},
	"hsts-preload":               {at: "headers.stsPreload"},
	"force-hsts":                 {at: "headers.forceSTSHeader"},
	"frame-deny":                 {at: "headers.frameDeny"},
	"custom-frame-options-value": {at: "headers.customFrameOptionsValue"},
	"content-type-nosniff":       {at: "headers.contentTypeNosniff"},
	"browser-xss-filter":         {at: "headers.browserXssFilter"},
	"custom-browser-xss-value":   {at: "headers.customBrowserXSSValue"},
	"content-security-policy":    {at: "headers.contentSecurityPolicy"},
	"public-key":                 {at: "headers.publicKey"},
	"referrer-policy":            {at: "headers.referrerPolicy"},
	"is-development":             {at: "headers.isDevelopment"},
	"error-pages":                {at: "errors", form: yaml},
	"rate-limit":                 {at: "rateLimit", form: yaml},
	"pass-tls-cert":              {at: "passTLSCert", old: "traefik.frontend.passTLSCert"},
	"pass-client-tls-cert":       {at: "passTLSClientCert", form: yaml},
	"frontend-entry-points":      {at: "entryPoints", old: "traefik.frontend.entryPoints"},
	"preserve-host":              {at: "passHostHeader", old: "traefik.frontend.passHostHeader"},
	"priority":                   {at: "priority", old: "traefik.frontend.priority"},
	"redirect-entry-point":       {at: "redirect.entryPoint", old: "traefik.frontend.redirect.entryPoint"},
	"redirect-permanent":         {at: "redirect.permanent", old: "traefik.frontend.redirect.permanent"},
	"redirect-regex":             {at: "redirect.regex", old: "traefik.frontend.redirect.regex"},
	"redirect-replacement":       {at: "redirect.replacement", old: "traefik.frontend.redirect.replacement"},
}

// onService are those of Services.
var onService = map[string]annotation{
	"affinity":                         {form: special, old: "traefik.backend.loadbalancer.stickiness"},
	"session-cookie-name":              {form: special, old: "traefik.backend.loadbalancer.stickiness.cookieName"},
	"session-secure":                   {form: special},
	"session-http-only":                {form: special},
	"session-same-site":                {form: special},
	"load-balancer-method":             {at: "loadBalancer.method", old: "traefik.backend.loadbalancer.method"},
	"sticky":                           {at: "loadBalancer.sticky", old: "traefik.backend.loadbalancer.sticky"},
	"circuit-breaker-expression":       {at: "circuitBreaker.expression", old: "traefik.backend.circuitbreaker"},
	"buffering":                        {at: "buffering", form: yaml},
	"max-conn-amount":                  {at: "maxConn.amount", old: "traefik.backend.maxconn.amount"},
	"max-conn-extractor-func":          {at: "maxConn.extractorFunc", old: "traefik.backend.maxconn.extractorfunc"},
	"responseforwarding-flushinterval": {at: "responseForwarding.flushInterval"},
}

// written is an object's annotations by what they are called now.
type written map[string]note

// note is an annotation as it was written.
type note struct {
	key, value string // as written
	annotation
}

// read sorts out what is written on an object. strangers are those that seem
// to be for us or for a controller like us, and are not known.
func read(annotations map[string]string, known map[string]annotation) (w written, strangers []string) {
	rank := map[string]int{}
	put := func(name, key, value string, order int) {
		if w == nil {
			w = written{}
		}
		if had, ok := rank[name]; !ok || order < had {
			w[name], rank[name] = note{key, value, known[name]}, order
		}
	}
	for key, value := range annotations {
		if name, ok := strings.CutPrefix(key, newPrefix); ok {
			if _, ok := known[name]; ok {
				put(name, key, value, 0)
			} else {
				strangers = append(strangers, key)
			}
			continue
		}
		if name, ok := strings.CutPrefix(key, sharedPrefix); ok {
			if _, ok := known[name]; ok {
				put(name, key, value, 1)
			}
			continue
		}
		switch {
		case strings.HasPrefix(key, "traefik.frontend.") || strings.HasPrefix(key, "traefik.backend."):
			if name := nameOfOld(known, key); name != "" {
				put(name, key, value, 2)
			} else {
				strangers = append(strangers, key)
			}
		case strings.HasPrefix(key, "nginx.ingress.kubernetes.io/"):
			strangers = append(strangers, key)
		}
	}
	slices.Sort(strangers)
	return w, strangers
}

func nameOfOld(known map[string]annotation, key string) string {
	for name, a := range known {
		if a.old != "" && strings.EqualFold(a.old, key) {
			return name
		}
	}
	return ""
}

// protects tells whether an annotation nobody here knows seems to be somebody's
// protection, so that serving without it would be worse than not serving.
func protects(key string) bool {
	_, name, _ := strings.Cut(key, "/")
	return slices.ContainsFunc([]string{"auth", "whitelist", "allowlist", "denylist", "middlewares", "satisfy"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}

func (w written) text(name string) string { return strings.TrimSpace(w[name].value) }

// tree is a Map node under construction.
type tree struct{ node *config.Node }

func newTree(o config.Origin) tree {
	return tree{&config.Node{Kind: config.Map, Weak: true, Origin: o}}
}

// put sets a value at a dotted path.
func (t tree) put(path string, value *config.Node) {
	at := t.node
	parts := strings.Split(path, ".")
	for _, part := range parts[:len(parts)-1] {
		next := at.Get(part)
		if next == nil {
			next = &config.Node{Kind: config.Map, Weak: true, Origin: value.Origin}
			at.Fields = append(at.Fields, config.Field{Name: part, Origin: value.Origin, Node: next})
		}
		at = next
	}
	at.Fields = append(at.Fields, config.Field{Name: parts[len(parts)-1], Origin: value.Origin, Node: value})
}

func scalar(o config.Origin, text string) *config.Node {
	return &config.Node{Kind: config.Scalar, Value: text, Weak: true, Origin: o}
}

func list(o config.Origin, texts []string) *config.Node {
	n := &config.Node{Kind: config.List, Weak: true, Origin: o}
	for _, s := range texts {
		n.Items = append(n.Items, scalar(o, s))
	}
	return n
}

// put reads one annotation into a frontend or backend; trouble says what is
// wrong with its text.
func (n note) put(t tree, o config.Origin) (trouble, allowed string) {
	if len(n.value) > maxAnnotation {
		return "is too long", "at most 64 KiB"
	}
	switch n.form {
	case text:
		t.put(n.at, scalar(o, n.value))
	case pairs:
		return n.putPairs(t, o)
	case yaml:
		node, problems := config.ParseYAML(n.key, []byte(n.value))
		if config.Failed(problems) || node == nil {
			return "is no YAML section", "the form of Traefik 1.7"
		}
		weaken(node, o)
		t.put(n.at, node)
	}
	return "", ""
}

func (n note) putPairs(t tree, o config.Origin) (trouble, allowed string) {
	const form = "Name:value||Name2:value2"
	section := newTree(o)
	for pair := range strings.SplitSeq(n.value, "||") {
		name, value, ok := strings.Cut(pair, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return "is not a list of headers", form
		}
		section.node.Fields = append(section.node.Fields, config.Field{Name: name, Origin: o, Node: scalar(o, strings.TrimSpace(value))})
	}
	t.put(n.at, section.node)
	return "", ""
}

// weaken makes parsed YAML part of the annotation it stands in: its lines are
// no lines of a file.
func weaken(n *config.Node, o config.Origin) {
	n.Weak, n.Origin = true, o
	for i := range n.Fields {
		n.Fields[i].Origin = o
		weaken(n.Fields[i].Node, o)
	}
	for _, item := range n.Items {
		weaken(item, o)
	}
}
