// Package api is the window: the status API (the paths of Traefik 1.5, and
// ours), health, metrics and the dashboard. All that can be asked of it is that a
// certificate be ordered now, or revoked; all else it only reads. What it shows
// is redacted before it gets here or here. It knows the running
// parts only by the functions in Options.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"expvar"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strings"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/proxy"
)

// Options says where the API reads. All functions may be called from any
// goroutine and must not block on a store, a CA or the network.
type Options struct {
	Version string
	Replica string // this replica's name
	// Sources is what each provider published last.
	Sources func() map[string]config.Routing
	// Problems of the configuration, all providers.
	Problems func() []config.Problem
	// Ready tells whether this replica should get traffic, and if not, why.
	Ready func() (bool, string)
	// Snapshot is what is served now; nil: nothing yet.
	Snapshot     func() *proxy.Snapshot
	Certificates func() []cert.Status
	Replicas     func() []Replica
	// Renew has a certificate ordered now; nil: that cannot be asked for here.
	Renew func(ctx context.Context, issuer, id string) error
	// Revoke has a certificate revoked, and replaced unless stop is set; nil: that
	// cannot be asked for here.
	Revoke func(ctx context.Context, issuer, id string, reason cert.Reason, stop bool) error
	// Counts is what was done for certificates; nil: it is not counted.
	Counts func() []cert.Count
	// Limits are those of the issuers; nil: they are not known.
	Limits func() []cert.Limit
	// Stale tells of a copy that is used because a store does not answer, and of
	// when it is; nil: there is none.
	Stale func() (since time.Time, stale bool)
	// Connections are those of clients; nil: they are not counted.
	Connections func() []Connections
	Stats       *Stats
	Dashboard   bool // serve the page at /dashboard/
	Debug       bool // serve /debug/vars and /debug/pprof/
	ReadOnly    bool // refuse every method that would change something
	// Unguarded: nothing but a loopback address keeps others away. What would
	// change something must then name that address, or localhost: a page whose
	// name was made to lead here (DNS rebinding) cannot.
	Unguarded bool
	Logger    *slog.Logger
}

// Connections are figures of one entry point: connections open now, and those
// refused since the start, for want of room, since the client's address had as
// many as it may or, in their handshake, since nobody knew their server name.
type Connections struct {
	EntryPoint                       string
	Open, NoRoom, Crowded, Strangers int64
}

// Replica is one member of the group that shares a store.
type Replica struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Self    bool      `json:"self"`
	// Holds lists the leases it has: the orders it works on.
	Holds []string `json:"holds"`
}

// Handlers gives the API (to be put behind authentication) and the health
// paths (outside of it, as load balancers have no password).
func Handlers(o Options) (api, health http.Handler) {
	a := &server{Options: o}
	mux := http.NewServeMux()
	if o.Renew != nil {
		mux.HandleFunc("POST /api/certificates/{names}/renew", a.renew)
	}
	if o.Revoke != nil {
		mux.HandleFunc("POST /api/certificates/{names}/revoke", a.revoke)
	}
	for path, h := range map[string]http.HandlerFunc{
		"/api":                      a.providers,
		"/api/{$}":                  a.providers,
		"/api/providers":            a.providers,
		"/api/providers/{name...}":  a.provider,
		"/api/version":              a.version,
		"/api/overview":             a.overview,
		"/api/snapshot":             a.snapshot,
		"/api/problems":             a.problems,
		"/api/certificates":         a.certificates,
		"/api/certificates/{names}": a.certificate,
		"/api/limits":               a.limits,
		"/api/cluster":              a.cluster,
		"/health":                   a.health,
	} {
		mux.HandleFunc(path, h)
	}
	if o.Dashboard {
		mux.Handle("/dashboard/", dashboard())
		mux.Handle("/{$}", http.RedirectHandler("/dashboard/", http.StatusFound))
	}
	if o.Debug {
		debug(mux)
	}
	pings := http.NewServeMux()
	pings.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	pings.HandleFunc("GET /ready", a.ready)
	return a.guard(mux), pings
}

func debug(mux *http.ServeMux) {
	mux.Handle("/debug/vars", expvar.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

type server struct{ Options }

// guard refuses what would change something, and sets the headers that keep a
// browser from running anything but our own files.
func (a *server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			if a.ReadOnly {
				fail(w, http.StatusForbidden, fmt.Sprintf("%s refused: the API is read-only (api.readOnly or web.readOnly)", r.Method))
				return
			}
			if r.Method == http.MethodPost && a.asks(r.URL.Path) {
				if why := a.changes(r); why != "" {
					fail(w, http.StatusForbidden, fmt.Sprintf("%s refused: %s", r.Method, why))
					return
				}
				next.ServeHTTP(w, r)
				return
			}
			h.Set("Allow", "GET, HEAD")
			fail(w, http.StatusMethodNotAllowed, fmt.Sprintf("%s refused: routing by PUT ([rest]) is not in force in this version", r.Method))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// asks reports whether something can be asked for at a path.
func (a *server) asks(path string) bool {
	return strings.HasPrefix(path, "/api/certificates/") &&
		(a.Renew != nil && strings.HasSuffix(path, "/renew") || a.Revoke != nil && strings.HasSuffix(path, "/revoke"))
}

func (a *server) version(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]string{"Version": a.Version, "Codename": "gatehouse", "Go": runtime.Version()})
}

func (a *server) ready(w http.ResponseWriter, _ *http.Request) {
	ok, why := a.Ready()
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, map[string]any{"ready": ok, "reason": why})
}

func (a *server) snapshot(w http.ResponseWriter, _ *http.Request) {
	s := a.Snapshot()
	if s == nil {
		fail(w, http.StatusServiceUnavailable, "no configuration has been applied yet")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(s.String()))
}

func (a *server) problems(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, a.problemViews())
}

// problemView is a problem with its text as it is logged.
type problemView struct {
	config.Problem
	Text string `json:"text"`
}

func (a *server) problemViews() []problemView {
	list := []problemView{}
	for _, p := range a.Problems() {
		list = append(list, problemView{p, p.String()})
	}
	return list
}

func (a *server) certificates(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, orEmpty(a.Certificates()))
}

func (a *server) limits(w http.ResponseWriter, _ *http.Request) {
	var list []cert.Limit
	if a.Limits != nil {
		list = a.Limits()
	}
	reply(w, http.StatusOK, orEmpty(list))
}

func (a *server) certificate(w http.ResponseWriter, r *http.Request) {
	want := strings.ToLower(r.PathValue("names"))
	for _, s := range a.Certificates() {
		for _, n := range append([]string{s.ID}, s.Names...) {
			if n == want {
				reply(w, http.StatusOK, s)
				return
			}
		}
	}
	fail(w, http.StatusNotFound, fmt.Sprintf("no certificate is kept for %q; /api/certificates lists them", want))
}

func (a *server) cluster(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{"replica": a.Replica, "replicas": orEmpty(a.Replicas())})
}

// overview is everything the dashboard shows, in one answer.
func (a *server) overview(w http.ResponseWriter, _ *http.Request) {
	ok, why := a.Ready()
	view := map[string]any{
		"version": a.Version, "replica": a.Replica, "ready": ok, "reason": why, "now": time.Now().UTC(),
		"canRenew": a.Renew != nil && !a.ReadOnly,
		"replicas": orEmpty(a.Replicas()), "certificates": orEmpty(a.Certificates()), "problems": a.problemViews(),
	}
	if s := a.Snapshot(); s != nil {
		view["served"] = s.View()
	}
	reply(w, http.StatusOK, view)
}

// orEmpty makes an empty list show as [] and not as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func reply(w http.ResponseWriter, status int, body any) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // rules are full of &&; nosniff keeps this from being read as a page
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(body); err != nil {
		fail(w, http.StatusInternalServerError, fmt.Sprintf("encode answer: %v", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text.Bytes())
}

func fail(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]string{"error": message})
}
