package peer

import (
	"encoding/json"
	"path/filepath"

	"gatehouse/bench/load"
)

func caddy() Peer {
	return Peer{
		Name: "caddy",
		Note: "no access log, no admin API, no HTTP/3; 1,024 idle connections to the origin; very many hosts share one " +
			"proxy handler, at the plain entry point only",
		ask: []string{"version"},
		files: func(s Setup) map[string]string {
			text, err := json.Marshal(caddyConfig(s))
			if err != nil {
				panic(err) // strings and numbers only
			}
			return map[string]string{"caddy.json": string(text)}
		},
		args: func(s Setup) []string { return []string{"run", "--config", filepath.Join(s.Dir, "caddy.json")} },
	}
}

// object and list are JSON.
type (
	object = map[string]any
	list   = []any
)

// caddyConfig is what Caddy reads itself; from its Caddyfile it takes a minute
// to make this for very many hosts.
func caddyConfig(s Setup) object {
	route := func(host string) object {
		return object{"match": list{object{"host": list{host}}}, "handle": list{object{"handler": "invoke", "name": "origin"}}, "terminal": true}
	}
	secured := list{route(s.Host)}
	routes := list{route(s.Host)}
	for i := range s.Hosts {
		routes = append(routes, route(load.HostName(i, s.Host)))
	}
	proxy := object{
		"handler": "reverse_proxy", "upstreams": list{object{"dial": s.Origin.String()}},
		"transport": object{"protocol": "http", "keep_alive": object{"max_idle_conns_per_host": 1024}},
	}
	server := func(addr string, routes list) object {
		return object{
			"listen": list{addr}, "routes": routes, "protocols": list{"h1", "h2"}, "automatic_https": object{"disable": true},
			"named_routes": object{"origin": object{"handle": list{proxy}}},
		}
	}
	secure := server(s.HTTPS.String(), secured)
	secure["tls_connection_policies"] = list{object{}}
	return object{
		"admin":   object{"disabled": true, "config": object{"persist": false}},
		"storage": object{"module": "file_system", "root": filepath.Join(s.Dir, "storage")},
		"logging": object{"logs": object{"default": object{"level": "ERROR"}}},
		"apps": object{
			"http": object{"servers": object{"plain": server(s.HTTP.String(), routes), "secure": secure}},
			"tls":  object{"certificates": object{"load_files": list{object{"certificate": s.Cert, "key": s.Key}}}},
		},
	}
}
