package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gatehouse/bench/load"
)

func gatehousePeer(path string) Peer {
	return Peer{
		Name: "gatehouse",
		Note: "no access log, no API, state in memory",
		Path: path, ask: []string{"version"},
		files: gatehouseFiles,
		args:  func(s Setup) []string { return []string{"run", "-c", filepath.Join(s.Dir, "gatehouse.toml")} },
	}
}

func gatehouseFiles(s Setup) map[string]string {
	static := fmt.Sprintf(`logLevel = "WARN"
defaultEntryPoints = ["http", "https"]
[entryPoints.http]
address = "%s"
[entryPoints.https]
address = "%s"
[entryPoints.https.tls]
[file]
directory = "%s/routes"
watch = true
[store]
kind = "memory"
`, s.HTTP, s.HTTPS, s.Dir)
	if s.Chain {
		static += fmt.Sprintf("[accessLog]\nfilePath = \"%s/access.log\"\n", s.Dir)
	}
	return map[string]string{"gatehouse.toml": static, "routes/routes.yaml": Routes(s)}
}

// Routes is the routing in the form that Gatehouse and Traefik share.
func Routes(s Setup) string {
	var b strings.Builder
	b.WriteString("http:\n  routers:\n")
	router := func(name, rule string) {
		fmt.Fprintf(&b, "    %s: {rule: \"%s\", service: origin%s}\n", name, rule, chain(s))
		if s.tlsNeedsRouters {
			fmt.Fprintf(&b, "    %s-tls: {rule: \"%s\", service: origin, entryPoints: [https], tls: {}}\n", name, rule)
		}
	}
	rule := "Host(`" + s.Host + "`)"
	if s.Changing {
		rule += " && Path(`/`)" // what Change adds is not found before
	}
	router("main", rule)
	for i := range s.Hosts {
		router(fmt.Sprintf("h%05d", i), "Host(`"+load.HostName(i, s.Host)+"`)")
	}
	if s.Chain {
		b.WriteString("  middlewares:\n    headers: {headers: {customRequestHeaders: {X-Bench: request}, customResponseHeaders: {X-Bench: response}}}\n" +
			"    strip: {stripPrefix: {prefixes: [/app]}}\n")
	}
	fmt.Fprintf(&b, "  services:\n    origin: {loadBalancer: {servers: [{url: \"http://%s\"}]}}\n", s.Origin)
	fmt.Fprintf(&b, "tls:\n  certificates:\n    - {certFile: \"%s\", keyFile: \"%s\"}\n", s.Cert, s.Key)
	return b.String()
}

// Change replaces the file of one more route, to path at the main host, as
// people change files: a new one takes the old one's place. Gatehouse and
// Traefik only.
func (r *Running) Change(path string) error {
	text := fmt.Sprintf("http:\n  routers:\n    change: {rule: \"Host(`%s`) && Path(`%s`)\", service: other}\n"+
		"  services:\n    other: {loadBalancer: {servers: [{url: \"http://%s\"}]}}\n", r.Host, path, r.Origin)
	file := filepath.Join(r.Dir, "routes/change.yaml")
	fresh := filepath.Join(r.Dir, "change.new")
	if err := os.WriteFile(fresh, []byte(text), 0o600); err != nil {
		return fmt.Errorf("change the routes: %w", err)
	}
	return os.Rename(fresh, file)
}

func chain(s Setup) string {
	if s.Chain {
		return ", middlewares: [headers, strip]"
	}
	return ""
}
