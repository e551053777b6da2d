package config

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkTenThousandRouters is what a provider does to a file with that many.
func BenchmarkTenThousandRouters(b *testing.B) {
	var s strings.Builder
	s.WriteString("http:\n  routers:\n")
	for i := range 10_000 {
		fmt.Fprintf(&s, "    h%05d: {rule: \"Host(`h%05d.bench.test`)\", service: origin}\n", i, i)
	}
	s.WriteString("  services:\n    origin: {loadBalancer: {servers: [{url: \"http://127.0.0.1:80\"}]}}\n")
	text := []byte(s.String())
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		n, problems := ParseYAML("routes.yaml", text)
		if problems != nil {
			b.Fatal(problems)
		}
		if _, problems = ParseRouting(n, "file"); problems != nil {
			b.Fatal(problems)
		}
	}
}
