package traefik1

import (
	"fmt"
	"strings"

	"gatehouse/internal/config"
)

// chain reads the settings that become middlewares, in the order requests
// meet them. Every one of them is somebody's protection or changes what
// servers see, so a mistake in any breaks the frontend.
func (f *frontend) chain() {
	f.whiteList()
	f.redirect()
	f.headers()
	f.notInForce(f.object, "passTLSCert", "passTLSClientCert", "errors")
	f.auth()
	f.rateLimit()
}

func (f *frontend) whiteList() {
	at := f.field("whitelistSourceRange")
	fields := []config.Field{{}}
	ranges := f.list("whitelistSourceRange")
	if w := f.section("whiteList"); w != nil {
		at = w.node
		ranges = append(ranges, w.list("sourceRange")...)
		if w.boolean(false, "useXForwardedFor") {
			// 1.x let a request in if any address in the header fitted, and the
			// client itself could write one.
			fields = append(fields, section("ipStrategy", value("depth", int64(1))))
			w.warn(w.node.Origin, "whiteList.useXForwardedFor judges by the last address of X-Forwarded-For, which the proxy in front wrote", "")
		}
		w.done()
	}
	if at == nil {
		return
	}
	if len(ranges) == 0 {
		f.object.fail(at.Origin, "whiteList has no source range", "10.0.0.0/8,192.0.2.1")
		return
	}
	fields[0] = texts("sourceRange", ranges)
	f.middleware("ipAllowList", at, fields...)
}

// refuse reports a protection that does not exist here.
func (o *object) refuse(at *config.Node, what, instead string) {
	o.fail(at.Origin, what+" is not in force yet, and without it requests could pass that should not", instead)
}

// middleware adds one that was written at n.
func (f *frontend) middleware(kind string, n *config.Node, fields ...config.Field) {
	f.use(kind, declared(kind, n, fields...))
}

func declared(kind string, n *config.Node, fields ...config.Field) config.Middleware {
	p := params(fields...)
	p.Origin = n.Origin
	return config.Middleware{Origin: n.Origin, Kind: kind, Params: p}
}

func (f *frontend) redirect() {
	r := f.section("redirect")
	if r == nil {
		return
	}
	entryPoint, _ := r.text("entryPoint")
	regex, _ := r.text("regex")
	replacement, _ := r.text("replacement")
	permanent := value("permanent", r.boolean(false, "permanent"))
	r.done()
	switch {
	case entryPoint != "":
		f.middleware("redirectEntryPoint", r.node, value("entryPoint", entryPoint), permanent)
	case regex != "" && replacement != "":
		f.middleware("redirectRegex", r.node, value("regex", regex), value("replacement", replacement), permanent)
	default:
		r.fail(r.node.Origin, "redirect says not where to", "entryPoint, or regex and replacement")
	}
}

// What [frontends.F.headers] knows, by the kind of value.
var (
	headerMaps  = []string{"customRequestHeaders", "customResponseHeaders", "sslProxyHeaders"}
	headerLists = []string{"allowedHosts", "hostsProxyHeaders"}
	headerBools = []string{"sslRedirect", "sslTemporaryRedirect", "sslForceHost", "stsIncludeSubdomains", "stsPreload",
		"forceSTSHeader", "frameDeny", "contentTypeNosniff", "browserXssFilter", "isDevelopment"}
	headerTexts = []string{"sslHost", "customFrameOptionsValue", "customBrowserXSSValue", "contentSecurityPolicy", "publicKey", "referrerPolicy"}
)

func (f *frontend) headers() {
	h := f.section("headers")
	if h == nil {
		return
	}
	var fields []config.Field
	for _, name := range headerMaps {
		if values := h.texts(name); len(values) > 0 {
			fields = append(fields, section(name, values...))
		}
	}
	for _, name := range headerLists {
		if values := h.list(name); len(values) > 0 {
			fields = append(fields, texts(name, values))
		}
	}
	for _, name := range headerBools {
		if h.boolean(false, name) {
			fields = append(fields, value(name, true))
		}
	}
	for _, name := range headerTexts {
		if text, _ := h.text(name); text != "" {
			fields = append(fields, value(name, text))
		}
	}
	if seconds := h.integer(0, 0, 1<<40, "stsSeconds"); seconds > 0 {
		fields = append(fields, value("stsSeconds", seconds))
	}
	h.done()
	if len(fields) > 0 {
		f.middleware("headers", h.node, fields...)
	}
}

// auth reads who must say who they are: basic before digest before forward.
func (f *frontend) auth() {
	oldAt := f.field("basicAuth")
	if old := f.list("basicAuth"); len(old) > 0 {
		f.middleware("basicAuth", oldAt, texts("users", old))
	}
	a := f.section("auth")
	if a == nil {
		return
	}
	headerField, _ := a.text("headerField")
	basic, digest, forward := a.section("basic"), a.field("digest"), a.field("forward")
	switch {
	case basic != nil && oldAt != nil:
		basic.fail(basic.node.Origin, "auth.basic and basicAuth are both written", "auth.basic alone")
	case basic != nil:
		f.basicAuth(basic, headerField)
	case digest != nil:
		a.refuse(digest, "auth.digest", "auth.basic")
	case forward != nil:
		a.refuse(forward, "auth.forward", "auth.basic")
	case oldAt == nil:
		a.fail(a.node.Origin, "auth says not how", "auth.basic.users")
	}
	a.done()
}

func (f *frontend) basicAuth(b *object, headerField string) {
	users := b.list("users")
	file, _ := b.text("usersFile")
	remove := b.boolean(false, "removeHeader")
	b.done()
	var fields []config.Field
	if len(users) > 0 {
		fields = append(fields, texts("users", users))
	}
	if file != "" {
		fields = append(fields, value("usersFile", file))
	}
	if len(fields) == 0 {
		b.fail(b.node.Origin, "auth.basic names no users", "users or usersFile")
		return
	}
	if remove {
		fields = append(fields, value("removeHeader", true))
	}
	if headerField != "" {
		fields = append(fields, value("headerField", headerField))
	}
	f.middleware("basicAuth", b.node, fields...)
}

// rateLimit makes one middleware of each rate: a request must fit them all.
func (f *frontend) rateLimit() {
	r := f.section("rateLimit")
	if r == nil {
		return
	}
	criterion, ok := r.extractor("extractorFunc")
	rates := children(r.field("rateSet"))
	r.done()
	if !ok {
		return
	}
	if len(rates) == 0 {
		r.fail(r.node.Origin, "rateLimit has no rate", "rateSet.<name>: period, average, burst")
	}
	for i, c := range rates {
		rate := f.open(c.node, fmt.Sprintf("%s, rate %s", f.object.name, c.name))
		period := rate.duration("period")
		average, burst := rate.integer(0, 1, 1<<40, "average"), rate.integer(1, 1, 1<<40, "burst")
		rate.done()
		if !*rate.broken && (average == 0 || period == 0) {
			rate.fail(c.node.Origin, "needs a period and an average", "period: 10s, average: 100, burst: 200")
		}
		if *rate.broken {
			*f.broken = true
			continue
		}
		f.use(fmt.Sprintf("rateLimit-%d", i+1), declared("rateLimit", c.node,
			value("average", average), value("period", period.String()), value("burst", burst), criterion))
	}
}

// maxConn bounds the requests under way of each client, host or header. 1.x
// bound them per backend; here each frontend of it has the whole amount.
func (t *translator) maxConn(o *object) (named, bool) {
	if o == nil {
		return named{}, false
	}
	amount := o.integer(0, 1, 1<<40, "amount")
	criterion, ok := o.extractor("extractorFunc")
	o.done()
	if !ok || amount == 0 {
		return named{}, false
	}
	return named{"inFlightReq", declared("inFlightReq", o.node, value("amount", amount), criterion)}, true
}

// extractor reads whose requests are counted together; nothing: a client's.
func (o *object) extractor(name string) (config.Field, bool) {
	text, n := o.text(name)
	switch header, isHeader := strings.CutPrefix(text, "request.header."); {
	case isHeader && header != "":
		return section("sourceCriterion", value("requestHeaderName", header)), true
	case text == "request.host":
		return section("sourceCriterion", value("requestHost", true)), true
	case text == "client.ip" || text == "":
		return section("sourceCriterion", section("ipStrategy")), true
	}
	o.fail(n.Origin, fmt.Sprintf("%s is %q", name, text), "client.ip, request.host or request.header.<name>")
	return config.Field{}, false
}
