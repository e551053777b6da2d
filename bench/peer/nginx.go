package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gatehouse/bench/load"
)

func nginx() Peer {
	return Peer{
		Name: "nginx",
		Note: "a worker for each core, reuseport, access log off, connections to the origin kept, " +
			"10,000 requests a connection as Gatehouse allows, bodies never in temporary files; very many hosts at the plain entry point only",
		ask:   []string{"-v"},
		files: func(s Setup) map[string]string { return map[string]string{"nginx.conf": nginxConf(s), "tmp/empty": ""} },
		args: func(s Setup) []string {
			return []string{"-p", s.Dir, "-e", "stderr", "-c", filepath.Join(s.Dir, "nginx.conf")}
		},
	}
}

func nginxConf(s Setup) string {
	var b strings.Builder
	if os.Getuid() == 0 {
		b.WriteString("user root;\n") // the certificate's folder is private
	}
	fmt.Fprintf(&b, `daemon off;
worker_processes %d;
pid nginx.pid;
error_log stderr error;
events { worker_connections %d; }
http {
  access_log off;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  keepalive_requests 10000;
  client_header_timeout 10s; client_body_timeout 30s;
  proxy_http_version 1.1;
  proxy_max_temp_file_size 0;
  server_names_hash_max_size 65536;
  server_names_hash_bucket_size 256;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_session_cache shared:tls:10m;
  upstream origin { server %s; keepalive 1024; keepalive_requests 100000000; }
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  proxy_set_header Host $host;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme;
`, s.Workers(), s.connections(), s.Origin)
	server := func(name, listen string) {
		fmt.Fprintf(&b, "  server { %s server_name %s; location / { proxy_pass http://origin; } }\n", listen, name)
	}
	server(s.Host, fmt.Sprintf("listen %s reuseport backlog=4096; listen %s ssl http2 reuseport backlog=4096; ssl_certificate %s; ssl_certificate_key %s;",
		s.HTTP, s.HTTPS, s.Cert, s.Key))
	for i := range s.Hosts {
		server(load.HostName(i, s.Host), fmt.Sprintf("listen %s;", s.HTTP))
	}
	b.WriteString("}\n")
	return b.String()
}
