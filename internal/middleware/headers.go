package middleware

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"gatehouse/internal/config"
	"gatehouse/internal/http1"
	"gatehouse/internal/wire"
)

// Headers sets and deletes headers of requests and answers, and holds the
// security set of Traefik 1.7.
type Headers struct {
	CustomRequestHeaders  map[string]string `key:"customRequestHeaders"`
	CustomResponseHeaders map[string]string `key:"customResponseHeaders"`

	AllowedHosts      []string          `key:"allowedHosts"`
	HostsProxyHeaders []string          `key:"hostsProxyHeaders"`
	SSLProxyHeaders   map[string]string `key:"sslProxyHeaders"`

	SSLRedirect          bool   `key:"sslRedirect"`
	SSLTemporaryRedirect bool   `key:"sslTemporaryRedirect"`
	SSLHost              string `key:"sslHost"`
	SSLForceHost         bool   `key:"sslForceHost"`

	STSSeconds           int64 `key:"stsSeconds"`
	STSIncludeSubdomains bool  `key:"stsIncludeSubdomains"`
	STSPreload           bool  `key:"stsPreload"`
	ForceSTSHeader       bool  `key:"forceSTSHeader"`

	FrameDeny               bool   `key:"frameDeny"`
	CustomFrameOptionsValue string `key:"customFrameOptionsValue"`
	ContentTypeNosniff      bool   `key:"contentTypeNosniff"`
	BrowserXSSFilter        bool   `key:"browserXssFilter"`
	CustomBrowserXSSValue   string `key:"customBrowserXSSValue"`
	ContentSecurityPolicy   string `key:"contentSecurityPolicy"`
	PublicKey               string `key:"publicKey"`
	ReferrerPolicy          string `key:"referrerPolicy"`
	PermissionsPolicy       string `key:"permissionsPolicy"`

	IsDevelopment bool `key:"isDevelopment"`
}

// headerEdit sets one header, or deletes it (values nil).
type headerEdit struct {
	name   string
	values []string
}

type headerEdits []headerEdit

// editHead applies them in order.
func (edits headerEdits) editHead(h http.Header) {
	for _, e := range edits {
		if e.values == nil {
			delete(h, e.name)
			continue
		}
		h[e.name] = e.values
	}
}

// Build makes the middleware.
func (p Headers) Build(env Env) (Middleware, []config.Problem) {
	request, problems := customHeaders(env, "customRequestHeaders", p.CustomRequestHeaders)
	custom, more := customHeaders(env, "customResponseHeaders", p.CustomResponseHeaders)
	problems = append(problems, more...)
	plain := append(p.security(), custom...)
	secure := plain
	if sts := p.sts(); sts != "" {
		// What people set by hand wins over the security set.
		secure = append(headerEdits{{"Strict-Transport-Security", []string{sts}}}, plain...)
		if p.ForceSTSHeader {
			plain = secure
		}
	}
	host := ""
	if at := slices.IndexFunc(request, func(e headerEdit) bool { return e.name == "Host" }); at >= 0 {
		if request[at].values != nil {
			host = request[at].values[0]
		}
		request = slices.Delete(request, at, at+1)
	}
	serve := func(w http.ResponseWriter, r *http.Request, isSecure bool, next http.Handler) {
		if why := p.stops((*viewed)(r), isSecure); why != 0 {
			p.answer(w, r, why)
			return
		}
		request.editHead(r.Header)
		if host != "" {
			r.Host = host
		}
		next.ServeHTTP(w, r)
	}
	wrap := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			isSecure := p.isSecure((*viewed)(r))
			edits := plain
			if isSecure {
				edits = secure
			}
			if len(edits) == 0 {
				serve(w, r, isSecure, next)
				return
			}
			hook := &headHook{ResponseWriter: w, editor: edits}
			serve(hook, r, isSecure, next)
			hook.fire() // an answer without body or status has its head sent after us
		})
	}
	m := Middleware{Wrap: wrap}
	if host == "" && stagedFields(p.HostsProxyHeaders...) && stagedFields(slices.Collect(maps.Keys(p.SSLProxyHeaders))...) {
		m.Stage = p.stage(request, plain, secure)
	}
	return m, problems
}

// stage is the second form; there is none where the edits are beyond it.
func (p Headers) stage(request, plain, secure headerEdits) Stage {
	asking, ok1 := stagedEdits(request)
	answering, ok2 := stagedEdits(plain)
	answeringTLS, ok3 := stagedEdits(secure)
	if !ok1 || !ok2 || !ok3 || max(len(asking), len(answering), len(answeringTLS)) > http1.MaxEdits {
		return Stage{}
	}
	return Stage{Pass: func(x *wire.Exchange) bool {
		isSecure := p.isSecure((*staged)(x))
		if p.stops((*staged)(x), isSecure) != 0 {
			return false
		}
		for i := range asking {
			if !x.Req.Edit(&asking[i]) {
				return false
			}
		}
		edits := answering
		if isSecure {
			edits = answeringTLS
		}
		return len(edits) == 0 || x.EditAnswer(edits)
	}}
}

// customHeaders checks names and values, in the order of names.
func customHeaders(env Env, key string, headers map[string]string) (headerEdits, []config.Problem) {
	var edits headerEdits
	var problems []config.Problem
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		value := headers[name]
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Connection", "Content-Length", "Transfer-Encoding", "Trailer", "Upgrade":
			problems = append(problems, env.problem(key, fmt.Sprintf("header %s belongs to the connection and cannot be set", name), "any other header"))
			continue
		}
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			problems = append(problems, env.problem(key, fmt.Sprintf("header %q has a name or value that cannot be sent", name), "a name of letters, digits and '-', a value of one line"))
			continue
		}
		e := headerEdit{name: canonical}
		if value != "" {
			e.values = []string{value}
		}
		edits = append(edits, e)
	}
	return edits, problems
}

// security lists the fixed headers of the security set.
func (p Headers) security() headerEdits {
	var edits headerEdits
	set := func(name, value string) {
		if value != "" {
			edits = append(edits, headerEdit{name, []string{value}})
		}
	}
	either := func(custom string, on bool, value string) string {
		if custom != "" {
			return custom
		}
		if on {
			return value
		}
		return ""
	}
	set("X-Frame-Options", either(p.CustomFrameOptionsValue, p.FrameDeny, "DENY"))
	set("X-Content-Type-Options", either("", p.ContentTypeNosniff, "nosniff"))
	set("X-Xss-Protection", either(p.CustomBrowserXSSValue, p.BrowserXSSFilter, "1; mode=block"))
	set("Content-Security-Policy", p.ContentSecurityPolicy)
	set("Public-Key-Pins", p.PublicKey)
	set("Referrer-Policy", p.ReferrerPolicy)
	set("Permissions-Policy", p.PermissionsPolicy)
	return edits
}

func (p Headers) sts() string {
	if p.STSSeconds <= 0 || p.IsDevelopment {
		return ""
	}
	value := "max-age=" + strconv.FormatInt(p.STSSeconds, 10)
	if p.STSIncludeSubdomains {
		value += "; includeSubDomains"
	}
	if p.STSPreload {
		value += "; preload"
	}
	return value
}

// isSecure: the client used TLS, as far as we or the named headers know.
func (p *Headers) isSecure(q asked) bool {
	if q.scheme() == "https" {
		return true
	}
	for name, value := range p.SSLProxyHeaders {
		if value != "" && strings.EqualFold(q.first(name), value) {
			return true
		}
	}
	return false
}

// Why a request goes no further.
const (
	wrongHost = iota + 1 // 421
	wrongWay             // it must come by TLS: a redirect
)

// stops finds requests for hosts that are not allowed, or that must come by
// TLS; 0: it may go on.
func (p *Headers) stops(q asked, isSecure bool) (why int) {
	if p.IsDevelopment {
		return 0
	}
	if len(p.AllowedHosts) > 0 && !p.hostAllowed(q) {
		return wrongHost
	}
	elsewhere := p.SSLForceHost && p.SSLHost != "" && !strings.EqualFold(q.host(), p.SSLHost)
	if p.SSLRedirect && (!isSecure || elsewhere) {
		return wrongWay
	}
	return 0
}

// answer answers what stops found.
func (p *Headers) answer(w http.ResponseWriter, r *http.Request, why int) {
	if why == wrongHost {
		http.Error(w, "421 this host is not served here", http.StatusMisdirectedRequest)
		return
	}
	host := p.SSLHost
	if host == "" {
		host = strings.TrimSuffix(r.Host, ":80")
	}
	redirect(w, r, "https://"+host+r.URL.RequestURI(), !p.SSLTemporaryRedirect)
}

func (p *Headers) hostAllowed(q asked) bool {
	host := q.host()
	for _, name := range p.HostsProxyHeaders {
		if said := q.first(name); said != "" {
			host = said
			break
		}
	}
	name, _ := splitHost(host)
	return slices.ContainsFunc(p.AllowedHosts, func(allowed string) bool {
		return strings.EqualFold(allowed, host) || strings.EqualFold(allowed, name)
	})
}
