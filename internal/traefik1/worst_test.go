package traefik1

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/store"
)

// BenchmarkWorst reads trees at the bounds, made to cost as much as they can:
// none should take more than about 50 ms on an idle machine.
func BenchmarkWorst(b *testing.B) {
	trees := map[string]func(i int) [2]string{
		"unknown":  func(i int) [2]string { return [2]string{fmt.Sprintf("frontends/f%d/bakend", i), "x"} },
		"onefront": func(i int) [2]string { return [2]string{fmt.Sprintf("frontends/f/key%d", i), "x"} },
		"top":      func(i int) [2]string { return [2]string{fmt.Sprintf("frontend%d", i), "x"} },
		"routes": func(i int) [2]string {
			return [2]string{fmt.Sprintf("frontends/f/routes/r%d/rule", i), "Host:a.com,b.com;Path:/{x:[a-z]+}"}
		},
		"headers": func(i int) [2]string {
			return [2]string{fmt.Sprintf("frontends/f/headers/customrequestheaders/h%d", i), "x"}
		},
		"ours": func(i int) [2]string { return [2]string{fmt.Sprintf("http/routers/r%d/rul", i), "x"} },
		"bigrules": func(i int) [2]string {
			return [2]string{fmt.Sprintf("frontends/f%d/routes/r/rule", i), "Host:" + strings.Repeat("a,", 700)}
		},
		"servers": func(i int) [2]string { return [2]string{fmt.Sprintf("backends/b/servers/%d/url", i), "x"} },
	}
	for name, f := range trees {
		b.Run(name, func(b *testing.B) {
			entries := make([]store.Entry, MaxTreeKeys)
			for i := range entries {
				kv := f(i)
				entries[i] = store.Entry{Key: kv[0], Value: []byte(kv[1])}
			}
			for b.Loop() {
				n, p := Tree(entries, TreeSource{})
				if n == nil {
					b.Fatal(p)
				}
				Parse(n, "etcd")
				Rest(n)
			}
		})
	}
}
