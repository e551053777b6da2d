package config

import (
	"fmt"
	"strings"
	"testing"
)

// tenThousand are ways to write that many routers, with one service for all or
// one for each.
var tenThousand = []struct {
	name, file         string
	head, each, middle string
	service, tail      string
}{
	{
		name: "YAML", file: "routes.yaml",
		head: "http:\n  routers:\n", each: "    h%05[1]d: {rule: \"Host(`h%05[1]d.bench.test`)\", service: origin}\n",
		tail: "  services:\n    origin: {loadBalancer: {servers: [{url: \"http://127.0.0.1:80\"}]}}\n",
	},
	{
		name: "YAML blocks and services", file: "routes.yaml",
		head: "http:\n  routers:\n", each: "    h%05[1]d:\n      rule: Host(`h%05[1]d.bench.test`)\n      service: s%05[1]d\n",
		middle: "  services:\n", service: "    s%05[1]d:\n      loadBalancer:\n        servers:\n        - url: http://127.0.0.1:80\n",
	},
	{
		name: "TOML", file: "routes.toml",
		each: "[http.routers.h%05[1]d]\nrule = \"Host(`h%05[1]d.bench.test`)\"\nservice = \"origin\"\n",
		tail: "[[http.services.origin.loadBalancer.servers]]\nurl = \"http://127.0.0.1:80\"\n",
	},
	{
		name: "TOML services", file: "routes.toml",
		each:    "[http.routers.h%05[1]d]\nrule = \"Host(`h%05[1]d.bench.test`)\"\nservice = \"s%05[1]d\"\n",
		service: "[[http.services.s%05[1]d.loadBalancer.servers]]\nurl = \"http://127.0.0.1:80\"\n",
	},
}

// BenchmarkTenThousandRouters is what a provider does to a file with that many.
func BenchmarkTenThousandRouters(b *testing.B) {
	for _, c := range tenThousand {
		b.Run(c.name, func(b *testing.B) {
			var s strings.Builder
			s.WriteString(c.head)
			for i := range 10_000 {
				fmt.Fprintf(&s, c.each, i)
			}
			s.WriteString(c.middle)
			for i := range 10_000 {
				if c.service != "" {
					fmt.Fprintf(&s, c.service, i)
				}
			}
			s.WriteString(c.tail)
			text := []byte(s.String())
			parse := ParseYAML
			if strings.HasSuffix(c.file, ".toml") {
				parse = ParseTOML
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				n, problems := parse(c.file, text)
				if problems != nil {
					b.Fatal(problems)
				}
				r, problems := ParseRouting(n, "file")
				if problems != nil || len(r.Routers) != 10_000 {
					b.Fatal(problems)
				}
			}
		})
	}
}
