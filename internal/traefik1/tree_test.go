package traefik1

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/config"
	"gatehouse/internal/route"
	"gatehouse/internal/store"
)

func TestTreeIsBounded(t *testing.T) {
	from := TreeSource{Provider: "etcd", Prefix: "/traefik"}
	many := make([]store.Entry, MaxTreeKeys+1)
	for i := range many {
		many[i].Key = fmt.Sprintf("backends/b%d/servers/s/url", i)
	}
	if n, problems := Tree(many, from); n != nil || len(problems) != 1 || problems[0].Warning {
		t.Errorf("%d keys: %v, %v", len(many), n, problems)
	}
	if n, problems := Tree(many[1:], from); n == nil || len(problems) != 0 {
		t.Errorf("%d keys: %v, %v", len(many)-1, n, problems)
	}
	big := []store.Entry{{Key: "a", Value: make([]byte, MaxTreeValue+1)}, {Key: "b/c", Value: []byte("x")}, {Key: strings.Repeat("d/", 9) + "e"}}
	n, problems := Tree(big, from)
	if len(problems) != 2 || len(n.Fields) != 1 || n.Get("b").Get("c").Value != "x" {
		t.Errorf("too big, good, too deep: %v, %v", n, problems)
	}
	for range 20 {
		big = append(big, store.Entry{Key: "x", Value: make([]byte, MaxTreeValue)})
	}
	if n, _ := Tree(big, from); n != nil {
		t.Error("20 MiB were taken")
	}
}

func TestTreeTakesTheFolderWhereAKeyIsBoth(t *testing.T) {
	n, problems := Tree([]store.Entry{{Key: "a", Value: []byte("true")}, {Key: "a-b", Value: []byte("x")}, {Key: "a/b", Value: []byte("y")}},
		TreeSource{})
	if len(problems) != 0 || len(n.Fields) != 2 || n.Get("a").Get("b").Value != "y" || n.Get("a-b").Value != "x" {
		t.Errorf("%+v, %v", n, problems)
	}
}

// thousand is a tree of as many frontends, each with a backend of two servers.
func thousand() []store.Entry {
	var entries []store.Entry
	for i := range 1000 {
		for _, kv := range [][2]string{
			{"backends/b%04d/servers/one/url", "http://10.0.0.1:80"}, {"backends/b%04d/servers/two/url", "http://10.0.0.2:80"},
			{"backends/b%04d/servers/two/weight", "2"}, {"frontends/f%04d/backend", "b%04d"},
			{"frontends/f%04d/passHostHeader", "true"}, {"frontends/f%04d/routes/host/rule", "Host:a%04d.example.com"},
			{"frontends/f%04d/routes/path/rule", "PathPrefixStrip:/api,/v{n:[0-9]+}"},
		} {
			value := kv[1]
			if strings.Contains(value, "%04d") {
				value = fmt.Sprintf(value, i)
			}
			entries = append(entries, store.Entry{Key: fmt.Sprintf(kv[0], i), Value: []byte(value)})
		}
	}
	return entries
}

func BenchmarkThousandFrontends(b *testing.B) {
	entries := thousand()
	b.ReportAllocs()
	for b.Loop() {
		n, _ := Tree(entries, TreeSource{Provider: "etcd"})
		routing, problems := Parse(n, "etcd")
		if len(routing.Routers) != 1000 || len(problems) != 0 {
			b.Fatal(len(routing.Routers), problems)
		}
	}
}

// FuzzTree: whatever is in a store, reading it ends soon, without panic, and
// always the same way; and every rule that comes out is one route takes.
func FuzzTree(f *testing.F) {
	f.Add("frontends/f/backend = b\nfrontends/f/routes/r/rule = Host:a.com;Path:/{x:[a-z]+}\nbackends/b/servers/s/url = http://x")
	f.Add("frontends/f = x\nfrontends/f/auth/basic/users/0 = a:b\nbackends = \ntls/0/certificate/certfile = x")
	f.Add("http/routers/r/rule = Host(`a`)\nhttp/services/s/loadbalancer/servers/0/url = http://x\nhttp/middlewares/m/headers = x")
	f.Add("frontends/f/ratelimit/rateset/1/period = 1\nfrontends/f/ratelimit/extractorfunc = request.header.\nfrontends/F/redirect = true")
	f.Fuzz(func(t *testing.T, text string) {
		var entries []store.Entry
		for line := range strings.Lines(text) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " = ")
			entries = append(entries, store.Entry{Key: key, Value: []byte(value)})
		}
		start := time.Now()
		tell := func() (config.Routing, string) {
			n, problems := Tree(entries, TreeSource{Provider: "etcd", Prefix: "/traefik"})
			if n == nil {
				return config.Routing{}, ""
			}
			routing, more := Parse(n, "etcd")
			return routing, fmt.Sprintf("%v %v", len(routing.Routers), append(problems, more...))
		}
		routing, once := tell()
		took := time.Since(start)
		for tries := 0; took > 50*time.Millisecond && tries < 5; tries++ { // the machine may be busy
			start = time.Now()
			tell()
			took = time.Since(start)
		}
		if took > 50*time.Millisecond {
			t.Errorf("took %v", took)
		}
		if _, again := tell(); once != again {
			t.Errorf("once %s\nagain %s", once, again)
		}
		for name, r := range routing.Routers {
			if strings.HasPrefix(r.Origin.Key, "frontends/") && len(r.Rule) < route.MaxRule {
				if _, err := route.Parse(r.Rule); err != nil && !strings.Contains(err.Error(), "host name") && !strings.Contains(err.Error(), "host is not matched") {
					t.Errorf("router %s: %s: %v", name, r.Rule, err)
				}
			}
		}
	})
}
