package proxy_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"gatehouse/internal/config"
	"gatehouse/internal/middleware"
	"gatehouse/internal/proxy"
)

// TestCountsSurviveSwaps: a client that has used its rate up stays refused when
// something else changes, whatever else shares the middleware; new parameters
// begin anew.
func TestCountsSurviveSwaps(t *testing.T) {
	url := originNamed(t, "a")
	build := func(average int, rules ...string) config.Routing {
		var text strings.Builder
		text.WriteString("http:\n  routers:\n")
		for _, host := range rules {
			fmt.Fprintf(&text, "    %s: {rule: 'Host(`%s`)', service: a, middlewares: [slow]}\n", host, host)
		}
		fmt.Fprintf(&text, "  middlewares:\n    slow: {rateLimit: {average: %d, period: 1h, burst: 1}}\n", average)
		fmt.Fprintf(&text, "  services:\n    a: {loadBalancer: {servers: [{url: %q}]}}\n", url)
		n, problems := config.ParseYAML("r.yaml", []byte(text.String()))
		if problems != nil {
			t.Fatal(problems)
		}
		r, problems := config.ParseRouting(n, "file")
		if problems != nil {
			t.Fatal(problems)
		}
		return r
	}
	compiler := proxy.NewCompiler(newRegistry(t), proxy.Options{
		EntryPoints: []proxy.EntryPoint{{Name: "http"}}, Builders: middleware.Builders(), Memory: new(middleware.Memory),
	})
	serve := func(r config.Routing) func(host string) int {
		s, problems := compiler.Compile(r, nil)
		if problems != nil {
			t.Fatal(problems)
		}
		p := proxy.New(slog.New(slog.DiscardHandler))
		p.Swap(s)
		return func(host string) int { return ask(p.Handler("http"), "http://"+host+"/").Code }
	}
	get := serve(build(1, "one", "two"))
	if first, again, other := get("one"), get("one"), get("two"); first != 200 || again != 429 || other != 200 {
		t.Fatalf("at first %d, then %d; another router %d", first, again, other)
	}
	get = serve(build(1, "one", "three"))
	if one, three := get("one"), get("three"); one != 429 || three != 200 {
		t.Errorf("after a change elsewhere %d, want 429; a new router %d, want 200", one, three)
	}
	// A router that was taken over is made anew, since its servers change.
	elsewhere := build(1, "one", "three")
	elsewhere.Services = map[string]config.Service{"a": service(originNamed(t, "b"))}
	get = serve(elsewhere)
	if one, three := get("one"), get("three"); one != 429 || three != 429 {
		t.Errorf("after a change of servers %d and %d, want 429", one, three)
	}
	get = serve(build(2, "one"))
	if one := get("one"); one != 200 {
		t.Errorf("with another rate %d, want 200", one)
	}
}
