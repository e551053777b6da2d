package kv

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gatehouse/internal/config"
	"gatehouse/internal/provider"
	"gatehouse/internal/store"
)

var _ provider.Provider = (*Provider)(nil)

// heard is what a provider has published.
type heard struct {
	mu       sync.Mutex
	times    int
	routing  config.Routing
	problems []config.Problem
}

func (h *heard) publish(r config.Routing, p []config.Problem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.times++
	h.routing, h.problems = r, p
}

func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.times
}

// want checks the number of publications, the routers and a problem's text.
func (h *heard) want(t *testing.T, times int, problem string, routers ...string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	got := slices.Sorted(maps.Keys(h.routing.Routers))
	if h.times != times || !slices.Equal(got, routers) {
		t.Errorf("published %d times, routers %v; want %d, %v", h.times, got, times, routers)
	}
	var all []string
	for _, p := range h.problems {
		all = append(all, p.String())
	}
	text := strings.Join(all, "\n")
	if (problem == "") != (text == "") || !strings.Contains(text, problem) {
		t.Errorf("problems %q, want %q", text, problem)
	}
}

// start runs a provider on a store until the test ends.
func start(t *testing.T, o Options) *heard {
	t.Helper()
	o.Logger = slog.New(slog.DiscardHandler)
	h := &heard{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- New(o).Run(ctx, h.publish) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return h
}

func put(t *testing.T, s store.Store, pairs ...string) {
	t.Helper()
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		have := store.Revision("")
		if e, err := s.Get(t.Context(), key); err == nil {
			have = e.Revision
		}
		if _, err := s.Put(t.Context(), key, []byte(value), have); err != nil {
			t.Fatal(err)
		}
	}
}

func remove(t *testing.T, s store.Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		e, err := s.Get(t.Context(), key)
		if err == nil {
			err = s.Delete(t.Context(), key, e.Revision)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func noAlias(context.Context, string) ([]store.Entry, error) {
	return nil, errors.New("there is no alias")
}

const (
	web     = "backends/b/servers/s/url=http://10.0.0.1"
	webRule = "frontends/web/routes/r/rule=Host:a.com"
	webTo   = "frontends/web/backend=b"
)

func TestPublishesWhatChangesTheRoutingAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMem(5 * time.Second).Replica("a")
		put(t, s, web, webTo, webRule, "loglevel=DEBUG", "acme/account/object=x")
		h := start(t, Options{Store: s, Prefix: "/traefik", Watch: true, Read: noAlias})
		synctest.Wait()
		h.want(t, 1, "", "web")
		put(t, s, "leader=x", "leader___lock=x", "acme/account/lock=y", "acme/account/lock___lock=y", "acme/account/object=z",
			"loglevel=INFO", "entrypoints/http/address=:80", "frontends/web/priority=0", "frontends/web/routes/r/rule=Host:a.com ")
		synctest.Wait()
		h.want(t, 1, "", "web")
		put(t, s, "frontends/b/routes/r/rule=Host:b.com", "frontends/b/backend=b")
		synctest.Wait()
		times := h.count()
		if times > 3 {
			t.Errorf("published %d times", times)
		}
		h.want(t, times, "", "b", "web")
		put(t, s, "http/routers/c/rule=Host(`c.com`)", "http/routers/c/service=b", "frontend/x=y")
		synctest.Wait()
		h.want(t, h.count(), "did you mean frontends?", "b", "c", "web")
	})
}

func TestKeepsTheLastRoutingWhenTheTreeIsEmptied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMem(5 * time.Second).Replica("a")
		put(t, s, webRule)
		h := start(t, Options{Store: s, Prefix: "/traefik", Watch: true, Read: noAlias})
		synctest.Wait()
		h.want(t, 1, "has no backend", "web")
		remove(t, s, "frontends/web/routes/r/rule")
		synctest.Wait()
		h.want(t, 2, "write true to /traefik/allowempty", "web")
		put(t, s, "allowempty=true")
		synctest.Wait()
		h.want(t, 3, "")
		put(t, s, webRule)
		synctest.Wait()
		h.want(t, 4, "has no backend", "web")
		remove(t, s, "frontends/web/routes/r/rule")
		synctest.Wait()
		h.want(t, 5, "")
	})
}

func TestAnEmptyStorePublishesNothingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMem(5 * time.Second).Replica("a")
		h := start(t, Options{Store: s, Watch: true, Read: noAlias})
		synctest.Wait()
		h.want(t, 1, "")
	})
}

func TestReadsOnceWithoutWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMem(5 * time.Second).Replica("a")
		put(t, s, web, webTo, webRule)
		h := start(t, Options{Store: s, Read: noAlias})
		synctest.Wait()
		put(t, s, "frontends/b/routes/r/rule=Host:b.com")
		time.Sleep(time.Minute)
		h.want(t, 1, "", "web")
	})
}

func TestAStoreThatIsAwayChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := store.NewMem(5 * time.Second)
		s, other := mem.Replica("a"), mem.Replica("b")
		put(t, s, web, webTo, webRule)
		h := start(t, Options{Store: s, Watch: true, Read: noAlias})
		synctest.Wait()
		s.Partition(true)
		put(t, other, "frontends/b/backend=b", "frontends/b/routes/r/rule=Host:b.com")
		time.Sleep(20 * time.Minute)
		h.want(t, 1, "", "web")
		s.Partition(false)
		time.Sleep(time.Minute)
		h.want(t, 2, "", "b", "web")
	})
}

// TestAliasSwitchesAtOnce: what stands where the alias points counts when the
// alias is written, and only then.
func TestAliasSwitchesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMem(5 * time.Second).Replica("a")
		put(t, s, web, webTo, webRule)
		trees := map[string]store.Store{}
		for name, host := range map[string]string{"one": "one", "two": "two"} {
			trees[name] = store.NewMem(5 * time.Second).Replica("a")
			put(t, trees[name], web, "frontends/"+host+"/backend=b", "frontends/"+host+"/routes/r/rule=Host:"+host+".com")
		}
		var reads atomic.Int64
		var broken atomic.Bool
		h := start(t, Options{Store: s, Prefix: "/traefik", Watch: true, Read: func(ctx context.Context, prefix string) ([]store.Entry, error) {
			reads.Add(1)
			if broken.Load() {
				return nil, errors.New("timeout")
			}
			return store.List(ctx, trees[strings.TrimPrefix(prefix, "/configurations/")], "")
		}})
		synctest.Wait()
		h.want(t, 1, "", "web")
		put(t, s, "alias=/configurations/one/")
		synctest.Wait()
		h.want(t, 2, "", "one")
		put(t, trees["one"], "frontends/late/backend=b", "frontends/late/routes/r/rule=Host:late.com")
		put(t, s, "frontends/x/backend=b", "frontends/x/routes/r/rule=Host:x.com", "loglevel=INFO")
		time.Sleep(time.Minute)
		h.want(t, 2, "", "one")
		put(t, s, "alias=/configurations/one/") // the same again
		synctest.Wait()
		h.want(t, 3, "", "late", "one")
		broken.Store(true)
		put(t, s, "alias=/configurations/two")
		time.Sleep(time.Minute)
		h.want(t, 3, "", "late", "one")
		broken.Store(false)
		time.Sleep(time.Minute)
		h.want(t, 4, "", "two")
		before := reads.Load()
		time.Sleep(time.Hour)
		if after := reads.Load(); after != before {
			t.Errorf("%d reads more", after-before)
		}
		remove(t, s, "alias")
		synctest.Wait()
		h.want(t, 5, "", "web", "x")
	})
}

func TestNamesNoFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := store.NewMem(5 * time.Second).Replica("a")
		put(t, s, web, webTo, webRule,
			"frontends/web/auth/basic/usersfile=/etc/passwd",
			"tls/0/certificate/certfile=/etc/ssl/a.crt", "tls/0/certificate/keyfile=/etc/ssl/a.key",
			"tls/1/certificate/certfile=-----BEGIN CERTIFICATE-----", "tls/1/certificate/keyfile=-----BEGIN PRIVATE KEY-----",
			"http/services/s/loadbalancer/servers/0/url=http://10.0.0.1",
			"http/services/s/loadbalancer/serverstransport/rootcas=/etc/ca.pem",
			"http/services/c/loadbalancer/servers/0/url=http://10.0.0.1",
			"http/services/c/loadbalancer/serverstransport/certificates/0/certfile=/etc/ssl/a.crt",
			"http/services/c/loadbalancer/serverstransport/certificates/0/keyfile=/etc/ssl/a.key",
			"tls/options/file/clientAuth/caFiles=/etc/ca.pem", "tls/options/lift/clientAuth/clientAuthType=NoClientCert",
			"tls/options/modern/profile=modern")
		h := start(t, Options{Store: s, Prefix: "/traefik", Read: noAlias})
		synctest.Wait()
		h.want(t, 1, "usersFile in a store may not name a file", "web")
		m := h.routing.Routers["web"].Middlewares
		if len(m) != 1 || h.routing.Middlewares[m[0]].Kind != "" {
			t.Errorf("web goes through %v, want one that is missing", m)
		}
		if len(h.routing.Certificates) != 1 {
			t.Errorf("%d certificates", len(h.routing.Certificates))
		}
		if _, ok := h.routing.Services["s"]; ok {
			t.Error("the service with a root CA of this machine is there")
		}
		if _, ok := h.routing.Services["c"]; ok {
			t.Error("the service with a client certificate of this machine is there")
		}
		if o := h.routing.TLSOptions; len(o) != 1 || o["modern"].Profile != "modern" {
			t.Errorf("TLS options: %v", o)
		}
	})
}

func TestRunNeedsAStore(t *testing.T) {
	if err := New(Options{}).Run(t.Context(), nil); err == nil {
		t.Error("no error without a store")
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
