package peer

import (
	"fmt"
	"path/filepath"
	"strings"

	"gatehouse/bench/load"
)

func caddy() Peer {
	return Peer{
		Name: "caddy",
		Note: "no access log, no admin API, no HTTP/3; 1,024 idle connections to the origin",
		ask:  []string{"version"},
		files: func(s Setup) map[string]string {
			return map[string]string{"Caddyfile": caddyfile(s)}
		},
		args: func(s Setup) []string {
			return []string{"run", "--adapter", "caddyfile", "--config", filepath.Join(s.Dir, "Caddyfile")}
		},
	}
}

func caddyfile(s Setup) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{
	admin off
	auto_https off
	persist_config off
	default_bind 127.0.0.1
	storage file_system %s/storage
	log {
		level ERROR
	}
	servers {
		protocols h1 h2
	}
}
`, s.Dir)
	site := func(host string) {
		for _, address := range []string{
			fmt.Sprintf("http://%s:%d {\n", host, s.HTTP.Port()),
			fmt.Sprintf("https://%s:%d {\n\ttls %s %s\n", host, s.HTTPS.Port(), s.Cert, s.Key),
		} {
			fmt.Fprintf(&b, `%s	reverse_proxy %s {
		transport http {
			keepalive_idle_conns_per_host 1024
		}
	}
}
`, address, s.Origin)
		}
	}
	site(s.Host)
	for i := range s.Hosts {
		site(load.HostName(i, s.Host))
	}
	return b.String()
}
