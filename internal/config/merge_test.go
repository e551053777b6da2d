package config

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// changeSource publishes something like r: maps that did not change are the
// same, as providers may do, or copies.
func changeSource(rnd *rand.Rand, r Routing) Routing {
	pick := func(prefix string) string {
		return fmt.Sprint(prefix, rnd.IntN(5), [...]string{"", "", "@a", "@b"}[rnd.IntN(4)])
	}
	switch rnd.IntN(5) {
	case 0:
		r.Routers = maps.Clone(r.Routers)
	case 1:
		r.Services = maps.Clone(r.Services)
	case 2, 3:
		services := map[string]Service{}
		maps.Copy(services, r.Services)
		s := Service{LoadBalancer: &LoadBalancer{MaxConn: rnd.IntN(9)}}
		if rnd.IntN(3) == 0 {
			s = Service{Weighted: &Weighted{Services: []WeightedService{{Name: pick("s"), Weight: 1}}}}
		}
		services[fmt.Sprint("s", rnd.IntN(5))] = s
		if rnd.IntN(3) == 0 {
			delete(services, fmt.Sprint("s", rnd.IntN(5)))
		}
		r.Services = services
	}
	if rnd.IntN(4) == 0 {
		routers := map[string]Router{}
		maps.Copy(routers, r.Routers)
		routers[fmt.Sprint("r", rnd.IntN(5))] = Router{Service: pick("s"), Middlewares: []string{pick("m"), pick("m")}, Closed: rnd.IntN(5) == 0}
		if rnd.IntN(2) == 0 {
			router := routers["r0"]
			router.TLS = &RouterTLS{Options: pick("o")}
			routers["r0"] = router
		}
		delete(routers, fmt.Sprint("r", rnd.IntN(9)))
		r.Routers = routers
	}
	if rnd.IntN(5) == 0 {
		middlewares := map[string]Middleware{}
		maps.Copy(middlewares, r.Middlewares)
		middlewares[fmt.Sprint("m", rnd.IntN(5))] = Middleware{Kind: fmt.Sprint("k", rnd.IntN(3))}
		delete(middlewares, fmt.Sprint("m", rnd.IntN(9)))
		r.Middlewares = middlewares
	}
	if rnd.IntN(8) == 0 {
		options := map[string]TLSOptions{}
		maps.Copy(options, r.TLSOptions)
		options[fmt.Sprint("o", rnd.IntN(2))] = TLSOptions{}
		delete(options, fmt.Sprint("o", rnd.IntN(4)))
		r.TLSOptions = options
	}
	if rnd.IntN(6) == 0 {
		r.Certificates = append(r.Certificates[:len(r.Certificates):len(r.Certificates)], Certificate{CertFile: fmt.Sprint(rnd.IntN(9))})
	}
	return r
}

// FuzzMerger: whatever was merged before, the result is that of Merge.
func FuzzMerger(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		var merger Merger
		sources := map[string]Routing{}
		for range 30 {
			name := [...]string{"a", "b", "c"}[rnd.IntN(3)]
			if rnd.IntN(20) == 0 {
				delete(sources, name)
			} else {
				sources[name] = changeSource(rnd, sources[name])
			}
			want, wanted := Merge(sources)
			got, problems := merger.Merge(sources)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(wanted, problems); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func TestUnchangedPartsAreNotMergedAnew(t *testing.T) {
	r := Routing{Routers: map[string]Router{"r": {Service: "s"}}, Services: map[string]Service{"s": {LoadBalancer: &LoadBalancer{}}}, Middlewares: map[string]Middleware{"m": {}}}
	var merger Merger
	first, _ := merger.Merge(map[string]Routing{"p": r})
	r.Services = map[string]Service{"s": {LoadBalancer: &LoadBalancer{MaxConn: 1}}}
	second, _ := merger.Merge(map[string]Routing{"p": r})
	if !sameMap(first.Routers, second.Routers) || !sameMap(first.Middlewares, second.Middlewares) || sameMap(first.Services, second.Services) {
		t.Error("something else than the services was made anew")
	}
	if first.Services["s@p"].LoadBalancer.MaxConn != 0 || second.Services["s@p"].LoadBalancer.MaxConn != 1 {
		t.Error("a result was changed afterwards")
	}
}

func BenchmarkMerge(b *testing.B) {
	const n = 10_000
	r := Routing{Routers: map[string]Router{}, Services: map[string]Service{}}
	for i := range n {
		r.Routers[fmt.Sprint("router", i)] = Router{Rule: fmt.Sprintf("Host(`h%d.example.com`)", i), Service: fmt.Sprint("service", i)}
		r.Services[fmt.Sprint("service", i)] = Service{LoadBalancer: &LoadBalancer{}}
	}
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			Merge(map[string]Routing{"p": r})
		}
	})
	b.Run("one service", func(b *testing.B) {
		b.ReportAllocs()
		other := r
		other.Services = maps.Clone(r.Services)
		other.Services["service7"] = Service{LoadBalancer: &LoadBalancer{MaxConn: 1}}
		var m Merger
		for i := 0; b.Loop(); i++ {
			m.Merge(map[string]Routing{"p": [...]Routing{r, other}[i&1]})
		}
	})
}
