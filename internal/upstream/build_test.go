package upstream

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/config"
)

// FuzzAddress: the quick way to read a URL reads what the other one does.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"http://10.0.0.1:80", "https://a-b.example.com:8443/", "h2c://a:1", "http://A:1", "http://[::1]:80", "http://a:", "http://:1", "http://a:1//", "http://a.:080"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		quick, ok := canonicalAddress(text)
		if !ok {
			return
		}
		slow, wrong := readSlowly(text, "s")
		if wrong != "" || quick != slow {
			t.Fatalf("%q: quickly %+v, else %+v %s", text, quick, slow, wrong)
		}
	})
}

// randomServices declares up to 12 services, some of them wrong.
func randomServices(r *rand.Rand, ca string) map[string]config.Service {
	services := map[string]config.Service{}
	for range r.IntN(12) {
		name := fmt.Sprint("s", r.IntN(8), "@f")
		if r.IntN(4) == 0 {
			w := &config.Weighted{}
			for range r.IntN(4) {
				w.Services = append(w.Services, config.WeightedService{Name: fmt.Sprint("s", r.IntN(9), "@f"), Weight: r.IntN(4) - 1})
			}
			services[name] = config.Service{Weighted: w, Origin: config.Origin{Line: r.IntN(3)}}
			continue
		}
		lb := &config.LoadBalancer{MaxConn: r.IntN(8) - 1}
		for range r.IntN(4) {
			lb.Servers = append(lb.Servers, config.Server{
				Name: [...]string{"", "a", "b"}[r.IntN(3)], Weight: r.IntN(6) - 1,
				URL: [...]string{"http://10.0.0.1:80", "http://10.0.0.2:80/", "http://b/path", "https://c:443", "h2c://d", "ftp://e", "%"}[r.IntN(7)],
			})
		}
		if r.IntN(3) == 0 {
			lb.Sticky = &config.Sticky{SameSite: [...]string{"", "lax", "sour"}[r.IntN(3)]}
		}
		if r.IntN(4) == 0 {
			lb.HealthCheck = &config.HealthCheck{Path: [...]string{"/up", "up"}[r.IntN(2)]}
		}
		if r.IntN(4) == 0 {
			lb.ServersTransport.RootCAs = []string{ca}
		}
		services[name] = config.Service{LoadBalancer: lb, Origin: config.Origin{Line: r.IntN(3)}}
	}
	return services
}

// FuzzBuild: whatever came before, a build gives what it gives a registry that
// knows nothing, and nothing stays of it in the end.
func FuzzBuild(f *testing.F) {
	for seed := range uint64(25) {
		f.Add(seed)
	}
	roots := []string{"no certificate", selfSigned(f), selfSigned(f)}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		ca := filepath.Join(t.TempDir(), "ca.pem")
		reg := NewRegistry(Options{})
		defer reg.Close()
		var alive []*Set
		last := map[string]config.Service{}
		for range 12 {
			// A file that is named may change, or not be there.
			if r.IntN(3) == 0 {
				if err := os.WriteFile(ca, []byte(roots[r.IntN(len(roots))]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			services := randomServices(r, ca)
			for name, s := range last {
				if r.IntN(3) > 0 {
					services[name] = s
				}
			}
			last = services
			got, problems := reg.Build(services, r.IntN(2))
			fresh := NewRegistry(Options{})
			want, wanted := fresh.Build(services, 0)
			if diff := cmp.Diff(wanted, problems); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(want.View(), got.View()); diff != "" {
				t.Fatal(diff)
			}
			want.Release()
			if len(fresh.services)+len(fresh.transports) != 0 {
				t.Fatal("state stayed")
			}
			if alive = append(alive, got); len(alive) > 2 {
				i := r.IntN(3)
				alive[i].Release()
				alive = append(alive[:i], alive[i+1:]...)
			}
		}
		for _, s := range alive {
			for _, p := range s.pools {
				if p.state == nil || len(p.transport.origins) == 0 && len(p.servers) > 0 && p.servers[0].origin != nil {
					t.Fatal("a pool in use lost what it holds")
				}
			}
			s.Release()
		}
		if len(reg.services)+len(reg.transports) != 0 {
			t.Fatal("state stayed:", reg.services, reg.transports)
		}
	})
}

func selfSigned(f *testing.F) string {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		f.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestOriginsGo: addresses that come and go leave nothing, as pods do for months.
func TestOriginsGo(t *testing.T) {
	reg := NewRegistry(Options{})
	defer reg.Close()
	var last *Set
	for i := range 100 {
		set, _ := reg.Build(map[string]config.Service{"s": {LoadBalancer: &config.LoadBalancer{Servers: []config.Server{
			{URL: fmt.Sprintf("http://10.0.0.%d:80", i), Weight: 1}, {URL: fmt.Sprintf("http://10.0.0.%d:80", i+1), Weight: 1}}}}}, 0)
		if last != nil {
			kept := last.pools[0].servers[1]
			if set.pools[0].servers[0].origin != kept.origin || set.pools[0].servers[0].state != kept.state {
				t.Fatal("a server that stays lost its connections or its state")
			}
			last.Release()
		}
		last = set
	}
	if n := len(last.pools[0].transport.origins); n != 2 {
		t.Error(n, "origins for 2 servers")
	}
	last.Release()
}

// TestUnchangedIsTheSame: a build reuses what is declared alike, wherever that
// is written.
func TestUnchangedIsTheSame(t *testing.T) {
	reg := NewRegistry(Options{})
	defer reg.Close()
	declare := func(line int, url string) map[string]config.Service {
		return map[string]config.Service{
			"a": {Origin: config.Origin{Line: line}, LoadBalancer: &config.LoadBalancer{Servers: []config.Server{{URL: "http://a:1", Weight: 1}}}},
			"b": {Origin: config.Origin{Line: line + 1}, LoadBalancer: &config.LoadBalancer{Servers: []config.Server{{URL: url, Weight: 1}}}},
		}
	}
	first, _ := reg.Build(declare(1, "http://b:1"), 0)
	second, _ := reg.Build(declare(7, "http://b:2"), 0)
	if !first.services["a"].Same(second.services["a"]) || first.services["b"].Same(second.services["b"]) {
		t.Error("what is the same is made anew, or the other way")
	}
	if v := second.View(); v[0].Origin.Line != 7 || v[1].Origin.Line != 8 || first.View()[0].Origin.Line != 1 {
		t.Errorf("%+v", v)
	}
	first.Release()
	second.Release()
}
