package peer

import (
	"fmt"
	"path/filepath"
)

func traefik(path string) Peer {
	return Peer{
		Name: "traefik",
		Note: "no access log, no API, no update check; fastProxy off (its default)",
		Path: path, ask: []string{"version"},
		files: func(s Setup) map[string]string {
			s.tlsNeedsRouters = true
			return map[string]string{"routes/routes.yaml": Routes(s), "traefik.yaml": fmt.Sprintf(`log: {level: ERROR}
global: {checkNewVersion: false, sendAnonymousUsage: false}
entryPoints:
  http: {address: "%s"}
  https: {address: "%s"}
serversTransport: {maxIdleConnsPerHost: 1024}
providers: {file: {directory: "%s/routes", watch: true}}
`, s.HTTP, s.HTTPS, s.Dir)}
		},
		args: func(s Setup) []string { return []string{"--configFile=" + filepath.Join(s.Dir, "traefik.yaml")} },
	}
}
