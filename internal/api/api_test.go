package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/cert"
	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
	"gatehouse/internal/upstream"
)

const canary = "canary-that-must-not-be-shown"

// sample is a routing with names that hold slashes, and with secrets in every
// place that can hold one.
func sample() config.Routing {
	text := func(s string) *config.Node { return &config.Node{Kind: config.Scalar, Value: s} }
	users := &config.Node{Kind: config.List, Items: []*config.Node{text("joe:{SHA}" + canary)}}
	return config.Routing{
		Routers: map[string]config.Router{
			"a.test/servers/x": {Rule: "Host(`a.test`) && PathPrefix(`/<b>`)", Service: "a.test/servers/x", Middlewares: []string{"auth"}},
			"a.test":           {Rule: "Host(`a.test`)", Service: "a.test"},
		},
		Middlewares: map[string]config.Middleware{
			"auth": {Kind: "basicAuth", Params: &config.Node{Kind: config.Map, Fields: []config.Field{{Name: "users", Node: users}}}},
		},
		Services: map[string]config.Service{
			"a.test/servers/x": {LoadBalancer: &config.LoadBalancer{Servers: []config.Server{{Name: "pod/1", URL: "http://127.0.0.1:1", Weight: 3}}}},
			"a.test":           {LoadBalancer: &config.LoadBalancer{Servers: []config.Server{{Name: "servers", URL: "http://127.0.0.1:2", Weight: 1}}}},
		},
		Certificates: []config.Certificate{{CertFile: "cert.pem", KeyFile: canary}},
	}
}

func options(t *testing.T) Options {
	t.Helper()
	registry := upstream.NewRegistry(upstream.Options{})
	merged, problems := config.Merge(map[string]config.Routing{"file": sample()})
	snapshot, more := proxy.Compile(merged, registry, proxy.Options{
		EntryPoints: []proxy.EntryPoint{{Name: "http", Address: ":80"}}, Builders: middleware.Builders(), Known: problems,
	})
	t.Cleanup(func() { snapshot.Discard(); registry.Close() })
	return Options{
		Version: "1", Replica: "one", Dashboard: true, ReadOnly: true, Stats: NewStats(2),
		Sources:  func() map[string]config.Routing { return map[string]config.Routing{"file": sample()} },
		Problems: func() []config.Problem { return append(problems, more...) },
		Ready:    func() (bool, string) { return false, "waiting for etcd" },
		Snapshot: func() *proxy.Snapshot { return snapshot },
		Certificates: func() []cert.Status {
			return []cert.Status{{ID: "a.test-1", Names: []string{"a.test", "b.test"}, State: cert.StateFailed, Error: "the CA said no"}}
		},
		Replicas: func() []Replica { return []Replica{{Name: "one", Self: true, Started: time.Unix(0, 0)}} },
	}
}

func ask(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	text, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(text)
}

func TestPathsOfTraefik15(t *testing.T) {
	api, _ := Handlers(options(t))
	for path, want := range map[string]string{
		"/api":                                                        `"frontends"`,
		"/api/providers":                                              `"file"`,
		"/api/providers/file":                                         `"backends"`,
		"/api/providers/file/backends":                                `"pod/1"`,
		"/api/providers/file/backends/a.test":                         `"http://127.0.0.1:2"`,
		"/api/providers/file/backends/a.test/servers":                 `"servers": {`,
		"/api/providers/file/backends/a.test/servers/servers":         `"http://127.0.0.1:2"`,
		"/api/providers/file/backends/a.test/servers/x":               `"pod/1"`,
		"/api/providers/file/backends/a.test/servers/x/servers/pod/1": `"weight": 3`,
		"/api/providers/file/frontends/a.test/routes/rule":            "Host(`a.test`)",
		"/api/version":                                                `"Version"`,
		"/health":                                                     `"uptime_sec"`,
		"/api/snapshot":                                               "route a.test@file",
		"/api/certificates/b.test":                                    "the CA said no",
		"/api/cluster":                                                `"replica": "one"`,
		"/api/overview":                                               `"waiting for etcd"`,
		"/dashboard/":                                                 "<title>Gatehouse</title>",
		"/dashboard/app.js":                                           "/api/overview",
	} {
		if code, text := ask(t, api, "GET", path); code != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d, want %s in\n%s", path, code, want, text)
		}
	}
	for _, path := range []string{"/api/providers/etcd", "/api/providers/file/backends/none", "/api/providers/file/nonsense", "/api/certificates/c.test"} {
		if code, text := ask(t, api, "GET", path); code != 404 || !strings.Contains(text, "error") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
}

// TestNoSecretIsShown plants a secret wherever routing can hold one and looks
// at every path.
func TestNoSecretIsShown(t *testing.T) {
	o := options(t)
	o.Debug = true
	api, health := Handlers(o)
	for _, path := range []string{
		"/api", "/api/providers/file", "/api/overview", "/api/snapshot", "/api/problems", "/api/certificates",
		"/api/cluster", "/health", "/debug/vars", "/debug/pprof/cmdline", "/ready", "/ping",
	} {
		for _, h := range []http.Handler{api, health} {
			if _, text := ask(t, h, "GET", path); strings.Contains(text, canary) {
				t.Errorf("%s shows a secret:\n%s", path, text)
			}
		}
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	o := options(t)
	for readOnly, want := range map[bool]int{true: http.StatusForbidden, false: http.StatusMethodNotAllowed} {
		o.ReadOnly = readOnly
		api, _ := Handlers(o)
		for _, method := range []string{"PUT", "POST", "DELETE", "PATCH"} {
			if code, text := ask(t, api, method, "/api/providers/web"); code != want || !strings.Contains(text, "error") {
				t.Errorf("readOnly %v: %s says %d %s", readOnly, method, code, text)
			}
		}
	}
}

func TestHealthPaths(t *testing.T) {
	_, health := Handlers(options(t))
	if code, text := ask(t, health, "GET", "/ping"); code != 200 || text != "OK" {
		t.Errorf("/ping: %d %q", code, text)
	}
	if code, text := ask(t, health, "GET", "/ready"); code != 503 || !strings.Contains(text, "waiting for etcd") {
		t.Errorf("/ready: %d %q", code, text)
	}
}

func TestPagesRunOnlyOurOwnScript(t *testing.T) {
	api, _ := Handlers(options(t))
	w := httptest.NewRecorder()
	api.ServeHTTP(w, httptest.NewRequest("GET", "/dashboard/", nil))
	policy := w.Result().Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "script-src 'self'") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	if body := w.Body.String(); strings.Contains(body, "<script>") || strings.Contains(body, " onclick") {
		t.Errorf("inline script in the page:\n%s", body)
	}
}

func TestStatsCountAnswersAndRememberErrors(t *testing.T) {
	o := options(t)
	h := o.Stats.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	for _, path := range []string{"/good", "/1", "/2", "/3"} {
		ask(t, h, "GET", path)
	}
	api, _ := Handlers(o)
	_, text := ask(t, api, "GET", "/health")
	var got struct {
		Total  map[string]int `json:"total_status_code_count"`
		Count  int
		Errors []RecentError `json:"recent_errors"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Total["200"] != 1 || got.Total["418"] != 3 || got.Count != 4 || len(got.Errors) != 2 || got.Errors[1].Path != "/3" {
		t.Errorf("health = %+v", got)
	}
	if _, text := ask(t, api, "GET", "/health"); !strings.Contains(text, `"count": 0`) {
		t.Errorf("the counts since the last look do not start again:\n%s", text)
	}
}
