package peer

import (
	"fmt"
	"path/filepath"
	"strings"

	"gatehouse/bench/load"
)

func haproxy() Peer {
	return Peer{
		Name: "haproxy",
		Note: "a thread for each core, no log, connections to the origin shared (http-reuse always), splicing on; " +
			"many hosts by a map to one backend",
		ask:   []string{"-v"},
		files: haproxyFiles,
		args:  func(s Setup) []string { return []string{"-db", "-f", filepath.Join(s.Dir, "haproxy.cfg")} },
	}
}

func haproxyFiles(s Setup) map[string]string {
	var hosts strings.Builder
	fmt.Fprintf(&hosts, "%s origin\n", s.Host)
	for i := range s.Hosts {
		fmt.Fprintf(&hosts, "%s origin\n", load.HostName(i, s.Host))
	}
	conf := fmt.Sprintf(`global
  nbthread %d
  no strict-limits
  maxconn %d
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout http-request 10s
  timeout http-keep-alive 75s
  timeout tunnel 1h
  option forwardfor
  option splice-auto
  option splice-response
frontend all
  bind %s backlog 4096
  bind %s backlog 4096 ssl crt %s/pair.pem alpn h2,http/1.1
  http-request set-header X-Forwarded-Proto https if { ssl_fc }
  http-request set-header X-Forwarded-Proto http unless { ssl_fc }
  use_backend %%[req.hdr(host),lower,map(%s/hosts.map,none)]
backend origin
  http-reuse always
  server origin %s pool-max-conn 2000
backend none
  http-request return status 404
`, s.Workers(), s.connections(), s.HTTP, s.HTTPS, s.Dir, s.Dir, s.Origin)
	return map[string]string{"haproxy.cfg": conf, "hosts.map": hosts.String(), "pair.pem": s.pair()}
}
